"""An outage starts only where it may, on what it may touch, and while somebody else can carry the load."""

from __future__ import annotations

from typing import Any

import pytest

from meshbook import outage
from meshbook.clusters import Cluster, Fleet
from meshbook.errors import OutageError, UsageError
from meshbook.outage import headroom
from meshbook.outage.headroom import Side
from meshbook.outage.records import Check

NAMESPACE = "sample"
APPLIED = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web-v1, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: app, image: web}]}
"""


def _intent(fleet: Fleet, **more: Any) -> outage.Intent:
    given = {"cluster": fleet["cluster1"], "deployment": "web-v1", "namespace": NAMESPACE, "survivors": tuple(fleet)}
    words = ("allow_outage", "named_workloads", "watchdog_s")
    given["safeguards"] = outage.Safeguards(**{word: more.pop(word) for word in words if word in more})
    return outage.Intent(**(given | more))


def _check(plan: outage.Plan, name: str) -> Check:
    (found,) = [check for check in plan.checks if name in check.name]
    return found


def _label_as_lab(cluster: Cluster) -> None:
    cluster.create("Node", {"metadata": {"name": "node-1", "labels": {"meshbook.io/lab": "true"}}})


def _report_ready(cluster: Cluster, name: str = "web-v1", replicas: int = 2) -> None:
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), replicas)
    status = {"observedGeneration": 99, **counts}
    cluster.patch("Deployment", name, {"status": status}, namespace=NAMESPACE, subresource="status")


@pytest.fixture
def fleet(bare_fleet: Fleet, tmp_path: Any) -> Fleet:
    """web-v1 was applied by meshbook to both clusters, and is ready there. Nothing says that this is a lab."""
    path = tmp_path / "web.yaml"
    path.write_text(APPLIED)
    bare_fleet.create_namespace(NAMESPACE)
    bare_fleet.apply(path, NAMESPACE)
    bare_fleet.each(_report_ready)
    return bare_fleet


def test_a_lab_is_told_by_its_address_and_the_label_of_all_its_nodes(fleet: Fleet) -> None:
    cluster = fleet["cluster1"]
    assert not outage.is_lab(cluster)
    _label_as_lab(cluster)
    assert outage.is_lab(cluster)
    cluster.create("Node", {"metadata": {"name": "node-2"}})
    assert not outage.is_lab(cluster)


def test_without_consent_nothing_but_a_lab_is_touched(fleet: Fleet) -> None:
    plan = outage.plan(_intent(fleet))
    assert not plan.ready_to_start
    assert _check(plan, "allowed").ok is False
    with pytest.raises(OutageError, match=r"allow_outage is false[\s\S]*allow_outage: true"):
        plan.require()
    with pytest.raises(OutageError, match="allow_outage is false"), outage.outage(_intent(fleet)):
        pytest.fail("the block must not begin")
    assert outage.plan(_intent(fleet, allow_outage=True)).ready_to_start
    _label_as_lab(fleet["cluster1"])
    assert outage.plan(_intent(fleet)).ready_to_start


def test_what_meshbook_did_not_make_must_be_named(fleet: Fleet) -> None:
    cluster = fleet["cluster1"]
    found = cluster.get("Deployment", "web-v1", NAMESPACE)
    foreign = {**found, "metadata": {"name": "theirs", "namespace": NAMESPACE}}
    path = cluster.resource("Deployment").path(NAMESPACE)
    cluster.connection.request("POST", path, query={"fieldManager": "kubectl"}, body=foreign)
    _report_ready(cluster, "theirs")
    cluster.scale("theirs", 2, NAMESPACE)  # by meshbook, which does not make it meshbook's own
    intent = _intent(fleet, deployment="theirs", allow_outage=True)
    assert _check(outage.plan(intent), "meshbook's own").ok is False
    named = _intent(fleet, deployment="theirs", allow_outage=True, named_workloads=("theirs",))
    assert outage.plan(named).ready_to_start
    another = _intent(fleet, deployment="theirs", allow_outage=True, named_workloads=("web-v1",))
    assert not outage.plan(another).ready_to_start
    assert outage.plan(_intent(fleet, allow_outage=True)).ready_to_start


def test_an_outage_on_no_lab_needs_a_survivor_by_name(fleet: Fleet) -> None:
    assert _check(outage.plan(_intent(fleet, allow_outage=True, survivors=())), "healthy").ok is False
    _label_as_lab(fleet["cluster1"])
    assert _check(outage.plan(_intent(fleet, survivors=())), "healthy").ok is None


@pytest.mark.parametrize(("ready", "expected"), [(2, True), (1, False), (0, False)])
def test_a_survivor_with_replicas_missing_is_not_healthy(fleet: Fleet, ready: int, expected: bool) -> None:
    change = {"status": {"readyReplicas": ready, "availableReplicas": ready}}
    fleet["cluster2"].patch("Deployment", "web-v1", change, namespace=NAMESPACE, subresource="status")
    check = _check(outage.plan(_intent(fleet, allow_outage=True)), "healthy")
    assert check.ok is expected
    assert f"cluster2 {ready}/2 ready" in check.saw


def test_an_autoscaler_gives_the_survivor_room(fleet: Fleet) -> None:
    survivor = fleet["cluster2"]
    survivor.scale("web-v1", 1, NAMESPACE)
    _report_ready(survivor, replicas=1)
    plan = outage.plan(_intent(fleet, allow_outage=True))
    assert _check(plan, "replicas").ok is False
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web-v1"}
    scaler = {"spec": {"scaleTargetRef": reference, "minReplicas": 1, "maxReplicas": 5}}
    survivor.create("HorizontalPodAutoscaler", {"metadata": {"name": "web", "namespace": NAMESPACE}, **scaler})
    plan = outage.plan(_intent(fleet, allow_outage=True))
    assert _check(plan, "replicas").ok is True
    assert "5 of theirs for 2" in _check(plan, "replicas").saw
    assert "up to 5 by its autoscaler" in _check(plan, "healthy").saw


def test_without_metrics_the_cpu_is_said_to_be_unknown_and_hinders_nothing(fleet: Fleet) -> None:
    plan = outage.plan(_intent(fleet, allow_outage=True))
    assert _check(plan, "CPU").ok is None
    assert "no metrics in cluster1, cluster2" in _check(plan, "CPU").saw
    assert plan.ready_to_start


def test_a_plan_changes_nothing_and_can_be_printed(fleet: Fleet) -> None:
    before = fleet["cluster1"].get("Deployment", "web-v1", NAMESPACE)
    text = str(outage.plan(_intent(fleet)))
    assert "change  cluster1: Deployment web-v1 in sample: 2 → 0 replicas" in text
    assert "NO       it is allowed" in text
    assert text.endswith("not ready to start")
    assert fleet["cluster1"].get("Deployment", "web-v1", NAMESPACE) == before


def test_an_unsteady_state_before_hinders_the_start(fleet: Fleet) -> None:
    intent = _intent(fleet, allow_outage=True, steady=lambda: "v2 answers 0 of 20")
    with pytest.raises(OutageError, match="v2 answers 0 of 20"), outage.outage(intent):
        pytest.fail("the block must not begin")


@pytest.mark.parametrize("mode", ["cluster-down", "scale-to-one"])
def test_a_mode_that_cannot_be_is_refused(fleet: Fleet, mode: str) -> None:
    """The kubeconfig names a lab that does not run: as for any cluster, no API can take it away."""
    if mode in outage.MODES:
        check = _check(outage.plan(_intent(fleet, mode=mode, allow_outage=True)), "done here")
        assert check.ok is False
        assert "no API can take a whole cluster away" in check.saw
    else:
        with pytest.raises(UsageError, match="no mode 'scale-to-one'"):
            outage.plan(_intent(fleet, mode=mode))


def _side(context: str, **more: Any) -> Side:
    return Side(**({"context": context, "desired": 2, "ready": 2, "ceiling": 2} | more))


@pytest.mark.parametrize(
    ("used", "requested", "expected"),
    [(0.2, 0.25, True), (0.4, 0.25, False), (None, 0.25, None), (0.2, None, None)],
)
def test_cpu_in_use_on_both_sides_must_fit_into_the_survivors(
    used: float | None, requested: float | None, expected: bool | None
) -> None:
    taken = _side("a", cpu_used=0.3, cpu_requested=0.25)
    other = _side("b", cpu_used=used, cpu_requested=requested)
    assert headroom.cpu_suffices(taken, [other]).ok is expected


@pytest.mark.parametrize(("text", "expected"), [("250m", 0.25), ("1.5", 1.5), ("250000000n", 0.25), ("3", 3.0)])
def test_quantities_of_cpu_are_read(text: str, expected: float) -> None:
    assert headroom.cores(text) == pytest.approx(expected)
