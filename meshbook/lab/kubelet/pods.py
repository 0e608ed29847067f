"""The life of one pod on its node: address, folders, containers, status, and an orderly end.

A pod knows the API only through two functions (report a status, remove the object), so that it can live without one.
Decisions are taken in ``lifecycle`` and ``status``; this room carries them out.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from meshbook.lab.client import ApiError
from meshbook.lab.kubelet import credentials, execution, lifecycle, sidecars, telling
from meshbook.lab.kubelet.addresses import AddressPool
from meshbook.lab.kubelet.containers import Container, Place
from meshbook.lab.kubelet.credentials import Ask, Credentials
from meshbook.lab.kubelet.execution import Execution
from meshbook.lab.kubelet.lifecycle import Timing
from meshbook.lab.kubelet.processes import ProcessTable
from meshbook.lab.kubelet.status import INITIALIZING, PodView, Terminated, pod_status, timestamp
from meshbook.lab.kubelet.telling import Telling
from meshbook.lab.topology import ClusterTopology, LabTopology

LEAST_PROXY_GRACE_S = 1.0
"""A proxy gets this long to end, whatever the applications have left of the pod's grace."""

Object = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Ground:
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
    token: Ask
    """Asks for a pod's token."""
    tell: Callable[[Object, Telling], None] = lambda _pod, _telling: None
    """Makes an event of what is told of a pod; must not block."""
    timing: Timing = field(default_factory=Timing)


