"""Faults planted on a lab, one at a time: for each, the cause tree names what was done before anything else."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from meshbook import Fleet, analysis, mesh, probes, tables
from meshbook.lab.faults import FaultClient, FaultSpec
from meshbook.lab.launch import LabState
from meshbook.objects import SYSTEM_NAMESPACE

pytestmark = [pytest.mark.envoy, pytest.mark.rehearsal, pytest.mark.timeout(120)]

MANIFESTS = Path(__file__).parents[2] / "manifests" / "connectivity"
URL = "http://helloworld.sample:5000/hello"
FIRST, SECOND = "cluster1", "cluster2"
EFFECT_S = 15.0
HOST = "helloworld.sample.svc.cluster.local"
SECRET = f"istio-remote-secret-{SECOND}"
GATEWAY = "istio-eastwestgateway"
VERSIONS = [{"name": name, "labels": {"version": name}} for name in ("v1", "v2", "v9")]

Plant = Callable[[Fleet, FaultClient], AbstractContextManager[None]]


@contextmanager
def deleted(fleet: Fleet, *found: tuple[str, str, str]) -> Iterator[None]:
    """Objects (cluster, kind, name) of the system namespace are gone."""
    kept = [(cluster, kind, fleet[cluster].get(kind, name, SYSTEM_NAMESPACE)) for cluster, kind, name in found]
    for cluster, kind, one in kept:
        fleet[cluster].delete_object(kind, one["metadata"]["name"], SYSTEM_NAMESPACE)
    try:
        yield
    finally:
        for cluster, kind, one in kept:
            metadata = {key: one["metadata"][key] for key in ("name", "namespace", "labels") if key in one["metadata"]}
            fleet[cluster].create(kind, {**one, "metadata": metadata})


@contextmanager
def created(fleet: Fleet, kind: str, spec: dict[str, Any], name: str = "planted") -> Iterator[None]:
    """Both clusters have this object in the sample's namespace."""
    for cluster in fleet:
        cluster.create(kind, {"metadata": {"name": name, "namespace": "sample"}, "spec": spec})
    try:
        yield
    finally:
        for cluster in fleet:
            cluster.delete_object(kind, name, "sample")


@contextmanager
def patched(
    fleet: Fleet, kind: str, name: str, namespace: str, change: dict[str, Any], back: dict[str, Any]
) -> Iterator[None]:
    """An object of the second cluster is changed."""
    fleet[SECOND].patch(kind, name, change, namespace=namespace)
    try:
        yield
    finally:
        fleet[SECOND].patch(kind, name, back, namespace=namespace)
        if kind == "Deployment":
            fleet[SECOND].wait_for_rollout(namespace, timeout_s=30)


@contextmanager
def token_over(fleet: Fleet, _: FaultClient) -> Iterator[None]:
    """The first cluster's remote secret has a token that ended an hour ago."""
    secret = fleet[FIRST].get("Secret", SECRET, SYSTEM_NAMESPACE)
    ended = base64.urlsafe_b64encode(json.dumps({"exp": int(time.time()) - 3600}).encode()).decode().rstrip("=")
    config = json.loads(base64.b64decode(secret["data"][SECOND]))
    config["users"][0]["user"] = {"token": f"e30.{ended}.signature"}
    data = {SECOND: base64.b64encode(json.dumps(config).encode()).decode()}
    fleet[FIRST].patch("Secret", SECRET, {"data": data}, namespace=SYSTEM_NAMESPACE)
    try:
        yield
    finally:
        fleet[FIRST].patch("Secret", SECRET, {"data": secret["data"]}, namespace=SYSTEM_NAMESPACE)


@contextmanager
def wrong_revision(fleet: Fleet, _: FaultClient) -> Iterator[None]:
    """The second cluster's server was made while the namespace asked for a revision that is not installed."""
    label = {"metadata": {"labels": {"istio.io/rev": "asm-0000-0"}}}
    back = {"metadata": {"labels": {"istio.io/rev": "asm-1175-9"}}}
    fleet[SECOND].patch("Namespace", "sample", label)
    with template(fleet, {"planted": "revision"}):
        try:
            yield
        finally:
            fleet[SECOND].patch("Namespace", "sample", back)


def template(fleet: Fleet, labels: dict[str, str]) -> AbstractContextManager[None]:
    """The second cluster's server is made anew with these labels."""

    def change(values: dict[str, str | None]) -> dict[str, Any]:
        return {"spec": {"template": {"metadata": {"labels": values}}}}

    nothing: dict[str, str | None] = dict.fromkeys(labels)
    return patched(fleet, "Deployment", "helloworld-v2", "sample", change(dict(labels)), change(nothing))


