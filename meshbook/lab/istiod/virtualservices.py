"""VirtualServices: which of them concern a proxy, and their HTTP rules as Envoy's routes. Pure.

Understood of ``http[]``: ``match`` (uri, headers, method, port, gateways), ``route`` with weights,
``timeout``, ``retries.attempts``, ``rewrite.uri``. ``unsupported`` names what else a VirtualService asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meshbook.lab.envoy.clusters import outbound_name
from meshbook.lab.envoy.elements import Json, seconds
from meshbook.lab.envoy.listeners import retry_policy
from meshbook.lab.istiod.balancing import duration_s
from meshbook.lab.istiod.registry import MeshService, full_host
from meshbook.objects import Object

MESH = "mesh"
RULE_KEYS = {"name", "match", "route", "timeout", "retries", "rewrite"}
MATCH_KEYS = {"name", "uri", "headers", "method", "port", "gateways"}
DEFAULT_RETRIES = 2


@dataclass(frozen=True, kw_only=True)
class VirtualService:
    """What matters of one VirtualService object."""

    age: tuple[str, str, str]
    namespace: str
    gateways: Sequence[str]
    """As ``namespace/name``, or ``mesh``."""
    hosts: Sequence[str]
    rules: Sequence[Object]


def unsupported(virtual_service: Object) -> list[str]:
    """Return what this VirtualService asks for that is not done here."""
    spec = virtual_service["spec"]
    found = {key for key in ("tcp", "tls") if spec.get(key)}
    for rule in spec.get("http") or []:
        found |= {f"http.{key}" for key in rule.keys() - RULE_KEYS}
        found |= {f"http.match.{key}" for match in rule.get("match") or [] for key in match.keys() - MATCH_KEYS}
    return sorted(found)


def by_age(objects: Sequence[Object]) -> list[VirtualService]:
    """Return the VirtualServices as Istio merges them: the oldest first."""
    found = []
    for one in objects:
        metadata, spec = one["metadata"], one["spec"]
        namespace = metadata["namespace"]
        read = VirtualService(
            age=(metadata.get("creationTimestamp", ""), namespace, metadata["name"]),
            namespace=namespace,
            gateways=[_qualified(name, namespace) for name in spec.get("gateways") or [MESH]],
            hosts=[full_host(host, namespace) for host in spec.get("hosts") or []],
            rules=spec.get("http") or [],
        )
        found.append(read)
    return sorted(found, key=lambda one: one.age)


def routes(virtual_service: VirtualService, gateway: str, port: int, services: Mapping[str, MeshService]) -> list[Json]:
    """Return the routes for requests that come in at a port of a gateway (or of ``mesh``).

    A rule with conditions that are not understood never matches.
    """
    namespace, found = virtual_service.namespace, list[Json]()
    for rule in virtual_service.rules:
        destination = _destination(rule.get("route") or [], namespace, port, services)
        if destination and not rule.keys() - RULE_KEYS:
            matches = [match for match in rule.get("match") or [{}] if _applies(match, namespace, gateway, port)]
            action = destination | _options(rule)
            found += [{"match": _match(match), "route": action} for match in matches]
    return found


def route_to(cluster: str) -> Json:
    """Return the route of all requests of a service that no VirtualService speaks of."""
    return {"match": {"prefix": "/"}, "route": {"cluster": cluster, **_options({})}}


def _qualified(gateway: str, namespace: str) -> str:
    return gateway if gateway == MESH or "/" in gateway else f"{namespace}/{gateway}"


def _applies(match: Mapping[str, Any], namespace: str, gateway: str, port: int) -> bool:
    if match.keys() - MATCH_KEYS or match.get("port", port) != port:
        return False
    gateways = [_qualified(name, namespace) for name in match.get("gateways") or []]
    return not gateways or gateway in gateways


def _options(rule: Mapping[str, Any]) -> Json:
    """Return time-out (0: none, as in Istio), retries and rewrite."""
    options: Json = {"timeout": seconds(duration_s(rule.get("timeout"), 0))}
    if attempts := (rule.get("retries") or {}).get("attempts", DEFAULT_RETRIES):
        options["retry_policy"] = retry_policy(attempts)
    if rewrite := (rule.get("rewrite") or {}).get("uri"):
        options["prefix_rewrite"] = rewrite
    return options


def _match(match: Mapping[str, Any]) -> Json:
    conditions = dict(match.get("headers") or {})
    if match.get("method"):
        conditions[":method"] = match["method"]
    headers = [{"name": name, "string_match": _string(one)} for name, one in conditions.items()]
    uri = match.get("uri") or {}
    if "exact" in uri:
        path: Json = {"path": uri["exact"]}
    elif "regex" in uri:
        path = {"safe_regex": {"regex": uri["regex"]}}
    else:
        path = {"prefix": uri.get("prefix", "/")}
    return {**path, **({"headers": headers} if headers else {})}


def _string(condition: Mapping[str, str]) -> Json:
    """Return Istio's string match in Envoy's shape; an empty one asks for presence only."""
    for kind in ("exact", "prefix"):
        if kind in condition:
            return {kind: condition[kind]}
    return {"safe_regex": {"regex": condition.get("regex", ".*")}}


def _destination(
    weighted: Sequence[Mapping[str, Any]], namespace: str, entry: int, services: Mapping[str, MeshService]
) -> Json:
    """Return where a rule sends requests that came in by port ``entry``; nothing when it says nowhere."""

    def cluster(destination: Mapping[str, Any]) -> str:
        host = full_host(destination["host"], namespace)
        ports = list(services[host].instances) if host in services else []
        # Without a port: the service's only one, else the one by which the request came in.
        port = (destination.get("port") or {}).get("number") or (ports[0] if len(ports) == 1 else entry)
        return outbound_name(host, port, destination.get("subset", ""))

    if len(weighted) == 1:
        return {"cluster": cluster(weighted[0]["destination"])}
    shares = [{"name": cluster(one["destination"]), "weight": one["weight"]} for one in weighted if one.get("weight")]
    return {"weighted_clusters": {"clusters": shares}} if shares else {}
