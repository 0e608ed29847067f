"""istiod over the lab's API servers: what it makes of objects that come, change and go."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
from api_servers import api_servers
from askers import asker

from meshbook.lab import client as api
from meshbook.lab import prerequisites
from meshbook.lab.client import ApiError, Client
from meshbook.lab.envoy import CLUSTER, LISTENER, LOAD_ASSIGNMENT, SECRET
from meshbook.lab.istiod import Debounce, Istiod
from meshbook.lab.pki import Authority
from meshbook.lab.topology import LabTopology

OUTBOUND = "outbound|5000||helloworld.sample.svc.cluster.local"
BOUND_S = 10.0


class ControlPlanes:
    """Two API servers with istiod on the first, and the objects that controllers and kubelet would make."""

    authority: Authority
    told: Mapping[str, Mapping[str, Any]]
    running: asyncio.Task[None]

    def __init__(self, topology: LabTopology) -> None:
        self.topology = topology
        self.clients: dict[str, Client] = {}

    async def start(self, stack: contextlib.AsyncExitStack) -> None:
        self.authority = await stack.enter_async_context(api_servers(self.topology))
        for cluster in self.topology.clusters:
            client = await Client.connect(self.topology.kubeconfig, cluster.name)
            self.clients[cluster.name] = client
            stack.push_async_callback(client.close)
            for name, labels in (
                ("istio-system", {"topology.istio.io/network": cluster.network}),
                ("sample", {}),
            ):
                metadata = {"name": name, "labels": labels}
                await client.create(api.NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        await self.follow("sleep", stack)
        istiod = Istiod(self.topology, self.topology.clusters[0], self.clients["cluster1"], self.authority)
        self.running = asyncio.create_task(istiod.run())
        stack.push_async_callback(_cancel, self.running)

    async def add_remote_secret(self) -> None:
        tokens = {cluster.reader: f"token-of-{cluster.name}" for cluster in self.topology.clusters}
        objects = prerequisites.of_cluster(self.topology, self.topology.clusters[0], self.authority.root_pem, tokens)
        for obj in objects:
            if obj["kind"] == "Secret":
                await self.clients["cluster1"].create(api.SECRETS, obj)

    async def add_service(self, cluster: str, name: str, port: int, **fields: Any) -> None:
        ports = [{"name": "http", "port": port, "targetPort": port}]
        metadata = {"name": name, "namespace": fields.pop("namespace", "sample"), "labels": fields.pop("labels", {})}
        service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports, **fields}}
        await self.clients[cluster].create(api.SERVICES, service)

    async def add_pod(self, cluster: str, name: str, number: int, service: str = "") -> None:
        """Make a running pod with a sidecar and, for ``service``, the EndpointSlice that leads to it."""
        address = self.topology.cluster(cluster).pod_address(number)
        labels = {"app": service or name, "security.istio.io/tlsMode": "istio"}
        proxy = {"name": "istio-proxy", "image": "x", "args": ["proxy", "sidecar"]}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "sample", "labels": labels},
            "spec": {"containers": [{"name": "app", "image": "x"}, proxy]},
        }
        client = self.clients[cluster]
        await client.create(api.PODS, pod)
        status = {"status": {"phase": "Running", "podIP": address}}
        await client.merge_patch(api.PODS, name, status, namespace="sample", subresource="status")
        if service:
            await client.create(api.ENDPOINT_SLICES, _slice(service, name, address))

    async def follow(self, pod: str, stack: contextlib.AsyncExitStack) -> None:
        """Ask istiod as the Envoy of a pod in cluster1 does: what it is told is in ``told``."""
        cluster = self.topology.clusters[0]
        asking = asker(cluster.name, f"{pod}.sample", cluster.istiod_address, self.authority)
        envoy = await stack.enter_async_context(asking)
        self.told = envoy.told
        names = {CLUSTER: [], LISTENER: [], SECRET: ["default", "ROOTCA"], LOAD_ASSIGNMENT: [OUTBOUND]}
        stack.push_async_callback(_cancel, asyncio.create_task(envoy.follow(names)))

    def addresses(self) -> list[str]:
        """Return what the sleep pod's Envoy would connect to for helloworld."""
        groups = self.told.get(LOAD_ASSIGNMENT, {}).get(OUTBOUND, {}).get("endpoints", [])
        members = [one["endpoint"]["address"]["socket_address"] for group in groups for one in group["lb_endpoints"]]
        return [f"{one['address']}:{one['port_value']}" for one in members]


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _slice(service: str, pod: str, address: str) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": service}
    reference = {"kind": "Pod", "name": pod, "namespace": "sample"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": pod, "namespace": "sample", "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 5000, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}, "targetRef": reference}],
    }


async def eventually(ask: Callable[[], Any], wanted: Any) -> None:
    async with asyncio.timeout(BOUND_S):
        while ask() != wanted:
            await asyncio.sleep(0.02)


@pytest.fixture
async def planes(topology: LabTopology) -> AsyncIterator[ControlPlanes]:
    async with contextlib.AsyncExitStack() as stack:
        started = ControlPlanes(topology)
        await started.start(stack)
        yield started


