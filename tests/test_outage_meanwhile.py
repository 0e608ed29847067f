"""An outage touches its own objects only; what others do to them meanwhile costs neither record nor way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from meshbook import outage
from meshbook.clusters import Cluster, Fleet
from meshbook.errors import GatheredError, OutageError
from meshbook.outage.modes import mode_of
from meshbook.outage.subjects import Subject

NAMESPACE, SYSTEM = "sample", "istio-system"
GATEWAY = {"istio": "eastwestgateway"}


def _deployment(name: str, namespace: str, labels: dict[str, str]) -> dict[str, Any]:
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "web"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


@pytest.fixture
def cluster(bare_fleet: Fleet, hands: Any) -> Iterator[Cluster]:
    """One cluster that looks like a lab: web, and two east-west gateways."""
    cluster = bare_fleet["cluster1"]
    cluster.create("Node", {"metadata": {"name": "node-1", "labels": {"meshbook.io/lab": "true"}}})
    for namespace in (NAMESPACE, SYSTEM):
        cluster.create_namespace(namespace)
    cluster.create("Deployment", _deployment("web", NAMESPACE, {"app": "web"}))
    for name in ("east", "west"):
        cluster.create("Deployment", _deployment(name, SYSTEM, {**GATEWAY, "app": name}))
    head = {"name": "gateways", "namespace": SYSTEM, "labels": GATEWAY}
    cluster.create("Service", {"metadata": head, "spec": {"selector": GATEWAY, "ports": [{"port": 15443}]}})
    with hands(cluster):
        for namespace in (NAMESPACE, SYSTEM):
            cluster.wait_for_rollout(namespace, timeout_s=10)
        yield cluster


def _intent(cluster: Cluster, mode: str = "scale-to-zero", deployment: str = "web") -> outage.Intent:
    return outage.Intent(cluster=cluster, deployment=deployment, namespace=NAMESPACE, mode=mode, timeout_s=10.0)


def _take(intent: outage.Intent) -> None:
    """Take away, and leave it as a process does that was killed."""
    given = {"mode": intent.mode, "context": "cluster1", "namespace": NAMESPACE, "deployment": "web", "replicas": 2}
    mode_of(intent).take(outage.Outage(**given, run=intent.run))


def _subject(cluster: Cluster, name: str = "web", namespace: str = NAMESPACE) -> Subject:
    return Subject(cluster=cluster, kind="Deployment", namespace=namespace, name=name)


def _state(subject: Subject) -> tuple[int, set[str]]:
    """Return its replica count and what is noted on it."""
    found = subject.read()
    return found["spec"]["replicas"], set(found["metadata"].get("annotations") or {})


def _notes_and_spec(cluster: Cluster) -> tuple[object, object]:
    found = _subject(cluster).read()
    return found["metadata"].get("annotations"), found["spec"]


def _autoscale(cluster: Cluster, low: int, high: int) -> None:
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    spec = {"scaleTargetRef": reference, "minReplicas": low, "maxReplicas": high}
    cluster.create("HorizontalPodAutoscaler", {"metadata": {"name": "web", "namespace": NAMESPACE}, "spec": spec})


def _before_the_next_patch(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    real = Cluster.patch

    def overtaken(self: Cluster, *args: Any, **options: Any) -> Any:
        monkeypatch.setattr(Cluster, "patch", real)
        act()
        return real(self, *args, **options)

    monkeypatch.setattr(Cluster, "patch", overtaken)


def test_a_controller_that_writes_its_status_meanwhile_stops_no_outage(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, label = _subject(cluster), {"metadata": {"labels": {"seen": "yes"}}}
    with outage.outage(_intent(cluster)):
        _before_the_next_patch(monkeypatch, lambda: subject.patch(label))
    _before_the_next_patch(monkeypatch, lambda: subject.patch({"metadata": {"labels": {"seen": None}}}))
    with outage.outage(_intent(cluster)):
        assert _state(subject)[0] == 0
    assert _state(subject) == (2, set())


def test_a_record_whose_answer_was_lost_is_known_for_its_own(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Cluster.patch

    def repeated(self: Cluster, *args: Any, **options: Any) -> Any:
        monkeypatch.setattr(Cluster, "patch", real)
        real(self, *args, **options)  # its answer is lost, so it is sent again
        return real(self, *args, **options)

    monkeypatch.setattr(Cluster, "patch", repeated)
    with outage.outage(_intent(cluster)):
        assert _state(_subject(cluster))[0] == 0
    assert _state(_subject(cluster)) == (2, set())


def test_ctrl_c_between_the_record_and_the_order_leaves_everything_as_it_was(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: Cluster, deployment: str, replicas: int, namespace: str) -> int:
        assert outage.REPLICAS in _state(_subject(cluster))[1]
        raise KeyboardInterrupt

    monkeypatch.setattr(Cluster, "scale", interrupted)
    with pytest.raises(KeyboardInterrupt), outage.outage(_intent(cluster)):
        pytest.fail("the block must not begin")
    assert _state(_subject(cluster)) == (2, set())


def test_a_record_is_not_written_over_another(cluster: Cluster) -> None:
    first = _intent(cluster)
    _take(first)
    before = _notes_and_spec(cluster)
    with pytest.raises(OutageError, match=rf"being changed by someone else[\s\S]*run: {first.run}[\s\S]*restore"):
        _take(_intent(cluster))
    assert _notes_and_spec(cluster) == before
    assert len(outage.restore(cluster, timeout_s=10)) == 1
    assert _state(_subject(cluster)) == (2, set())


def test_the_record_of_a_run_that_came_since_is_not_taken_off(cluster: Cluster) -> None:
    later = _intent(cluster)
    _take(later)
    _subject(cluster).forget("earlier")
    assert outage.RUN in _state(_subject(cluster))[1]
    _subject(cluster).forget(later.run)
    assert _state(_subject(cluster)) == (0, set())


def test_one_that_cannot_come_back_keeps_no_other_away(cluster: Cluster) -> None:
    _take(_intent(cluster))
    _take(_intent(cluster, "east-west-down"))
    for name in ("east", "west"):
        _subject(cluster, name, SYSTEM).patch({"metadata": {"annotations": {outage.REPLICAS: "many"}}})
    with pytest.raises(
        GatheredError, match=r"2 of 3 objects did not come back[\s\S]*east in istio-system: cannot read"
    ):
        outage.restore(cluster, timeout_s=10)
    assert _state(_subject(cluster)) == (2, set())
    assert _state(_subject(cluster, "east", SYSTEM))[0] == 0


def test_what_was_deleted_meanwhile_is_told_and_the_rest_comes_back(cluster: Cluster) -> None:
    expected = pytest.raises(OutageError, match=r"Deployment east in istio-system was deleted meanwhile[\s\S]*manifest")
    with expected, outage.outage(_intent(cluster, "east-west-down")):
        cluster.delete_object("Deployment", "east", SYSTEM)
    assert _state(_subject(cluster, "west", SYSTEM)) == (2, set())
    assert outage.restore(cluster) == []


@pytest.mark.parametrize("count", [1, 4])
def test_an_autoscaler_that_came_meanwhile_may_set_the_count(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    with outage.outage(_intent(cluster)):
        _autoscale(cluster, 1, 5)
        _scales_to(monkeypatch, count)
    assert _state(_subject(cluster)) == (count, set())


def test_a_count_that_no_autoscaler_can_have_set_is_told_and_then_left(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        pytest.raises(OutageError, match="scaled to 4 while it came back to 2"),
        outage.outage(_intent(cluster)),
    ):
        _scales_to(monkeypatch, 4)
    (restored,) = outage.restore(cluster, timeout_s=10)
    assert (restored.outcome, restored.state) == ("was already restored", "4 replicas")
    assert _state(_subject(cluster)) == (4, set())


def _scales_to(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Have somebody set the count right after it was scaled back."""
    real = Cluster.scale

    def overruled(self: Cluster, deployment: str, replicas: int, namespace: str) -> int:
        monkeypatch.setattr(Cluster, "scale", real)
        before = real(self, deployment, replicas, namespace)
        real(self, deployment, count, namespace)
        return before

    monkeypatch.setattr(Cluster, "scale", overruled)


def test_a_gateways_service_without_a_selector_takes_nobody_away(cluster: Cluster) -> None:
    head = {"name": "elsewhere", "namespace": NAMESPACE, "labels": GATEWAY}
    cluster.create("Service", {"metadata": head, "spec": {"ports": [{"port": 15443}]}})
    assert [subject.name for subject in mode_of(_intent(cluster, "east-west-down")).subjects] == ["east", "west"]


def test_only_pods_that_the_deployment_selects_are_deleted_however_it_says_so(cluster: Cluster) -> None:
    chosen = _deployment("chosen", NAMESPACE, {"app": "chosen"})
    is_it, is_labelled = {"key": "app", "operator": "In", "values": ["chosen"]}, {"key": "app", "operator": "Exists"}
    chosen["spec"]["selector"] = {"matchExpressions": [is_it, is_labelled]}
    cluster.create("Deployment", chosen)
    cluster.wait_for_rollout(NAMESPACE, ["chosen"], timeout_s=10)
    changes = mode_of(_intent(cluster, "pods-deleted", "chosen")).changes()
    assert len(changes) == 2
    assert all("Pod chosen-" in change for change in changes)