class Pod:
    """One pod from the moment its node learns of it. ``update`` and ``vanish`` tell it what the API says."""

    def __init__(self, obj: Object, ground: Ground) -> None:
        self.object = obj
        self._ground = ground
        self._changed = asyncio.Event()
        self._leaving = asyncio.Event()
        self._gone = asyncio.Event()
        self._status: Object = obj.get("status", {})
        self._started_at = timestamp()
        self._credentials = Credentials(obj, self._folder(), ground.topology.root_certificate, ground.token)
        self.address = ground.addresses.take(self.uid)
        self.init = self._containers("initContainers")
        self.containers = self._containers("containers")
        self.update(obj)

    @property
    def uid(self) -> str:
        uid: str = self.object["metadata"]["uid"]
        return uid

    @property
    def key(self) -> tuple[str, str]:
        metadata = self.object["metadata"]
        return metadata["namespace"], metadata["name"]

    def update(self, obj: Object) -> None:
        """Take note of a newer version of the object."""
        self.object = obj
        if lifecycle.is_terminating(obj):
            self._leaving.set()
            self._changed.set()

    def vanish(self) -> None:
        """Take note that the object is gone: whatever still runs is killed."""
        self._gone.set()
        self._leaving.set()

    @property
    def is_leaving(self) -> bool:
        return self._leaving.is_set()

    @property
    def reported(self) -> Object:
        """Return the status that the API server has last taken."""
        return self._status

    def container(self, name: str) -> Container | None:
        """Return a container by name; the only or first one for an empty name."""
        everyone = [*self.containers, *self.init]
        return next((item for item in everyone if name in ("", item.view.name)), None)

    async def run(self) -> None:
        """Live until the object is gone and nothing of the pod is left."""
        try:
            async with asyncio.TaskGroup() as group:
                life = group.create_task(self._live())
                others = [group.create_task(self._keep_reporting()), group.create_task(self._credentials.keep())]
                await self._leaving.wait()
                await self._end(life)
                for task in (life, *others):
                    task.cancel()
            if not self._gone.is_set():
                await self._take_leave()
        finally:
            self._tidy_up()

    async def _live(self) -> None:
        if lifecycle.is_finished(self.object):
            return
        self._changed.set()
        await self._furnish()
        for container in self.init:
            await container.run()
            state = container.view.state
            if self._leaving.is_set() or not isinstance(state, Terminated) or state.exit_code:
                return
        async with asyncio.TaskGroup() as group:
            for container in self.containers:
                group.create_task(container.run())

    async def _furnish(self) -> None:
        """Write what the pod may know of the API before it starts, however often the API server has to be asked."""
        told = ""
        while not self._leaving.is_set():
            try:
                await self._credentials.write()
                return
            except ApiError as error:
                if error.message != told:
                    self._tell([telling.of_mount(error.message)])
                told = error.message
            await _first_of(self._leaving, self._ground.timing.report_retry_s)

    async def _end(self, life: asyncio.Task[None]) -> None:
        """Stop the containers in order; should the object vanish meanwhile, kill them."""
        stopping = asyncio.create_task(self._stop(life))
        vanishing = asyncio.create_task(self._gone.wait())
        try:
            await asyncio.wait((stopping, vanishing), return_when=asyncio.FIRST_COMPLETED)
            if not stopping.done():
                for container in (*self.init, *self.containers):
                    container.kill()
            await stopping
        finally:
            stopping.cancel()
            vanishing.cancel()

    async def _stop(self, life: asyncio.Task[None]) -> None:
        """Ask applications to end while proxies drain; proxies go last."""
        grace_s = 0.0 if self._gone.is_set() else lifecycle.grace_s(self.object)
        deadline = time.monotonic() + grace_s
        self._tell(one for container in self.containers for one in telling.of_stopping(container.view))
        proxies = [container for container in self.containers if execution.is_proxy(container.spec)]
        others = [*self.init, *(container for container in self.containers if container not in proxies)]
        await asyncio.gather(self._drain(proxies, grace_s), *(container.stop(grace_s) for container in others))
        rest_s = 0.0 if self._gone.is_set() else max(deadline - time.monotonic(), LEAST_PROXY_GRACE_S)
        await asyncio.gather(*(container.stop(rest_s) for container in proxies))
        await asyncio.wait((life,))

    async def _drain(self, proxies: Sequence[Container], grace_s: float) -> None:
        if any(proxy.is_running for proxy in proxies) and grace_s:
            begun = time.monotonic()
            await sidecars.drain(self.address, self._ground.http)
            least_s = min(self._ground.timing.drain_s, grace_s) - (time.monotonic() - begun)
            await _first_of(self._gone, max(least_s, 0))

    async def _keep_reporting(self) -> None:
        """Write the status whenever it is new, and again when the API server did not take it."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not await self._reported():
                await asyncio.sleep(self._ground.timing.report_retry_s)
                self._changed.set()

    async def _reported(self) -> bool:
        """Write the status if it is new; say whether that succeeded or is pointless."""
        if lifecycle.is_finished(self.object):
            return True
        status = pod_status(self.object, self._view(), self._status, timestamp())
        if status == self._status:
            return True
        try:
            await self._ground.report(self.object, status)
        except ApiError as error:
            return error.code == 404
        self._status = status
        return True

    async def _take_leave(self) -> None:
        """Show how the containers ended, then remove the object, until the API server has taken it."""
        await self._reported()
        while not self._gone.is_set():
            try:
                await self._ground.remove(self.object)
                return
            except ApiError:
                await _first_of(self._gone, self._ground.timing.report_retry_s)

    def _view(self) -> PodView:
        init = tuple(container.shown for container in self.init)
        containers = tuple(container.shown for container in self.containers)
        if init and all(view.container_id == "" for view in containers):
            containers = tuple(replace(view, state=INITIALIZING) for view in containers)
        return PodView(
            pod_ip=self.address,
            host_ip=self._ground.cluster.node_address,
            started_at=self._started_at,
            init=init,
            containers=containers,
        )

    def _containers(self, kind: str) -> list[Container]:
        return [self._container(spec, kind) for spec in self.object["spec"].get(kind) or ()]

    def _container(self, spec: Object, kind: str) -> Container:
        policy = self.object["spec"].get("restartPolicy", "Always")
        place = Place(
            processes=self._ground.processes,
            http=self._ground.http,
            timing=self._ground.timing,
            policy="OnFailure" if kind == "initContainers" and policy == "Always" else policy,
            pod_ip=self.address,
            logs=self._folder() / spec["name"],
            mark=f"{self.uid}/{spec['name']}",
            changed=self._changed.set,
            moved=lambda before, after: self._tell(telling.of_change(before, after)),
        )
        return Container(spec, place, partial(self._prepare, spec, place.logs))

    def _tell(self, tellings: Iterable[Telling]) -> None:
        for one in tellings:
            self._ground.tell(self.object, one)

    def _prepare(self, spec: Object, folder: Path) -> Execution:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        ground = self._ground
        found = execution.of_container(
            self.object, spec, pod_ip=self.address, host_ip=ground.cluster.node_address, cwd=folder
        )
        known = credentials.environment(ground.cluster, self._folder())
        found = replace(found, environment={**ground.topology.container_environment, **known, **found.environment})
        if not execution.is_proxy(spec):
            return found
        proxy_folder = ground.topology.proxy_folder(ground.cluster.name, *self.key)
        sidecars.prepare(proxy_folder, self.object, self.address)
        return replace(found, argv=sidecars.arguments(found.argv[0], proxy_folder))

    def _folder(self) -> Path:
        return self._ground.topology.pod_folder(self._ground.cluster.name, *self.key)

    def _tidy_up(self) -> None:
        for container in (*self.init, *self.containers):
            container.kill()
        self._ground.addresses.release(self.uid)
        shutil.rmtree(self._folder(), ignore_errors=True)
        shutil.rmtree(self._ground.topology.proxy_folder(self._ground.cluster.name, *self.key), ignore_errors=True)


async def _first_of(event: asyncio.Event, seconds: float) -> None:
    """Wait for ``event``, but no longer than ``seconds``."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
