"""Each mode takes down what it says and nothing else."""

from __future__ import annotations

import time

import pytest
from outage_fleet import (
    GATEWAY,
    NAMESPACE,
    SYSTEM,
    deployment,
    endpoints,
    intent,
    must_not_begin,
    pods,
    service,
    shape,
)
from waits import until

from meshbook import outage
from meshbook.clusters import Cluster, Fleet
from meshbook.errors import OutageError, UsageError


def test_scaled_to_zero_leaves_no_pod_of_the_application(fleet: Fleet, target: Cluster) -> None:
    with outage.outage(intent(fleet)):
        assert pods(target) == []
    assert len(pods(target)) == 2


def test_pods_that_lose_their_readiness_run_on_without_endpoints(fleet: Fleet, target: Cluster) -> None:
    there = pods(target)
    with outage.outage(intent(fleet, "readiness-lost")):
        assert endpoints(target) == 0
    assert endpoints(target) == 2
    assert pods(target) == there


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_service_is_restored_with_as_many_endpoints_as_there_are_pods_by_now(
    fleet: Fleet, target: Cluster, count: int
) -> None:
    selector = shape(target)["Service web"][0]["selector"]
    with outage.outage(intent(fleet, "readiness-lost")):
        target.scale("web", count, NAMESPACE)
        target.wait_for_rollout(NAMESPACE, timeout_s=10)
        until(lambda: len(pods(target)) == count)
    assert endpoints(target) == count
    assert shape(target)["Service web"][0]["selector"] == selector


def test_a_service_of_several_workloads_is_not_emptied_for_one(fleet: Fleet, target: Cluster) -> None:
    target.create("Deployment", deployment("other", NAMESPACE, {"app": "web", "version": "v2"}))
    with pytest.raises(OutageError, match="also behind it: other"):
        must_not_begin(intent(fleet, "readiness-lost"))


def test_deleted_pods_are_others_afterwards_and_their_return_is_timed(fleet: Fleet, target: Cluster) -> None:
    there = set(pods(target))
    with outage.outage(intent(fleet, "pods-deleted")) as going_on:
        assert not there & set(pods(target))
        until(lambda: len(pods(target)) == 2)
        time.sleep(0.3)  # the watching thread looks ten times a second
        before_the_end = time.time()
    assert going_on.ready_again is not None
    assert going_on.ready_again.timestamp() < before_the_end


def test_only_pods_that_the_deployment_selects_are_deleted_however_it_says_so(fleet: Fleet, target: Cluster) -> None:
    chosen = deployment("chosen", NAMESPACE, {"app": "chosen"})
    is_it, is_labelled = {"key": "app", "operator": "In", "values": ["chosen"]}, {"key": "app", "operator": "Exists"}
    chosen["spec"]["selector"] = {"matchExpressions": [is_it, is_labelled]}
    target.create("Deployment", chosen)
    target.wait_for_rollout(NAMESPACE, ["chosen"], timeout_s=10)
    changes = outage.plan(intent(fleet, "pods-deleted", deployment="chosen")).changes
    assert len(changes) == 2
    assert all("Pod chosen-" in change for change in changes)


def test_the_gateway_goes_and_the_application_stays(fleet: Fleet, target: Cluster) -> None:
    head = service("elsewhere", NAMESPACE, None, **GATEWAY)  # a gateway's Service without a selector leads to nobody
    target.create("Service", head)
    with outage.outage(intent(fleet, "east-west-down")):
        assert pods(target, SYSTEM) == []
        assert len(pods(target)) == 2
    assert len(pods(target, SYSTEM)) == 1


def test_a_cluster_without_an_east_west_gateway_is_a_clear_error(fleet: Fleet, target: Cluster) -> None:
    target.delete_object("Service", "gateway", SYSTEM)
    with pytest.raises(OutageError, match="no Deployment in istio-system is behind a Service labelled istio="):
        outage.plan(intent(fleet, "east-west-down"))


def test_what_has_no_replicas_is_not_taken_down(fleet: Fleet, target: Cluster) -> None:
    target.scale("web", 0, NAMESPACE)
    with pytest.raises(OutageError, match=r"there is something to take down[?] .* has 0 replicas already"):
        must_not_begin(intent(fleet))


def test_no_cluster_but_a_labs_can_be_taken_down_whole(fleet: Fleet) -> None:
    """The kubeconfig names a lab that does not run."""
    with pytest.raises(OutageError, match="no API can take a whole cluster down"):
        must_not_begin(intent(fleet, "cluster-down"))


def test_a_mode_that_does_not_exist_is_refused(fleet: Fleet) -> None:
    with pytest.raises(UsageError, match="no mode 'scale-to-one'"):
        outage.plan(intent(fleet, "scale-to-one"))
