"""Scheduler, autoscaler, budgets, load balancers and garbage: one decision at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meshbook.lab.client import DEPLOYMENTS, EVENTS, HPAS, NODES, PODS, SERVICES, event
from meshbook.lab.controllers import Create, Delete, Patch, collect, difference
from meshbook.lab.topology import two_clouds
from meshbook.objects import condition

Object = dict[str, Any]
CLUSTER = two_clouds(Path("/lab"), 64).cluster("cluster1")


def add_node(play: Any, name: str = "node-1", *, ready: bool = True, room: int = 110, **spec: Any) -> None:
    status = {"conditions": [{"type": "Ready", "status": str(ready)}], "allocatable": {"pods": str(room)}}
    play.add(NODES, {"metadata": {"name": name, "labels": {"disk": name}}, "spec": spec, "status": status})


def add_pod(play: Any, **spec: Any) -> Object:
    pod: Object = play.add(PODS, {"metadata": {"name": "pod", "labels": {"app": "a"}}, "spec": spec})
    return pod


def test_a_new_pod_is_bound_to_the_node(play: Any) -> None:
    add_node(play)
    pod = add_pod(play)
    binding, told = play.decide("scheduler", "pod")
    assert told.obj["message"] == "Successfully assigned sample/pod to node-1"
    assert isinstance(binding, Create)
    assert (binding.subresource, binding.obj["target"]["name"]) == ("binding", "node-1")
    assert binding.obj["metadata"]["uid"] == pod["metadata"]["uid"]
    play.apply([binding])
    assert play.decide("scheduler", "pod") == []


@pytest.mark.parametrize(
    ("node", "spec", "words"),
    [
        ({"ready": False}, {}, "1 node(s) had untolerated taint(s)"),
        ({"unschedulable": True}, {}, "1 node(s) were unschedulable"),
        ({}, {"nodeSelector": {"disk": "fast"}}, "1 node(s) didn't match Pod's node affinity/selector"),
        ({"room": 0}, {}, "1 Too many pods"),
    ],
    ids=["not-ready", "cordoned", "selector", "full"],
)
def test_a_pod_that_fits_nowhere_says_so_once(play: Any, node: dict[str, Any], spec: Object, words: str) -> None:
    add_node(play, **node)
    add_pod(play, **spec)
    play.play("scheduler")
    told = condition(play.pods()[0], "PodScheduled")
    assert (told["reason"], told["message"]) == ("Unschedulable", f"0/1 nodes are available: {words}.")
    assert [found["reason"] for found in play.cache.list(EVENTS)] == ["FailedScheduling"]


def test_a_pod_of_another_scheduler_is_left_to_it(play: Any) -> None:
    add_node(play)
    add_pod(play, schedulerName="mine")
    assert play.decide("scheduler", "pod") == []


@pytest.mark.parametrize(("present", "after"), [(0, 0), (1, 2), (3, 3), (9, 5)])
def test_the_autoscaler_keeps_its_bounds_and_leaves_zero_alone(
    play: Any, deployment: Object, present: int, after: int
) -> None:
    deployment["spec"]["replicas"] = present
    play.add(DEPLOYMENTS, deployment)
    reference = {"kind": "Deployment", "name": "helloworld"}
    bounds = {"minReplicas": 2, "maxReplicas": 5}
    play.add(HPAS, {"metadata": {"name": "hpa"}, "spec": {"scaleTargetRef": reference, **bounds}})
    play.play("autoscaler")
    assert play.cache.get(DEPLOYMENTS, ("sample", "helloworld"))["spec"]["replicas"] == after
    status = play.cache.get(HPAS, ("sample", "hpa"))["status"]
    assert status["desiredReplicas"] == after


def test_an_autoscaler_without_target_waits_for_it(play: Any) -> None:
    reference = {"kind": "Deployment", "name": "nobody"}
    play.add(HPAS, {"metadata": {"name": "hpa"}, "spec": {"scaleTargetRef": reference, "maxReplicas": 1}})
    assert play.decide("autoscaler", "hpa") == []


def addresses(play: Any) -> list[Any]:
    play.play("loadbalancers")
    return [(one["status"]["loadBalancer"].get("ingress") or [{}])[0].get("ip") for one in play.cache.list(SERVICES)]


def test_load_balancers_get_different_addresses_and_keep_them(play: Any) -> None:
    for name in ("a", "b"):
        spec = {"type": "LoadBalancer", "ports": [{"port": 15443}]}
        play.add(SERVICES, {"metadata": {"name": name}, "spec": spec})
        given = addresses(play)
    assert given == [CLUSTER.load_balancer_address(0), CLUSTER.load_balancer_address(1)]
    play.patch(SERVICES, "a", {"spec": {"type": "ClusterIP"}})
    assert addresses(play) == [None, given[1]]


@pytest.mark.parametrize(("port", "told"), [(80, [{"port": 8080, "protocol": "TCP"}]), (15443, None)])
def test_a_load_balancer_tells_which_port_is_served_where_its_own_may_not_be_bound(
    play: Any, port: int, told: list[Object] | None
) -> None:
    play.add(SERVICES, {"metadata": {"name": "a"}, "spec": {"type": "LoadBalancer", "ports": [{"port": port}]}})
    addresses(play)
    (service,) = play.cache.list(SERVICES)
    assert service["status"]["loadBalancer"]["ingress"][0].get("ports") == told


def test_the_last_owner_that_goes_takes_the_dependent_along_one_of_two_does_not(play: Any) -> None:
    gone = {"kind": "ReplicaSet", "name": "gone", "uid": "gone"}
    child = play.add(PODS, {"metadata": {"name": "child", "ownerReferences": [gone]}, "spec": {}})
    (delete,) = collect(play.cache, PODS, child, [gone])
    assert isinstance(delete, Delete)
    child["metadata"]["ownerReferences"].append({"kind": "Deployment", "name": "other", "uid": "other"})
    (detach,) = collect(play.cache, PODS, child, [gone])
    assert isinstance(detach, Patch)
    assert [one["uid"] for one in detach.patch["metadata"]["ownerReferences"]] == ["other"]
    assert collect(play.cache, PODS, child, []) == []


def test_a_difference_sets_what_is_new_and_clears_what_is_gone() -> None:
    assert difference({"a": 1, "b": {"c": 1, "d": 2}, "e": 1}, {"a": 1, "b": {"c": 2}}) == {
        "b": {"c": 2, "d": None},
        "e": None,
    }
    assert difference({"a": [1]}, {"a": [1]}) == {}


def test_an_event_names_its_subject(play: Any) -> None:
    pod = add_pod(play)
    told = event(pod, reason="R", message="m", component="c", kind="Warning")
    assert told["involvedObject"]["uid"] == pod["metadata"]["uid"]
    assert (told["metadata"]["namespace"], told["type"]) == ("sample", "Warning")
