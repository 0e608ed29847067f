"""Routes (RDS): from authority and path to clusters, with Istio's default retries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from meshbook.lab.envoy.elements import Json, discovery_response, part, seconds, typed

ROUTE_CONFIGURATION = "envoy.config.route.v3.RouteConfiguration"
PREVIOUS_HOSTS = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"


@dataclass(frozen=True, kw_only=True)
class Match:
    """What a request must look like. ``headers`` maps names to a string matcher in Envoy's shape."""

    kind: str = "prefix"
    """``prefix``, ``exact`` or ``regex``."""
    path: str = "/"
    headers: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Target:
    cluster: str
    weight: int = 1


@dataclass(frozen=True, kw_only=True)
class Route:
    """One rule; ``timeout_s`` 0 means none, as in Istio."""

    targets: Sequence[Target]
    match: Match = Match()
    timeout_s: float = 0
    retries: int = 2
    rewrite: str = ""


@dataclass(frozen=True, kw_only=True)
class VirtualHost:
    name: str
    domains: Sequence[str]
    routes: Sequence[Route]


def file(name: str, hosts: Sequence[VirtualHost], *, otherwise: Json, any_port: bool = False) -> Json:
    """Return a route file; ``otherwise`` is the route of an authority that no host claims."""
    return discovery_response(
        [typed(ROUTE_CONFIGURATION, **configuration(name, hosts, otherwise=otherwise, any_port=any_port))]
    )


def single(name: str, route: Json) -> Json:
    """Return a configuration for all authorities with one route, for a listener that carries its routes itself.

    Clusters are not checked: a listener that is read before its cluster would be refused and stay away.
    """
    host = {"name": name, "domains": ["*"], "routes": [route]}
    return {"name": name, "virtual_hosts": [host], "validate_clusters": False}


def configuration(name: str, hosts: Sequence[VirtualHost], *, otherwise: Json, any_port: bool = False) -> Json:
    """Return a route configuration; with ``any_port`` a host is matched whatever port the authority names."""
    virtual_hosts = [_virtual_host(host) for host in hosts]
    if not any("*" in host.domains for host in hosts):
        virtual_hosts.append({"name": "unknown", "domains": ["*"], "routes": [otherwise]})
    return {
        "name": name,
        "virtual_hosts": virtual_hosts,
        "validate_clusters": False,
        "ignore_port_in_host_matching": any_port,
    }


def answer(code: int, body: str = "") -> Json:
    """Return a route that answers by itself, whatever the path."""
    response: Json = {"status": code}
    if body:
        response["body"] = {"inline_string": body}
    return {"match": {"prefix": "/"}, "direct_response": response}


def _virtual_host(host: VirtualHost) -> Json:
    return {"name": host.name, "domains": list(host.domains), "routes": [_route(route) for route in host.routes]}


def _route(route: Route) -> Json:
    action: Json = {"timeout": seconds(route.timeout_s), **_destination(route.targets)}
    if route.retries:
        action["retry_policy"] = _retry_policy(route.retries)
    if route.rewrite:
        action["prefix_rewrite"] = route.rewrite
    return {"match": _match(route.match), "route": action}


def _destination(targets: Sequence[Target]) -> Json:
    if len(targets) == 1:
        return {"cluster": targets[0].cluster}
    shares = [{"name": target.cluster, "weight": target.weight} for target in targets]
    return {"weighted_clusters": {"clusters": shares}}


def _match(match: Match) -> Json:
    headers = [{"name": name, "string_match": matcher} for name, matcher in match.headers.items()]
    return {**_path(match), **({"headers": headers} if headers else {})}


def _path(match: Match) -> Json:
    if match.kind == "exact":
        return {"path": match.path}
    if match.kind == "regex":
        return {"safe_regex": {"regex": match.path}}
    return {"prefix": match.path}


def _retry_policy(retries: int) -> Json:
    """Try again on another host: what Istio sets when nobody asks for anything."""
    return {
        "retry_on": RETRY_ON,
        "num_retries": retries,
        "retriable_status_codes": [503],
        "retry_host_predicate": [part("envoy.retry_host_predicates.previous_hosts", PREVIOUS_HOSTS)],
        "host_selection_retry_max_attempts": 5,
    }
