"""What a node lends to its pods, and a pod to its containers: addresses, folders, timing, and the way to the API.

A pod knows the API only through the functions of its ``NodeContext``, so that it can live without one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from meshbook.errors import LabError
from meshbook.lab.kubelet.processes import ProcessTable
from meshbook.lab.kubelet.status import PodEvent
from meshbook.lab.pki import Authority
from meshbook.lab.topology import ClusterTopology, LabTopology
from meshbook.objects import Object

CAPACITY = 110
"""Pods that a node takes, as a kubelet's ``maxPods`` has it by default."""
ADDRESSES = 250
"""Pod addresses of a node: those of pods that are ending are in use too."""


class AddressPool:
    """The pod addresses of one cluster. The one that was given back first is the first to be used again.

    A client that has not yet heard of a pod's end would otherwise reach another pod under its address.
    """

    def __init__(self, cluster: ClusterTopology) -> None:
        self._cluster = cluster
        self._free = deque(cluster.pod_address(number) for number in range(ADDRESSES))

    def take(self) -> str:
        if not self._free:
            raise LabError(f"{self._cluster.name} has no pod address left: {ADDRESSES} pods run on its node")
        return self._free.popleft()

    def release(self, address: str) -> None:
        self._free.append(address)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long things take, in seconds."""

    drain_s: float = 5.0
    """Istio's ``terminationDrainDuration``: a proxy that is no native sidecar answers so long after its pod's end."""
    eager_probe_s: float = 0.1
    """A container that was never ready is asked this often, if its own period is not shorter."""
    back_off_s: float = 1.0
    """Pause before the second restart; it doubles with each further one. The first restart comes at once."""
    longest_back_off_s: float = 60.0
    calm_s: float = 600.0
    """A container that ran this long begins again without a pause."""
    image_back_off_s: float = 1.0
    """ErrImagePull turns into ImagePullBackOff after this."""
    report_retry_s: float = 0.5
    """Pause before a status that the API server did not take is sent again."""
    heartbeat_s: float = 20.0


@dataclass(frozen=True, kw_only=True)
class NodeContext:
    """What a node lends to its pods."""

    topology: LabTopology
    cluster: ClusterTopology
    processes: ProcessTable
    addresses: AddressPool
    http: aiohttp.ClientSession
    authority: Authority
    """Whom proxies trust, and by whom they are known to istiod."""
    report: Callable[[Object, Object], Awaitable[None]]
    """Writes the status (second) of a pod (first); ``ApiError`` when the API server does not take it."""
    remove: Callable[[Object], Awaitable[None]]
    """Removes the object of a pod that has ended."""
    start_s: Callable[[], float]
    """How long a pod takes before its first container starts: there, for its network, its volumes and its images."""
    token: Callable[[Object], Awaitable[str]]
    """Asks for the token of a pod's service account."""
    record: Callable[[Object, PodEvent], None]
    """Makes an event of what happened to a pod; must not block."""
    timing: Timing


@dataclass(frozen=True, kw_only=True)
class PodContext:
    """What a pod lends to its containers."""

    node: NodeContext
    object: Object
    """The pod as it was when its node first learned of it."""
    address: str

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.object["metadata"]["namespace"], self.object["metadata"]["name"]

    @property
    def folder(self) -> Path:
        return self.node.topology.pod_folder(self.node.cluster.name, *self.key)

    @property
    def proxy_folder(self) -> Path:
        return self.node.topology.proxy_folder(self.node.cluster.name, *self.key)
