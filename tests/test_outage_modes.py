"""Each mode takes away what it says, records it before, and brings it back as it was; the record alone suffices."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from meshbook import outage
from meshbook.clusters import Cluster, Fleet
from meshbook.errors import OutageError
from meshbook.outage.deleting import PodsDeleted
from meshbook.outage.modes import mode_of
from meshbook.outage.records import AWAY

NAMESPACE, SYSTEM = "sample", "istio-system"
LABELS = {"app": "web", "version": "v1"}


def _deployment(name: str, namespace: str, labels: dict[str, str], replicas: int = 2) -> dict[str, Any]:
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "web"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": spec}


def _service(name: str, namespace: str, selector: dict[str, str], **labels: str) -> dict[str, Any]:
    spec = {"selector": selector, "ports": [{"name": "http", "port": 80}]}
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": spec}


class Keeper(threading.Thread):
    """Plays the controllers of one cluster, again and again: as many pods as wanted, and the Services' endpoints."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(name=f"keeper of {cluster.name}")
        self._cluster = cluster
        self._stopped = threading.Event()
        self._made = 0

    def run(self) -> None:
        while not self._stopped.wait(0.01):
            for deployment in self._cluster.list("Deployment"):
                self._keep(deployment)
            for service in self._cluster.list("Service", NAMESPACE):
                self._fill(service)

    def stop(self) -> None:
        self._stopped.set()
        self.join(10)

    def _keep(self, deployment: dict[str, Any]) -> None:
        metadata, spec = deployment["metadata"], deployment["spec"]
        pods = self._pods(metadata["namespace"], spec["selector"]["matchLabels"])
        for pod in pods[spec["replicas"] :]:
            self._cluster.delete_object("Pod", pod["metadata"]["name"], metadata["namespace"])
        for _ in range(spec["replicas"] - len(pods)):
            self._made += 1
            head = {"name": f"{metadata['name']}-{self._made}", "namespace": metadata["namespace"]}
            head["labels"] = spec["template"]["metadata"]["labels"]
            self._cluster.create("Pod", {"metadata": head, "spec": spec["template"]["spec"]})
            ready = {"conditions": [{"type": "Ready", "status": "True"}]}
            self._report("Pod", head["name"], head["namespace"], ready)
        names = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        status = {**dict.fromkeys(names, spec["replicas"]), "observedGeneration": metadata["generation"]}
        if (deployment.get("status") or {}) != status:
            self._report("Deployment", metadata["name"], metadata["namespace"], status)

    def _fill(self, service: dict[str, Any]) -> None:
        name = service["metadata"]["name"]
        pods = self._pods(NAMESPACE, service["spec"].get("selector") or {})
        endpoints = [{"addresses": [f"10.0.0.{n}"], "conditions": {"ready": True}} for n, _ in enumerate(pods, 1)]
        head = {"name": f"{name}-1", "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": name}}
        found = self._cluster.find("EndpointSlice", head["name"], NAMESPACE)
        if found is None:
            body = {"metadata": head, "addressType": "IPv4", "endpoints": endpoints, "ports": []}
            self._cluster.create("EndpointSlice", body)
        elif len(found.get("endpoints") or []) != len(endpoints):
            self._cluster.patch("EndpointSlice", head["name"], {"endpoints": endpoints}, namespace=NAMESPACE)

    def _pods(self, namespace: str, selector: dict[str, str]) -> list[dict[str, Any]]:
        return self._cluster.list(
            "Pod", namespace, labels=",".join(f"{key}={value}" for key, value in selector.items())
        )

    def _report(self, kind: str, name: str, namespace: str, status: dict[str, Any]) -> None:
        self._cluster.patch(kind, name, {"status": status}, namespace=namespace, subresource="status")


