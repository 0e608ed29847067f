"""Deployments, endpoints, namespaces and garbage on a real API server over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from meshbook.lab.client import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    NAMESPACES,
    PODS,
    REPLICA_SETS,
    SERVICE_ACCOUNTS,
    SERVICES,
)

Object = dict[str, Any]
LABELS = {"app": "helloworld"}


def deployment(replicas: int = 2, **spec: Any) -> Object:
    container = {"name": "helloworld", "image": "v1", "ports": [{"name": "web", "containerPort": 5000}]}
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [container]}}
    return {
        "metadata": {"name": "helloworld", "labels": LABELS},
        "spec": {"replicas": replicas, "selector": {"matchLabels": LABELS}, "template": template, **spec},
    }


def service(**spec: Any) -> Object:
    ports = [{"name": "http", "port": 80, "targetPort": "web"}]
    return {"metadata": {"name": "helloworld"}, "spec": {"selector": LABELS, "ports": ports, **spec}}


def available(count: int) -> Any:
    def holds(found: Object) -> bool:
        status = found.get("status", {})
        seen = status.get("observedGeneration") == found["metadata"]["generation"]
        return seen and status.get("availableReplicas", 0) == status.get("replicas", 0) == count

    return holds


async def test_a_deployment_becomes_available_and_scales_to_zero_and_back(living: Any) -> None:
    await living.apply(DEPLOYMENTS, deployment())
    await living.until_there(DEPLOYMENTS, "helloworld", available(2))
    await living.scale(DEPLOYMENTS, "helloworld", 0)
    await living.until_there(DEPLOYMENTS, "helloworld", available(0))
    await living.scale(DEPLOYMENTS, "helloworld", 1)
    await living.until_there(DEPLOYMENTS, "helloworld", available(1))
    (replica_set,) = await living.all(REPLICA_SETS)
    (pod,) = [pod for pod in await living.all(PODS) if not pod["metadata"].get("deletionTimestamp")]
    assert pod["metadata"]["name"].startswith(replica_set["metadata"]["name"] + "-")
    assert len(pod["metadata"]["name"]) == len(replica_set["metadata"]["name"]) + 6


async def test_no_superfluous_pod_is_ever_made(living: Any) -> None:
    made: set[str] = set()
    living.kubelet.pods.subscribe(lambda event, pod: made.add(pod["metadata"]["name"]))
    await living.apply(DEPLOYMENTS, deployment(12))
    await living.until_there(DEPLOYMENTS, "helloworld", available(12))
    await living.scale(DEPLOYMENTS, "helloworld", 3)
    await living.until_there(DEPLOYMENTS, "helloworld", available(3))
    await asyncio.sleep(0.3)
    assert len(made) == 12


async def test_a_deleted_pod_leaves_the_ready_endpoints_at_once_and_is_shown_as_terminating(living: Any) -> None:
    living.kubelet.linger_s = 1.0
    await living.apply(SERVICES, service())
    await living.apply(DEPLOYMENTS, deployment())
    await living.until_there(ENDPOINTS, "helloworld", lambda found: len(addresses(found)) == 2)
    pod = (await living.all(PODS))[0]
    await living.client.delete(PODS, pod["metadata"]["name"], namespace="sample")
    address = pod["status"]["podIP"]

    async def left() -> bool:
        (found,) = await living.all(ENDPOINT_SLICES)
        shown = {one["addresses"][0]: one["conditions"] for one in found["endpoints"]}
        return shown.get(address) == {"ready": False, "serving": True, "terminating": True}

    await living.until(left, 0.5)
    await living.until_there(ENDPOINTS, "helloworld", lambda found: address not in addresses(found))


def addresses(endpoints: Object) -> list[str]:
    return [one["ip"] for subset in endpoints.get("subsets", []) for one in subset.get("addresses", [])]


@pytest.mark.parametrize("policy", ["Background", "Foreground"])
async def test_deleting_a_deployment_takes_everything_with_it(living: Any, policy: str) -> None:
    await living.apply(DEPLOYMENTS, deployment())
    await living.until_there(DEPLOYMENTS, "helloworld", available(2))
    await remove(living, policy)
    await living.until_gone(DEPLOYMENTS, "helloworld")
    if policy == "Foreground":
        assert await living.all(REPLICA_SETS) == await living.all(PODS) == []

    async def empty() -> bool:
        return await living.all(PODS) == [] and await living.all(REPLICA_SETS) == []

    await living.until(empty)


async def remove(living: Any, policy: str) -> None:
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy}
    await living.client.request("DELETE", DEPLOYMENTS.path("sample", "helloworld"), options)


async def test_orphaned_pods_stay_and_are_adopted_by_the_next_deployment(living: Any) -> None:
    await living.apply(DEPLOYMENTS, deployment())
    await living.until_there(DEPLOYMENTS, "helloworld", available(2))
    before = {pod["metadata"]["uid"] for pod in await living.all(PODS)}
    await remove(living, "Orphan")
    await living.until_gone(DEPLOYMENTS, "helloworld")
    (replica_set,) = await living.all(REPLICA_SETS)
    assert not replica_set["metadata"].get("ownerReferences")
    await living.apply(DEPLOYMENTS, deployment())
    await living.until_there(DEPLOYMENTS, "helloworld", available(2))
    assert {pod["metadata"]["uid"] for pod in await living.all(PODS)} == before


async def test_a_deployment_deleted_and_applied_again_at_once_becomes_available(living: Any) -> None:
    for _ in range(3):
        await living.apply(DEPLOYMENTS, deployment())
        await living.until_there(DEPLOYMENTS, "helloworld", available(2))
        await remove(living, "Background")


async def test_a_namespace_is_furnished_and_goes_with_all_that_is_in_it(living: Any) -> None:
    root = await living.until_there(CONFIG_MAPS, "kube-root-ca.crt", lambda found: found["data"]["ca.crt"])
    await living.until_there(SERVICE_ACCOUNTS, "default", bool)
    assert root["data"]["ca.crt"].startswith("-----BEGIN CERTIFICATE")
    await living.apply(DEPLOYMENTS, deployment())
    await living.apply(SERVICES, service())
    await living.until_there(DEPLOYMENTS, "helloworld", available(2))
    await living.client.delete(NAMESPACES, "sample")
    await living.until_gone(NAMESPACES, "sample", "")
    assert await living.all(PODS) == await living.all(ENDPOINT_SLICES) == []


async def test_what_users_delete_of_ours_comes_back(living: Any) -> None:
    await living.until_there(CONFIG_MAPS, "kube-root-ca.crt", bool)
    await living.apply(SERVICES, service(type="LoadBalancer"))
    (found,) = await living.until(lambda: living.all(ENDPOINT_SLICES))
    await living.client.delete(ENDPOINT_SLICES, found["metadata"]["name"], namespace="sample")
    await living.client.delete(CONFIG_MAPS, "kube-root-ca.crt", namespace="sample")
    await living.until_there(CONFIG_MAPS, "kube-root-ca.crt", bool)
    await living.until_there(ENDPOINT_SLICES, found["metadata"]["name"], bool)
