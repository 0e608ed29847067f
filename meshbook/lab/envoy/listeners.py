"""Listeners and routes (LDS, RDS): a sidecar's outbound proxy and inbound port, gateways, health and metrics. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from meshbook.lab.envoy import clusters
from meshbook.lab.envoy.elements import ADS, Json, address, part, server_tls, typed
from meshbook.lab.envoy.resources import LISTENER, ROUTE_CONFIGURATION
from meshbook.lab.topology import PROXY_HEALTH_PORT, PROXY_INBOUND_PORT, PROXY_METRICS_PORT, PROXY_OUTBOUND_PORT

NETWORK = "envoy.extensions.filters.network"

HEALTH_PATH = "/healthz/ready"
METRICS_PATH = "/stats/prometheus"
OUTBOUND = "outbound"
MAX_CONNECT_ATTEMPTS = 3
QUEUE = 128
"""Connections that wait for an east-west gateway to take them in; beyond that packets are lost."""
RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"

Addresses = Sequence[tuple[str, int]]
Log = Sequence[Json]
"""Access logs of a listener."""


def outbound(ip: str, log: Log) -> Json:
    """Return the HTTP proxy that the pod's programs are pointed to; its routes are those called ``OUTBOUND``."""
    manager = http_manager(OUTBOUND, log, rds=_by_name(OUTBOUND))
    return listener(OUTBOUND, ip, PROXY_OUTBOUND_PORT, [{"filters": [manager]}], traffic_direction="OUTBOUND")


def inbound(ip: str, ports: Sequence[tuple[int, Sequence[str]]], log: Log) -> Json:
    """Return the mutual TLS port: for each (target port, server names) a route to the pod's own program."""
    chains = [_inbound_chain(port, names, log) for port, names in ports]
    return listener("inbound", ip, PROXY_INBOUND_PORT, chains, inspect_tls=True, traffic_direction="INBOUND")


def gateway(name: str, ip: str, port: int, log: Log, also: Addresses = ()) -> Json:
    """Return a plain HTTP gateway port; its routes are those called ``name``."""
    options: Json = {"use_remote_address": True, "normalize_path": True, "merge_slashes": True}
    manager = http_manager("gateway", log, rds=_by_name(name), **options)
    return listener(name, ip, port, [{"filters": [manager]}], also=also)


def passthrough(name: str, ip: str, port: int, log: Log, also: Addresses = ()) -> Json:
    """Return an AUTO_PASSTHROUGH port: TLS is not opened, its server name says the cluster."""
    by_sni = part("envoy.filters.network.sni_cluster", f"{NETWORK}.sni_cluster.v3.SniCluster")
    proxy = part(
        "envoy.filters.network.tcp_proxy",
        f"{NETWORK}.tcp_proxy.v3.TcpProxy",
        stat_prefix="passthrough",
        cluster="BlackHoleCluster",
        max_connect_attempts=MAX_CONNECT_ATTEMPTS,
        access_log=log,
    )
    chain = {"filter_chain_match": {"server_names": ["*.local"]}, "filters": [by_sni, proxy]}
    return listener(name, ip, port, [chain], also=also, inspect_tls=True, tcp_backlog_size=QUEUE)


def health(ip: str, also: Addresses = ()) -> Json:
    """Return ``/healthz/ready``: 200 as soon as this listener is configured, 503 once the Envoy is told to fail."""
    check = part(
        "envoy.filters.http.health_check",
        "envoy.extensions.filters.http.health_check.v3.HealthCheck",
        pass_through_mode=False,
        headers=[{"name": ":path", "string_match": {"exact": HEALTH_PATH}}],
    )
    nothing = one_route("health", direct_response(404))
    manager = http_manager("health", before=[check], route_config=nothing)
    return listener("health", ip, PROXY_HEALTH_PORT, [{"filters": [manager]}], also=also)


def metrics(ip: str) -> Json:
    """Return Envoy's own metrics at ``/stats/prometheus``, and nothing else of the admin interface."""
    route = {"match": {"path": METRICS_PATH}, "route": {"cluster": clusters.ADMIN_CLUSTER}}
    manager = http_manager("metrics", route_config=one_route("metrics", route))
    return listener("metrics", ip, PROXY_METRICS_PORT, [{"filters": [manager]}])


def http_manager(name: str, log: Log = (), *, before: Sequence[Json] = (), **fields: Any) -> Json:
    """Return an HTTP connection manager; ``fields`` carry its routes (``rds`` or ``route_config``) and options."""
    return part(
        "envoy.filters.network.http_connection_manager",
        f"{NETWORK}.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        http_filters=[
            *before,
            part("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router"),
        ],
        access_log=log,
        drain_timeout="0.5s",
        **fields,
    )


def listener(
    name: str, ip: str, port: int, chains: list[Json], *, also: Addresses = (), inspect_tls: bool = False, **fields: Any
) -> Json:
    """Return a listener with its filter chains; ``also`` are the addresses of load balancers in front of it."""
    if inspect_tls:
        inspector = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
        fields["listener_filters"] = [part("envoy.filters.listener.tls_inspector", inspector)]
    if also:
        fields["additional_addresses"] = [{"address": address(*more)} for more in also]
    return typed(LISTENER, name=name, address=address(ip, port), filter_chains=chains, **fields)


def routes(name: str, hosts: list[Json], *, otherwise: Json, any_port: bool = False) -> Json:
    """Return a route configuration; ``otherwise`` is the route of an authority that no virtual host claims.

    With ``any_port`` a host is matched whatever port the authority names. Clusters are not checked: a route may name
    one that does not exist, and requests that match it are answered 503.
    """
    if not any("*" in host["domains"] for host in hosts):
        hosts = [*hosts, {"name": "unknown", "domains": ["*"], "routes": [otherwise]}]
    options = {"validate_clusters": False, "ignore_port_in_host_matching": any_port}
    return typed(ROUTE_CONFIGURATION, name=name, virtual_hosts=hosts, **options)


def one_route(name: str, route: Json) -> Json:
    """Return the route configuration of a listener that carries its routes itself: one for all authorities."""
    host = {"name": name, "domains": ["*"], "routes": [route]}
    return {"name": name, "virtual_hosts": [host], "validate_clusters": False}


def direct_response(code: int, body: str = "") -> Json:
    """Return a route that answers by itself, whatever the path."""
    response = {"status": code, **({"body": {"inline_string": body}} if body else {})}
    return {"match": {"prefix": "/"}, "direct_response": response}


def retry_policy(retries: int) -> Json:
    """Try again on another host: what Istio sets when nobody asks for anything.

    No status code is among the reasons, as in 1.17 it still was: a 503 of the other side goes to the client.
    """
    previous_hosts = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    return {
        "retry_on": RETRY_ON,
        "num_retries": retries,
        "retry_host_predicate": [part("envoy.retry_host_predicates.previous_hosts", previous_hosts)],
        "host_selection_retry_max_attempts": 5,
    }


def _inbound_chain(port: int, names: Sequence[str], log: Log) -> Json:
    route = {"match": {"prefix": "/"}, "route": {"cluster": clusters.inbound_name(port), "timeout": "0s"}}
    return {
        "name": f"inbound-{port}",
        "filter_chain_match": {"server_names": sorted(names)},
        "transport_socket": server_tls(),
        "filters": [http_manager("inbound", log, route_config=one_route(f"inbound-{port}", route))],
    }


def _by_name(name: str) -> Json:
    return {"route_config_name": name, "config_source": ADS}