@pytest.fixture
def fleet(bare_fleet: Fleet) -> Iterator[Fleet]:
    """Two clusters that look like a lab: web behind a Service, and an east-west gateway."""
    gateway = {"istio": "eastwestgateway"}
    for cluster in bare_fleet:
        cluster.create("Node", {"metadata": {"name": "node-1", "labels": {"meshbook.io/lab": "true"}}})
        for namespace in (NAMESPACE, SYSTEM):
            cluster.create_namespace(namespace)
        cluster.create("Deployment", _deployment("web-v1", NAMESPACE, LABELS))
        cluster.create("Service", _service("web", NAMESPACE, {"app": "web"}))
        cluster.create("Deployment", _deployment("eastwest", SYSTEM, gateway, replicas=1))
        cluster.create("Service", _service("eastwest", SYSTEM, gateway, **gateway))
    keepers = [Keeper(cluster) for cluster in bare_fleet]
    for keeper in keepers:
        keeper.start()
    bare_fleet.wait_for_rollout(NAMESPACE, timeout_s=10)
    _wait(lambda: all(_endpoints(cluster) == 2 for cluster in bare_fleet))
    yield bare_fleet
    for keeper in keepers:
        keeper.stop()


@pytest.fixture
def target(fleet: Fleet) -> Cluster:
    return fleet["cluster1"]


def _intent(fleet: Fleet, mode: str, **more: Any) -> outage.Intent:
    given = {"cluster": fleet["cluster1"], "deployment": "web-v1", "namespace": NAMESPACE, "survivors": tuple(fleet)}
    return outage.Intent(**(given | {"mode": mode, "timeout_s": 10.0} | more))