async def test_a_sidecar_is_configured_though_a_remote_secret_is_no_kubeconfig(
    planes: ControlPlanes,
) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "bad", "namespace": "istio-system", "labels": {"istio/multiCluster": "true"}},
        "data": {"cluster9": base64.b64encode(b"{}").decode()},
    }
    await planes.clients["cluster1"].create(api.SECRETS, secret)
    await planes.add_service("cluster1", "sleep", 80, selector={"app": "sleep"})
    await planes.add_pod("cluster1", "sleep", 0)
    await eventually(lambda: set(planes.told), {CLUSTER, LISTENER, SECRET})
    trusted = planes.told[SECRET]["ROOTCA"]["validation_context"]["trusted_ca"]["inline_string"]
    assert trusted == planes.authority.root_pem
    assert list(planes.told[LISTENER]) == ["outbound", "health", "metrics", "inbound"]


async def test_endpoints_come_from_the_other_cluster_once_its_secret_is_there(planes: ControlPlanes) -> None:
    for number, cluster in enumerate(("cluster1", "cluster2"), start=1):
        await planes.add_service(cluster, "helloworld", 5000, selector={"app": "helloworld"})
        await planes.add_pod(cluster, f"helloworld-v{number}", 5, "helloworld")
    await planes.add_pod("cluster1", "sleep", 0)
    here = f"{planes.topology.cluster('cluster1').pod_address(5)}:15006"
    await eventually(planes.addresses, [here])

    gateway = planes.topology.cluster("cluster2").load_balancer_address(0)
    labels = {"topology.istio.io/network": "network2"}
    await planes.add_service("cluster2", "eastwest", 15443, namespace="istio-system", labels=labels)
    status = {"status": {"loadBalancer": {"ingress": [{"ip": gateway}]}}}
    await planes.clients["cluster2"].merge_patch(
        api.SERVICES, "eastwest", status, namespace="istio-system", subresource="status"
    )
    await planes.add_remote_secret()
    await eventually(planes.addresses, [here, f"{gateway}:15443"])

    await planes.clients["cluster2"].delete(api.ENDPOINT_SLICES, "helloworld-v2", namespace="sample")
    await eventually(planes.addresses, [here])
    await planes.clients["cluster1"].delete(api.SECRETS, "istio-remote-secret-cluster2", namespace="istio-system")
    await planes.clients["cluster1"].delete(api.ENDPOINT_SLICES, "helloworld-v1", namespace="sample")
    await eventually(planes.addresses, [])


async def test_every_namespace_gets_the_root_certificate_and_gets_it_back(planes: ControlPlanes) -> None:
    client = planes.clients["cluster1"]

    async def data() -> Any:
        try:
            return (await client.get(api.CONFIG_MAPS, "istio-ca-root-cert", "sample"))["data"]
        except ApiError as error:
            return error.code

    wanted = {"root-cert.pem": planes.authority.root_pem}
    for _ in range(2):
        async with asyncio.timeout(BOUND_S):
            while await data() != wanted:
                await asyncio.sleep(0.02)
        await client.delete(api.CONFIG_MAPS, "istio-ca-root-cert", namespace="sample")


async def test_a_workload_keeps_its_certificate_while_other_things_change(planes: ControlPlanes) -> None:
    await planes.add_pod("cluster1", "sleep", 0)
    await eventually(lambda: SECRET in planes.told, True)
    before = planes.told[SECRET]["default"]
    await planes.add_service("cluster1", "sleep", 80, selector={"app": "sleep"})
    await eventually(lambda: "inbound" in planes.told[LISTENER], True)
    assert planes.told[SECRET]["default"] == before


async def test_changes_that_follow_each_other_are_pushed_once() -> None:
    debounce = Debounce(quiet_s=0.05, longest_s=5)
    pushes = 0

    async def push() -> None:
        nonlocal pushes
        while True:
            await debounce.settled()
            pushes += 1

    task = asyncio.create_task(push())
    for _ in range(10):
        debounce.notify()
        await asyncio.sleep(0.005)
    await eventually(lambda: pushes, 1)
    debounce.notify()
    await eventually(lambda: pushes, 2)
    await _cancel(task)


async def test_changes_without_end_are_pushed_nevertheless() -> None:
    debounce = Debounce(quiet_s=0.2, longest_s=0.3)

    async def change() -> None:
        while True:
            debounce.notify()
            await asyncio.sleep(0.01)

    task = asyncio.create_task(change())
    async with asyncio.timeout(2):
        await debounce.settled()
    await _cancel(task)


async def test_a_cluster_that_is_followed_no_more_while_it_changes_takes_nothing_with_it(planes: ControlPlanes) -> None:
    async def change() -> None:
        for number in itertools.count():
            labels = {"metadata": {"labels": {"turn": str(number)}}}
            await planes.clients["cluster2"].merge_patch(api.NAMESPACES, "sample", labels)

    secret = "istio-remote-secret-cluster2"
    changing = [asyncio.create_task(change()) for _ in range(4)]
    for _ in range(20):
        await planes.add_remote_secret()
        await asyncio.sleep(0.05)
        await planes.clients["cluster1"].delete(api.SECRETS, secret, namespace="istio-system")
    await asyncio.sleep(0.05)
    for task in changing:
        await _cancel(task)
    assert not planes.running.done()
