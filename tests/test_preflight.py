"""Each claim of the preflight passes on what parts 1 to 3 leave behind, and fails on its planted fault."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from meshbook import gkehub, preflight
from meshbook.errors import ClusterError, FleetError
from meshbook.verdict import Verdict

Objects = dict[str, list[dict[str, Any]]]


class FakeCluster:
    """A cluster of prepared objects: kind → objects."""

    def __init__(self, name: str, objects: Objects) -> None:
        self.name, self.objects = name, objects
        self.server = "v1.31.2"
        self.denied: set[str] = set()
        self.refused: set[str] = set()

    def version(self) -> str:
        return self.server

    def can_i(self, verb: str, resource: str, namespace: str = "") -> bool:
        return resource not in self.denied

    def list(self, kind: str, namespace: str = "", *, labels: str = "") -> list[dict[str, Any]]:
        if kind in self.refused:
            raise ClusterError(f"{self.name}: may not list {kind}", code=403, reason="Forbidden")
        return self.objects.get(kind, [])

    def get(self, kind: str, name: str, namespace: str = "") -> dict[str, Any]:
        for found in self.list(kind, namespace):
            if found["metadata"]["name"] == name:
                return found
        raise ClusterError(f"{self.name}: no {kind} {name}", code=404, reason="NotFound")

    def find(self, kind: str, name: str, namespace: str = "") -> dict[str, Any] | None:
        return next((found for found in self.list(kind) if found["metadata"]["name"] == name), None)


class FakeFleet(list[FakeCluster]):
    def each(self, task: Callable[[FakeCluster], Any]) -> dict[str, Any]:
        return {cluster.name: task(cluster) for cluster in self}


def named(name: str, labels: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels or {}}, **fields}


def objects(number: int) -> Objects:
    gateway = named(
        "istio-eastwestgateway",
        {preflight.NETWORK: f"network{number}"},
        spec={"ports": [{"port": 15443}]},
        status={"loadBalancer": {"ingress": [{"ip": f"192.0.2.{number}"}]}},
    )
    return {
        "MutatingWebhookConfiguration": [named("injector", {"istio.io/rev": "asm-1175-9"})],
        "Service": [gateway],
        "Secret": [named("istio-remote-secret")],
        "ConfigMap": [named("istio-ca-root-cert", data={"root-cert.pem": "ONE ROOT"})],
    }


@pytest.fixture
def fleet() -> Any:
    return FakeFleet([FakeCluster("a", objects(1)), FakeCluster("b", copy.deepcopy(objects(2)))])


CLAIMS: dict[str, Callable[[Any], Verdict]] = {
    "clusters": preflight.clusters_answer,
    "user": lambda fleet: preflight.user_may(fleet, "sample"),
    "revision": lambda fleet: preflight.revision_injects(fleet, "asm-1175-9"),
    "gateways": preflight.gateways_joined,
    "endpoints": preflight.endpoints_shared,
    "root": preflight.one_root,
    "left": lambda fleet: preflight.nothing_left(fleet, ["sample"]),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_it_passes_on_what_parts_1_to_3_leave_behind(fleet: Any, claim: str) -> None:
    assert CLAIMS[claim](fleet).outcome == "pass"


def _labelled(kind: str, label: str, value: str) -> Callable[[FakeCluster], Any]:
    return lambda cluster: cluster.objects[kind][0]["metadata"]["labels"].update({label: value})


def _with(kind: str, *found: dict[str, Any]) -> Callable[[FakeCluster], Any]:
    return lambda cluster: cluster.objects.update({kind: list(found)})


@pytest.mark.parametrize(
    ("claim", "fault", "seen"),
    [
        pytest.param("clusters", lambda c: setattr(c, "server", "v1.21.14-gke.1"), "v1.21.14", id="old server"),
        pytest.param(
            "user", lambda c: c.denied.add("deployments.apps/scale"), "patch deployments.apps/scale", id="right"
        ),
        pytest.param(
            "revision",
            _labelled("MutatingWebhookConfiguration", "istio.io/rev", "default"),
            "revisions default",
            id="other revision",
        ),
        pytest.param("gateways", lambda c: c.objects["Service"][0].update(status={}), "lacks address", id="no address"),
        pytest.param("gateways", _labelled("Service", preflight.NETWORK, "network1"), "network1", id="same network"),
        pytest.param("gateways", _with("Service"), "no Service istio=eastwestgateway", id="no gateway"),
        pytest.param("endpoints", _with("Secret"), "no Secret istio/multiCluster=true", id="no secret"),
        pytest.param(
            "root",
            _with("ConfigMap", named("istio-ca-root-cert", data={"root-cert.pem": "ANOTHER ROOT"})),
            "sha256",
            id="other root",
        ),
        pytest.param("root", _with("ConfigMap"), "no ConfigMap", id="no root"),
        pytest.param("left", _with("Namespace", named("sample")), "namespace sample is there", id="left behind"),
    ],
)
def test_it_fails_on_a_planted_fault_and_says_what_to_try(
    fleet: Any, claim: str, fault: Callable[[FakeCluster], None], seen: str
) -> None:
    fault(fleet[1])
    verdict = CLAIMS[claim](fleet)
    assert verdict.outcome == "fail"
    assert seen in verdict.reason
    assert "Try: " in verdict.reason


@pytest.mark.parametrize(
    ("claim", "kind"),
    [
        ("revision", "MutatingWebhookConfiguration"),
        ("gateways", "Service"),
        ("endpoints", "Secret"),
        ("root", "ConfigMap"),
    ],
)
def test_what_may_not_be_looked_at_is_inconclusive(fleet: Any, claim: str, kind: str) -> None:
    fleet[0].refused.add(kind)
    assert CLAIMS[claim](fleet).outcome == "inconclusive"


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
    assert preflight.fleet_has(["global/a", "us-central1/b"], fleet[0]).outcome == outcome


def _pod(name: str, note: str | None, **metadata: Any) -> dict[str, Any]:
    annotations = {} if note is None else {"sidecar.istio.io/status": note}
    return {"metadata": {"name": name, "annotations": annotations, **metadata}}


@pytest.mark.parametrize(
    ("pods", "outcome", "said"),
    [
        ([_pod("a", '{"revision": "asm-1"}')], "pass", "1 pods"),
        ([_pod("a", '{"revision": "asm-0"}')], "fail", "a has asm-0"),
        ([_pod("a", None)], "fail", "a has none"),
        ([_pod("a", "not JSON")], "fail", "a has none"),
        ([_pod("a", '{"revision": "asm-1"}'), _pod("old", None, deletionTimestamp="now")], "pass", "1 pods"),
        ([], "fail", "0 pods"),
    ],
    ids=["right", "another revision", "not injected", "garbled note", "a pod that goes does not count", "no pod"],
)
def test_every_pod_must_have_its_sidecar_from_the_revision(pods: list[Any], outcome: str, said: str) -> None:
    cluster = FakeCluster("cluster1", {"Pod": pods})
    verdict = preflight.pods_injected(FakeFleet([cluster]), "sample", "asm-1")  # type: ignore[arg-type]
    assert verdict.outcome == outcome
    assert said in verdict.reason