def _wait(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _endpoints(cluster: Cluster) -> int:
    found = cluster.find("EndpointSlice", "web-1", NAMESPACE)
    return len((found or {}).get("endpoints") or [])


def _pods(cluster: Cluster, namespace: str = NAMESPACE) -> list[str]:
    return [pod["metadata"]["uid"] for pod in cluster.list("Pod", namespace)]


def _shape(cluster: Cluster) -> dict[str, Any]:
    """Return all that an outage may have touched."""
    found = [(kind, one) for kind in ("Deployment", "Service") for one in cluster.list(kind)]
    return {
        f"{kind} {one['metadata']['name']}": (one["spec"], one["metadata"].get("annotations") or {})
        for kind, one in found
    }


WHERE = {
    "scale-to-zero": ("Deployment", "web-v1", NAMESPACE),
    "pods-deleted": ("Deployment", "web-v1", NAMESPACE),
    "readiness-lost": ("Service", "web", NAMESPACE),
    "east-west-down": ("Deployment", "eastwest", SYSTEM),
}


@pytest.mark.parametrize("mode", WHERE)
def test_a_mode_is_recorded_before_and_everything_is_as_before_after(fleet: Fleet, target: Cluster, mode: str) -> None:
    before = _shape(target)
    with outage.outage(_intent(fleet, mode)) as taken:
        kind, name, namespace = WHERE[mode]
        notes = target.get(kind, name, namespace)["metadata"]["annotations"]
        assert notes[outage.RUN] == taken.run
        assert notes[outage.MODE] == mode
        assert notes[outage.OF] == NAMESPACE
        assert taken.changed
    assert _shape(target) == before
    times = [taken.down_requested, taken.down_accepted, taken.down]
    times += [taken.restore_requested, taken.restore_accepted, taken.ready_again]
    assert None not in times
    assert (times == sorted(times, key=str)) or mode == "pods-deleted"
    assert outage.restore(fleet) == []


def test_pods_that_lose_their_readiness_run_on_without_endpoints(fleet: Fleet, target: Cluster) -> None:
    pods = _pods(target)
    with outage.outage(_intent(fleet, "readiness-lost")):
        assert _endpoints(target) == 0
        assert AWAY in target.get("Service", "web", NAMESPACE)["spec"]["selector"]
    assert _endpoints(target) == 2
    assert _pods(target) == pods


def test_a_service_of_several_workloads_is_not_emptied_for_one(fleet: Fleet, target: Cluster) -> None:
    target.create("Deployment", _deployment("web-v2", NAMESPACE, {"app": "web", "version": "v2"}))
    with (
        pytest.raises(OutageError, match="also behind it: web-v2"),
        outage.outage(_intent(fleet, "readiness-lost")),
    ):
        pytest.fail("the block must not begin")


def test_deleted_pods_are_others_afterwards_and_their_return_is_timed(fleet: Fleet, target: Cluster) -> None:
    pods = set(_pods(target))
    with outage.outage(_intent(fleet, "pods-deleted")) as taken:
        assert not pods & set(_pods(target))
        _wait(lambda: len(_pods(target)) == 2)
        time.sleep(0.3)
        before_the_end = time.time()
    assert taken.ready_again is not None
    assert taken.ready_again.timestamp() < before_the_end


def test_the_gateway_goes_and_the_application_stays(fleet: Fleet, target: Cluster) -> None:
    with outage.outage(_intent(fleet, "east-west-down")):
        assert _pods(target, SYSTEM) == []
        assert len(_pods(target)) == 2
    assert len(_pods(target, SYSTEM)) == 1


def _die_in(intent: outage.Intent) -> None:
    """Take away, and leave it as a process does that was killed."""
    record = outage.Outage(
        mode=intent.mode, context="cluster1", namespace=NAMESPACE, deployment="web-v1", replicas=2, run=intent.run
    )
    mode = mode_of(intent)
    mode.take(record)
    if isinstance(mode, PodsDeleted):
        mode.watch.end()  # a killed process watches nothing


@pytest.mark.parametrize("mode", WHERE)
def test_restore_brings_back_every_mode_and_again_does_nothing(fleet: Fleet, target: Cluster, mode: str) -> None:
    before = _shape(target)
    _die_in(_intent(fleet, mode))
    assert _shape(target) != before
    (restored,) = outage.restore(fleet, NAMESPACE, timeout_s=10)
    assert (restored.kind, restored.name, restored.namespace) == WHERE[mode]
    assert _shape(target) == before
    assert outage.restore(fleet, NAMESPACE) == []


@pytest.mark.parametrize("mode", WHERE)
def test_the_next_outage_of_the_same_kind_brings_back_first(fleet: Fleet, target: Cluster, mode: str) -> None:
    before = _shape(target)
    _die_in(_intent(fleet, mode))
    with outage.outage(_intent(fleet, mode)) as taken:
        assert taken.replicas == 2
    assert _shape(target) == before


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_service_is_back_with_as_many_endpoints_as_there_are_pods_by_now(
    fleet: Fleet, target: Cluster, count: int
) -> None:
    with outage.outage(_intent(fleet, "readiness-lost")):
        target.scale("web-v1", count, NAMESPACE)
        target.wait_for_rollout(NAMESPACE, timeout_s=10)
        _wait(lambda: len(_pods(target)) == count)
    assert _endpoints(target) == count
    assert AWAY not in str(_shape(target))


def test_what_was_taken_for_another_namespace_is_left_alone(fleet: Fleet, target: Cluster) -> None:
    _die_in(_intent(fleet, "scale-to-zero"))
    assert outage.restore(fleet, "elsewhere") == []
    assert len(outage.restore(fleet, ["elsewhere", NAMESPACE], timeout_s=10)) == 1


def test_an_autoscaler_may_have_moved_the_count_within_its_bounds(fleet: Fleet, target: Cluster) -> None:
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web-v1"}
    scaler = {"spec": {"scaleTargetRef": reference, "minReplicas": 1, "maxReplicas": 5}}
    target.create("HorizontalPodAutoscaler", {"metadata": {"name": "web", "namespace": NAMESPACE}, **scaler})
    with outage.outage(_intent(fleet, "scale-to-zero")):
        notes = target.get("Deployment", "web-v1", NAMESPACE)["metadata"]["annotations"]
        assert notes["meshbook.io/autoscaler-before"] == "web 1 5"
    assert _shape(target)["Deployment web-v1"][1] == {}


def test_the_steady_state_is_proved_again(fleet: Fleet) -> None:
    answers = iter(["", "only v1 answers", "only v1 answers", ""])
    intent = _intent(fleet, "scale-to-zero", steady=lambda: next(answers))
    with outage.outage(intent) as taken:
        assert taken.steady_again is None
    assert taken.ready_again is not None
    assert taken.steady_again is not None
    assert taken.steady_again >= taken.ready_again
