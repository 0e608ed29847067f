"""The life of one pod on its node: address, folders, containers, status, and an orderly end.

What a container does is decided in ``containers``, what is shown of it in ``status``.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterable

from meshbook.lab.client import ApiError
from meshbook.lab.kubelet import execution, status
from meshbook.lab.kubelet.containers import DEFAULT_GRACE_S, Container, happens_within
from meshbook.lab.kubelet.context import NodeContext, PodContext
from meshbook.lab.kubelet.status import PodEvent
from meshbook.objects import Object, is_deleting, is_finished, timestamp

LEAST_PROXY_GRACE_S = 1.0
"""A proxy gets this long to end, whatever the applications have left of the pod's grace."""


class Pod:
    """One pod from the moment its node learns of it. ``update`` and ``vanish`` tell it what the API says."""

    def __init__(self, obj: Object, node: NodeContext) -> None:
        self.object = obj
        self.reported: Object = obj.get("status", {})
        """The status that the API server has last taken."""
        self._node = node
        self._changed = asyncio.Event()
        self._leaving = asyncio.Event()
        self._gone = asyncio.Event()
        self._started_at = timestamp()
        self.address = node.addresses.take()
        self._context = PodContext(node=node, object=obj, address=self.address)
        policy = obj["spec"].get("restartPolicy", "Always")
        once = "OnFailure" if policy == "Always" else policy  # an init container that succeeds has done its work
        self.init = [
            self._container(spec, spec.get("restartPolicy", once)) for spec in obj["spec"].get("initContainers") or ()
        ]
        self.containers = [self._container(spec, policy) for spec in obj["spec"]["containers"]]
        self.update(obj)

    @property
    def uid(self) -> str:
        uid: str = self.object["metadata"]["uid"]
        return uid

    @property
    def key(self) -> tuple[str, str]:
        return self._context.key

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
            self._node.addresses.release(self.address)
            for folder in (self._context.folder, self._context.proxy_folder):
                shutil.rmtree(folder, ignore_errors=True)

    async def _live(self) -> None:
        if is_finished(self.object):
            return
        self._changed.set()
        await happens_within(self._leaving, self._node.start_s())
        await self._mount_token()
        async with asyncio.TaskGroup() as sidecars:
            if await self._initialized(sidecars):
                async with asyncio.TaskGroup() as group:
                    for container in self.containers:
                        group.create_task(container.run())
            for container in self.init:  # sidecars, which nobody needs any more
                await container.stop(self._grace_s())

    async def _initialized(self, sidecars: asyncio.TaskGroup) -> bool:
        """Run init containers in their order, and start sidecars; say whether the others may start."""
        for container in self.init:
            if self._leaving.is_set():
                return False
            if container.is_sidecar:
                sidecars.create_task(container.run())
                await container.has_started.wait()
                continue
            await container.run()
            if status.exit_code(container.status) != 0:
                return False
        return not self._leaving.is_set()

    async def _mount_token(self) -> None:
        """Write the token that the pod wants before it starts, however often the API server has to be asked."""
        recorded = ""
        while execution.wants_token(self.object) and not self._leaving.is_set():
            try:
                token = await self._node.token(self.object)
            except ApiError as error:
                if error.message != recorded:
                    recorded = error.message
                    self._record([PodEvent(reason="FailedMount", message=recorded, kind="Warning")])
                await happens_within(self._leaving, self._node.timing.report_retry_s)
            else:
                return execution.write_token(self._context, token)

    async def _stop(self, life: asyncio.Task[None]) -> None:
        """Ask applications to end while proxies drain; proxies and sidecars go last.

        A native sidecar drains for as long as the applications take, another proxy for as long as its agent waits.
        """
        grace_s = 0.0 if self._gone.is_set() else self._grace_s()
        deadline = time.monotonic() + grace_s
        lasting = [*self.containers, *(one for one in self.init if one.is_sidecar)]
        for container in lasting:
            if container.is_running:
                message = f"Stopping container {container.name}"
                self._record([PodEvent(reason="Killing", message=message, container=container.name)])
        proxies = [container for container in lasting if execution.is_proxy(container.spec)]
        last = [container for container in lasting if container.is_sidecar or container in proxies]
        others = [container for container in (*self.init, *self.containers) if container not in last]
        await asyncio.gather(self._drain(proxies, grace_s), *(container.stop(grace_s) for container in others))
        rest_s = 0.0 if self._gone.is_set() else max(deadline - time.monotonic(), LEAST_PROXY_GRACE_S)
        await asyncio.gather(*(container.stop(rest_s) for container in last))
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
        await execution.drain_envoy(self.address, self._node.http)
        waits_s = 0.0 if all(proxy.is_sidecar for proxy in proxies) else self._node.timing.drain_s
        least_s = min(waits_s, grace_s) - (time.monotonic() - begun)
        await happens_within(self._gone, max(least_s, 0))

    async def _keep_reporting(self) -> None:
        """Write the status whenever it is new, and again when the API server did not take it."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not await self._reported():
                await asyncio.sleep(self._node.timing.report_retry_s)
                self._changed.set()

    async def _reported(self) -> bool:
        """Write the status if it is new; say whether that succeeded or is pointless."""
        current = self._status()
        if is_finished(self.object) or current == self.reported:
            return True
        try:
            await self._node.report(self.object, current)
        except ApiError as error:
            return error.code == 404
        self.reported = current
        return True

    def _status(self) -> Object:
        init, containers = ([one.shown for one in some] for some in (self.init, self.containers))
        addresses: Object = {"hostIP": self._node.cluster.node_address, "podIP": self.address}
        addresses |= {"podIPs": [{"ip": self.address}], "startTime": self._started_at}
        return addresses | status.pod_status(self.object, init, containers, self.reported, timestamp())

    async def _take_leave(self) -> None:
        """Show how the containers ended, then remove the object, until the API server has taken it."""
        await self._reported()
        while not self._gone.is_set():
            try:
                await self._node.remove(self.object)
                return
            except ApiError:
                await happens_within(self._gone, self._node.timing.report_retry_s)

    def _container(self, spec: Object, policy: str) -> Container:
        def changed(before: Object, after: Object) -> None:
            self._changed.set()
            self._record(status.events(before, after))

        return Container(spec, self._context, policy=policy, changed=changed)

    def _record(self, events: Iterable[PodEvent]) -> None:
        for event in events:
            self._node.record(self.object, event)

    def _kill(self) -> None:
        for container in (*self.init, *self.containers):
            container.kill()
