"""The global load balancer: one listener per VIP and port, backends found healthy by a BackendConfig's check.

It stands in for Google's: 404 while a frontend is being made, 502 while no backend is healthy, no retries but on a
connection that could not be made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meshbook.lab.envoy import clusters, endpoints, folders, listeners, routes
from meshbook.lab.envoy.elements import Json, access_log, discovery_response, seconds, watched_file
from meshbook.lab.envoy.endpoints import Endpoint
from meshbook.lab.envoy.folders import ProxyFolder

NOT_READY_BODY = "default backend - 404"
UNHEALTHY_BODY = "<html><head><title>502 Server Error</title></head><body>No healthy backend.</body></html>\n"
UNHEALTHY_FLAGS = ("UH", "UF", "UC", "UR", "NC")
CONNECT_TIMEOUT_S = 2


@dataclass(frozen=True, kw_only=True)
class HealthCheck:
    """A BackendConfig's ``healthCheck``, with GKE's defaults for network endpoint groups."""

    request_path: str = "/"
    port: int | None = None
    """Port of the check; None: the backend's own."""
    interval_s: float = 15
    timeout_s: float = 15
    healthy_threshold: int = 1
    unhealthy_threshold: int = 2


@dataclass(frozen=True, kw_only=True)
class Backend:
    """The pods behind a frontend, of all member clusters, as (address, port)."""

    name: str
    endpoints: tuple[tuple[str, int], ...] = ()
    health_check: HealthCheck = HealthCheck()


@dataclass(frozen=True, kw_only=True)
class Frontend:
    """A VIP and port. Without a backend it is still being made."""

    name: str
    address: str
    port: int
    backend: Backend | None = None


def files(frontends: Sequence[Frontend], folder: Path) -> dict[str, Json]:
    """Return all watched files of the load balancer's Envoy (see the package's docstring for how to write them)."""
    proxy = ProxyFolder(path=folder)
    backends = {one.backend.name: one.backend for one in frontends if one.backend is not None}
    written = {folders.endpoints_file(name): _endpoints(backend) for name, backend in backends.items()}
    written[folders.CLUSTERS] = discovery_response([_cluster(one, proxy) for one in backends.values()])
    written[folders.LISTENERS] = discovery_response([_listener(one, proxy) for one in frontends])
    return written


def _endpoints(backend: Backend) -> Json:
    members = [
        Endpoint(address=ip, port=port, mtls=False, health_port=backend.health_check.port)
        for ip, port in backend.endpoints
    ]
    return endpoints.file(backend.name, members)


def _cluster(backend: Backend, folder: ProxyFolder) -> Json:
    cluster = clusters.common(
        backend.name,
        type="EDS",
        eds_cluster_config={"eds_config": watched_file(folder.endpoints(backend.name)), "service_name": backend.name},
        lb_policy=clusters.Balance.ROUND_ROBIN.value,
        ignore_health_on_host_removal=True,
        health_checks=[_health_check(backend.health_check)],
    )
    return cluster | {"connect_timeout": seconds(CONNECT_TIMEOUT_S)}


def _health_check(check: HealthCheck) -> Json:
    return {
        "timeout": seconds(check.timeout_s),
        "interval": seconds(check.interval_s),
        "no_traffic_interval": seconds(check.interval_s),
        "healthy_threshold": check.healthy_threshold,
        "unhealthy_threshold": check.unhealthy_threshold,
        "http_health_check": {"path": check.request_path},
    }


def _listener(frontend: Frontend, folder: ProxyFolder) -> Json:
    manager = listeners.http_manager(
        "edge",
        folder,
        route_config=routes.single(frontend.name, _route(frontend.backend)),
        use_remote_address=True,
        local_reply_config=_bad_gateway(),
        access_log=access_log(folder.access_log, "edge"),
    )
    return listeners.plain(frontend.name, frontend.address, frontend.port, manager)


def _route(backend: Backend | None) -> Json:
    if backend is None:
        return routes.answer(404, NOT_READY_BODY)
    retry = {"retry_on": "connect-failure", "num_retries": 1}
    way = {"cluster": backend.name, "timeout": "30s", "retry_policy": retry}
    return {"match": {"prefix": "/"}, "route": way}


def _bad_gateway() -> Json:
    """Google's balancer says 502 where Envoy would say 503 of its own accord."""
    flags = {"response_flag_filter": {"flags": list(UNHEALTHY_FLAGS)}}
    mapper = {"filter": flags, "status_code": 502, "body": {"inline_string": UNHEALTHY_BODY}}
    return {"mappers": [mapper], "body_format": {"text_format": "%LOCAL_REPLY_BODY%", "content_type": "text/html"}}
