"""A node of the lab without an API server: runs pods as real processes, and keeps what it would report of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp

from meshbook.lab.client import ApiError
from meshbook.lab.kubelet import AddressPool, NodeContext, Pod, PodEvent, ProcessTable, Timing
from meshbook.lab.pki import Authority
from meshbook.lab.topology import ClusterTopology, LabTopology
from meshbook.objects import Object, condition

CURL = "docker.io/curlimages/curl:8.16.0"
FAST = Timing(drain_s=0.05, eager_probe_s=0.02, back_off_s=0.05, image_back_off_s=0.05, report_retry_s=0.05)


def app(shell: str = "exec sleep infinity", *, name: str = "app", **fields: object) -> Object:
    """Return a container that runs a shell script."""
    return {"name": name, "image": CURL, "command": ["/bin/sh", "-c", shell], **fields}


def web(**fields: object) -> Object:
    """Return the sample's container."""
    return {"name": "helloworld", "image": "docker.io/istio/examples-helloworld-v1:1.0", **fields}


def pod(*containers: Object, name: str = "web-0", uid: str = "uid-1", **spec: object) -> Object:
    metadata = {"name": name, "namespace": "sample", "uid": uid, "labels": {"app": "web"}}
    spec = {"containers": [*containers], "nodeName": "cluster1-node-1", **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def terminating(obj: Object, grace_s: float = 30) -> Object:
    stamps = {"deletionTimestamp": "2024-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace_s}
    return {**obj, "metadata": {**obj["metadata"], **stamps}}


def is_ready(running: Pod) -> bool:
    return condition({"status": running.reported}, "Ready").get("status") == "True"


class Node:
    """Takes what its pods report, and refuses it where a test says so."""

    def __init__(
        self, topology: LabTopology, cluster: ClusterTopology, processes: ProcessTable, http: aiohttp.ClientSession
    ) -> None:
        self.cluster = cluster
        self.pods: list[Pod] = []
        self.reports: list[Object] = []
        self.removed: list[str] = []
        self.events: list[PodEvent] = []
        self.refusals: list[ApiError] = []
        self.token_refusals: list[ApiError] = []
        self.context = NodeContext(
            topology=topology,
            cluster=cluster,
            processes=processes,
            addresses=AddressPool(cluster),
            http=http,
            authority=Authority(topology.pki),
            report=self._report,
            remove=self._remove,
            start_s=lambda: 0.0,
            token=self._token,
            record=lambda _, event: self.events.append(event),
            timing=FAST,
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def _report(self, _: Object, status: Object) -> None:
        if self.refusals:
            raise self.refusals.pop()
        self.reports.append(status)

    async def _token(self, _: Object) -> str:
        if self.token_refusals:
            raise self.token_refusals.pop()
        return "token"

    async def _remove(self, obj: Object) -> None:
        self.removed.append(obj["metadata"]["name"])

    @property
    def status(self) -> Object:
        """The status of a pod as last reported."""
        return self.reports[-1] if self.reports else {}

    @property
    def ready(self) -> bool:
        return self.condition("Ready") == "True"

    def condition(self, kind: str) -> str:
        return str(condition({"status": self.status}, kind).get("status", "Unknown"))

    def state(self, index: int = 0) -> Object:
        """Return the state of a container as last reported."""
        statuses = self.status.get("containerStatuses") or [{"state": {}}]
        state: Object = statuses[index]["state"]
        return state

    def start(self, obj: Object) -> tuple[Pod, asyncio.Task[None]]:
        task = asyncio.create_task((started := Pod(obj, self.context)).run())
        self.pods.append(started)
        self._tasks.append(task)
        return started, task

    async def until(self, holds: Callable[[], object], timeout_s: float = 5) -> None:
        """Wait for something to become true; what is wrong then shows in the last status."""
        try:
            async with asyncio.timeout(timeout_s):
                while not holds():
                    await asyncio.sleep(0.01)
        except TimeoutError as error:
            raise AssertionError(f"not within {timeout_s} s; last status: {self.status}") from error

    async def start_ready(self, obj: Object) -> tuple[Pod, asyncio.Task[None]]:
        started, task = self.start(obj)
        await self.until(lambda: is_ready(started))
        return started, task

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def nodes(topology: LabTopology, processes: ProcessTable) -> AsyncIterator[list[Node]]:
    """Have one node for each cluster."""
    async with aiohttp.ClientSession() as http:
        found = [Node(topology, cluster, processes, http) for cluster in topology.clusters]
        yield found
        for node in found:
            await node.close()
