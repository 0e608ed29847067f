from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from meshbook.lab.client import ApiError
from meshbook.lab.kubelet import AddressPool, NodeContext, Pod, PodEvent, ProcessTable, Timing
from meshbook.lab.loopback import claim_block
from meshbook.lab.topology import LabTopology, two_clouds
from meshbook.objects import Object, condition


@pytest.fixture
def topology(tmp_path: Path) -> LabTopology:
    block, claim = claim_block()
    with claim:
        return two_clouds(tmp_path, block, fast=True)


@pytest.fixture
async def processes(topology: LabTopology) -> AsyncIterator[ProcessTable]:
    table = ProcessTable(topology)
    yield table
    await table.close()


class Specs:
    """Builds pods."""

    curl = "docker.io/curlimages/curl:8.16.0"
    helloworld = "docker.io/istio/examples-helloworld-v1:1.0"

    def app(self, shell: str = "exec sleep infinity", *, name: str = "app", **fields: Any) -> Object:
        """Return a container that runs a shell script."""
        return {"name": name, "image": self.curl, "command": ["/bin/sh", "-c", shell], **fields}

    def web(self, **fields: Any) -> Object:
        return {"name": "helloworld", "image": self.helloworld, **fields}

    def proxy(self, **fields: Any) -> Object:
        return {"name": "istio-proxy", "image": "gcr.io/gke-release/asm/proxyv2:1.17.5-asm.9", **fields}

    def pod(self, *containers: Object, name: str = "web-0", uid: str = "uid-1", **spec: Any) -> Object:
        metadata = {"name": name, "namespace": "sample", "uid": uid, "labels": {"app": "web"}}
        spec = {"containers": list(containers) or [self.app()], "nodeName": "cluster1-node-1", **spec}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}

    def terminating(self, obj: Object, grace_s: float = 30) -> Object:
        stamps = {"deletionTimestamp": "2024-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace_s}
        return {**obj, "metadata": {**obj["metadata"], **stamps}}


@pytest.fixture
def specs() -> Specs:
    return Specs()


FAST = Timing(drain_s=0.05, eager_probe_s=0.02, back_off_s=0.05, image_back_off_s=0.05, report_retry_s=0.05)


class Node:
    """Runs pods without an API server: keeps what they report, and lets a test tell them what the API would say."""

    def __init__(self, topology: LabTopology, processes: ProcessTable, http: aiohttp.ClientSession) -> None:
        self.cluster = topology.clusters[0]
        self.reports: list[Object] = []
        self.removed: list[str] = []
        self.events: list[PodEvent] = []
        self.refusals: list[ApiError] = []
        self.token_refusals: list[ApiError] = []
        self.context = NodeContext(
            topology=topology,
            cluster=self.cluster,
            processes=processes,
            addresses=AddressPool(self.cluster),
            http=http,
            report=self._report,
            remove=self._remove,
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
        worker = Pod(obj, self.context)
        task = asyncio.create_task(worker.run())
        self._tasks.append(task)
        return worker, task

    async def until(self, holds: Callable[[], object], timeout_s: float = 5) -> None:
        """Wait for something to become true; what is wrong then shows in the last status."""
        try:
            async with asyncio.timeout(timeout_s):
                while not holds():
                    await asyncio.sleep(0.01)
        except TimeoutError as error:
            raise AssertionError(f"not within {timeout_s} s; last status: {self.status}") from error

    async def start_ready(self, obj: Object) -> tuple[Pod, asyncio.Task[None]]:
        started = self.start(obj)
        await self.until(lambda: self.ready)
        return started

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
async def node(topology: LabTopology, processes: ProcessTable) -> AsyncIterator[Node]:
    async with aiohttp.ClientSession() as http:
        running = Node(topology, processes, http)
        yield running
        await running.close()
