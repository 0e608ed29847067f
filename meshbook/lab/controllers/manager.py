"""The set of controllers of one cluster, on one shared set of informers. They live and end together."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Collection

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
from meshbook.lab.controllers import (
    autoscaler,
    deployments,
    endpoints,
    loadbalancers,
    namespaces,
    replicasets,
    scheduler,
)
from meshbook.lab.controllers.garbage import GarbageCollector
from meshbook.lab.controllers.loop import Controller, all_synced, run_controller
from meshbook.lab.controllers.multiclusteringress import MultiClusterIngressController
from meshbook.lab.controllers.namespaces import Terminator
from meshbook.lab.controllers.world import World
from meshbook.lab.topology import ClusterTopology, LabTopology

__all__ = ["Manager", "MultiClusterIngressController"]

WATCHED = (
    NAMESPACES,
    NODES,
    SERVICE_ACCOUNTS,
    CONFIG_MAPS,
    SECRETS,
    SERVICES,
    ENDPOINTS,
    ENDPOINT_SLICES,
    DEPLOYMENTS,
    REPLICA_SETS,
    PODS,
    HPAS,
)
"""Kinds that the controllers see, and among which garbage is collected."""


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
        self._informers = {resource: Informer(client, resource) for resource in WATCHED}
        self._world = World({resource: informer.objects for resource, informer in self._informers.items()})

    async def run(self) -> None:
        """Run until cancelled. Nothing is decided before all informers have been filled once."""
        async with asyncio.TaskGroup() as tasks:
            for informer in self._informers.values():
                tasks.create_task(informer.run())
            await all_synced(self._informers.values())
            for controller in self._controllers():
                if self._only is None or controller.name in self._only:
                    tasks.create_task(run_controller(controller, self._client, self._world, self._informers))
            if self._only is not None:
                return
            tasks.create_task(Terminator(self._client, self._world, self._informers[NAMESPACES]).run())
            tasks.create_task(GarbageCollector(self._client, self._world, self._informers).run())

    def _controllers(self) -> tuple[Controller, ...]:
        return (
            scheduler.CONTROLLER,
            replicasets.CONTROLLER,
            deployments.CONTROLLER,
            endpoints.CONTROLLER,
            autoscaler.CONTROLLER,
            loadbalancers.controller(self._cluster),
            namespaces.furnisher(self._root_pem()),
        )

    def _root_pem(self) -> str:
        """Return the API server's root certificate, as the kubeconfig has it."""
        entries = json.loads(self._topology.kubeconfig.read_text())["clusters"]
        cluster = next(entry["cluster"] for entry in entries if entry["name"] == self._cluster.name)
        return base64.b64decode(cluster["certificate-authority-data"]).decode()
