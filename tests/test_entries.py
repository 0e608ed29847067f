"""Requests from outside come in by a fleet's address, by one of each cluster, or by somebody's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meshbook import Fleet, UsageError, entries, gkehub, mesh, preflight, rights, settings
from meshbook.analysis import ExpectedShares
from meshbook.errors import WaitTimeout

MANIFESTS = Path(__file__).parents[1] / "manifests"
BOTH = ("cluster1", "cluster2")


@pytest.fixture
def balanced(bare_fleet: Fleet) -> Fleet:
    """Each cluster has the Service of stage 2, without an address yet."""
    bare_fleet.create_namespace("gw")
    entries.apply(bare_fleet, "load-balancer", MANIFESTS, "gw", bare_fleet["cluster2"])
    return bare_fleet


def give(fleet: Fleet, context: str, **address: object) -> None:
    status = {"status": {"loadBalancer": {"ingress": [address]}}}
    fleet[context].patch("Service", entries.SERVICE, status, namespace="gw", subresource="status")


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://203.0.113.7", "http://203.0.113.7/hello"),
        ("http://mesh.example:8080/", "http://mesh.example:8080/hello"),
        ("http://mesh.example/hello", "http://mesh.example/hello"),
        ("http://[2001:db8::7]:8080", "http://[2001:db8::7]:8080/hello"),
    ],
)
def test_an_address_of_ones_own_is_asked_as_it_is_and_nothing_is_made(bare_fleet: Fleet, given: str, url: str) -> None:
    assert entries.apply(bare_fleet, given, MANIFESTS, "nowhere", bare_fleet["cluster2"]) == []
    (found,) = entries.find(bare_fleet, given, "nowhere")
    assert (found.url, found.source, found.path, found.clusters) == (url, "external client", "address", BOTH)


BROKEN = ["http://", "http://[::1", "http://x:port", "http://x:0", "http://x y"]
SECRET = ["http://me:pass@x", "http://x/hello?key=pass", "https://x#pass"]


@pytest.mark.parametrize("wrong", ["fleets", "", "https://x", 7, *BROKEN, *SECRET])
def test_what_is_no_way_in_is_refused_and_no_secret_shown(wrong: Any) -> None:
    with pytest.raises(UsageError, match=r"fleet, load-balancer, or http://ADDRESS") as caught:
        settings.entry_kind(wrong)
    assert "pass" not in str(caught.value)


def test_each_cluster_has_an_address_of_its_own_and_who_asks_there_is_told_apart(balanced: Fleet) -> None:
    give(balanced, "cluster1", ip="203.0.113.7")
    give(balanced, "cluster2", hostname="lb.example", ports=[{"port": 8080, "protocol": "TCP"}])
    for entry in ("load-balancer", "fleet"):  # what is there counts where the one that is named is not
        found = entries.find(balanced, entry, "gw", timeout_s=5)
        assert [str(one) for one in found] == [
            "external client via cluster1: http://203.0.113.7/hello",
            "external client via cluster2: http://lb.example:8080/hello",
        ]
        assert {one.path for one in found} == {"load balancer"}
    assert preflight.addressed(found).outcome == "pass"


def test_a_service_that_gets_no_address_fails_a_claim_and_the_others_are_asked(balanced: Fleet) -> None:
    give(balanced, "cluster2", ip="2001:db8::7")
    found = entries.find(balanced, "load-balancer", "gw", timeout_s=0.05)
    assert [one.url for one in mesh.entries_of(found)] == ["http://[2001:db8::7]/hello"]
    verdict = preflight.addressed(found)
    assert verdict.outcome == "fail"
    assert "via cluster1: cluster1: Service meshbook-entry in gw" in verdict.reason
    assert "a controller that gives addresses to Services" in verdict.reason


def test_what_is_named_counts_where_both_are_there(balanced: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gkehub, "wait_for_vip", lambda *_, **__: "203.0.113.9")
    head = {"metadata": {"name": "edge", "namespace": "gw"}, "spec": {"template": {"spec": {}}}}
    balanced["cluster2"].create("MultiClusterIngress", head)
    (found,) = entries.find(balanced, "fleet", "gw")
    assert (str(found), found.path) == ("external client: http://203.0.113.9/hello", "vip")
    balanced["cluster1"].create("MultiClusterIngress", head)
    with pytest.raises(UsageError, match="one MultiClusterIngress in gw, not: edge in cluster1, edge in cluster2"):
        entries.find(balanced, "fleet", "gw")


def test_an_address_that_does_not_come_is_told_with_its_obstacles(
    balanced: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    hint = "was the feature enabled for this cluster (gkehub.enable_ingress), and is it a GKE cluster?"

    def in_vain(*_: object, **__: object) -> str:
        message = "cluster2: MultiClusterIngress edge has no VIP after 1 s"
        raise WaitTimeout(message, events="SyncFailed quota", hint=hint)

    monkeypatch.setattr(gkehub, "wait_for_vip", in_vain)
    head = {"metadata": {"name": "edge", "namespace": "gw"}, "spec": {"template": {"spec": {}}}}
    balanced["cluster2"].create("MultiClusterIngress", head)
    reason = preflight.addressed(entries.find(balanced, "fleet", "gw")).reason
    why = "cluster2: MultiClusterIngress edge has no VIP after 1 s. events: SyncFailed quota"
    assert reason == f"external client: {why}. Try: {hint}."


def test_shares_of_somebodys_own_address_are_known_where_all_gateways_agree() -> None:
    even, all_here = ({"cluster1": one, "cluster2": 1 - one} for one in (0.5, 1.0))
    entry = mesh.Entry(url="http://mesh.example/hello", clusters=BOTH)
    for there, known in ((even, even), (all_here, {})):
        at = {name: ExpectedShares(shares=some, why="") for name, some in zip(BOTH, (even, there), strict=True)}
        assert mesh.expected_by([entry], at)["external client"].shares == known


@pytest.mark.parametrize(
    ("entry", "services", "ingresses"),
    [("fleet", False, True), ("load-balancer", True, False), ("http://x", False, False)],
)
def test_rights_are_those_that_the_entry_needs(entry: str, services: bool, ingresses: bool) -> None:
    second = [str(one) for one in rights.needed(["2"], gateway_namespace="gw", entry=entry)]
    assert ("patch services in gw" in second) == services
    everywhere = [str(one) for one in rights.needed(gateway_namespace="gw", entry=entry)]
    assert any("networking.gke.io" in one for one in everywhere) == ingresses
    assert "delete services in gw" in everywhere
