"""What one Envoy is to serve, in the five kinds that it asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

SECRET = "envoy.extensions.transport_sockets.tls.v3.Secret"
CLUSTER = "envoy.config.cluster.v3.Cluster"
LOAD_ASSIGNMENT = "envoy.config.endpoint.v3.ClusterLoadAssignment"
LISTENER = "envoy.config.listener.v3.Listener"
ROUTE_CONFIGURATION = "envoy.config.route.v3.RouteConfiguration"
KINDS = (SECRET, CLUSTER, LOAD_ASSIGNMENT, LISTENER, ROUTE_CONFIGURATION)
"""In the order of delivery: what is referred to comes before what refers to it."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one Envoy is to serve, however it learns of it: typed messages, of one kind and name at most one."""

    secrets: Sequence[dict[str, Any]] = ()
    clusters: Sequence[dict[str, Any]] = ()
    endpoints: Sequence[dict[str, Any]] = ()
    """Of the clusters that ask for them by name, so that they come and go without their clusters."""
    listeners: Sequence[dict[str, Any]] = ()
    routes: Sequence[dict[str, Any]] = ()

    def __iter__(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield (kind, name, resource)."""
        every = (self.secrets, self.clusters, self.endpoints, self.listeners, self.routes)
        for kind, members in zip(KINDS, every, strict=True):
            for one in members:
                yield kind, one.get("name") or one["cluster_name"], one
