"""The life of one pod on its node: address, folders, containers, status, and an orderly end.

A pod knows the API only through the functions of its ``PodContext``, so that it can live without one.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import aiohttp

from meshbook.errors import LabError
from meshbook.lab.client import ApiError
from meshbook.lab.kubelet import execution, status
from meshbook.lab.kubelet.containers import DEFAULT_GRACE_S, Container, ContainerContext, Timing, happens_within
from meshbook.lab.kubelet.execution import Surroundings
from meshbook.lab.kubelet.processes import ProcessTable
from meshbook.lab.kubelet.status import PodEvent
from meshbook.lab.topology import ClusterTopology, LabTopology
from meshbook.objects import Object, is_deleting, is_finished, timestamp

CAPACITY = 250
"""Pods that a node takes: as many as it has addresses."""

LEAST_PROXY_GRACE_S = 1.0
"""A proxy gets this long to end, whatever the applications have left of the pod's grace."""


class AddressPool:
    """The pod addresses of one cluster. The one that was given back first is the first to be used again.

    A client that has not yet heard of a pod's end would otherwise reach another pod under its address.
    """

    def __init__(self, cluster: ClusterTopology) -> None:
        self._cluster = cluster
        self._free = deque(cluster.pod_address(number) for number in range(CAPACITY))

    def take(self) -> str:
        if not self._free:
            raise LabError(f"{self._cluster.name} has no pod address left: {CAPACITY} pods run on its node")
        return self._free.popleft()

    def release(self, address: str) -> None:
        self._free.append(address)


async def _no_token(_: Object) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class PodContext:
    """What a node lends to its pods."""

    topology: LabTopology
    cluster: ClusterTopology
    processes: ProcessTable
    addresses: AddressPool
    http: aiohttp.ClientSession
    report: Callable[[Object, Object], Awaitable[None]]
    """Writes the status (second) of a pod (first); ``ApiError`` when the API server does not take it."""
    remove: Callable[[Object], Awaitable[None]]
    """Removes the object of a pod that has ended."""
    token: Callable[[Object], Awaitable[str]] = _no_token
    """Asks for the token of a pod's service account."""
    record: Callable[[Object, PodEvent], None] = lambda _pod, _event: None
    """Makes an event of what happened to a pod; must not block."""
    timing: Timing = field(default_factory=Timing)


