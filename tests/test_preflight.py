"""Each claim of the preflight passes on what parts 1 to 3 leave behind, and fails on its planted fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from meshes import FakeCluster, FakeFleet, cluster_objects, named

from meshbook import gkehub, mesh, preflight, probes, rights
from meshbook.clusters import DeploymentState, Fleet
from meshbook.errors import FleetError, UsageError, WaitTimeout
from meshbook.mesh import Direction, Finding
from meshbook.settings import OWNER_LABEL
from meshbook.verdict import Verdict


@pytest.fixture
def fleet() -> Any:
    return FakeFleet(*(FakeCluster(name, cluster_objects(name, other, "v1")) for name, other in ("ab", "ba")))


CLAIMS: dict[str, Callable[[Any], Verdict]] = {
    "clusters": preflight.clusters_answer,
    "user": lambda fleet: preflight.user_may(fleet, "sample", "gateways"),
    "revision": lambda fleet: preflight.revision_injects(fleet, "asm-1175-9"),
    "between": preflight.nothing_between,
    "root": preflight.one_root,
    "left": lambda fleet: preflight.nothing_left(fleet, ["left"]),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_it_passes_on_what_parts_1_to_3_leave_behind(fleet: Any, claim: str) -> None:
    assert CLAIMS[claim](fleet).outcome == "pass"


def _labelled(kind: str, label: str, value: str) -> Callable[[FakeCluster], Any]:
    return lambda cluster: cluster.objects[kind][0]["metadata"]["labels"].update({label: value})


def _with(kind: str, *found: dict[str, Any]) -> Callable[[FakeCluster], Any]:
    return lambda cluster: cluster.objects.update({kind: list(found)})


def test_a_namespace_that_was_there_before_may_stay(fleet: Any) -> None:
    _with("Namespace", named("left"))(fleet.clusters[1])
    verdict = CLAIMS["left"](fleet)
    assert (verdict.outcome, "b: gone but for what was there before: left" in verdict.reason) == ("pass", True)


@pytest.mark.parametrize(
    ("claim", "fault", "seen"),
    [
        pytest.param("clusters", lambda c: setattr(c, "server", "v1.21.14-gke.1"), "v1.21.14", id="old server"),
        pytest.param(
            "user",
            lambda c: c.denied.add("deployments.apps/scale"),
            "rights are missing: get deployments.apps/scale in sample, patch",
            id="right",
        ),
        pytest.param(
            "revision",
            _labelled("MutatingWebhookConfiguration", "istio.io/rev", "default"),
            "revisions default",
            id="other revision",
        ),
        pytest.param("between", _with("Service"), "no Service istio=eastwestgateway", id="no gateway"),
        pytest.param(
            "root",
            _with("ConfigMap", named("istio-ca-root-cert", data={"root-cert.pem": "ANOTHER ROOT"})),
            "sha256",
            id="other root",
        ),
        pytest.param("root", _with("ConfigMap"), "no ConfigMap", id="no root"),
        pytest.param(
            "left", _with("Namespace", named("left", labels=OWNER_LABEL)), "namespace left is there", id="left behind"
        ),
    ],
)
def test_it_fails_on_a_planted_fault_and_says_what_to_try(
    fleet: Any, claim: str, fault: Callable[[FakeCluster], None], seen: str
) -> None:
    fault(fleet.clusters[1])
    verdict = CLAIMS[claim](fleet)
    assert verdict.outcome == "fail"
    assert seen in verdict.reason
    assert "Try: " in verdict.reason


def test_a_user_who_may_run_the_runbook_needs_no_right_of_the_experiments(fleet: Any) -> None:
    named = CLAIMS["user"](fleet).claim.partition("stages ")[2].removesuffix(" need").split(", ")
    asked: set[tuple[str, str, str]] = set()
    for cluster in fleet:
        cluster.can_i = lambda *right: asked.add(right) or True
    assert CLAIMS["user"](fleet).outcome == "pass"
    assert {
        (one.verb, one.resource, one.namespace) for one in rights.needed(named, gateway_namespace="gateways")
    } == asked
    assert ("patch", "deployments.apps", "istio-system") not in asked


def test_a_user_who_may_nothing_is_told_so_in_a_few_words(fleet: Any) -> None:
    fleet.clusters[1].can_i = lambda *_: False
    reason = CLAIMS["user"](fleet).reason
    assert len(reason) < 300
    assert "`meshbook rights`" in reason


@pytest.mark.parametrize(
    ("claim", "kind"),
    [
        ("revision", "MutatingWebhookConfiguration"),
        ("root", "ConfigMap"),
    ],
)
def test_what_may_not_be_looked_at_is_inconclusive(fleet: Any, claim: str, kind: str) -> None:
    fleet.clusters[0].refused.add(kind)
    verdict = CLAIMS[claim](fleet)
    assert verdict.outcome == "inconclusive"
    assert "Try: " not in verdict.reason, "that would mend what was not found"


@pytest.mark.parametrize(
    ("states", "outcome", "said"),
    [
        (["fine", "noted", "fine"], "pass", "3 of 3 checks made: no cause found."),
        (["fine", "cause", "fine"], "fail", "a → b: as configured Try: kubectl edit."),
        (
            ["fine", "not looked at", "not looked at"],
            "pass",
            "1 of 3 checks made: no cause found. Not looked at, for want of: a → b",
        ),
        (["not looked at"] * 3, "inconclusive", "0 of 3 checks made"),
    ],
)
def test_what_could_not_be_looked_at_proves_nothing_and_fails_nothing(
    fleet: Any, monkeypatch: pytest.MonkeyPatch, states: list[Any], outcome: str, said: str
) -> None:
    way, looks = Direction(source="a", destination="b"), ("gateway", "way", "remote secret")
    found = [
        Finding(direction=way, look=look, state=state, seen="as configured", mend="kubectl edit")
        for look, state in zip(looks, states, strict=True)
    ]
    monkeypatch.setattr(mesh, "between", lambda _: found)
    verdict = preflight.nothing_between(fleet)
    assert (verdict.outcome, said in verdict.reason) == (outcome, True), verdict.reason


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [("one two", "two one", "pass"), ("one two", "one", "inconclusive"), ("one", "two", "fail"), ("one", "", "fail")],
)
def test_roots_are_compared_in_any_order(fleet: Any, first: str, second: str, outcome: str) -> None:
    for cluster, names in zip(fleet.clusters, (first, second), strict=True):
        pem = "".join(f"-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n" for name in names.split())
        cluster.objects["ConfigMap"] = [named("istio-ca-root-cert", "istio-system", data={"root-cert.pem": pem})]
    assert preflight.one_root(fleet).outcome == outcome


@pytest.mark.parametrize(
    ("members", "outcome"), [(["global/a", "us-central1/b"], "pass"), (["global/a"], "fail"), (None, "inconclusive")]
)
def test_the_fleet_is_asked_for_its_members(
    fleet: Any, monkeypatch: pytest.MonkeyPatch, members: list[str] | None, outcome: str
) -> None:
    def memberships(*_: object, **__: object) -> list[str]:
        if members is None:
            raise FleetError("no answer")
        return members

    monkeypatch.setattr(gkehub, "memberships", memberships)
    assert preflight.fleet_has(["global/a", "us-central1/b"], fleet.clusters[0]).outcome == outcome


def _pod(name: str, note: str | None, **metadata: Any) -> dict[str, Any]:
    annotations = {} if note is None else {"sidecar.istio.io/status": note}
    return {"metadata": {"name": name, "annotations": annotations, **metadata}}


@pytest.mark.parametrize(
    ("pods", "outcome", "said"),
    [
        ([_pod("a", '{"revision": "asm-1"}')], "pass", "1 pod"),
        ([_pod("a", '{"revision": "asm-0"}')], "fail", "a has asm-0"),
        ([_pod("a", None)], "fail", "a has none"),
        ([_pod("a", "not JSON")], "fail", "a has none"),
        ([_pod("a", '{"revision": "asm-1"}'), _pod("old", None, deletionTimestamp="now")], "pass", "1 pod"),
        ([], "fail", "0 pods"),
    ],
    ids=["right", "another revision", "not injected", "garbled note", "a pod that goes does not count", "no pod"],
)
def test_every_pod_must_have_its_sidecar_from_the_revision(pods: list[Any], outcome: str, said: str) -> None:
    cluster = FakeCluster("cluster1", {"Pod": pods})
    verdict = preflight.pods_injected(FakeFleet(cluster), "sample", "asm-1")  # type: ignore[arg-type]
    assert verdict.outcome == outcome
    assert said in verdict.reason


def test_a_revision_tag_stands_for_the_revision_that_it_points_to(fleet: Any) -> None:
    for cluster in fleet:
        labels = {"istio.io/rev": "asm-1175-9", "istio.io/tag": "prod-stable"}
        cluster.objects["MutatingWebhookConfiguration"].append(named("tag", labels=labels))
    assert preflight.revision_injects(fleet, "prod-stable").outcome == "pass"
    assert preflight.pods_injected(fleet, "sample", "prod-stable").outcome == "pass"


def test_a_stage_that_comes_too_early_names_the_notebook_that_is_missing(
    scripted: Any, kubeconfig: Callable[..., str]
) -> None:
    apps = {"resources": [{"name": "deployments", "kind": "Deployment", "namespaced": True}]}
    runs = {"items": [{"metadata": {"name": "web", "namespace": "sample"}}]}
    scripted.script |= {"GET /apis/apps/v1": [apps]}
    for namespace, found in (("sample", runs), ("gateway", {"items": []})):
        scripted.script |= {f"GET /apis/apps/v1/namespaces/{namespace}/deployments": [found]}
    fleet = Fleet.connect(["one"], kubeconfig({"one": scripted.url}))
    preflight.require_stages(fleet, "sample")
    with pytest.raises(UsageError, match=r"in namespace gateway of one\n  try: run 02_external_access first"):
        preflight.require_stages(fleet, "sample", "gateway")


def test_what_does_not_answer_in_time_fails_a_claim_and_without_an_address_it_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there, lacking = mesh.Entry(url="http://203.0.113.7/hello"), mesh.Entry(url="http:///hello", trouble="no address")
    first = probes.FirstAnswer(url=there.url, version="v1", after_s=0.4, before="")
    monkeypatch.setattr(probes, "wait_for_first_answers", lambda *_: [first])
    found = preflight.answering([there], 2)
    assert (found.outcome, found.reason) == ("pass", f"{there.url}: first good answer after 0.4 s, from v1")
    late = WaitTimeout(f"no good answer from {there.url} within 2 s", saw="http_404 3×", hint="kubectl get routes")
    monkeypatch.setattr(probes, "wait_for_first_answers", Mock(side_effect=late))
    found = preflight.answering([there], 2)
    why = f"no good answer from {there.url} within 2 s. saw: http_404 3×. Try: kubectl get routes."
    assert (found.outcome, found.reason) == ("fail", why)
    found = preflight.answering([there, lacking], 2)
    assert (found.outcome, "have an address to go to" in found.reason) == ("inconclusive", True)


def test_a_pod_that_did_not_become_ready_is_named_with_what_it_says(fleet: Any) -> None:
    def state(name: str, ready: int, obstacle: str = "") -> DeploymentState:
        counts = {"desired": 1, "ready": ready, "updated": 1, "available": ready, "settled": ready == 1}
        return DeploymentState(context="a", namespace="sample", name=name, obstacle=obstacle, **counts)

    assert preflight.pods_ready(fleet, [state("sleep", 1)]).outcome == "pass"
    found = preflight.pods_ready(fleet, [state("sleep", 1), state("helloworld-v1", 0, "pod x runs but is not ready")])
    assert found.outcome == "fail"
    assert found.reason.startswith("a: helloworld-v1: pod x runs but is not ready. Try: kubectl --context a -n sample")
