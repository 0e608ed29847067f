"""Listeners (LDS): a sidecar's outbound proxy and inbound door, gateways, health and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from meshbook.lab.envoy import clusters, routes, tls
from meshbook.lab.envoy.elements import ROUTER, Json, access_log, address, part, printed_log, typed, watched_file
from meshbook.lab.envoy.folders import ProxyFolder
from meshbook.lab.topology import PROXY_HEALTH_PORT, PROXY_INBOUND_PORT, PROXY_METRICS_PORT, PROXY_OUTBOUND_PORT

LISTENER = "envoy.config.listener.v3.Listener"
HTTP_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
TCP_PROXY = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
SNI_CLUSTER = "envoy.extensions.filters.network.sni_cluster.v3.SniCluster"
TLS_INSPECTOR = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
HEALTH_CHECK = "envoy.extensions.filters.http.health_check.v3.HealthCheck"

HEALTH_PATH = "/healthz/ready"
METRICS_PATH = "/stats/prometheus"
OUTBOUND_ROUTES = "outbound"
MAX_CONNECT_ATTEMPTS = 3

Extra = Sequence[tuple[str, int]]
"""Further addresses of a listener: those of the load balancers in front of it."""


def outbound(ip: str, folder: ProxyFolder) -> Json:
    """Return the HTTP proxy that the pod's programs are pointed to; its routes are ``rds/outbound.json``."""
    manager = http_manager("outbound", folder, rds=_by_file(OUTBOUND_ROUTES, folder))
    return _listener("outbound", ip, PROXY_OUTBOUND_PORT, [{"filters": [manager]}], traffic_direction="OUTBOUND")


def inbound(ip: str, ports: Sequence[tuple[int, Sequence[str]]], folder: ProxyFolder) -> Json:
    """Return the mutual TLS door: for each (target port, server names) a way to the pod's own program."""
    chains = [_inbound_chain(port, names, folder) for port, names in ports]
    return _listener("inbound", ip, PROXY_INBOUND_PORT, chains, inspect_tls=True, traffic_direction="INBOUND")


def gateway(name: str, ip: str, port: int, folder: ProxyFolder, extra: Extra = ()) -> Json:
    """Return a plain HTTP gateway port; its routes are ``rds/<name>.json``."""
    options: Json = {"use_remote_address": True, "normalize_path": True, "merge_slashes": True}
    manager = http_manager("gateway", folder, rds=_by_file(name, folder), **options)
    return _listener(name, ip, port, [{"filters": [manager]}], extra=extra)


def passthrough(name: str, ip: str, port: int, folder: ProxyFolder, extra: Extra = ()) -> Json:
    """Return an AUTO_PASSTHROUGH port: TLS is not opened, its server name says the cluster."""
    by_sni = part("envoy.filters.network.sni_cluster", SNI_CLUSTER)
    proxy = part(
        "envoy.filters.network.tcp_proxy",
        TCP_PROXY,
        stat_prefix="passthrough",
        cluster="BlackHoleCluster",
        max_connect_attempts=MAX_CONNECT_ATTEMPTS,
        access_log=[*access_log(folder.access_log, "passthrough"), *printed_log()],
    )
    chain = {"filter_chain_match": {"server_names": ["*.local"]}, "filters": [by_sni, proxy]}
    return _listener(name, ip, port, [chain], extra=extra, inspect_tls=True)


def health(ip: str, folder: ProxyFolder, extra: Extra = ()) -> Json:
    """Return ``/healthz/ready``: 200 as soon as this listener is configured, 503 once the Envoy is told to fail."""
    check = part(
        "envoy.filters.http.health_check",
        HEALTH_CHECK,
        pass_through_mode=False,
        headers=[{"name": ":path", "string_match": {"exact": HEALTH_PATH}}],
    )
    nothing = routes.single("health", routes.answer(404))
    manager = http_manager("health", folder, before=[check], logged=False, route_config=nothing)
    return _listener("health", ip, PROXY_HEALTH_PORT, [{"filters": [manager]}], extra=extra)


def metrics(ip: str, folder: ProxyFolder) -> Json:
    """Return Envoy's own metrics at ``/stats/prometheus``, and nothing else of the admin interface."""
    way = {"match": {"path": METRICS_PATH}, "route": {"cluster": clusters.ADMIN_CLUSTER}}
    manager = http_manager("metrics", folder, logged=False, route_config=routes.single("metrics", way))
    return _listener("metrics", ip, PROXY_METRICS_PORT, [{"filters": [manager]}])


def http_manager(
    direction: str, folder: ProxyFolder, *, before: Sequence[Json] = (), logged: bool = True, **fields: Any
) -> Json:
    """Return an HTTP connection manager; ``fields`` carry its routes (``rds`` or ``route_config``) and options.

    Its access log goes to the proxy's folder, and to standard output unless ``fields`` bring an ``access_log``.
    """
    logs = [*access_log(folder.access_log, direction), *printed_log()] if logged else []
    return part(
        "envoy.filters.network.http_connection_manager",
        HTTP_MANAGER,
        stat_prefix=direction,
        http_filters=[*before, part("envoy.filters.http.router", ROUTER)],
        **{"access_log": logs, "drain_timeout": "0.5s", **fields},
    )


def plain(name: str, ip: str, port: int, manager: Json) -> Json:
    """Return a listener with one HTTP connection manager on it."""
    return _listener(name, ip, port, [{"filters": [manager]}])


def _inbound_chain(port: int, names: Sequence[str], folder: ProxyFolder) -> Json:
    way = {"match": {"prefix": "/"}, "route": {"cluster": clusters.inbound_name(port), "timeout": "0s"}}
    manager = http_manager("inbound", folder, route_config=routes.single(f"inbound-{port}", way))
    return {
        "name": f"inbound-{port}",
        "filter_chain_match": {"server_names": sorted(names)},
        "transport_socket": tls.server(folder),
        "filters": [manager],
    }


def _by_file(name: str, folder: ProxyFolder) -> Json:
    return {"route_config_name": name, "config_source": watched_file(folder.routes(name))}


def _listener(
    name: str, ip: str, port: int, chains: list[Json], *, extra: Extra = (), inspect_tls: bool = False, **fields: Any
) -> Json:
    if inspect_tls:
        fields["listener_filters"] = [part("envoy.filters.listener.tls_inspector", TLS_INSPECTOR)]
    if extra:
        fields["additional_addresses"] = [{"address": address(*more)} for more in extra]
    return typed(LISTENER, name=name, address=address(ip, port), filter_chains=chains, **fields)
