"""An outage starts only where it may, on what it may touch, and while somebody else can carry the load."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from outage_fleet import NAMESPACE, autoscaler, be_a_lab, intent, must_not_begin

from meshbook import outage
from meshbook.clusters import Cluster, Fleet
from meshbook.errors import ClusterError, OutageError

METRICS = "metrics.k8s.io/v1beta1/PodMetrics"


def _check(wanted: outage.Intent, name: str) -> outage.Check:
    (found,) = [check for check in outage.plan(wanted).checks if name in check.name]
    return found


def test_a_lab_is_told_by_its_address_and_the_label_of_all_its_nodes(bare_fleet: Fleet) -> None:
    cluster = bare_fleet["cluster1"]
    assert not outage.is_lab(cluster)
    be_a_lab(cluster)
    assert outage.is_lab(cluster)
    cluster.create("Node", {"metadata": {"name": "node-2"}})
    assert not outage.is_lab(cluster)


def test_without_consent_nothing_but_a_lab_is_touched(served: Fleet) -> None:
    assert not outage.plan(intent(served)).ready_to_start
    with pytest.raises(OutageError, match=r"allow_outage is false[\s\S]*allow_outage: true"):
        must_not_begin(intent(served))
    assert outage.plan(intent(served, allow_outage=True)).ready_to_start
    be_a_lab(served["cluster1"])
    assert outage.plan(intent(served)).ready_to_start


def test_what_meshbook_did_not_make_must_be_named(served: Fleet) -> None:
    cluster = served["cluster1"]
    found = cluster.get("Deployment", "web", NAMESPACE)
    labels = {"app": "theirs"}
    template = found["spec"]["template"] | {"metadata": {"labels": labels}}
    spec = found["spec"] | {"selector": {"matchLabels": labels}, "template": template}
    foreign = found | {"metadata": {"name": "theirs", "namespace": NAMESPACE}, "spec": spec}
    path = cluster.resource("Deployment").path(NAMESPACE)
    cluster.connection.request("POST", path, query={"fieldManager": "kubectl"}, body=foreign)
    cluster.scale("theirs", 3, NAMESPACE)  # by meshbook, which does not make it meshbook's own
    given: dict[str, Any] = {"deployment": "theirs", "allow_outage": True}
    for named, expected in (((), False), (("web",), False), (("theirs",), True)):
        assert _check(intent(served, **given, named_workloads=named), "meshbook's own").ok is expected
    assert _check(intent(served, allow_outage=True), "meshbook's own").ok is True


def test_who_may_not_change_it_is_told_so_before_it_starts(served: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _check(intent(served, allow_outage=True), "may change").ok is True
    monkeypatch.setattr(Cluster, "can_i", lambda *_: False)
    denied = _check(intent(served, allow_outage=True), "may change")
    assert (denied.ok, denied.saw) == (False, f"patch deployments.apps in {NAMESPACE}: no")
    with pytest.raises(OutageError, match="kubectl auth can-i"):
        must_not_begin(intent(served, allow_outage=True))


def test_an_outage_on_no_lab_needs_a_survivor_by_name(served: Fleet) -> None:
    assert _check(intent(served, allow_outage=True, survivors=()), "healthy").ok is False
    be_a_lab(served["cluster1"])
    assert _check(intent(served, survivors=()), "healthy").ok is None


def test_the_cluster_itself_is_no_survivor(fleet: Fleet) -> None:
    with pytest.raises(OutageError, match=r"a survivor is healthy[\s\S]*bring the survivor up first"):
        must_not_begin(intent(fleet, survivors=(fleet["cluster1"],)))


@pytest.mark.parametrize(("ready", "expected"), [(2, True), (1, False), (0, False)])
def test_a_survivor_with_replicas_missing_is_not_healthy(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, ready: int, expected: bool
) -> None:
    real = Cluster.list

    def with_fewer(self: Cluster, kind: str, *args: Any, **options: Any) -> Any:
        found = real(self, kind, *args, **options)
        for one in found if self.name == "cluster2" and kind == "Deployment" else ():
            one["status"] |= {"readyReplicas": ready, "availableReplicas": ready}
        return found

    monkeypatch.setattr(Cluster, "list", with_fewer)
    check = _check(intent(fleet), "healthy")
    assert check.ok is expected
    assert f"cluster2 {ready}/2 ready" in check.saw


def test_a_survivor_that_does_not_answer_is_not_healthy(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise ClusterError("no answer")

    survivor = copy.copy(fleet["cluster2"])
    monkeypatch.setattr(survivor, "list", refused)
    check = _check(intent(fleet, survivors=(survivor,)), "healthy")
    assert (check.ok, check.saw) == (False, "cluster2 cannot be asked: no answer")


def test_an_autoscaler_gives_the_survivor_room(fleet: Fleet) -> None:
    survivor = fleet["cluster2"]
    survivor.scale("web", 1, NAMESPACE)
    survivor.wait_for_rollout(NAMESPACE, timeout_s=10)
    assert _check(intent(fleet), "replicas").ok is False
    survivor.create("HorizontalPodAutoscaler", autoscaler(1, 5))
    check = _check(intent(fleet), "replicas")
    assert (check.ok, check.saw) == (True, "5 of theirs for 2 that are taken down")
    assert "up to 5 by its autoscaler" in _check(intent(fleet), "healthy").saw


def test_without_metrics_the_cpu_is_said_to_be_unknown_and_hinders_nothing(fleet: Fleet) -> None:
    check = _check(intent(fleet), "CPU")
    assert (check.ok, check.saw) == (None, "no metrics in cluster1, cluster2")
    plan = outage.plan(intent(fleet))
    assert plan.ready_to_start
    assert str(plan).endswith("\nready to start; not known to hold: the survivors have room (CPU)")


@pytest.mark.parametrize(
    ("used", "requested", "expected"),
    [
        ("100m", "250m", True),
        ("0.15", "250m", True),
        ("200000000n", "0.25", True),
        ("300m", "250m", False),
        ("1", "", None),
    ],
)
def test_cpu_in_use_on_both_sides_must_fit_into_the_survivors(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, used: str, requested: str, expected: bool | None
) -> None:
    """Two pods on each side use ``used`` each, and those of the survivor ask for ``requested`` each."""
    real = Cluster.list

    def measured(self: Cluster, kind: str, *args: Any, **options: Any) -> Any:
        if kind == METRICS:
            return [{"containers": [{"usage": {"cpu": used}}]}]
        return real(self, kind, *args, **options)

    monkeypatch.setattr(Cluster, "list", measured)
    if requested:
        container = {"name": "app", "image": "web", "resources": {"requests": {"cpu": requested}}}
        change = {"spec": {"template": {"spec": {"containers": [container]}}}}
        fleet.each(lambda cluster: cluster.patch("Deployment", "web", change, namespace=NAMESPACE))
    fleet.wait_for_rollout(NAMESPACE, timeout_s=10)
    assert _check(intent(fleet), "CPU").ok is expected


def test_a_plan_changes_nothing_and_can_be_printed(served: Fleet) -> None:
    before = served["cluster1"].get("Deployment", "web", NAMESPACE)
    text = str(outage.plan(intent(served)))
    assert "change    cluster1: Deployment web in sample: 2 → 0 replicas" in text
    assert "NO       it is allowed" in text
    assert text.endswith("\nnot ready to start")
    assert served["cluster1"].get("Deployment", "web", NAMESPACE) == before


def test_an_unsteady_state_before_hinders_the_start(fleet: Fleet) -> None:
    with pytest.raises(OutageError, match="v2 answers 0 of 20"):
        must_not_begin(intent(fleet, steady=lambda: "v2 answers 0 of 20"))
