"""Upstream clusters (CDS) and their endpoints: other workloads, the pod's own program, pass-through by SNI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from meshbook.lab.envoy import tls
from meshbook.lab.envoy.elements import Json, address, seconds, typed
from meshbook.lab.envoy.endpoints import Endpoint, assignment
from meshbook.lab.envoy.folders import ProxyFolder

CLUSTER = "envoy.config.cluster.v3.Cluster"
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
CONNECT_TIMEOUT_S = 10
"""Istio's default."""
UNLIMITED = 4294967295
ADMIN_CLUSTER = "prometheus_stats"


class Balance(StrEnum):
    """Envoy's names of the policies that a DestinationRule can ask for."""

    ROUND_ROBIN = "ROUND_ROBIN"
    LEAST_REQUEST = "LEAST_REQUEST"
    RANDOM = "RANDOM"


@dataclass(frozen=True, kw_only=True)
class Outliers:
    """When an endpoint is set aside (Istio's defaults)."""

    consecutive_5xx: int | None = 5
    consecutive_gateway: int | None = None
    interval_s: float = 10
    ejection_s: float = 30
    max_percent: int = 10


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """A service port (and maybe subset) as a client sees it."""

    name: str
    identities: str
    """Start of the SPIFFE URIs that the servers may show."""
    plaintext: bool = False
    """Some endpoints have no sidecar: HTTP/1.1, and mutual TLS only with the others."""
    balance: Balance = Balance.ROUND_ROBIN
    outliers: Outliers | None = None


def outbound_name(host: str, port: int, subset: str = "") -> str:
    return f"outbound|{port}|{subset}|{host}"


def server_name(cluster: str) -> str:
    """Return the SNI by which gateways and sidecars recognise an outbound cluster."""
    return cluster.replace("|", "_.")


def outbound(upstream: Upstream, members: Sequence[Endpoint], folder: ProxyFolder) -> Json:
    """Return the cluster of a service port: mutual TLS over HTTP/2, but for what has no sidecar."""
    socket = tls.client(folder, sni=server_name(upstream.name), identities=upstream.identities)
    fields: Json = {"lb_policy": upstream.balance.value}
    if upstream.plaintext:
        match = {"name": "mutual-tls", "match": {"tlsMode": "istio"}, "transport_socket": socket}
        fields["transport_socket_matches"] = [match]
    else:
        fields["transport_socket"] = socket
        fields["typed_extension_protocol_options"] = protocol(http2=True)
    if upstream.outliers is not None:
        fields["outlier_detection"] = _outlier_detection(upstream.outliers)
    return _of_mesh(upstream.name, members, **fields)


def passthrough(sni: str, members: Sequence[Endpoint]) -> Json:
    """Return an east-west gateway's cluster: named like the SNI, its endpoints are pods' inbound ports."""
    return _of_mesh(sni, members, lb_policy=Balance.ROUND_ROBIN.value)


def inbound_name(port: int) -> str:
    return f"inbound|{port}||"


def inbound(ip: str, port: int, *, http2: bool = False) -> Json:
    """Return the cluster of the pod's own program."""
    options = {"typed_extension_protocol_options": protocol(http2=True)} if http2 else {}
    return _static(inbound_name(port), ip, port, **options)


def admin(ip: str, port: int) -> Json:
    """Return the cluster by which metrics are taken from Envoy's own admin interface."""
    return _static(ADMIN_CLUSTER, ip, port)


def protocol(*, http2: bool) -> Json:
    version: Json = {"http2_protocol_options": {}} if http2 else {"http_protocol_options": {}}
    return {HTTP_OPTIONS: typed(HTTP_OPTIONS, explicit_http_config=version)}


def common(name: str, **fields: Any) -> Json:
    """Return what all clusters share: time-out, no panic mode, no circuit breaking (as Istio sets them)."""
    breaker = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests", "max_retries"), UNLIMITED)
    return typed(
        CLUSTER,
        name=name,
        connect_timeout=seconds(CONNECT_TIMEOUT_S),
        common_lb_config={"healthy_panic_threshold": {"value": 0}},
        circuit_breakers={"thresholds": [breaker]},
        **fields,
    )


def _of_mesh(name: str, members: Sequence[Endpoint], **fields: Any) -> Json:
    return common(name, type="STATIC", load_assignment=assignment(name, members), **fields)


def _static(name: str, ip: str, port: int, **fields: Any) -> Json:
    own = {"lb_endpoints": [{"endpoint": {"address": address(ip, port)}}]}
    return common(name, type="STATIC", load_assignment={"cluster_name": name, "endpoints": [own]}, **fields)


def _outlier_detection(outliers: Outliers) -> Json:
    return {
        "consecutive_5xx": outliers.consecutive_5xx or 5,
        "enforcing_consecutive_5xx": 100 if outliers.consecutive_5xx else 0,
        "consecutive_gateway_failure": outliers.consecutive_gateway or 5,
        "enforcing_consecutive_gateway_failure": 100 if outliers.consecutive_gateway else 0,
        "enforcing_success_rate": 0,
        "interval": seconds(outliers.interval_s),
        "base_ejection_time": seconds(outliers.ejection_s),
        "max_ejection_percent": outliers.max_percent,
    }