def weights(
    first: int, second: int, subset: str = "v2"
) -> Callable[[Fleet, FaultClient], AbstractContextManager[None]]:
    @contextmanager
    def plant(fleet: Fleet, _: FaultClient) -> Iterator[None]:
        parts = {"v1": first, subset: second}
        routes = [
            {"destination": {"host": HOST, "subset": name}, "weight": weight}
            for name, weight in parts.items()
            if weight
        ]
        rule, route = {"host": HOST, "subsets": VERSIONS}, {"hosts": [HOST], "http": [{"route": routes}]}
        with created(fleet, "DestinationRule", rule), created(fleet, "VirtualService", route):
            yield

    return plant


def link(direction: str) -> Plant:
    def plant(_: Fleet, faults: FaultClient) -> Any:
        return faults.injected(FaultSpec(kind="link-cut", context=SECOND, direction=direction))

    return plant


def scaled(name: str, namespace: str) -> Plant:
    change, back = {"spec": {"replicas": 0}}, {"spec": {"replicas": 1}}
    return lambda fleet, _: patched(fleet, "Deployment", name, namespace, change, back)


def unready(_: Fleet, faults: FaultClient) -> Any:
    return faults.injected(FaultSpec(kind="unready", context=SECOND, selector="version=v2"))


@contextmanager
def mutual_tls_disagrees(fleet: Fleet, _: FaultClient) -> Iterator[None]:
    """The first cluster wants mutual TLS in the sample's namespace, the second has none there."""
    kind = "security.istio.io/v1beta1/PeerAuthentication"
    metadata = {"name": "planted", "namespace": "sample"}
    for cluster, mode in ((fleet[FIRST], "STRICT"), (fleet[SECOND], "DISABLE")):
        cluster.create(kind, {"metadata": metadata, "spec": {"mtls": {"mode": mode}}})
    try:
        yield
    finally:
        for cluster in fleet:
            cluster.delete_object(kind, "planted", "sample")


THERE, BACK = f"{FIRST} → {SECOND}", f"{SECOND} → {FIRST}"
FAULTS: dict[str, tuple[Plant, str, str, str]] = {
    "remote secret gone": (
        lambda fleet, _: deleted(fleet, (FIRST, "Secret", SECRET)), THERE, "remote secret", "no Secret istio/multi",
    ),
    "both remote secrets gone": (
        lambda fleet, _: deleted(
            fleet, (FIRST, "Secret", SECRET), (SECOND, "Secret", f"istio-remote-secret-{FIRST}")
        ), BACK, "remote secret", "no Secret istio/multi",
    ),
    "its token expired": (token_over, THERE, "remote secret", "Its token expired at"),
    "east-west gateway at 0": (scaled(GATEWAY, SYSTEM_NAMESPACE), THERE, "gateway", f"{GATEWAY} has 0 replicas"),
    "cross-network Gateway gone": (
        lambda fleet, _: deleted(fleet, (SECOND, "Gateway", "cross-network-gateway")),
        THERE, "gateway", "has no Gateway that opens port 15443",
    ),
    "link cut inward": (link("in"), THERE, "way", "packets vanish on the way"),
    "link cut outward": (link("out"), BACK, "way", "packets vanish on the way"),
    "link cut both ways": (link("both"), BACK, "way", "packets vanish on the way"),
    "pod without sidecar": (
        lambda fleet, _: template(fleet, {"sidecar.istio.io/inject": "false"}),
        THERE, "servers", "its own sidecar.istio.io/inject is false",
    ),
    "wrong revision": (wrong_revision, THERE, "servers", "no injection webhook is of revision asm-0000-0"),
    "readiness false": (unready, THERE, "servers", "None of cluster2's 1 pods of helloworld is ready"),
    "scaled to 0": (scaled("helloworld-v2", "sample"), THERE, "servers", "helloworld-v2 has 0 replicas"),
    "mutual TLS that disagrees": (mutual_tls_disagrees, THERE, "mutual TLS", "disables mutual TLS (cluster1: STRICT)"),
    "an empty subset": (weights(0, 100, "v9"), THERE, "routes", "sends 100 % to v9, but no ready pod has"),
    "weights 100/0": (weights(100, 0), THERE, "routes", "expected 0 %: VirtualService sample/planted sends"),
}  # fmt: skip


