from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from meshbook.lab.faults import ClusterContext, FaultManager
from meshbook.lab.kubelet import AddressPool, NodeContext, Pod, ProcessTable, Timing
from meshbook.lab.loopback import claim_block
from meshbook.lab.topology import ClusterTopology, LabTopology, two_clouds
from meshbook.objects import Object, condition

FAST = Timing(drain_s=0.05, eager_probe_s=0.02, report_retry_s=0.05)


class World:
    """Two clusters of pods without API servers; keeps what was silenced."""

    def __init__(self, topology: LabTopology, processes: ProcessTable, http: aiohttp.ClientSession) -> None:
        self.topology, self._processes, self._http = topology, processes, http
        self.pods: dict[str, list[Pod]] = {cluster.name: [] for cluster in topology.clusters}
        self.silent: dict[str, bool] = {}
        self._tasks: list[asyncio.Task[None]] = []
        clusters = {cluster.name: self._context(cluster) for cluster in topology.clusters}
        self.faults = FaultManager(clusters, topology.fault_log)

    def _context(self, cluster: ClusterTopology) -> ClusterContext:
        def silence(silent: bool) -> None:
            self.silent[cluster.name] = silent

        return ClusterContext(name=cluster.name, pods=lambda: tuple(self.pods[cluster.name]), silence=silence)

    async def _accept(self, *_: object) -> None:
        return

    async def start(self, cluster: ClusterTopology, name: str, container: Object, labels: Object) -> Pod:
        """Start a pod and wait until it is shown as ready."""
        context = NodeContext(
            topology=self.topology,
            cluster=cluster,
            processes=self._processes,
            addresses=AddressPool(cluster),
            http=self._http,
            report=self._accept,
            remove=self._accept,
            timing=FAST,
        )
        metadata = {"name": name, "namespace": "sample", "uid": f"{cluster.name}-{name}", "labels": labels}
        spec = {"containers": [container], "nodeName": cluster.node_name}
        pod = Pod({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, context)
        self.pods[cluster.name].append(pod)
        self._tasks.append(asyncio.create_task(pod.run()))
        await self.until(lambda: is_ready(pod))
        return pod

    async def until(self, holds: Callable[[], object], timeout_s: float = 5) -> None:
        async with asyncio.timeout(timeout_s):
            while not holds():
                await asyncio.sleep(0.005)

    async def close(self) -> None:
        await self.faults.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def is_ready(pod: Pod) -> bool:
    return condition({"status": pod.reported}, "Ready").get("status") == "True"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    block, claim = claim_block()
    with claim:
        topology = two_clouds(tmp_path, block, fast=True)
        processes = ProcessTable(topology)
        async with aiohttp.ClientSession() as http:
            running = World(topology, processes, http)
            yield running
            await running.close()
        await processes.close()


@pytest.fixture
async def web(world: World) -> Pod:
    """The sample's application with its own readiness probe, on cluster1."""
    probe = {
        "httpGet": {"port": 5000, "path": "/health"},
        "periodSeconds": 0.05,
        "timeoutSeconds": 0.1,
        "failureThreshold": 2,
    }
    image = "docker.io/istio/examples-helloworld-v1:1.0"
    container = {"name": "helloworld", "image": image, "readinessProbe": probe}
    return await world.start(world.topology.clusters[0], "web-0", container, {"app": "helloworld"})
