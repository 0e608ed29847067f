"""The cause tree on objects as API servers give them: each fault is named first, no healthy variant has a cause."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from meshes import HOST, NETWORK, SYSTEM, FakeFleet, healthy_mesh, named, pod, servers

from meshbook import mesh, tables
from meshbook.clusters import ExecResult
from meshbook.mesh import Direction, Finding, remote_secrets
from meshbook.mesh.remote_secrets import Try
from meshbook.mesh.snapshot import Snapshot
from meshbook.verdict import Verdict

URL = "http://helloworld.sample:5000/hello"
THERE = Direction(source="a", destination="b")
PEER = "security.istio.io/v1beta1/PeerAuthentication"


def answers(*heard: tuple[str, str], error: str = "", ms: float = 5.0) -> pd.DataFrame:
    """Five answers of each pod to each source: (source, pod); with ``error`` none is good."""
    rows = [
        {"source": source, "instance": "" if error else pod, "cluster": at, "error": error, "time_total_ms": ms}
        for source, pod in heard
        for at in ["" if error else pod[-2]]
        for _ in range(5)
    ]
    return tables.from_rows(rows, tables.ANSWERS)


EACH_ALONE = answers(("a", "helloworld-v1-a0"), ("b", "helloworld-v2-b0"))
ALL_HEARD = answers(*((source, pod) for source in "ab" for pod in ("helloworld-v1-a0", "helloworld-v2-b0")))


def look(fleet: FakeFleet, asked: pd.DataFrame = EACH_ALONE) -> list[Finding]:
    return mesh.why(fleet, URL, asked)  # type: ignore[arg-type]


def causes(fleet: FakeFleet, asked: pd.DataFrame = EACH_ALONE) -> list[Finding]:
    return [one for one in look(fleet, asked) if one.state == "cause"]


@pytest.fixture(autouse=True)
def works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remote secrets are tried against nobody: each works."""

    def tries(view: Snapshot) -> list[Try]:
        found = view.list("Secret", SYSTEM)
        names = [(one["metadata"]["name"], name) for one in found for name in one["data"]]
        return [Try(secret=title, name=name, uid=f"uid-{name}", version="v1", listed=1) for title, name in names]

    monkeypatch.setattr(remote_secrets, "tries", tries)


@pytest.fixture
def fleet() -> FakeFleet:
    return healthy_mesh()


Plant = Callable[[FakeFleet], Any]


def removed(kind: str, name: str, cluster: str = "b") -> Plant:
    def plant(fleet: FakeFleet) -> None:
        there = fleet[cluster].objects[kind]
        there[:] = [one for one in there if one["metadata"]["name"] != name]

    return plant


def changed(kind: str, name: str, change: Callable[[dict[str, Any]], Any], cluster: str = "b") -> Plant:
    def plant(fleet: FakeFleet) -> None:
        change(next(one for one in fleet[cluster].objects[kind] if one["metadata"]["name"] == name))

    return plant


def added(kind: str, *found: dict[str, Any], clusters: str = "ab") -> Plant:
    def plant(fleet: FakeFleet) -> None:
        for cluster in clusters:
            fleet[cluster].objects[kind] += found

    return plant


def bare(pod: dict[str, Any]) -> None:
    pod["metadata"]["annotations"] = {}


def refusing_injection(pod: dict[str, Any]) -> None:
    bare(pod)
    pod["metadata"]["labels"]["sidecar.istio.io/inject"] = "false"


def not_ready(pod: dict[str, Any]) -> None:
    pod["status"]["conditions"][0]["status"] = "False"


def no_gateway_pod(fleet: FakeFleet) -> None:
    removed("Pod", "gateway-b")(fleet)
    changed("Deployment", "istio-eastwestgateway", lambda one: one["spec"].update(replicas=0))(fleet)


def made_for_another_revision(fleet: FakeFleet) -> None:
    changed("Pod", "helloworld-v2-b0", bare)(fleet)
    changed("Namespace", "sample", lambda one: one["metadata"]["labels"].update({"istio.io/rev": "asm-0"}))(fleet)


def enabled_by_nobody(fleet: FakeFleet) -> None:
    changed("Pod", "helloworld-v2-b0", bare)(fleet)
    labels = {"istio-injection": "enabled", "istio.io/rev": "asm-1175-9"}
    changed("Namespace", "sample", lambda one: one["metadata"].update(labels=labels))(fleet)


def curl_ends_with(code: int, said: str = "") -> Plant:
    def plant(fleet: FakeFleet) -> None:
        fleet["a"].run = lambda *_: ExecResult(exit_code=code, stdout=said, stderr="")

    return plant


def peers(mode: str, cluster: str, name: str = "default", **spec: Any) -> Plant:
    return added(PEER, named(name, "sample", spec={"mtls": {"mode": mode}, **spec}), clusters=cluster)


