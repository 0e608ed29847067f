"""The Node object of a kubelet: what it says (pure), and how it is registered and kept fresh."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import time
from datetime import UTC, datetime
from typing import Any

from meshbook.errors import LabError
from meshbook.lab.client import LEASES, NODES, ApiError, Client
from meshbook.lab.kubelet.addresses import CAPACITY
from meshbook.lab.kubelet.status import timestamp
from meshbook.lab.topology import KUBELET_PORT, ClusterTopology

log = logging.getLogger(__name__)

VERSION = "v1.32.0-meshbook"
LAB_LABEL = "meshbook.io/lab"
"""By this label of its nodes anyone can tell, over the API, that a cluster is a lab and no service to anybody."""

DECLARED_FEATURES = ["ExtendWebSocketsToKubelet"]
"""Tells an API server that exec may come as it is, over WebSocket v5; those before 1.36 drop the field."""

REGISTRATION_TIMEOUT_S = 30.0
RETRY_S = 0.2

Object = dict[str, Any]


def node(cluster: ClusterTopology) -> Object:
    """Return the Node of a cluster, without its status."""
    labels = {
        "kubernetes.io/hostname": cluster.node_name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": _architecture(),
        "topology.kubernetes.io/region": cluster.region,
        "topology.kubernetes.io/zone": cluster.zone,
        LAB_LABEL: "true",
    }
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": cluster.node_name, "labels": labels}, "spec": {}}


def node_status(cluster: ClusterTopology, since: str, now: str) -> Object:
    """Return the status of a node that has been ready ``since``."""
    resources = {"cpu": str(os.cpu_count() or 1), "memory": f"{_memory_kib()}Ki", "pods": str(CAPACITY)}
    return {
        "addresses": [
            {"type": "InternalIP", "address": cluster.node_address},
            {"type": "Hostname", "address": cluster.node_name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
        "declaredFeatures": DECLARED_FEATURES,
        "capacity": resources,
        "allocatable": resources,
        "conditions": conditions(since, now),
        "nodeInfo": _node_info(cluster),
    }


def conditions(since: str, now: str) -> list[Object]:
    """Return the conditions of a healthy node with a fresh heartbeat."""
    healthy = (
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    )
    times = {"lastHeartbeatTime": now, "lastTransitionTime": since}
    return [
        {"type": kind, "status": status, "reason": reason, "message": message, **times}
        for kind, status, reason, message in healthy
    ]


def _node_info(cluster: ClusterTopology) -> Object:
    return {
        "machineID": cluster.node_name,
        "systemUUID": cluster.node_name,
        "bootID": cluster.node_name,
        "kernelVersion": platform.release(),
        "osImage": "processes of this machine",
        "containerRuntimeVersion": "meshbook://0.1.0",
        "kubeletVersion": VERSION,
        "kubeProxyVersion": VERSION,
        "operatingSystem": "linux",
        "architecture": _architecture(),
    }


def _architecture() -> str:
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


def _memory_kib() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024


class NodeKeeper:
    """Registers the node and keeps its heartbeat."""

    def __init__(self, cluster: ClusterTopology, client: Client, heartbeat_s: float) -> None:
        self._cluster = cluster
        self._client = client
        self._heartbeat_s = heartbeat_s
        self._since = timestamp()

    async def register(self) -> None:
        """Make the Node known and ready; ``LabError`` when the API server does not take it in time."""
        deadline = time.monotonic() + REGISTRATION_TIMEOUT_S
        while True:
            try:
                await self._write()
                return
            except ApiError as error:
                if time.monotonic() > deadline:
                    raise LabError(
                        f"node {self._cluster.node_name} could not be registered: {error.message}"
                    ) from error
            await asyncio.sleep(RETRY_S)

    async def run(self) -> None:
        """Refresh the heartbeat, and write the whole Node again should it be lost. Ends by cancellation only."""
        while True:
            await asyncio.sleep(self._heartbeat_s)
            try:
                await self._patch({"conditions": conditions(self._since, timestamp())})
                await self._renew()
            except ApiError as error:
                log.warning("heartbeat of %s: %s", self._cluster.node_name, error.message)
                if error.code == 404:
                    await self.register()

    async def _renew(self) -> None:
        """Hold the node's lease, by which a real control plane tells that a kubelet is alive."""
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        lease = {"holderIdentity": self._cluster.node_name, "leaseDurationSeconds": 40, "renewTime": moment}
        metadata = {"name": self._cluster.node_name, "namespace": "kube-node-lease"}
        head = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata}
        await self._client.apply(LEASES, head | {"spec": lease}, manager="kubelet")

    async def _write(self) -> None:
        wanted = node(self._cluster)
        try:
            await self._client.create(NODES, wanted)
        except ApiError as error:
            if error.code != 409:
                raise
            labels = {"metadata": {"labels": wanted["metadata"]["labels"]}}
            await self._client.merge_patch(NODES, self._cluster.node_name, labels)
        await self._patch(node_status(self._cluster, self._since, timestamp()))
        await self._renew()

    async def _patch(self, status: Object) -> None:
        await self._client.merge_patch(NODES, self._cluster.node_name, {"status": status}, subresource="status")
