"""What becomes of packets to a load balancer that has no pod: they vanish, as on a real network.

Gateways' Envoys answer at the addresses of their load balancers themselves, so there is nothing to do for a Service
that has pods. One without would be refused by this machine at once, where a real node's refusals are too few to count:
a client there waits for its time-out to connect. This stands in for kube-proxy and for the cloud's load balancer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from meshbook.lab.client import ENDPOINT_SLICES, SERVICES, Client, Informer
from meshbook.lab.loopback import Void
from meshbook.lab.topology import LabTopology, reachable
from meshbook.objects import SERVICE_LABEL, Object, labels_of, load_balancer_ips

SYNC_TIMEOUT_S = 30.0


class ServiceProxy:
    """Keeps packets from being refused at the load balancers of one cluster."""

    def __init__(self, topology: LabTopology, client: Client) -> None:
        self._topology = topology
        self._services = Informer(client, SERVICES)
        self._slices = Informer(client, ENDPOINT_SLICES)
        self._changed = asyncio.Event()
        self._voids: dict[tuple[str, int], Void] = {}
        for informer in (self._services, self._slices):
            informer.subscribe(lambda _event, _obj: self._changed.set())

    async def run(self) -> None:
        """Follow Services and their endpoints; ends by cancellation."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for informer in (self._services, self._slices):
                    tasks.create_task(informer.run())
                await self._services.synced(SYNC_TIMEOUT_S)
                await self._slices.synced(SYNC_TIMEOUT_S)
                while True:
                    self._reconcile()
                    await self._changed.wait()
                    self._changed.clear()
        finally:
            self._keep(set())

    def _reconcile(self) -> None:
        found = abandoned(self._services.objects.values(), self._slices.objects.values())
        self._keep({(address, self._topology.bindable(port)) for address, port in found})

    def _keep(self, wanted: set[tuple[str, int]]) -> None:
        for place in self._voids.keys() - wanted:
            self._voids.pop(place).close()
        for place in wanted - self._voids.keys():
            with contextlib.suppress(OSError):  # somebody listens there who does not share
                self._voids[place] = Void(*place)


def abandoned(services: Iterable[Object], slices: Iterable[Object]) -> set[tuple[str, int]]:
    """Return addresses and ports of load balancers for which no pod is ready, or still ends what it has begun."""
    served = {
        (piece["metadata"]["namespace"], labels_of(piece).get(SERVICE_LABEL))
        for piece in slices
        for endpoint in piece.get("endpoints") or []
        if endpoint["conditions"].get("ready", True) or endpoint["conditions"].get("terminating")
    }
    return {
        (reachable(ip), port["port"])
        for service in services
        if (service["metadata"]["namespace"], service["metadata"]["name"]) not in served
        for ip in load_balancer_ips(service)
        for port in service["spec"].get("ports") or []
    }
