"""Endpoints and EndpointSlices as pure decisions: which pod is shown where, with which port."""

from __future__ import annotations

from typing import Any

import pytest

from meshbook.lab.client import ENDPOINT_SLICES, ENDPOINTS, NODES, PODS, SERVICES

Object = dict[str, Any]
LABELS = {"app": "helloworld"}


def add_service(play: Any, *ports: Object, **spec: Any) -> Object:
    ports = ports or ({"name": "http", "port": 5000},)
    meta = {"name": "helloworld", "labels": {"team": "a"}}
    made: Object = play.add(SERVICES, {"metadata": meta, "spec": {"selector": LABELS, "ports": list(ports), **spec}})
    return made


def add_pod(play: Any, *, ready: bool = True, container_port: int = 5000, **metadata: Any) -> Object:
    web = {"name": "web", "containerPort": container_port}
    spec = {"nodeName": "node-1", "containers": [{"name": "app", "ports": [web]}]}
    pod: Object = play.add(PODS, {"metadata": {"generateName": "pod-", "labels": LABELS, **metadata}, "spec": spec})
    play.make_ready(pod, ready=ready)
    found: Object = play.cache.get(PODS, ("sample", pod["metadata"]["name"]))
    return found


def slices(play: Any) -> list[Object]:
    play.play("endpoints")
    found: list[Object] = play.cache.list(ENDPOINT_SLICES)
    return found


def shown(play: Any) -> dict[str, Object]:
    """Return the conditions by address, over all slices."""
    return {one["addresses"][0]: one["conditions"] for found in slices(play) for one in found["endpoints"]}


def subsets(play: Any) -> list[Object]:
    play.play("endpoints")
    found: list[Object] = play.cache.get(ENDPOINTS, ("sample", "helloworld")).get("subsets", [])
    return found


def test_an_endpoint_says_pod_node_zone_and_port(play: Any) -> None:
    play.add(NODES, {"metadata": {"name": "node-1", "labels": {"topology.kubernetes.io/zone": "east-14"}}})
    service, pod = add_service(play), add_pod(play)
    (found,) = slices(play)
    assert found["endpoints"] == [
        {
            "addresses": [pod["status"]["podIP"]],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": "node-1",
            "zone": "east-14",
            "targetRef": {
                "kind": "Pod",
                "namespace": "sample",
                "name": pod["metadata"]["name"],
                "uid": pod["metadata"]["uid"],
            },
        }
    ]
    assert found["ports"] == [{"name": "http", "port": 5000, "protocol": "TCP"}]
    assert found["metadata"]["labels"] == {
        "team": "a",
        "kubernetes.io/service-name": "helloworld",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert found["metadata"]["ownerReferences"][0]["uid"] == service["metadata"]["uid"]


@pytest.mark.parametrize(
    ("ready", "terminating", "publish", "conditions", "lists"),
    [
        (True, False, False, (True, True, False), ["addresses"]),
        (False, False, False, (False, False, False), ["notReadyAddresses"]),
        (True, True, False, (False, True, True), []),
        (False, True, False, (False, False, True), []),
        (False, False, True, (True, True, False), ["addresses"]),
        (True, True, True, (True, True, True), ["addresses"]),
    ],
    ids=["ready", "unready", "terminating", "terminating-unready", "published-unready", "published-terminating"],
)
def test_conditions_follow_readiness_and_deletion(
    play: Any, ready: bool, terminating: bool, publish: bool, conditions: tuple[bool, ...], lists: list[str]
) -> None:
    add_service(play, publishNotReadyAddresses=publish)
    add_pod(play, ready=ready, **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if terminating else {}))
    assert [tuple(one[name] for name in ("ready", "serving", "terminating")) for one in shown(play).values()] == [
        conditions
    ]
    assert [name for subset in subsets(play) for name in subset if name != "ports"] == lists


def test_a_named_target_port_is_looked_up_per_pod(play: Any) -> None:
    add_service(play, {"name": "http", "port": 80, "targetPort": "web"})
    add_pod(play, container_port=5000)
    add_pod(play, container_port=6000)
    assert sorted(found["ports"][0]["port"] for found in slices(play)) == [5000, 6000]


def test_a_pod_without_the_named_port_is_left_without_it(play: Any) -> None:
    add_service(play, {"name": "http", "port": 80, "targetPort": "absent"})
    add_pod(play)
    assert [found["ports"] for found in slices(play)] == [[]]


def test_a_headless_service_is_labelled_so(play: Any) -> None:
    add_service(play, clusterIP="None")
    assert slices(play)[0]["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


def test_other_pods_finished_pods_and_pods_without_address_are_not_shown(play: Any) -> None:
    add_service(play)
    add_pod(play, labels={"app": "sleep"})
    finished = add_pod(play)
    play.patch(PODS, finished["metadata"]["name"], {"status": {"phase": "Succeeded"}})
    waiting = add_pod(play)
    play.patch(PODS, waiting["metadata"]["name"], {"status": {"podIP": None}})
    assert shown(play) == {}
    assert subsets(play) == []


def test_a_service_without_pods_has_one_empty_slice_and_a_service_without_selector_none(play: Any) -> None:
    add_service(play)
    play.add(SERVICES, {"metadata": {"name": "manual"}, "spec": {"ports": [{"port": 80}]}})
    assert [found["endpoints"] for found in slices(play)] == [[]]


def test_changes_are_followed_and_a_deleted_service_takes_its_endpoints_along(play: Any) -> None:
    add_service(play)
    pod = add_pod(play)
    assert len(shown(play)) == 1
    play.patch(SERVICES, "helloworld", {"spec": {"ports": [{"name": "http", "port": 5000, "targetPort": 6000}]}})
    assert [found["ports"][0]["port"] for found in slices(play)] == [6000]
    play.patch(PODS, pod["metadata"]["name"], {"metadata": {"labels": {"app": "quarantine"}}})
    assert shown(play) == {}
    play.remove(SERVICES, "helloworld")
    play.play("endpoints")
    assert play.cache.list(ENDPOINTS) == []
