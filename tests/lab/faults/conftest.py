from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from meshbook.lab.faults.board import Board
from meshbook.lab.faults.effects import Site
from meshbook.lab.kubelet.addresses import AddressPool
from meshbook.lab.kubelet.lifecycle import Timing
from meshbook.lab.kubelet.pods import Ground, Pod
from meshbook.lab.kubelet.processes import ProcessTable
from meshbook.lab.loopback import claim_block
from meshbook.lab.topology import ClusterTopology, LabTopology, two_clouds

Object = dict[str, Any]
FAST = Timing(drain_s=0.05, eager_probe_s=0.02, report_retry_s=0.05)


class World:
    """Two clusters of pods without API servers; keeps what was silenced."""

    def __init__(self, topology: LabTopology, processes: ProcessTable, http: aiohttp.ClientSession) -> None:
        self.topology, self._processes, self._http = topology, processes, http
        self.pods: dict[str, list[Pod]] = {cluster.name: [] for cluster in topology.clusters}
        self.silent: dict[str, bool] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.board = Board({cluster.name: self._site(cluster) for cluster in topology.clusters}, topology.fault_log)

    def _site(self, cluster: ClusterTopology) -> Site:
        def silence(silent: bool) -> None:
            self.silent[cluster.name] = silent

        return Site(name=cluster.name, pods=lambda: tuple(self.pods[cluster.name]), silence=silence)

    async def _accept(self, *_: object) -> None:
        return

    async def _no_token(self, *_: object) -> str:
        return ""

    async def start(self, cluster: ClusterTopology, name: str, container: Object, labels: Object) -> Pod:
        """Start a pod and wait until it is shown as ready."""
        ground = Ground(
            topology=self.topology,
            cluster=cluster,
            processes=self._processes,
            addresses=AddressPool(cluster),
            http=self._http,
            report=self._accept,
            remove=self._accept,
            token=self._no_token,
            timing=FAST,
        )
        metadata = {"name": name, "namespace": "sample", "uid": f"{cluster.name}-{name}", "labels": labels}
        spec = {"containers": [container], "nodeName": cluster.node_name}
        pod = Pod({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, ground)
        self.pods[cluster.name].append(pod)
        self._tasks.append(asyncio.create_task(pod.run()))
        await self.until(lambda: is_ready(pod))
        return pod

    async def until(self, holds: Callable[[], object], timeout_s: float = 5) -> None:
        async with asyncio.timeout(timeout_s):
            while not holds():
                await asyncio.sleep(0.005)

    async def close(self) -> None:
        await self.board.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def is_ready(pod: Pod) -> bool:
    conditions = pod.reported.get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    block, claim = claim_block()
    with claim:
        topology = two_clouds(tmp_path, block)
        processes = ProcessTable(topology)
        async with aiohttp.ClientSession() as http:
            running = World(topology, processes, http)
            yield running
            await running.close()
        await processes.close()


@pytest.fixture
async def web(world: World) -> Pod:
    """The sample's application with its own readiness probe, on cluster1."""
    probe = {"httpGet": {"port": 5000, "path": "/health"}, "periodSeconds": 0.05, "failureThreshold": 2}
    image = "docker.io/istio/examples-helloworld-v1:1.0"
    container = {"name": "helloworld", "image": image, "readinessProbe": probe}
    return await world.start(world.topology.clusters[0], "web-0", container, {"app": "helloworld"})
