"""The kubelet as a whole: its node, its server, and one worker for each pod that is bound to its node."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from dataclasses import asdict

import aiohttp

from meshbook.errors import LabError
from meshbook.lab.client import EVENTS, PODS, SERVICE_ACCOUNTS, ApiError, Client, Informer, event
from meshbook.lab.kubelet.context import CAPACITY, AddressPool, NodeContext, Timing
from meshbook.lab.kubelet.node import NodeRegistration
from meshbook.lab.kubelet.pods import Pod
from meshbook.lab.kubelet.processes import ProcessTable
from meshbook.lab.kubelet.server import KubeletServer
from meshbook.lab.kubelet.serviceproxy import ServiceProxy
from meshbook.lab.kubelet.status import PodEvent
from meshbook.lab.pki import Authority
from meshbook.lab.topology import ClusterTopology, LabTopology
from meshbook.objects import Object, is_finished

log = logging.getLogger(__name__)

TOKEN_LIFE_S = 24 * 3600
"""Longer than a lab is up: tokens are not renewed."""


class Kubelet:
    """The only node of one cluster."""

    def __init__(
        self,
        topology: LabTopology,
        cluster: ClusterTopology,
        client: Client,
        processes: ProcessTable,
        authority: Authority,
        timing: Timing,
    ) -> None:
        self._topology = topology
        self._cluster = cluster
        self._client = client
        self._processes = processes
        self._timing = timing
        self._authority = authority
        tls = authority.server_context(f"{cluster.name}-kubelet", [cluster.node_address], require_client=True)
        self._server = KubeletServer(cluster.node_address, tls, self.pods)
        self._informer = Informer(client, PODS, fields=f"spec.nodeName={cluster.node_name}")
        self._pods: dict[str, Pod] = {}
        self._events: asyncio.Queue[tuple[Object, PodEvent]] = asyncio.Queue()
        self._start_s = 0.0
        self._workers: dict[tuple[str, str], asyncio.Task[None]] = {}

    def pods(self) -> Iterable[Pod]:
        """Return the pods that the node has at this moment."""
        return tuple(self._pods.values())

    def take_time(self) -> None:
        """Let pods that come from now on start as slowly as the lab's pace says."""
        self._start_s = self._topology.pace.pod_start_s

    async def run(self) -> None:
        """Be a node until cancelled."""
        node = NodeRegistration(self._cluster, self._client, self._timing.heartbeat_s)
        await self._server.start()
        try:
            async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
                context = NodeContext(
                    topology=self._topology,
                    cluster=self._cluster,
                    processes=self._processes,
                    addresses=AddressPool(self._cluster),
                    http=http,
                    authority=self._authority,
                    report=self._report,
                    remove=self._remove,
                    start_s=lambda: self._start_s,
                    token=self._token,
                    record=lambda pod, one: self._events.put_nowait((pod, one)),
                    timing=self._timing,
                )
                self._informer.subscribe(lambda change, obj: self._take_note(change, obj, context, group))
                await node.register()
                group.create_task(node.run())
                group.create_task(self._informer.run())
                group.create_task(ServiceProxy(self._topology, self._client).run())
                group.create_task(self._write_events())
        finally:
            await self._server.stop()

    def _take_note(self, change: str, obj: Object, context: NodeContext, group: asyncio.TaskGroup) -> None:
        """Pass what the API says on to the pod that it concerns, or begin a pod."""
        uid = obj["metadata"]["uid"]
        key = obj["metadata"]["namespace"], obj["metadata"]["name"]
        for pod in self._pods.values():
            if pod.key == key and pod.uid != uid:
                pod.vanish()
        known = self._pods.get(uid)
        if known is not None and change == "DELETED":
            known.vanish()
        elif known is not None:
            known.update(obj)
        elif change != "DELETED":
            used = sum(not pod.is_leaving for pod in self._pods.values())
            if used >= CAPACITY and not is_finished(obj):  # bound past the scheduler
                group.create_task(self._reject(obj, used))
                return
            try:
                pod = self._pods[uid] = Pod(obj, context)
            except LabError as error:
                log.warning("pod %s: %s", "/".join(key), error.message)
                return
            self._workers[key] = group.create_task(self._work(pod, self._workers.get(key)))

    async def _work(self, pod: Pod, before: asyncio.Task[None] | None) -> None:
        """Run a pod; a former one of the same name has to be gone first, since their folders are the same."""
        try:
            if before is not None:
                await asyncio.wait([before])
            await pod.run()
        except Exception:
            log.exception("pod %s: a fault of the kubelet itself", "/".join(pod.key))
        finally:
            del self._pods[pod.uid]
            if self._workers.get(pod.key) is asyncio.current_task():
                del self._workers[pod.key]

    async def _reject(self, obj: Object, used: int) -> None:
        """Fail a pod for which the node has no room."""
        counts = f"requested: 1, used: {used}, capacity: {CAPACITY}"
        message = f"Pod was rejected: Node didn't have enough resource: pods, {counts}"
        patch = {"status": {"phase": "Failed", "reason": "OutOfpods", "message": message}}
        namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]
        with contextlib.suppress(ApiError):
            await self._client.merge_patch(PODS, name, patch, namespace=namespace, subresource="status")

    async def _write_events(self) -> None:
        """Write events, one after the other; one that the API server does not take is dropped."""
        while True:
            pod, one = await self._events.get()
            with contextlib.suppress(ApiError):
                await self._client.create(EVENTS, event(pod, component="kubelet", **asdict(one)))

    async def _report(self, obj: Object, status: Object) -> None:
        metadata = obj["metadata"]
        address = self._cluster.shown(status["podIP"])
        shown = {**status, "podIP": address, "podIPs": [{"ip": address}]}
        patch = {"metadata": {"uid": metadata["uid"]}, "status": shown}
        await self._client.merge_patch(
            PODS, metadata["name"], patch, namespace=metadata["namespace"], subresource="status"
        )

    async def _token(self, obj: Object) -> str:
        """Ask for the token of a pod's service account, bound to the pod, so that it ends with it."""
        metadata = obj["metadata"]
        bound = {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]}
        request = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "metadata": {"namespace": metadata["namespace"]},
            "spec": {"boundObjectRef": bound, "expirationSeconds": TOKEN_LIFE_S},
        }
        account = obj["spec"].get("serviceAccountName") or "default"
        answer = await self._client.create(SERVICE_ACCOUNTS, request, name=account, subresource="token")
        return str(answer["status"]["token"])

    async def _remove(self, obj: Object) -> None:
        metadata = obj["metadata"]
        await self._client.delete(
            PODS, metadata["name"], namespace=metadata["namespace"], grace_s=0, uid=metadata["uid"]
        )
