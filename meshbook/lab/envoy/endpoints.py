"""Endpoints of one cluster: addresses, weights, localities, priorities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from meshbook.lab.envoy.elements import Json, address, discovery_response, typed

LOAD_ASSIGNMENT = "envoy.config.endpoint.v3.ClusterLoadAssignment"
MUTUAL_TLS = {"envoy.transport_socket_match": {"tlsMode": "istio"}}


@dataclass(frozen=True, kw_only=True, order=True)
class Locality:
    region: str = ""
    zone: str = ""


@dataclass(frozen=True, kw_only=True, order=True)
class Endpoint:
    """One address that Envoy connects to. A remote gateway's weight is the number of pods behind it."""

    priority: int = 0
    locality: Locality = Locality()
    address: str
    port: int
    weight: int = 1
    mtls: bool = True
    health_port: int | None = None
    """Where an active health check asks, if not on ``port``."""


def assignment(cluster: str, endpoints: Sequence[Endpoint]) -> Json:
    """Return the load assignment of ``cluster``: one group per priority and locality."""
    ordered = sorted(endpoints, key=lambda one: (one.priority, one.locality, one.address, one.port))
    groups = groupby(ordered, key=lambda one: (one.priority, one.locality))
    return {
        "cluster_name": cluster,
        "endpoints": [_group(priority, locality, list(members)) for (priority, locality), members in groups],
    }


def file(cluster: str, endpoints: Sequence[Endpoint]) -> Json:
    """Return the content of an EDS file, for a cluster whose endpoints are watched by themselves."""
    return discovery_response([typed(LOAD_ASSIGNMENT, **assignment(cluster, endpoints))])


def _group(priority: int, locality: Locality, members: Sequence[Endpoint]) -> Json:
    return {
        "priority": priority,
        "locality": {"region": locality.region, "zone": locality.zone},
        "load_balancing_weight": sum(one.weight for one in members),
        "lb_endpoints": [_endpoint(one) for one in members],
    }


def _endpoint(one: Endpoint) -> Json:
    target: Json = {"address": address(one.address, one.port)}
    if one.health_port is not None:
        target["health_check_config"] = {"port_value": one.health_port}
    wire: Json = {"endpoint": target, "load_balancing_weight": one.weight}
    if one.mtls:
        wire["metadata"] = {"filter_metadata": MUTUAL_TLS}
    return wire
