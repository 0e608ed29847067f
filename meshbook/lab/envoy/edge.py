"""The global load balancer: one listener per VIP and port, backends found healthy by a BackendConfig's check. Pure.

It stands in for Google's: 404 while a frontend is being made, 502 while no backend is healthy, no retries but on a
connection that could not be made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshbook.lab.envoy import clusters, listeners
from meshbook.lab.envoy.clusters import Endpoint
from meshbook.lab.envoy.elements import Json, access_log, seconds
from meshbook.lab.envoy.resources import Resources

NOT_READY_BODY = "default backend - 404"
UNHEALTHY_BODY = "<html><head><title>502 Server Error</title></head><body>No healthy backend.</body></html>\n"
UNHEALTHY_FLAGS = ["UH", "UF", "UC", "UR", "NC"]
_CONNECT_TIMEOUT_S = 2


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


def load_balancer(frontends: Sequence[Frontend]) -> Resources:
    """Return what the load balancer's Envoy serves.

    Endpoints come apart from their clusters: a cluster that is replaced would have to find its members healthy anew.
    """
    backends = {one.backend.name: one.backend for one in frontends if one.backend is not None}
    return Resources(
        clusters=[_cluster(one) for one in backends.values()],
        endpoints=[clusters.load_assignment(name, _members(one)) for name, one in backends.items()],
        listeners=[_listener(one) for one in frontends],
    )


def _members(backend: Backend) -> list[Endpoint]:
    port = backend.health_check.port
    return [Endpoint(address=ip, port=number, mtls=False, health_port=port) for ip, number in backend.endpoints]


def _cluster(backend: Backend) -> Json:
    check = backend.health_check
    health_check = {
        "timeout": seconds(check.timeout_s),
        "interval": seconds(check.interval_s),
        "no_traffic_interval": seconds(check.interval_s),
        "healthy_threshold": check.healthy_threshold,
        "unhealthy_threshold": check.unhealthy_threshold,
        "http_health_check": {"path": check.request_path},
    }
    return clusters.cluster(
        backend.name,
        lb_policy="ROUND_ROBIN",
        connect_timeout=seconds(_CONNECT_TIMEOUT_S),
        ignore_health_on_host_removal=True,
        health_checks=[health_check],
    )


def _listener(frontend: Frontend) -> Json:
    backend = frontend.backend
    if backend is None:
        route = listeners.direct_response(404, NOT_READY_BODY)
    else:
        retry = {"retry_on": "connect-failure", "num_retries": 1}
        action = {"cluster": backend.name, "timeout": "30s", "retry_policy": retry}
        route = {"match": {"prefix": "/"}, "route": action}
    # Google's balancer says 502 where Envoy would say 503 of its own accord.
    unhealthy = {"response_flag_filter": {"flags": UNHEALTHY_FLAGS}}
    mapper = {"filter": unhealthy, "status_code": 502, "body": {"inline_string": UNHEALTHY_BODY}}
    body_format = {"text_format": "%LOCAL_REPLY_BODY%", "content_type": "text/html"}
    manager = listeners.http_manager(
        "edge",
        access_log(),
        route_config=listeners.one_route(frontend.name, route),
        use_remote_address=True,
        local_reply_config={"mappers": [mapper], "body_format": body_format},
    )
    return listeners.listener(frontend.name, frontend.address, frontend.port, [{"filters": [manager]}])
