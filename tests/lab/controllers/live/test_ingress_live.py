"""The fleet feature, MCS and MCI on a real API server and the real fleet API: Services, VIP, what the balancer gets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from envoys import program, running_envoy

from meshbook.lab.client import (
    BACKEND_CONFIGS,
    DEPLOYMENTS,
    EVENTS,
    MULTI_CLUSTER_INGRESSES,
    MULTI_CLUSTER_SERVICES,
    PODS,
    SERVICES,
)
from meshbook.lab.controllers import MultiClusterIngressController, Pace
from meshbook.lab.discovery import DiscoveryServer
from meshbook.lab.envoy import Node, Resources
from meshbook.lab.gkehub import FleetServer
from meshbook.lab.topology import PROJECT

Object = dict[str, Any]
LABELS = {"istio": "ingressgateway"}
PACE = Pace(vip_s=0.2, programmed_s=0.4, feature_poll_s=0.05)
PARENT = f"projects/{PROJECT}/locations/global"
MCI = {
    "metadata": {"name": "gateway"},
    "spec": {"template": {"spec": {"backend": {"serviceName": "gateway", "servicePort": 80}}}},
}
MCS = {
    "metadata": {
        "name": "gateway",
        "annotations": {"cloud.google.com/backend-config": '{"default": "health"}'},
    },
    "spec": {"template": {"spec": {"selector": LABELS, "ports": [{"name": "http2", "port": 80}]}}},
}
HEALTH = {
    "metadata": {"name": "health"},
    "spec": {"healthCheck": {"requestPath": "/healthz/ready", "port": 15021, "type": "HTTP"}},
}
GATEWAY = {
    "metadata": {"name": "gateway"},
    "spec": {
        "selector": {"matchLabels": LABELS},
        "template": {
            "metadata": {"labels": LABELS},
            "spec": {"containers": [{"name": "istio-proxy", "image": "auto"}]},
        },
    },
}


class Cloud:
    """The fleet around a living cluster."""

    def __init__(self, living: Any, fleet: FleetServer) -> None:
        self.living = living
        self.fleet = fleet
        self.balancer = Resources()
        """What it was told last."""
        self.discovery = DiscoveryServer("edge", living.topology.edge_address, living.authority)

    def enable(self) -> None:
        body = {"spec": {"multiclusteringress": {"configMembership": self.living.cluster.membership}}}
        self.fleet.fleet.create_feature(PARENT, "multiclusteringress", body)

    async def apply_all(self) -> None:
        await self.living.apply(BACKEND_CONFIGS, HEALTH)
        await self.living.apply(MULTI_CLUSTER_SERVICES, MCS)
        await self.living.apply(MULTI_CLUSTER_INGRESSES, MCI)

    async def vip(self) -> str:
        found = await self.living.until_there(
            MULTI_CLUSTER_INGRESSES, "gateway", lambda one: one.get("status", {}).get("VIP")
        )
        return str(found["status"]["VIP"])

    async def events(self) -> str:
        return "\n".join(event["message"] for event in await self.living.all(EVENTS))

    def publish(self, resources: Resources) -> None:
        self.balancer = resources
        self.discovery.publish("edge", resources)

    def backends(self) -> list[str]:
        groups = [group for one in self.balancer.endpoints for group in one["endpoints"]]
        found = [one["endpoint"]["address"]["socket_address"] for group in groups for one in group["lb_endpoints"]]
        return [f"{one['address']}:{one['port_value']}" for one in found]


@pytest.fixture
async def cloud(living: Any) -> AsyncIterator[Cloud]:
    topology = living.topology
    fleet = FleetServer(topology, "fleet-token")
    await fleet.start()
    cloud = Cloud(living, fleet)
    await cloud.discovery.start()
    controller = MultiClusterIngressController(
        topology, living.cluster, living.client, "fleet-token", cloud.publish, PACE
    )
    task = asyncio.create_task(controller.run())
    yield cloud
    assert not task.done(), task.exception()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await cloud.discovery.stop()
    assert cloud.discovery.refusals == []
    await fleet.stop()


async def derived(living: Any) -> list[Object]:
    services: list[Object] = await living.all(SERVICES)
    return [one for one in services if one["metadata"]["name"].startswith("mci-")]


async def test_without_the_feature_there_is_no_vip_and_the_event_says_why(cloud: Cloud) -> None:
    await cloud.apply_all()

    async def told() -> bool:
        return "fleet feature multiclusteringress: it is not enabled" in await cloud.events()

    await cloud.living.until(told)
    found = await cloud.living.client.get(MULTI_CLUSTER_INGRESSES, "gateway", "sample")
    assert "VIP" not in found["status"]
    assert found["status"]["conditions"][0]["reason"] == "TranslationError"
    assert await derived(cloud.living) == []


async def test_the_feature_brings_derived_service_vip_and_backends_and_takes_them_away(cloud: Cloud) -> None:
    living = cloud.living
    await living.apply(DEPLOYMENTS, GATEWAY)
    await cloud.apply_all()
    cloud.enable()
    vip = await cloud.vip()
    assert vip.split(":")[0] == living.topology.vip(0)
    assert int((vip + ":80").split(":")[1]) == living.topology.bindable(80)
    (service,) = await derived(living)
    assert service["spec"]["clusterIP"] == "None"
    parent = json.loads(service["metadata"]["annotations"]["networking.gke.io/multiclusterservice-parent"])
    assert parent == {"Namespace": "sample", "Name": "gateway"}
    (pod,) = await living.all(PODS)
    expected = [f"{pod['status']['podIP']}:{living.topology.bindable(80)}"]

    async def programmed() -> bool:
        return cloud.backends() == expected

    async def withdrawn() -> bool:
        return cloud.backends() == []

    await living.until(programmed)
    cloud.fleet.fleet.delete_feature(f"{PARENT}/features/multiclusteringress")
    await living.until_gone(SERVICES, service["metadata"]["name"])
    await living.until_there(MULTI_CLUSTER_INGRESSES, "gateway", lambda one: "VIP" not in one["status"])
    await living.until(withdrawn)


async def test_a_pod_that_terminates_leaves_the_balancer_at_once(cloud: Cloud) -> None:
    living = cloud.living
    cloud.enable()
    await living.apply(DEPLOYMENTS, GATEWAY)
    await cloud.apply_all()

    async def number(count: int) -> bool:
        return len(cloud.backends()) == count

    await living.until(lambda: number(1))
    living.kubelet.linger_s = 2.0
    await living.scale(DEPLOYMENTS, "gateway", 0)
    await living.until(lambda: number(0), 0.5)


async def test_derived_services_follow_their_mcs(cloud: Cloud) -> None:
    living = cloud.living
    cloud.enable()
    await cloud.apply_all()
    (service,) = await living.until(lambda: derived(living))
    ports = [{"name": "http2", "port": 8080}]
    patch = {"spec": {"template": {"spec": {"ports": ports}}}}
    await living.client.merge_patch(MULTI_CLUSTER_SERVICES, "gateway", patch, namespace="sample")
    name = service["metadata"]["name"]
    await living.until_there(SERVICES, name, lambda one: one["spec"]["ports"][0]["port"] == 8080)
    await living.client.delete(MULTI_CLUSTER_SERVICES, "gateway", namespace="sample")
    await living.until_gone(SERVICES, name)


async def test_what_is_missing_is_named_and_its_coming_heals(cloud: Cloud) -> None:
    living = cloud.living
    cloud.enable()
    await living.apply(MULTI_CLUSTER_SERVICES, MCS)
    await living.apply(MULTI_CLUSTER_INGRESSES, MCI)

    async def told() -> bool:
        return "missing BackendConfig sample/health" in await cloud.events()

    await living.until(told)
    await living.apply(BACKEND_CONFIGS, HEALTH)
    await cloud.vip()
    found = await living.client.get(MULTI_CLUSTER_INGRESSES, "gateway", "sample")
    assert found["status"]["conditions"][0]["status"] == "True"


@pytest.mark.envoy
async def test_the_balancer_answers_404_then_502_then_the_gateway(cloud: Cloud) -> None:
    living, topology = cloud.living, cloud.living.topology
    await living.apply(DEPLOYMENTS, GATEWAY)
    (pod,) = await living.until(lambda: ready_pods(living))
    with contextlib.ExitStack() as stack:
        for port in (topology.bindable(80), 15021):
            stack.enter_context(program(pod["status"]["podIP"], port, "Hello"))
        place = topology.edge_address
        node = Node(cluster="edge", name="edge", admin_address=place, discovery_address=place)
        envoy = stack.enter_context(running_envoy(topology.edge, node, living.authority))
        cloud.enable()
        await cloud.apply_all()
        seen = await codes(f"http://{await cloud.vip()}/hello")
        assert envoy.poll() is None, (topology.edge / "envoy.log").read_text()[:500]
    assert list(dict.fromkeys(code for code in seen if code)) == [404, 502, 200]


async def ready_pods(living: Any) -> list[Object]:
    return [pod for pod in await living.all(PODS) if pod["status"].get("podIP")]


async def codes(url: str) -> list[int]:
    """Ask until the first 200, for 10 s at most; 0 stands for no answer."""
    seen, deadline = [0], time.monotonic() + 10
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as session:
        while seen[-1] != 200 and time.monotonic() < deadline:
            try:
                async with session.get(url) as response:
                    seen.append(response.status)
            except (aiohttp.ClientError, TimeoutError):
                seen.append(0)
            await asyncio.sleep(0.03)
    return seen
