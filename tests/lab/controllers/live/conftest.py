"""A cluster with a real API server over HTTP and all controllers, and a kubelet that only says that pods are ready."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from api_servers import api_servers

from meshbook.lab.client import NAMESPACES, NODES, PODS, ApiError, Client, Informer, Resource
from meshbook.lab.controllers import Manager
from meshbook.lab.pki import Authority
from meshbook.lab.topology import ClusterTopology, LabTopology

Object = dict[str, Any]
NAMESPACE = "sample"
TIMEOUT_S = 5.0


class FakeKubelet:
    """Registers its node, makes bound pods ready, and lets deleted ones go after ``linger_s``."""

    def __init__(self, topology: LabTopology, cluster: ClusterTopology, client: Client) -> None:
        self.linger_s = 0.0
        self.makes_ready = True
        self._cluster = cluster
        self._client = client
        self._numbers = itertools.count()
        self._waiting: asyncio.Queue[Object] = asyncio.Queue()
        self.pods = Informer(client, PODS)
        self.pods.subscribe(lambda event, pod: self._waiting.put_nowait(pod) if event != "DELETED" else None)

    async def run(self) -> None:
        await self._register()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.pods.run())
            while True:
                pod = await self._waiting.get()
                if pod["metadata"].get("deletionTimestamp"):
                    tasks.create_task(self._let_go(pod))
                elif pod["spec"].get("nodeName") and not pod["status"].get("podIP") and self.makes_ready:
                    await self._make_ready(pod)

    async def _register(self) -> None:
        labels = {"topology.kubernetes.io/zone": self._cluster.zone}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self._cluster.node_name, "labels": labels}}
        await self._client.create(NODES, node)
        ready = {"conditions": [{"type": "Ready", "status": "True"}]}
        await self._client.merge_patch(NODES, self._cluster.node_name, {"status": ready}, subresource="status")

    async def _make_ready(self, pod: Object) -> None:
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        ip = self._cluster.pod_address(next(self._numbers))
        told = [{"type": name, "status": "True", "lastTransitionTime": since} for name in ("PodScheduled", "Ready")]
        status = {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": told}
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        with contextlib.suppress(ApiError):
            await self._client.merge_patch(PODS, name, {"status": status}, namespace=namespace, subresource="status")

    async def _let_go(self, pod: Object) -> None:
        await asyncio.sleep(self.linger_s)
        metadata = pod["metadata"]
        with contextlib.suppress(ApiError):
            await self._client.delete(
                PODS, metadata["name"], namespace=metadata["namespace"], grace_s=0, uid=metadata["uid"]
            )


class Living:
    """One cluster as a test sees it."""

    def __init__(self, topology: LabTopology, cluster: ClusterTopology, client: Client, authority: Authority) -> None:
        self.topology = topology
        self.cluster = cluster
        self.client = client
        self.authority = authority
        self.kubelet = FakeKubelet(topology, cluster, client)

    async def apply(self, resource: Resource, obj: Object) -> Object:
        metadata = {"namespace": NAMESPACE, **obj["metadata"]} if resource.namespaced else obj["metadata"]
        head = {"apiVersion": resource.api_version, "kind": resource.kind}
        return await self.client.apply(resource, {**head, **obj, "metadata": metadata}, manager="test")

    async def scale(self, resource: Resource, name: str, replicas: int) -> None:
        patch = {"spec": {"replicas": replicas}}
        await self.client.merge_patch(resource, name, patch, namespace=NAMESPACE, subresource="scale")

    async def all(self, resource: Resource) -> list[Object]:
        return (await self.client.list(resource, NAMESPACE))[0]

    async def until(self, seen: Callable[[], Awaitable[Any]], timeout_s: float = TIMEOUT_S) -> Any:
        """Wait until ``seen`` gives something true (an API error counts as not yet); return it."""
        deadline, last = time.monotonic() + timeout_s, None
        while time.monotonic() < deadline:
            with contextlib.suppress(ApiError):
                if last := await seen():
                    return last
            await asyncio.sleep(0.02)
        raise AssertionError(f"not seen in {timeout_s:g} s; last: {last!r}")

    async def until_there(self, resource: Resource, name: str, holds: Callable[[Object], Any]) -> Object:
        """Wait until an object is there and ``holds``; return it."""

        async def seen() -> Object | None:
            found = await self.client.get(resource, name, NAMESPACE)
            return found if holds(found) else None

        result: Object = await self.until(seen)
        return result

    async def until_gone(self, resource: Resource, name: str, namespace: str = NAMESPACE) -> None:
        async def gone() -> bool:
            try:
                await self.client.get(resource, name, namespace)
            except ApiError as error:
                return error.code == 404
            return False

        await self.until(gone)


@pytest.fixture
async def living(topology: LabTopology) -> AsyncIterator[Living]:
    cluster = topology.cluster("cluster2")
    async with api_servers(topology) as authority:
        client = await Client.connect(topology.kubeconfig, cluster.name)
        living = Living(topology, cluster, client, authority)
        parts = (Manager(topology, cluster, client).run(), living.kubelet.run())
        tasks = [asyncio.create_task(part) for part in parts]
        await living.apply(NAMESPACES, {"metadata": {"name": NAMESPACE}})
        yield living
        for task in tasks:
            assert not task.done(), task.exception()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await client.close()