def disagreeing(fleet: FakeFleet) -> None:
    peers("STRICT", "a")(fleet)
    peers("DISABLE", "b")(fleet)


def to_subset(subset: str) -> Plant:
    labels = [{"name": name, "labels": {"version": name}} for name in ("v1", "v2", "v9")]

    def plant(fleet: FakeFleet) -> None:
        http = [{"route": [{"destination": {"host": "helloworld", "subset": subset}}]}]
        added("VirtualService", named("to", "sample", spec={"hosts": ["helloworld"], "http": http}))(fleet)
        added("DestinationRule", named("to", "sample", spec={"host": HOST, "subsets": labels}))(fleet)

    return plant


def another_root(fleet: FakeFleet) -> None:
    for one in fleet["b"].objects["ConfigMap"]:
        one["data"] = {"root-cert.pem": "ANOTHER ROOT"}


def with_tls(mode: str) -> Plant:
    policy = {"host": HOST, "trafficPolicy": {"tls": {"mode": mode}}}
    return added("DestinationRule", named("plain", "sample", spec=policy), clusters="a")


FAULTS: dict[str, tuple[Plant, str, str]] = {
    "no remote secret": (removed("Secret", "istio-remote-secret-b", "a"), "remote secret", "no remote secret for b"),
    "east-west gateway at 0": (no_gateway_pod, "gateway", "Deployment istio-eastwestgateway has 0 replicas"),
    "cross-network Gateway gone": (removed("Gateway", "cross-network"), "gateway", "has no Gateway that opens"),
    "its selector fits no pod": (
        changed("Gateway", "cross-network", lambda one: one["spec"].update(selector={"istio": "other"})),
        "gateway", "selects istio=other, which no east-west gateway pod has",
    ),
    "its hosts leave the service out": (
        changed("Gateway", "cross-network", lambda one: one["spec"]["servers"][0].update(hosts=["*.global"])),
        "gateway", f"lets *.global through, not {HOST}",
    ),
    "the gateway has no address": (
        changed("Service", "istio-eastwestgateway", lambda one: one.update(status={})), "gateway", "lacks an address",
    ),
    "both on one network": (
        changed("Namespace", SYSTEM, lambda one: one["metadata"]["labels"].update({NETWORK: "network-a"})),
        "gateway", "labelled with one network",
    ),
    "15443 dropped": (curl_ends_with(28, "Connection timed out"), "way", "packets vanish"),
    "the gateway hangs": (curl_ends_with(28, "SSL connection timeout"), "way", "the gateway hangs"),
    "nobody listens": (curl_ends_with(7), "way", "nobody listens"),
    "injection enabled without a default": (
        enabled_by_nobody, "servers", "has istio-injection=enabled, and no webhook is of the default revision",
    ),
    "another root": (another_root, "roots", "different root certificates"),
    "pod without sidecar by its own label": (
        changed("Pod", "helloworld-v2-b0", refusing_injection), "servers", "its own sidecar.istio.io/inject is false",
    ),
    "wrong revision": (made_for_another_revision, "servers", "is of revision asm-0, only of asm-1175-9"),
    "pod from before injection": (changed("Pod", "helloworld-v2-b0", bare), "servers", "before injection"),
    "client without sidecar": (changed("Pod", "sleep-a", bare, "a"), "clients", "a's pod sleep-a has no sidecar"),
    "readiness false": (changed("Pod", "helloworld-v2-b0", not_ready), "servers", "None of b's 1 pods"),
    "in no EndpointSlice": (removed("EndpointSlice", "helloworld-x"), "servers", "in no EndpointSlice"),
    "no Service there": (removed("Service", "helloworld"), "servers", "b has no Service helloworld in sample"),
    "an empty subset": (to_subset("v9"), "routes", "sends 100 % to v9, but no ready pod has"),
    "an unknown subset": (to_subset("v7"), "routes", "sends 100 % to v7, but no DestinationRule has"),
    "mutual TLS disagrees": (disagreeing, "mutual TLS", "disables mutual TLS (a: STRICT)"),
    "a client's rule without mutual TLS": (with_tls("DISABLE"), "mutual TLS", "sets TLS mode DISABLE"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_first_with_what_mends_it(fleet: FakeFleet, fault: str) -> None:
    plant, where, seen = FAULTS[fault]
    plant(fleet)
    first = next(one for one in look(fleet) if one.direction == THERE)
    assert (first.state, first.look) == ("cause", where), str(first)
    assert seen in first.seen
    assert first.mend


def locality_on(fleet: FakeFleet) -> None:
    added("DestinationRule", named("near", "sample", spec={"host": HOST, "trafficPolicy": {"outlierDetection": {}}}))(
        fleet
    )


def test_locality_is_named_where_a_rule_says_so_and_nothing_is_wrong(fleet: FakeFleet) -> None:
    locality_on(fleet)
    first = look(fleet)[0]
    assert first.state == "as configured"
    assert "DestinationRule sample/near has outlierDetection" in first.seen


def test_a_fault_counts_before_what_is_configured(fleet: FakeFleet) -> None:
    locality_on(fleet)
    no_gateway_pod(fleet)
    assert look(fleet)[0].look == "gateway"


def tagged(fleet: FakeFleet) -> None:
    labels = {"istio.io/rev": "asm-1175-9", "istio.io/tag": "prod"}
    added("MutatingWebhookConfiguration", named("tag", labels=labels))(fleet)
    for name in "ab":
        fleet[name].objects["Namespace"][1]["metadata"]["labels"] = {"istio.io/rev": "prod"}


def injected_by_default(fleet: FakeFleet) -> None:
    labels = {"istio.io/rev": "asm-1175-9", "istio.io/tag": "default"}
    added("MutatingWebhookConfiguration", named("default", labels=labels))(fleet)
    for name in "ab":
        fleet[name].objects["Namespace"][1]["metadata"]["labels"] = {"istio-injection": "enabled"}


def roots_in_another_order(fleet: FakeFleet) -> None:
    one, two = (f"-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n" for name in ("ONE", "TWO"))
    for name, pem in (("a", one + two), ("b", two + "\n" + one)):
        for found in fleet[name].objects["ConfigMap"]:
            found["data"] = {"root-cert.pem": pem}


def native_sidecars(fleet: FakeFleet) -> None:
    for cluster in fleet:
        for one in cluster.objects["Pod"]:
            one["spec"]["initContainers"] = [one["spec"]["containers"].pop()]


def weighted(fleet: FakeFleet) -> None:
    to_subset("v1")(fleet)
    for cluster in fleet:
        route = cluster.objects["VirtualService"][0]["spec"]["http"][0]["route"]
        route[0]["weight"] = 80
        route.append({"destination": {"host": "helloworld", "subset": "v2"}, "weight": 20})


def replicas(fleet: FakeFleet) -> None:
    for cluster, version in (("a", "v1"), ("b", "v2")):
        fleet[cluster].objects["Pod"] += servers(cluster, version, 3)[1:]


HEALTHY: dict[str, Plant] = {
    "as it is": lambda fleet: None,
    "three replicas": replicas,
    "locality on": locality_on,
    "a revision tag": tagged,
    "istio-injection=enabled and a default tag": injected_by_default,
    "two roots, in another order": roots_in_another_order,
    "native sidecars": native_sidecars,
    "weights 80/20": weighted,
    "STRICT on both sides": lambda fleet: [peers("STRICT", name)(fleet) for name in "ab"],
    "STRICT on one side": peers("STRICT", "a"),
    "a PeerAuthentication of other pods": peers("DISABLE", "b", "other", selector={"matchLabels": {"app": "other"}}),
    "an unrelated pod that is not ready": added("Pod", pod("other-1", "sample", {"app": "other"}, ready=False)),
}  # fmt: skip


@pytest.mark.parametrize("variant", HEALTHY)
@pytest.mark.parametrize("asked", [ALL_HEARD, EACH_ALONE], ids=["heard", "silent"])
def test_a_healthy_mesh_has_no_cause(fleet: FakeFleet, variant: str, asked: pd.DataFrame) -> None:
    HEALTHY[variant](fleet)
    assert causes(fleet, asked) == []


def ingress_pod(name: str, *, ready: bool = True) -> dict[str, Any]:
    found = pod(name, "edge", {"app": "edge"}, ready=ready)
    return {**found, "status": {**found["status"], "podIP": "10.0.0.9"}}


@pytest.mark.parametrize(
    ("error", "code", "ready", "causes"),
    [
        ("timeout", 28, True, ["b's ingress gateway pod edge-1, one of 2, does not answer: its proxy hangs."]),
        ("timeout", 0, False, ["b's ingress gateway pod edge-1, one of 2, does not answer: pod edge-1 Running."]),
        ("timeout", 127, True, []),
        ("", 28, False, []),
    ],
    ids=["hangs", "not ready", "cannot be asked", "nothing went wrong"],
)
def test_each_ingress_gateway_is_asked_where_requests_from_outside_went_wrong(
    fleet: FakeFleet, error: str, code: int, ready: bool, causes: list[str]
) -> None:
    fleet["b"].objects["Pod"] += [ingress_pod("edge-1", ready=ready), ingress_pod("edge-2")]
    fleet["a"].objects["Pod"] += [ingress_pod("edge-3")]
    fleet["b"].run = lambda name, _: ExecResult(exit_code=code if name == "edge-1" else 0, stdout="", stderr="")
    asked = answers(("external client", "helloworld-v1-a0"), ("external client", "helloworld-v2-b0"))
    asked.loc[0, "error"] = error
    where = {"namespace": "sample", "gateway_namespace": "edge"}
    entry = mesh.Entry(url="http://192.0.2.1/hello", clusters=("b",))
    found = mesh.why_outside(fleet, [entry], asked, **where)  # type: ignore[arg-type]
    assert [one.seen for one in found if one.state == "cause"] == causes


def test_where_all_are_heard_nothing_is_asked_of_pods_and_secrets(fleet: FakeFleet) -> None:
    no_gateway_pod(fleet)
    assert {one.look for one in look(fleet, ALL_HEARD)} == {"routes"}


def test_a_cluster_whose_answers_are_late_is_named(fleet: FakeFleet) -> None:
    slow = answers(("a", "helloworld-v2-b0"), ms=3000.0)
    fast = answers(("a", "helloworld-v1-a0"))
    found = causes(fleet, pd.concat([slow, fast], ignore_index=True))
    assert [(one.look, one.direction) for one in found] == [("answers", THERE)]
    assert "half take 3.0 s or more, the others' 0.01 s" in found[0].seen


@pytest.mark.parametrize(
    ("error", "code", "said", "found"),
    [
        (
            "timeout",
            0,
            "3.041",
            ("cause", "b's pods answer a late: helloworld-v2-b0, asked from within itself, takes 3.0 s"),
        ),
        ("timeout", 28, "10.0", ("cause", "asked from within itself, says nothing within 10 s")),
        ("timeout", 0, "0.051", ("fine", "asked from within itself, takes 0.05 s")),
        ("timeout", 127, "", ("not looked at", "not looked at")),
        ("http_503", 0, "3.041", None),
    ],
    ids=["late", "hangs", "in time", "no curl there", "no time-out"],
)
def test_where_nothing_came_in_time_a_pod_is_asked_from_within_itself(
    fleet: FakeFleet, error: str, code: int, said: str, found: tuple[str, str] | None
) -> None:
    fleet["b"].run = lambda pod, argv: ExecResult(exit_code=code if "helloworld" in pod else 35, stdout=said, stderr="")
    asked = pd.concat([answers(("a", "helloworld-v1-a0")), answers(("a", ""), error=error)], ignore_index=True)
    there = [one for one in look(fleet, asked) if (one.direction, one.look) == (THERE, "answers")]
    assert f"a got 5 {error}." in [one.seen for one in there]
    last = [(one.state, one.seen) for one in there if one.state != "noted"]
    assert [state for state, _ in last] == ([found[0]] if found else [])
    assert not found or found[1] in last[0][1]


def test_slow_everywhere_is_no_cause(fleet: FakeFleet) -> None:
    heard = [("a", "helloworld-v2-b0"), ("a", "helloworld-v1-a0")]
    assert causes(fleet, answers(*heard, ms=3000.0)) == []


@pytest.mark.parametrize("kind", ["Secret", "Pod", "Gateway", PEER, "EndpointSlice", "pods/exec"])
def test_what_may_not_be_read_is_neither_cause_nor_fine(fleet: FakeFleet, kind: str) -> None:
    fleet["a"].refused.add(kind)
    found = look(fleet)
    unseen = [one for one in found if one.state == "not looked at"]
    assert [one for one in found if one.state == "cause"] == []
    assert any("list" in one.mend or "pods/exec" in one.mend for one in unseen)


def verdict(outcome: Any) -> Verdict:
    return Verdict(claim="both answer", outcome=outcome, reason="a got nothing.")


def test_the_first_of_the_worst_verdicts_begins_with_the_cause(fleet: FakeFleet) -> None:
    no_gateway_pod(fleet)
    told = mesh.explained(look(fleet), *map(verdict, ("pass", "inconclusive", "fail", "fail")))
    assert [told[0], told[1], told[3]] == [verdict("pass"), verdict("inconclusive"), verdict("fail")]
    assert told[2].reason.startswith("a → b: b has no pod of the east-west gateway")
    assert told[2].reason.endswith("--replicas=1. a got nothing.")


def test_without_a_cause_a_verdict_says_what_could_be_looked_at_yet(fleet: FakeFleet) -> None:
    fleet["a"].refused.add("Secret")
    (found,) = mesh.explained(look(fleet), verdict("fail"))
    assert found.reason.startswith("a got nothing. No cause was seen; to look further: ")
    assert "list secrets in istio-system (a)" in found.reason


def test_pods_are_joined_to_clusters_by_name_and_a_name_of_both_tells_nothing(fleet: FakeFleet) -> None:
    added("Pod", *servers("x", "v1", 1))(fleet)
    found = mesh.pods_by_name(fleet, "sample")  # type: ignore[arg-type]
    assert found["helloworld-v1-a0"] == "a"
    assert found["helloworld-v2-b0"] == "b"
    assert "helloworld-v1-x0" not in found
