"""An outage always ends: on success, on an error, on Ctrl-C, twice Ctrl-C, and after a crash."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from meshbook import outage
from meshbook.clusters import Cluster, Fleet
from meshbook.errors import ClusterError, GatheredError, OutageError, WaitTimeout

NAMESPACE = "sample"


def _deployment(name: str, replicas: int = 2) -> dict[str, Any]:
    labels = {"app": "web", "version": name.rpartition("-")[2]}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "web"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"metadata": {"name": name, "namespace": NAMESPACE, "labels": labels}, "spec": spec}


@pytest.fixture
def fleet(bare_fleet: Fleet, hands: Any) -> Iterator[Fleet]:
    """web-v1 runs on cluster1, web-v2 on cluster2."""
    bare_fleet.create_namespace(NAMESPACE)
    for cluster in bare_fleet:
        cluster.create("Node", {"metadata": {"name": "node-1", "labels": {"meshbook.io/lab": "true"}}})
    bare_fleet["cluster1"].create("Deployment", _deployment("web-v1"))
    bare_fleet["cluster2"].create("Deployment", _deployment("web-v2"))
    with hands(bare_fleet["cluster1"]), hands(bare_fleet["cluster2"]):
        bare_fleet.wait_for_rollout(NAMESPACE, timeout_s=10)
        yield bare_fleet


@pytest.fixture
def target(fleet: Fleet) -> Cluster:
    return fleet["cluster1"]


def _replicas(cluster: Cluster) -> int:
    return int(cluster.get("Deployment", "web-v1", NAMESPACE)["spec"]["replicas"])


def _record(cluster: Cluster) -> dict[str, str]:
    annotations = cluster.get("Deployment", "web-v1", NAMESPACE)["metadata"].get("annotations") or {}
    return {key: value for key, value in annotations.items() if key.startswith("meshbook.io/")}


def _is_as_before(cluster: Cluster) -> bool:
    (state,) = cluster.deployments(NAMESPACE)
    return state.settled and state.desired == 2 and not _record(cluster)


def _crash(cluster: Cluster, replicas: str = "2") -> None:
    """Leave the Deployment as a process does that was killed in the middle of an outage."""
    change = {"metadata": {"annotations": {outage.REPLICAS: replicas, outage.RUN: "dead"}}}
    cluster.patch("Deployment", "web-v1", change, namespace=NAMESPACE)
    cluster.scale("web-v1", 0, NAMESPACE)


def test_the_workload_is_away_inside_the_block_and_back_after_it(fleet: Fleet, target: Cluster) -> None:
    with outage.scaled_to_zero(target, "web-v1", namespace=NAMESPACE, survivors=fleet) as taken:
        assert _replicas(target) == 0
        assert target.list("Pod", NAMESPACE) == []
        assert _record(target)[outage.REPLICAS] == "2"
        assert _record(target)[outage.RUN] == taken.run
        assert _record(target)[outage.MODE] == "scale-to-zero"
    assert _is_as_before(target)
    times = [taken.down_requested, taken.down_accepted, taken.down]
    times += [taken.restore_requested, taken.restore_accepted, taken.ready_again]
    assert None not in times
    assert times == sorted(times, key=str)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_however_the_block_ends_the_workload_comes_back(target: Cluster, error: type[BaseException]) -> None:
    with pytest.raises(error), outage.scaled_to_zero(target, "web-v1", namespace=NAMESPACE):
        raise error
    assert _is_as_before(target)


def test_a_second_ctrl_c_does_not_stop_the_coming_back(target: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Cluster.wait_for_rollout

    def impatient(self: Cluster, *args: Any, **options: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        return real(self, *args, **options)

    monkeypatch.setattr(Cluster, "wait_for_rollout", impatient)
    former = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), outage.scaled_to_zero(target, "web-v1", namespace=NAMESPACE):
        pass
    assert _is_as_before(target)
    assert signal.getsignal(signal.SIGTERM) == former


def test_pods_that_do_not_go_end_the_outage_and_bring_it_back(target: Cluster) -> None:
    template = _deployment("web-v1")["spec"]["template"]
    head = {"name": "stays", "namespace": NAMESPACE, "labels": template["metadata"]["labels"]}
    target.create("Pod", {"metadata": head, "spec": template["spec"]})
    expected = pytest.raises(WaitTimeout, match=r"pods of web-v1 gone not within 1 s[\s\S]*pod stays")
    with expected, outage.scaled_to_zero(target, "web-v1", namespace=NAMESPACE, timeout_s=1):
        pytest.fail("the block must not begin")
    assert _is_as_before(target)


def test_without_a_survivor_nothing_is_taken_away(fleet: Fleet, target: Cluster) -> None:
    fleet["cluster2"].scale("web-v2", 0, NAMESPACE)
    fleet["cluster2"].wait_for_rollout(NAMESPACE, timeout_s=5)
    for survivors in (fleet, [fleet["cluster2"]], [target]):
        with (
            pytest.raises(OutageError, match="a survivor is healthy"),
            outage.scaled_to_zero(target, "web-v1", namespace=NAMESPACE, survivors=survivors),
        ):
            pytest.fail("the block must not begin")
    assert _is_as_before(target)


def test_what_has_no_replicas_is_not_taken_away(target: Cluster) -> None:
    target.scale("web-v1", 0, NAMESPACE)
    with (
        pytest.raises(OutageError, match="has 0 replicas already"),
        outage.scaled_to_zero(target, "web-v1", namespace=NAMESPACE),
    ):
        pytest.fail("the block must not begin")


def test_what_a_crash_left_away_is_brought_back_before_the_next_outage(target: Cluster) -> None:
    _crash(target)
    with outage.scaled_to_zero(target, "web-v1", namespace=NAMESPACE) as taken:
        assert taken.replicas == 2
        assert _record(target)[outage.RUN] == taken.run
    assert _is_as_before(target)


def test_two_outages_of_one_workload_at_once_are_refused_and_the_first_is_left_alone(
    target: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Cluster.patch

    def overtaken(self: Cluster, kind: str, name: str, change: Any, **options: Any) -> Any:
        monkeypatch.setattr(Cluster, "patch", real)
        _crash(self)
        return real(self, kind, name, change, **options)

    monkeypatch.setattr(Cluster, "patch", overtaken)
    with (
        pytest.raises(OutageError, match="being changed by someone else"),
        outage.scaled_to_zero(target, "web-v1", namespace=NAMESPACE),
    ):
        pytest.fail("the block must not begin")
    assert _record(target)[outage.RUN] == "dead"
    assert _replicas(target) == 0


def test_restore_brings_back_what_a_crash_left_away_and_again_does_nothing(fleet: Fleet, target: Cluster) -> None:
    _crash(target)
    (restored,) = outage.restore(fleet, NAMESPACE, timeout_s=10)
    assert str(restored) == "cluster1: Deployment web-v1 in sample restored, 2 replicas"
    assert _is_as_before(target)
    assert outage.restore(fleet, NAMESPACE) == []
    assert outage.restore(target, NAMESPACE) == []


def test_what_is_left_away_can_be_looked_at_first(fleet: Fleet, target: Cluster) -> None:
    assert outage.pending_rollbacks(fleet, NAMESPACE) == []
    _crash(target)
    (left,) = outage.pending_rollbacks(fleet, NAMESPACE)
    assert (left.context, left.kind, left.name, left.run) == ("cluster1", "Deployment", "web-v1", "dead")
    assert left.restore == "to be restored, 2 replicas"
    assert _replicas(target) == 0
    target.scale("web-v1", 3, NAMESPACE)
    (left,) = outage.pending_rollbacks(target, [NAMESPACE])
    assert left.restore == "only the record is left, 3 replicas"
    assert _record(target)[outage.RUN] == "dead"


def test_restore_leaves_a_count_that_somebody_has_set_since(target: Cluster) -> None:
    _crash(target)
    target.scale("web-v1", 3, NAMESPACE)
    (restored,) = outage.restore(target, NAMESPACE, timeout_s=10)
    assert (restored.state, restored.outcome) == ("3 replicas", "was already restored")
    assert _replicas(target) == 3
    assert _record(target) == {}


def test_restore_does_not_guess_when_the_record_is_spoilt(target: Cluster) -> None:
    _crash(target, replicas="many")
    with pytest.raises(GatheredError, match=r"cannot read its annotation meshbook.io/replicas-before: 'many'"):
        outage.restore(target, NAMESPACE)
    assert _replicas(target) == 0


def test_a_workload_that_does_not_come_back_keeps_its_record_and_says_how_to_go_on(
    target: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Cluster, *args: Any, **options: Any) -> Any:
        raise ClusterError("the API server is away")

    with (
        pytest.raises(OutageError, match=r"did not come back as it was \(2 replicas\)[\s\S]*server is away"),
        outage.scaled_to_zero(target, "web-v1", namespace=NAMESPACE),
    ):
        monkeypatch.setattr(Cluster, "scale", refuse)
    assert _record(target)[outage.REPLICAS] == "2"


def test_a_deployment_that_is_not_there_is_a_clear_error(target: Cluster) -> None:
    with (
        pytest.raises(ClusterError, match='"web-v9" not found'),
        outage.scaled_to_zero(target, "web-v9", namespace=NAMESPACE),
    ):
        pytest.fail("the block must not begin")
