"""VirtualServices: which of them a proxy follows, and their HTTP routes as Envoy's. Pure.

Understood of ``http[]``: ``match`` (uri, headers, method, port, gateways), ``route`` with weights,
``timeout``, ``retries.attempts``, ``rewrite.uri``. ``unsupported`` names what else a VirtualService asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meshbook.lab.envoy.clusters import outbound_name
from meshbook.lab.envoy.elements import Json
from meshbook.lab.envoy.routes import Match, Route, Target
from meshbook.lab.istiod.policies import duration_s, full_host
from meshbook.lab.istiod.registry import Object, Registry

MESH = "mesh"
RULE_KEYS = {"name", "match", "route", "timeout", "retries", "rewrite"}
MATCH_KEYS = {"name", "uri", "headers", "method", "port", "gateways"}
DEFAULT_RETRIES = 2


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Where a request comes in: a gateway (``namespace/name``) or ``mesh``, and a port."""

    gateway: str
    port: int


def unsupported(virtual_service: Object) -> list[str]:
    """Return what this VirtualService asks for that is not done here."""
    spec = virtual_service["spec"]
    found = {key for key in ("tcp", "tls") if spec.get(key)}
    for rule in spec.get("http") or []:
        found |= {f"http.{key}" for key in rule.keys() - RULE_KEYS}
        found |= {f"http.match.{key}" for match in rule.get("match") or [] for key in match.keys() - MATCH_KEYS}
    return sorted(found)


def gateways_of(virtual_service: Object) -> list[str]:
    """Return the gateways that a VirtualService is bound to, as ``namespace/name`` or ``mesh``."""
    namespace = virtual_service["metadata"]["namespace"]
    names = virtual_service["spec"].get("gateways") or [MESH]
    return [_qualified(name, namespace) for name in names]


def hosts_of(virtual_service: Object) -> list[str]:
    namespace = virtual_service["metadata"]["namespace"]
    return [full_host(host, namespace) for host in virtual_service["spec"].get("hosts") or []]


def by_age(virtual_services: Sequence[Object]) -> list[Object]:
    """Sort as Istio merges them: the oldest first."""
    return sorted(virtual_services, key=lambda one: (one["metadata"].get("creationTimestamp", ""), _name(one)))


def routes(virtual_service: Object, entry: Entry, registry: Registry) -> list[Route]:
    """Return the HTTP routes for requests that come in at ``entry``; rules with unknown conditions never match."""
    namespace = virtual_service["metadata"]["namespace"]
    found = []
    for rule in virtual_service["spec"].get("http") or []:
        targets = _targets(rule, namespace, entry, registry)
        matches = [match for match in rule.get("match") or [{}] if _applies(match, namespace, entry)]
        if targets and not rule.keys() - RULE_KEYS:
            found += [_route(rule, match, targets) for match in matches]
    return found


def _name(obj: Object) -> str:
    return f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"


def _qualified(gateway: str, namespace: str) -> str:
    return gateway if gateway == MESH or "/" in gateway else f"{namespace}/{gateway}"


def _applies(match: Mapping[str, Any], namespace: str, entry: Entry) -> bool:
    if match.keys() - MATCH_KEYS or match.get("port", entry.port) != entry.port:
        return False
    gateways = [_qualified(name, namespace) for name in match.get("gateways") or []]
    return not gateways or entry.gateway in gateways


def _route(rule: Object, match: Mapping[str, Any], targets: Sequence[Target]) -> Route:
    attempts = (rule.get("retries") or {}).get("attempts", DEFAULT_RETRIES)
    return Route(
        targets=targets,
        match=_match(match),
        timeout_s=duration_s(rule.get("timeout"), 0),
        retries=attempts,
        rewrite=(rule.get("rewrite") or {}).get("uri", ""),
    )


def _match(match: Mapping[str, Any]) -> Match:
    headers = {name: _string(condition) for name, condition in (match.get("headers") or {}).items()}
    if match.get("method"):
        headers[":method"] = _string(match["method"])
    for kind in ("exact", "prefix", "regex"):
        path = (match.get("uri") or {}).get(kind)
        if path is not None:
            return Match(kind=kind, path=path, headers=headers)
    return Match(headers=headers)


def _string(condition: Mapping[str, str]) -> Json:
    """Return Istio's string match in Envoy's shape; an empty one asks for presence only."""
    if "regex" in condition:
        return {"safe_regex": {"regex": condition["regex"]}}
    if "prefix" in condition:
        return {"prefix": condition["prefix"]}
    return {"exact": condition["exact"]} if "exact" in condition else {"safe_regex": {"regex": ".*"}}


def _targets(rule: Object, namespace: str, entry: Entry, registry: Registry) -> list[Target]:
    destinations = rule.get("route") or []
    if len(destinations) == 1:
        return [Target(cluster=_cluster(destinations[0]["destination"], namespace, entry, registry))]
    return [
        Target(cluster=_cluster(one["destination"], namespace, entry, registry), weight=one["weight"])
        for one in destinations
        if one.get("weight")
    ]


def _cluster(destination: Mapping[str, Any], namespace: str, entry: Entry, registry: Registry) -> str:
    """Return the outbound cluster of a destination; without a port: the service's only one, else the entry's."""
    host = full_host(destination["host"], namespace)
    service = registry.services.get(host)
    only = service.ports[0].number if service is not None and len(service.ports) == 1 else entry.port
    port = (destination.get("port") or {}).get("number", only)
    return outbound_name(host, port, destination.get("subset", ""))
