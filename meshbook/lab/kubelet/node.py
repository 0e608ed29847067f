"""The Node object of a kubelet: what it says (pure), and how it is registered and kept fresh."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import time

from meshbook.errors import LabError
from meshbook.lab.client import LEASES, NODES, ApiError, Client
from meshbook.lab.kubelet.context import CAPACITY
from meshbook.lab.topology import KUBELET_PORT, ClusterTopology
from meshbook.objects import LAB_LABEL, Object, micro_timestamp, timestamp

log = logging.getLogger(__name__)

_VERSION = "v1.36.0-meshbook"
DECLARED_FEATURES = ["ExtendWebSocketsToKubelet"]
"""Tells an API server that exec may come as it is, over WebSocket v5; those before 1.36 drop the field."""

REGISTRATION_TIMEOUT_S = 30.0
_RETRY_S = 0.2
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def node(cluster: ClusterTopology) -> Object:
    """Return the Node of a cluster, without its status."""
    labels = {
        "kubernetes.io/hostname": cluster.node_name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": ARCHITECTURE,
        "topology.kubernetes.io/region": cluster.region,
        "topology.kubernetes.io/zone": cluster.zone,
        LAB_LABEL: "true",
    }
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": cluster.node_name, "labels": labels}, "spec": {}}


def node_status(cluster: ClusterTopology, since: str) -> Object:
    """Return the status of a node that has been ready ``since``."""
    memory_kib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
    resources = {"cpu": str(os.cpu_count() or 1), "memory": f"{memory_kib}Ki", "pods": str(CAPACITY)}
    return {
        "addresses": [
            {"type": "InternalIP", "address": cluster.node_address},
            {"type": "Hostname", "address": cluster.node_name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
        "declaredFeatures": DECLARED_FEATURES,
        "capacity": resources,
        "allocatable": resources,
        "conditions": conditions(since),
        "nodeInfo": {
            **dict.fromkeys(("machineID", "systemUUID", "bootID"), cluster.node_name),
            "kernelVersion": platform.release(),
            "osImage": "processes of this machine",
            "containerRuntimeVersion": "meshbook://0.1.0",
            "kubeletVersion": _VERSION,
            "kubeProxyVersion": _VERSION,
            "operatingSystem": "linux",
            "architecture": ARCHITECTURE,
        },
    }


def conditions(since: str) -> list[Object]:
    """Return the conditions of a healthy node, with this moment as its heartbeat."""
    healthy = (
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    )
    times = {"lastHeartbeatTime": timestamp(), "lastTransitionTime": since}
    return [
        {"type": kind, "status": status, "reason": reason, "message": message, **times}
        for kind, status, reason, message in healthy
    ]


class NodeRegistration:
    """Registers the node and keeps its heartbeat."""

    def __init__(self, cluster: ClusterTopology, client: Client, heartbeat_s: float) -> None:
        self._cluster = cluster
        self._client = client
        self._heartbeat_s = heartbeat_s
        self._since = timestamp()

    async def register(self) -> None:
        """Make the Node known and ready; ``LabError`` when the API server does not take it in time."""
        name, deadline = self._cluster.node_name, time.monotonic() + REGISTRATION_TIMEOUT_S
        while True:
            try:
                return await self._write()
            except ApiError as error:
                if time.monotonic() > deadline:
                    raise LabError(f"node {name} could not be registered: {error.message}") from error
            await asyncio.sleep(_RETRY_S)

    async def run(self) -> None:
        """Refresh the heartbeat, and write the whole Node again should it be lost. Ends by cancellation only."""
        while True:
            await asyncio.sleep(self._heartbeat_s)
            try:
                await self._patch_status({"conditions": conditions(self._since)})
                await self._renew()
            except ApiError as error:
                log.warning("heartbeat of %s: %s", self._cluster.node_name, error.message)
                if error.code == 404:
                    await self.register()

    async def _write(self) -> None:
        wanted = node(self._cluster)
        try:
            await self._client.create(NODES, wanted)
        except ApiError as error:
            if error.code != 409:
                raise
            labels = {"metadata": {"labels": wanted["metadata"]["labels"]}}
            await self._client.merge_patch(NODES, self._cluster.node_name, labels)
        await self._patch_status(node_status(self._cluster, self._since))
        await self._renew()

    async def _patch_status(self, status: Object) -> None:
        await self._client.merge_patch(NODES, self._cluster.node_name, {"status": status}, subresource="status")

    async def _renew(self) -> None:
        """Hold the node's lease, by which a real control plane tells that a kubelet is alive."""
        spec = {"holderIdentity": self._cluster.node_name, "leaseDurationSeconds": 40, "renewTime": micro_timestamp()}
        metadata = {"name": self._cluster.node_name, "namespace": "kube-node-lease"}
        head = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata}
        await self._client.apply(LEASES, head | {"spec": spec}, manager="kubelet")