class Pod:
    """One pod from the moment its node learns of it. ``update`` and ``vanish`` tell it what the API says."""

    def __init__(self, obj: Object, context: PodContext) -> None:
        self.object = obj
        self.reported: Object = obj.get("status", {})
        """The status that the API server has last taken."""
        self._context = context
        self._changed = asyncio.Event()
        self._leaving = asyncio.Event()
        self._gone = asyncio.Event()
        self._started_at = timestamp()
        self.address = context.addresses.take()
        self._around = Surroundings(
            topology=context.topology, cluster=context.cluster, pod=self.key, pod_ip=self.address
        )
        self.init = [self._container(spec, "OnFailure") for spec in obj["spec"].get("initContainers") or ()]
        self.containers = [self._container(spec, "Always") for spec in obj["spec"]["containers"]]
        self.update(obj)

    @property
    def uid(self) -> str:
        uid: str = self.object["metadata"]["uid"]
        return uid

    @property
    def key(self) -> tuple[str, str]:
        return self.object["metadata"]["namespace"], self.object["metadata"]["name"]

    @property
    def is_leaving(self) -> bool:
        return self._leaving.is_set()

    def update(self, obj: Object) -> None:
        """Take note of a newer version of the object."""
        self.object = obj
        if is_deleting(obj):
            self._leaving.set()
            self._changed.set()

    def vanish(self) -> None:
        """Take note that the object is gone: whatever still runs is killed."""
        self._gone.set()
        self._leaving.set()
        self._kill()

    def container(self, name: str) -> Container | None:
        """Return a container by name; the only or first one for an empty name."""
        return next((item for item in (*self.containers, *self.init) if name in ("", item.name)), None)

    async def run(self) -> None:
        """Live until the object is gone and nothing of the pod is left."""
        try:
            async with asyncio.TaskGroup() as group:
                life = group.create_task(self._live())
                reporting = group.create_task(self._keep_reporting())
                await self._leaving.wait()
                await self._stop(life)
                reporting.cancel()
            if not self._gone.is_set():
                await self._take_leave()
        finally:
            self._kill()
            self._context.addresses.release(self.address)
            for folder in (self._around.folder, self._around.proxy_folder):
                shutil.rmtree(folder, ignore_errors=True)

    async def _live(self) -> None:
        if is_finished(self.object):
            return
        self._changed.set()
        await self._mount_token()
        for container in self.init:
            await container.run()
            if self._leaving.is_set() or status.exit_code(container.status) != 0:
                return
        async with asyncio.TaskGroup() as group:
            for container in self.containers:
                group.create_task(container.run())

    async def _mount_token(self) -> None:
        """Write the token that the pod wants before it starts, however often the API server has to be asked."""
        recorded = ""
        while execution.wants_token(self.object) and not self._leaving.is_set():
            try:
                token = await self._context.token(self.object)
            except ApiError as error:
                if error.message != recorded:
                    recorded = error.message
                    self._record([PodEvent(reason="FailedMount", message=recorded, kind="Warning")])
                await happens_within(self._leaving, self._context.timing.report_retry_s)
            else:
                return execution.write_token(self._around, token)

    async def _stop(self, life: asyncio.Task[None]) -> None:
        """Ask applications to end while proxies drain; proxies go last."""
        grace_s = 0.0 if self._gone.is_set() else self._grace_s()
        deadline = time.monotonic() + grace_s
        for container in self.containers:
            if container.is_running:
                message = f"Stopping container {container.name}"
                self._record([PodEvent(reason="Killing", message=message, container=container.name)])
        proxies = [container for container in self.containers if execution.is_proxy(container.spec)]
        others = [container for container in (*self.init, *self.containers) if container not in proxies]
        await asyncio.gather(self._drain(proxies, grace_s), *(container.stop(grace_s) for container in others))
        rest_s = 0.0 if self._gone.is_set() else max(deadline - time.monotonic(), LEAST_PROXY_GRACE_S)
        await asyncio.gather(*(container.stop(rest_s) for container in proxies))
        await asyncio.wait((life,))

    def _grace_s(self) -> float:
        """Return how long the containers may take to end: as the deletion says, or else the pod."""
        given = self.object["metadata"].get("deletionGracePeriodSeconds")
        if given is None:
            given = self.object["spec"].get("terminationGracePeriodSeconds")
        return float(DEFAULT_GRACE_S if given is None else given)

    async def _drain(self, proxies: list[Container], grace_s: float) -> None:
        if not grace_s or not any(proxy.is_running for proxy in proxies):
            return
        begun = time.monotonic()
        await execution.drain_envoy(self.address, self._context.http)
        least_s = min(self._context.timing.drain_s, grace_s) - (time.monotonic() - begun)
        await happens_within(self._gone, max(least_s, 0))

    async def _keep_reporting(self) -> None:
        """Write the status whenever it is new, and again when the API server did not take it."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not await self._reported():
                await asyncio.sleep(self._context.timing.report_retry_s)
                self._changed.set()

    async def _reported(self) -> bool:
        """Write the status if it is new; say whether that succeeded or is pointless."""
        current = self._status()
        if is_finished(self.object) or current == self.reported:
            return True
        try:
            await self._context.report(self.object, current)
        except ApiError as error:
            return error.code == 404
        self.reported = current
        return True

    def _status(self) -> Object:
        init, containers = ([one.shown for one in some] for some in (self.init, self.containers))
        addresses: Object = {"hostIP": self._context.cluster.node_address, "podIP": self.address}
        addresses |= {"podIPs": [{"ip": self.address}], "startTime": self._started_at}
        return addresses | status.pod_status(self.object, init, containers, self.reported, timestamp())

    async def _take_leave(self) -> None:
        """Show how the containers ended, then remove the object, until the API server has taken it."""
        await self._reported()
        while not self._gone.is_set():
            try:
                await self._context.remove(self.object)
                return
            except ApiError:
                await happens_within(self._gone, self._context.timing.report_retry_s)

    def _container(self, spec: Object, default_policy: str) -> Container:
        policy = self.object["spec"].get("restartPolicy", "Always")

        def changed(before: Object, after: Object) -> None:
            self._changed.set()
            self._record(status.events(before, after))

        context = ContainerContext(
            processes=self._context.processes,
            http=self._context.http,
            timing=self._context.timing,
            policy=default_policy if policy == "Always" else policy,
            pod_ip=self.address,
            logs=self._around.folder / spec["name"],
            mark=f"{self.uid}/{spec['name']}",
            changed=changed,
        )
        return Container(spec, context, partial(execution.prepare, self.object, spec, self._around))

    def _record(self, events: Iterable[PodEvent]) -> None:
        for event in events:
            self._context.record(self.object, event)

    def _kill(self) -> None:
        for container in (*self.init, *self.containers):
            container.kill()
