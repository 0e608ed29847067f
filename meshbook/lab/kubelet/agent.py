"""The kubelet as a whole: its node, its server, and one worker for each pod that is bound to its node."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Iterable

import aiohttp

from meshbook.errors import LabError
from meshbook.lab.client import EVENTS, PODS, SERVICE_ACCOUNTS, ApiError, Client, Informer, event
from meshbook.lab.kubelet import credentials
from meshbook.lab.kubelet.addresses import AddressPool
from meshbook.lab.kubelet.lifecycle import Timing
from meshbook.lab.kubelet.node import NodeKeeper
from meshbook.lab.kubelet.pods import Ground, Object, Pod
from meshbook.lab.kubelet.processes import ProcessTable
from meshbook.lab.kubelet.server import KubeletServer
from meshbook.lab.kubelet.telling import Telling
from meshbook.lab.topology import ClusterTopology, LabTopology

log = logging.getLogger(__name__)


class Kubelet:
    """The only node of one cluster. ``tls`` must ask clients for a certificate."""

    def __init__(
        self,
        topology: LabTopology,
        cluster: ClusterTopology,
        client: Client,
        processes: ProcessTable,
        tls: ssl.SSLContext,
        timing: Timing | None = None,
    ) -> None:
        self._topology = topology
        self._cluster = cluster
        self._client = client
        self._processes = processes
        self._timing = timing or Timing()
        self._server = KubeletServer(cluster.node_address, tls, self.pods)
        self._informer = Informer(client, PODS, fields=f"spec.nodeName={cluster.node_name}")
        self._pods: dict[str, Pod] = {}
        self._told: asyncio.Queue[tuple[Object, Telling]] = asyncio.Queue()
        self._workers: dict[tuple[str, str], asyncio.Task[None]] = {}

    def pods(self) -> Iterable[Pod]:
        """Return the pods that the node has at this moment."""
        return tuple(self._pods.values())

    async def run(self) -> None:
        """Be a node until cancelled."""
        keeper = NodeKeeper(self._cluster, self._client, self._timing.heartbeat_s)
        await self._server.start()
        try:
            async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
                ground = self._ground(http)
                self._informer.subscribe(lambda event, obj: self._take_note(event, obj, ground, group))
                await keeper.register()
                group.create_task(keeper.run())
                group.create_task(self._informer.run())
                group.create_task(self._keep_telling())
        finally:
            await self._server.stop()

    def _ground(self, http: aiohttp.ClientSession) -> Ground:
        return Ground(
            topology=self._topology,
            cluster=self._cluster,
            processes=self._processes,
            addresses=AddressPool(self._cluster),
            http=http,
            report=self._report,
            remove=self._remove,
            token=self._token,
            tell=lambda pod, telling: self._told.put_nowait((pod, telling)),
            timing=self._timing,
        )

    def _take_note(self, event: str, obj: Object, ground: Ground, group: asyncio.TaskGroup) -> None:
        """Pass what the API says on to the pod that it concerns, or begin a pod."""
        uid = obj["metadata"]["uid"]
        for pod in self._pods.values():
            if pod.key == _key(obj) and pod.uid != uid:
                pod.vanish()
        known = self._pods.get(uid)
        if known is None and event != "DELETED":
            self._begin(obj, ground, group)
        elif known is not None and event == "DELETED":
            known.vanish()
        elif known is not None:
            known.update(obj)

    def _begin(self, obj: Object, ground: Ground, group: asyncio.TaskGroup) -> None:
        try:
            pod = Pod(obj, ground)
        except LabError as error:
            log.warning("pod %s: %s", "/".join(_key(obj)), error.message)
            return
        self._pods[pod.uid] = pod
        self._workers[pod.key] = group.create_task(self._work(pod, self._workers.get(pod.key)))

    async def _work(self, pod: Pod, before: asyncio.Task[None] | None) -> None:
        """Run a pod; a former one of the same name has to be gone first, since their folders are the same."""
        try:
            if before is not None:
                await asyncio.wait([before])
            await pod.run()
        finally:
            del self._pods[pod.uid]
            if self._workers.get(pod.key) is asyncio.current_task():
                del self._workers[pod.key]

    async def _keep_telling(self) -> None:
        """Write events, one after the other; one that the API server does not take is dropped."""
        while True:
            pod, one = await self._told.get()
            facts = {"reason": one.reason, "message": one.message, "kind": one.kind, "container": one.container}
            with contextlib.suppress(ApiError):
                await self._client.create(EVENTS, event(pod, component="kubelet", **facts))

    async def _report(self, obj: Object, status: Object) -> None:
        metadata = obj["metadata"]
        address = self._cluster.shown(status["podIP"])
        shown = {**status, "podIP": address, "podIPs": [{"ip": address}]}
        patch = {"metadata": {"uid": metadata["uid"]}, "status": shown}
        await self._client.merge_patch(
            PODS, metadata["name"], patch, namespace=metadata["namespace"], subresource="status"
        )

    async def _token(self, obj: Object, source: Object) -> str:
        wanted, account = credentials.request(obj, source), credentials.account_of(obj)
        answer = await self._client.create(SERVICE_ACCOUNTS, wanted, name=account, subresource="token")
        return str(answer["status"]["token"])

    async def _remove(self, obj: Object) -> None:
        metadata = obj["metadata"]
        await self._client.delete(
            PODS, metadata["name"], namespace=metadata["namespace"], grace_s=0, uid=metadata["uid"]
        )


def _key(obj: Object) -> tuple[str, str]:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]
