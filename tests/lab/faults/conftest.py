from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from node import Node, nodes, pod, web

from meshbook.lab.faults import ClusterContext, FaultManager
from meshbook.lab.kubelet import Pod, ProcessTable
from meshbook.lab.topology import LabTopology
from meshbook.objects import Object


class Clusters:
    """Two clusters of pods without API servers, what breaks them, and which of them were silenced."""

    def __init__(self, topology: LabTopology, found: list[Node]) -> None:
        self.topology = topology
        self.nodes = {node.cluster.name: node for node in found}
        self.silent: dict[str, bool] = {}
        self.faults = FaultManager({name: self._context(name) for name in self.nodes}, topology.fault_log)
        self.until = found[0].until

    def _context(self, name: str) -> ClusterContext:
        def silence(silent: bool) -> None:
            self.silent[name] = silent

        cluster = self.topology.cluster(name)
        return ClusterContext(topology=cluster, pods=lambda: tuple(self.nodes[name].pods), silence=silence)

    async def start(self, cluster: str, name: str, container: Object, **labels: str) -> Pod:
        """Start a pod and wait until it is shown as ready."""
        obj = pod(container, name=name, uid=f"{cluster}-{name}")
        obj["metadata"]["labels"] = labels
        started, _ = await self.nodes[cluster].start_ready(obj)
        return started


@pytest.fixture
async def clusters(topology: LabTopology) -> AsyncIterator[Clusters]:
    processes = ProcessTable(topology)
    async with nodes(topology, processes) as found:
        yield (made := Clusters(topology, found))
        await made.faults.close()
    await processes.close()


@pytest.fixture
async def hello(clusters: Clusters) -> Pod:
    """The sample's application with its own readiness probe, on cluster1."""
    probe = {"httpGet": {"port": 5000, "path": "/health"}, "periodSeconds": 0.05, "timeoutSeconds": 0.1}
    return await clusters.start(
        "cluster1", "web-0", web(readinessProbe=probe | {"failureThreshold": 2}), app="helloworld"
    )