@pytest.fixture
def deployed(lab: LabState, fleet: Fleet) -> LabState:
    """The lab with the sample as stage 1 leaves it: v1 in the first cluster, v2 in the second."""
    fleet.create_namespace("sample", revision="asm-1175-9")
    for part in ("sleep.yaml", "prober.yaml"):
        fleet.apply(MANIFESTS / part, "sample")
    fleet.apply(MANIFESTS / "helloworld.yaml", "sample", "service=helloworld")
    for cluster, version in zip(fleet, ("v1", "v2"), strict=True):
        cluster.apply(MANIFESTS / "helloworld.yaml", "sample", f"version={version}")
    fleet.wait_for_rollout("sample", timeout_s=30)
    return lab


@contextmanager
def locality_on(fleet: Fleet, _: FaultClient) -> Iterator[None]:
    with created(fleet, "DestinationRule", {"host": HOST, "trafficPolicy": {"outlierDetection": {}}}):
        yield


@contextmanager
def three_replicas(fleet: Fleet, _: FaultClient) -> Iterator[None]:
    change, back = {"spec": {"replicas": 3}}, {"spec": {"replicas": 1}}
    with patched(fleet, "Deployment", "helloworld-v2", "sample", change, back):
        fleet[SECOND].wait_for_rollout("sample", timeout_s=30)
        yield


CONFIGURED: dict[str, tuple[Plant, dict[str, float], str]] = {
    "weights 80/20": (weights(80, 20), {FIRST: 0.2, SECOND: 0.2}, "VirtualService sample/planted sends 80 % to v1"),
    "locality on": (locality_on, {FIRST: 0.0, SECOND: 1.0}, "DestinationRule sample/planted has outlierDetection"),
    "three replicas": (three_replicas, {FIRST: 0.75, SECOND: 0.75}, "3 of 4 ready endpoints"),
}


def ask(fleet: Fleet) -> pd.DataFrame:
    return probes.curl_from_pods(fleet, URL, requests=10, timeout_s=0.5)


def heard(fleet: Fleet, answers: pd.DataFrame) -> set[str]:
    """Return the directions in which answers came."""
    pods = mesh.pods_by_name(fleet, "sample")
    good = tables.good(answers)
    return {f"{source} → {pods.get(pod, '')}" for source, pod in zip(good["source"], good["instance"], strict=True)}


def wait_for(fleet: Fleet, direction: str, *, silent: bool) -> pd.DataFrame:
    deadline = time.monotonic() + EFFECT_S
    while (direction in heard(fleet, answers := ask(fleet))) is silent:
        assert time.monotonic() < deadline, f"{direction} is not {'silent' if silent else 'heard'}"
    return answers


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named_first(deployed: LabState, fleet: Fleet, fault: str) -> None:
    plant, direction, look, seen = FAULTS[fault]
    with plant(fleet, FaultClient.of(deployed.root)):
        found = mesh.why(fleet, URL, wait_for(fleet, direction, silent=True))
        first = next(one for one in found if str(one.direction) == direction)
        assert (first.look, seen in first.seen) == (look, True), "\n".join(map(str, found))
        assert first.mend
    wait_for(fleet, direction, silent=False)


@pytest.mark.parametrize("variant", CONFIGURED)
def test_what_the_mesh_is_configured_for_is_expected_and_comes(deployed: LabState, fleet: Fleet, variant: str) -> None:
    plant, shares, why = CONFIGURED[variant]
    versions = {FIRST: "v1", SECOND: "v2"}
    with plant(fleet, FaultClient.of(deployed.root)):
        found = mesh.expected_share(fleet, URL)
        assert {source: round(one.shares.get(SECOND, 0.0), 2) for source, one in found.items()} == shares
        assert why in found[FIRST].of(SECOND)
        wanted = mesh.by_cluster(found, [*versions])
        deadline = time.monotonic() + EFFECT_S
        while True:
            pods = mesh.pods_by_name(fleet, "sample")
            answers = mesh.answered_by(probes.curl_from_pods(fleet, URL, requests=60, timeout_s=2), pods)
            verdicts = [
                analysis.answers_as_expected(answers, versions, wanted),
                analysis.split_as_expected(answers, SECOND, wanted, 0.25),
            ]
            if all(verdict.outcome == "pass" for verdict in verdicts):
                break
            assert time.monotonic() < deadline, verdicts
        assert not [one for one in mesh.why(fleet, URL, answers) if one.state == "cause"]
    wait_for(fleet, THERE, silent=False)
