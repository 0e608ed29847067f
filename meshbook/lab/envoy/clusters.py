"""Upstream clusters and their endpoints (CDS, EDS): other workloads, the pod's program, pass-through by SNI. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from meshbook.lab.envoy.elements import ADS, Json, address, client_tls, http2, seconds, typed
from meshbook.lab.envoy.resources import CLUSTER, LOAD_ASSIGNMENT
from meshbook.lab.topology import PROXY_ADMIN_PORT

_CONNECT_TIMEOUT_S = 10
"""Istio's default."""
UNLIMITED = 4294967295
ADMIN_CLUSTER = "prometheus_stats"
MUTUAL_TLS = {"tlsMode": "istio"}
"""Marks endpoints with a sidecar, where a cluster has others too."""


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


def outbound_name(host: str, port: int, subset: str = "") -> str:
    return f"outbound|{port}|{subset}|{host}"


def server_name(cluster: str) -> str:
    """Return the SNI by which gateways and sidecars recognise an outbound cluster."""
    return cluster.replace("|", "_.")


def inbound_name(port: int) -> str:
    return f"inbound|{port}||"


def outbound(name: str, *, identities: str, plaintext: bool, speaks_http2: bool, policy: Json) -> Json:
    """Return the cluster of a service port, whose endpoints come apart from it: mutual TLS, in the port's protocol.

    With ``plaintext`` some endpoints have no sidecar, and mutual TLS is only with the others. ``identities`` is
    the start of the SPIFFE URIs that servers may show; ``policy`` holds the fields that a DestinationRule sets.
    """
    socket = client_tls(sni=server_name(name), identities=identities, speaks_http2=speaks_http2)
    if speaks_http2:
        policy = {**policy, "typed_extension_protocol_options": http2()}
    if plaintext:
        match = {"name": "mutual-tls", "match": MUTUAL_TLS, "transport_socket": socket}
        return cluster(name, transport_socket_matches=[match], **policy)
    return cluster(name, transport_socket=socket, **policy)


def inbound(ip: str, port: int, *, speaks_http2: bool) -> Json:
    """Return the cluster of the pod's own program."""
    own = Endpoint(address=ip, port=port, mtls=False)
    options = {"typed_extension_protocol_options": http2()} if speaks_http2 else {}
    return cluster(inbound_name(port), [own], **options)


def admin(ip: str) -> Json:
    """Return the cluster by which metrics are taken from Envoy's own admin interface."""
    return cluster(ADMIN_CLUSTER, [Endpoint(address=ip, port=PROXY_ADMIN_PORT, mtls=False)])


def cluster(name: str, members: Sequence[Endpoint] | None = None, **fields: Any) -> Json:
    """Return a cluster; without members it asks for its ``load_assignment``.

    All have in common: a time-out, no panic mode, no circuit breaking (as Istio sets them).
    """
    breaker = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests", "max_retries"), UNLIMITED)
    if members is None:
        source: Json = {"type": "EDS", "eds_cluster_config": {"eds_config": ADS}}
    else:
        source = {"type": "STATIC", "load_assignment": _assignment(name, members)}
    return typed(
        CLUSTER,
        **{
            "name": name,
            "connect_timeout": seconds(_CONNECT_TIMEOUT_S),
            "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
            "circuit_breakers": {"thresholds": [breaker]},
            **source,
            **fields,
        },
    )


def load_assignment(name: str, members: Sequence[Endpoint]) -> Json:
    """Return the endpoints of a cluster that asks for them."""
    return typed(LOAD_ASSIGNMENT, **_assignment(name, members))


def _assignment(name: str, members: Sequence[Endpoint]) -> Json:
    """Return a load assignment: one group per priority and locality."""
    ordered = sorted(members, key=lambda one: (one.priority, one.locality, one.address, one.port))
    groups = groupby(ordered, key=lambda one: (one.priority, one.locality))
    return {"cluster_name": name, "endpoints": [_group(list(found)) for _, found in groups]}


def _group(members: Sequence[Endpoint]) -> Json:
    first = members[0]
    return {
        "priority": first.priority,
        "locality": {"region": first.locality.region, "zone": first.locality.zone},
        "load_balancing_weight": sum(one.weight for one in members),
        "lb_endpoints": [_endpoint(one) for one in members],
    }


def _endpoint(one: Endpoint) -> Json:
    target: Json = {"address": address(one.address, one.port)}
    if one.health_port is not None:
        target["health_check_config"] = {"port_value": one.health_port}
    metadata = {"metadata": {"filter_metadata": {"envoy.transport_socket_match": MUTUAL_TLS}}} if one.mtls else {}
    return {"endpoint": target, "load_balancing_weight": one.weight, **metadata}
