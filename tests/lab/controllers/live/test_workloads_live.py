"""Deployments, endpoints, namespaces and garbage on a real API server over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

from meshbook.lab.client import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    PODS,
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


async def test_a_deployment_deleted_and_applied_again_at_once_becomes_available(living: Any) -> None:
    for _ in range(3):
        await living.apply(DEPLOYMENTS, deployment())
        await living.until_there(DEPLOYMENTS, "helloworld", available(2))
        await living.client.delete(DEPLOYMENTS, "helloworld", namespace="sample")


async def test_what_users_delete_of_ours_comes_back(living: Any) -> None:
    await living.until_there(CONFIG_MAPS, "kube-root-ca.crt", bool)
    await living.apply(SERVICES, service(type="LoadBalancer"))
    (found,) = await living.until(lambda: living.all(ENDPOINT_SLICES))
    await living.client.delete(ENDPOINT_SLICES, found["metadata"]["name"], namespace="sample")
    await living.client.delete(CONFIG_MAPS, "kube-root-ca.crt", namespace="sample")
    await living.until_there(CONFIG_MAPS, "kube-root-ca.crt", bool)
    await living.until_there(ENDPOINT_SLICES, found["metadata"]["name"], bool)
