"""The set of controllers of one cluster, on one shared set of informers. They live and end together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from meshbook.lab.client import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    HPAS,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Client,
    Informer,
)
from meshbook.lab.controllers.controller import Cache, Controller, all_synced
from meshbook.lab.controllers.deployments import AUTOSCALER, DEPLOYMENT
from meshbook.lab.controllers.namespaces import Terminator, furnisher
from meshbook.lab.controllers.ownership import GarbageCollector
from meshbook.lab.controllers.pods import REPLICA_SET, SCHEDULER
from meshbook.lab.controllers.services import ENDPOINTS_OF_SERVICES, load_balancers
from meshbook.lab.topology import ClusterTopology, LabTopology

_WATCHED = (
    *(NAMESPACES, NODES, SERVICE_ACCOUNTS, CONFIG_MAPS, SECRETS, SERVICES, ENDPOINTS, ENDPOINT_SLICES),
    *(DEPLOYMENTS, REPLICA_SETS, PODS, HPAS),
)
"""Kinds that the controllers see, and among which garbage is collected."""


def controllers(cluster: ClusterTopology, root_pem: str, bindable: Callable[[int], int]) -> dict[str, Controller]:
    """Return a cluster's controllers by name; ``root_pem`` is the API server's own root certificate."""
    fixed = (SCHEDULER, REPLICA_SET, DEPLOYMENT, AUTOSCALER, ENDPOINTS_OF_SERVICES)
    return {one.name: one for one in (*fixed, load_balancers(cluster, bindable), furnisher(root_pem))}


class Manager:
    """All controllers of one cluster: all of this package but the fleet's, which spans clusters.

    ``only`` names those that run where a kube-controller-manager does the work of the others.
    """

    def __init__(
        self, topology: LabTopology, cluster: ClusterTopology, client: Client, only: Collection[str] | None = None
    ) -> None:
        self._only = only
        self._topology = topology
        self._cluster = cluster
        self._client = client
        self._informers = {resource: Informer(client, resource) for resource in _WATCHED}
        self._cache = Cache({resource: informer.objects for resource, informer in self._informers.items()})

    async def run(self) -> None:
        """Run until cancelled. Nothing is decided before all informers have been filled once."""
        async with asyncio.TaskGroup() as tasks:
            for informer in self._informers.values():
                tasks.create_task(informer.run())
            await all_synced(self._informers.values())
            root_pem, bindable = self._topology.root_certificate.read_text(), self._topology.bindable
            for name, controller in controllers(self._cluster, root_pem, bindable).items():
                if self._only is None or name in self._only:
                    tasks.create_task(controller.run(self._client, self._cache, self._informers))
            if self._only is None:
                tasks.create_task(Terminator(self._client, self._cache, self._informers[NAMESPACES]).run())
                tasks.create_task(GarbageCollector(self._client, self._cache, self._informers).run())
