"""Which pods a request may reach, as VirtualServices, DestinationRules and endpoints say it. Pure.

``route`` finds the VirtualService that applies and where it sends a request; ``endpoints`` the ready pods of one
destination; ``expected`` puts them together into shares. What is said here is what is configured, whether or not
requests get through.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from meshbook.analysis import ExpectedShares
from meshbook.errors import UsageError
from meshbook.mesh.snapshot import NotSeen, Snapshot
from meshbook.objects import SERVICE_LABEL, SYSTEM_NAMESPACE, Object, is_ready, labels_of, ready_endpoints

MESH = "mesh"
"""Gateway of requests from sidecars, as VirtualServices name it."""
TLS_MODE_LABEL = "security.istio.io/tlsMode"
REGION, ZONE, SUBZONE = "topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"
_DOMAIN = "svc.cluster.local"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One kind of request: by whom, for what."""

    service: str
    namespace: str
    """Of the service."""
    port: int = 80
    path: str = "/"
    client_namespace: str = ""
    client_labels: Mapping[str, str] = field(default_factory=lambda: {"app": "sleep"})
    gateway: str = MESH
    """``mesh``, or the Gateway (``namespace/name``) by which it comes in."""

    @classmethod
    def of(cls, url: str, namespace: str) -> Asked:
        """Read what a client in ``namespace`` asks for; UsageError where ``url`` names no service."""
        parts = urlsplit(url)
        name, _, rest = (parts.hostname or "").partition(".")
        if not name or name.isdigit():
            raise UsageError(f"{url} names no service of the mesh", hint="http://helloworld.sample:5000/hello")
        home = rest.partition(".")[0] or namespace
        return cls(
            service=name, namespace=home, port=parts.port or 80, path=parts.path or "/", client_namespace=namespace
        )

    @property
    def host(self) -> str:
        return f"{self.service}.{self.namespace}.{_DOMAIN}"

    def clients(self, source: Snapshot) -> list[Object]:
        """Return the ready pods that ask."""
        pods = source.list("Pod", self.client_namespace)
        return [pod for pod in pods if self.client_labels.items() <= labels_of(pod).items() and is_ready(pod)]


@dataclass(frozen=True, kw_only=True)
class Leg:
    """One destination of a route. ``weight`` is its part of the requests, from 0 to 1."""

    service: str
    namespace: str
    subset: str
    weight: float
    port: int = 0
    """0: the one by which the request came in, or the service's only one."""

    @property
    def host(self) -> str:
        return f"{self.service}.{self.namespace}.{_DOMAIN}"

    def __str__(self) -> str:
        return f"{100 * self.weight:g} % to {self.subset or self.service}"


@dataclass(frozen=True, kw_only=True)
class Route:
    """Where a request goes. Without a VirtualService: to the service itself, and ``rule`` is empty."""

    legs: Sequence[Leg]
    rule: str = ""
    """``VirtualService sample/name``."""
    trouble: str = ""
    """Why the rule answers the request itself, or lets it go nowhere."""


def full_host(host: str, namespace: str) -> str:
    """Return a host as Istio reads it: a name without dots is a service of the rule's own namespace."""
    if "." not in host and host != "*":
        host = f"{host}.{namespace}"
    parts = host.split(".")
    return f"{host}.{_DOMAIN}" if len(parts) == 2 and "*" not in host else host


def covers(pattern: str, host: str) -> bool:
    return pattern in ("*", host) or (pattern.startswith("*.") and host.endswith(pattern[1:]))


def title(found: Object) -> str:
    """Return ``namespace/name`` of an object."""
    return f"{found['metadata'].get('namespace', '')}/{found['metadata']['name']}"


def _age(found: Object) -> tuple[str, str]:
    return str(found["metadata"].get("creationTimestamp", "")), title(found)


def _visible(rule: Object, namespace: str) -> bool:
    """Tell whether clients in ``namespace`` see a rule: ``exportTo`` may keep it to some."""
    home, to = rule["metadata"].get("namespace", ""), rule["spec"].get("exportTo") or ["*"]
    return any(one in ("*", namespace) or (one == "." and home == namespace) for one in to)


# ---- where a request is sent


def route(asked: Asked, source: Snapshot) -> Route:
    """Return where ``source`` sends this request: the most specific VirtualService counts, of several the oldest."""
    itself = Leg(service=asked.service, namespace=asked.namespace, subset="", weight=1.0)
    ours = [rule for rule in source.list("VirtualService") if _concerns(rule, asked)]
    if not ours:
        if asked.gateway == MESH:
            return Route(legs=[itself])
        return Route(legs=[], trouble=f"no VirtualService routes requests of Gateway {asked.gateway}")
    ours.sort(key=lambda rule: (-max(map(len, rule["spec"]["hosts"])), *_age(rule)))
    for rule in ours if asked.gateway != MESH else ours[:1]:
        for http in rule["spec"].get("http") or []:
            if any(_matches(one, asked) for one in http.get("match") or [{}]):
                return _routed(http, rule)
    return Route(legs=[], rule=f"VirtualService {title(ours[0])}", trouble=f"none of its rules matches {asked.path}")


def _concerns(rule: Object, asked: Asked) -> bool:
    home, spec = rule["metadata"].get("namespace", ""), rule["spec"]
    gateways = [_qualified(name, home) for name in spec.get("gateways") or [MESH]]
    hosts = [full_host(host, home) for host in spec.get("hosts") or []]
    inside = asked.gateway == MESH
    fits = any(covers(host, asked.host) for host in hosts) if inside else bool(hosts)
    return bool(spec.get("http")) and fits and asked.gateway in gateways and _visible(rule, asked.client_namespace)


def _qualified(gateway: str, namespace: str) -> str:
    return gateway if gateway == MESH or "/" in gateway else f"{namespace}/{gateway}"


def _matches(match: Mapping[str, Any], asked: Asked) -> bool:
    """Tell whether the runbook's requests fit: GET, without headers or query of their own."""
    known = {"name", "uri", "method", "port", "gateways", "sourceNamespace", "sourceLabels", "ignoreUriCase"}
    if match.keys() - known or match.get("port", asked.port) != asked.port:
        return False
    gateways = [one.rpartition("/")[2] for one in match.get("gateways") or []]
    return (
        _says(match.get("uri"), asked.path)
        and _says(match.get("method"), "GET")
        and (not gateways or asked.gateway.rpartition("/")[2] in gateways)
        and match.get("sourceNamespace", asked.client_namespace) == asked.client_namespace
        and (match.get("sourceLabels") or {}).items() <= asked.client_labels.items()
    )


def _says(condition: Mapping[str, str] | None, text: str) -> bool:
    if not condition:
        return True
    if "exact" in condition:
        return text == condition["exact"]
    if "prefix" in condition:
        return text.startswith(condition["prefix"])
    return re.fullmatch(condition.get("regex", ".*"), text) is not None


def _routed(http: Mapping[str, Any], rule: Object) -> Route:
    name, home = f"VirtualService {title(rule)}", rule["metadata"].get("namespace", "")
    abort = (http.get("fault") or {}).get("abort") or {}
    if (abort.get("percentage") or {}).get("value", 100 if abort else 0) >= 100:
        return Route(legs=[], rule=name, trouble=f"it answers every request with {abort.get('httpStatus', 'an error')}")
    given = http.get("route") or []
    if not given:
        return Route(legs=[], rule=name, trouble="its rule has no route: it redirects or answers by itself")
    total = sum(one.get("weight", 0) for one in given) if len(given) > 1 else 0
    legs = []
    for one in given:
        service, _, rest = full_host(one["destination"]["host"], home).partition(".")
        weight = one.get("weight", 0) / total if total else 1 / len(given)
        subset = one["destination"].get("subset", "")
        port = (one["destination"].get("port") or {}).get("number", 0)
        legs.append(Leg(service=service, namespace=rest.partition(".")[0], subset=subset, weight=weight, port=port))
    return Route(legs=legs, rule=name)


# ---- how clients treat a service


def destination_rules(host: str, asked: Asked, source: Snapshot) -> list[Object]:
    """Return the DestinationRules for ``host``: those of the first namespace that counts, the oldest first."""
    order = list(dict.fromkeys([asked.client_namespace, host.split(".")[1], SYSTEM_NAMESPACE]))
    ours: dict[str, list[Object]] = defaultdict(list)
    for rule in source.list("DestinationRule"):
        home, spec = rule["metadata"].get("namespace", ""), rule["spec"]
        meant = (spec.get("workloadSelector") or {}).get("matchLabels") or {}
        ours_too = meant.items() <= asked.client_labels.items() and _visible(rule, asked.client_namespace)
        if ours_too and covers(full_host(spec["host"], home), host):
            ours[home].append(rule)
    return next((sorted(ours[home], key=_age) for home in order if ours[home]), [])


def policy(rules: Sequence[Object], subset: str = "") -> tuple[Mapping[str, Any], Mapping[str, str] | None]:
    """Return the traffic policy, and the labels of a subset's pods; None where no rule has such a subset."""
    top: dict[str, Any] = dict(
        next((rule["spec"]["trafficPolicy"] for rule in rules if rule["spec"].get("trafficPolicy")), {})
    )
    if not subset:
        return top, {}
    for rule in rules:
        for one in rule["spec"].get("subsets") or []:
            if one["name"] == subset:
                return top | (one.get("trafficPolicy") or {}), one.get("labels") or {}
    return top, None


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One ready pod behind a service."""

    cluster: str
    pod: str
    labels: Mapping[str, str]
    locality: tuple[str, str, str]


def endpoints(service: str, namespace: str, views: Sequence[Snapshot]) -> Iterator[Endpoint]:
    """Yield the ready pods of a service in every cluster, each once."""
    for view in views:
        pods = {one["metadata"]["name"]: one for one in view.list("Pod", namespace)}
        seen: set[str] = set()
        for one in ready_endpoints(view.list("EndpointSlice", namespace, labels=f"{SERVICE_LABEL}={service}")):
            name = (one.get("targetRef") or {}).get("name", "")
            if name in pods and name not in seen:
                seen.add(name)
                place = locality(pods[name], view)
                yield Endpoint(cluster=view.cluster, pod=name, labels=labels_of(pods[name]), locality=place)


def locality(pod: Object, view: Snapshot) -> tuple[str, str, str]:
    """Return region, zone and subzone of a pod by its node's labels; empty ones where those are unknown."""
    try:
        node = view.find("Node", str(pod["spec"].get("nodeName", ""))) or {"metadata": {}}
    except NotSeen:
        node = {"metadata": {}}
    labels = labels_of(node)
    return labels.get(REGION, ""), labels.get(ZONE, ""), labels.get(SUBZONE, "")


# ---- shares


def expected(asked: Asked, source: Snapshot, views: Sequence[Snapshot]) -> ExpectedShares:
    """Return the shares that one source's requests should have; NotSeen where what decides cannot be read."""
    way = route(asked, source)
    if way.trouble:
        return _unknown(": ".join(filter(None, (way.rule, way.trouble))))
    shares: dict[str, float] = {view.cluster: 0.0 for view in views}
    counts: Counter[str] = Counter()
    shaping = len(way.legs) > 1 or any(leg.subset or leg.service != asked.service for leg in way.legs if asked.service)
    rule = way.rule if shaping else ""
    reasons, failover = [str(leg) for leg in way.legs if rule], ""
    for leg in (leg for leg in way.legs if leg.weight):
        rules = destination_rules(leg.host, asked, source)
        traffic, labels = policy(rules, leg.subset)
        there = [one for one in endpoints(leg.service, leg.namespace, views) if _fits(one, labels, source.cluster)]
        if not there:
            reasons.append(f"no ready pod behind {leg.subset or leg.service}")
            continue
        if "consistentHash" in (balancer := traffic.get("loadBalancer") or {}):
            return _unknown(f"DestinationRule {title(rules[0])} has consistentHash: each client stays with one pod")
        setting = balancer.get("localityLbSetting") or {}
        if setting.get("distribute"):
            return _unknown(f"DestinationRule {title(rules[0])} distributes by locality")
        if "outlierDetection" in traffic and setting.get("enabled", True) is not False:
            for view in views:
                view.list("Node")  # by whose labels pods are near: what cannot be read decides nothing
            near = _nearest(there, _client_locality(asked, source), setting.get("failoverPriority"))
            if len(near) < len(there):
                failover = f"DestinationRule {title(rules[0])}"
            there = near
        for one in there:
            shares[one.cluster] += leg.weight / len(there)
            counts[one.cluster] += 1
    return _told(shares, counts, rule, failover, reasons)


def _unknown(why: str) -> ExpectedShares:
    return ExpectedShares(shares={}, why=why)


def _told(
    shares: Mapping[str, float], counts: Counter[str], rule: str, failover: str, legs: Sequence[str]
) -> ExpectedShares:
    """Return the shares, together 1; none where a cluster has no ready endpoint, since that is no configuration."""
    parts = [f"{rule} sends {', '.join(legs)}"] if rule else list(legs)
    if failover:
        near = " and ".join(sorted(name for name, share in shares.items() if share))
        parts.append(f"{failover} has outlierDetection, so the nearest ready pods answer: those of {near}")
    gone, total = [name for name in shares if not counts[name]], sum(shares.values())
    if gone and not (total and (rule or failover)):
        return _unknown("; ".join(parts) or f"{' and '.join(gone)} has no ready endpoint")
    ready = ", ".join(f"{counts[name]} in {name}" for name in shares)
    return ExpectedShares(
        shares={name: share / total for name, share in shares.items()},
        why="; ".join(parts) or f"each ready endpoint counts the same ({ready})",
        by_rule=bool(rule or failover),
        fails_over=bool(failover),
    )


def _fits(one: Endpoint, labels: Mapping[str, str] | None, source: str) -> bool:
    """Tell whether a pod belongs to a subset, and can be reached: one of another cluster needs a sidecar for that."""
    near = one.cluster == source or one.labels.get(TLS_MODE_LABEL) == "istio"
    return near and labels is not None and labels.items() <= one.labels.items()


def _client_locality(asked: Asked, source: Snapshot) -> tuple[str, str, str]:
    clients = asked.clients(source)
    return locality(clients[0], source) if clients else ("", "", "")


def _nearest(there: Sequence[Endpoint], own: tuple[str, str, str], priority: object) -> list[Endpoint]:
    """Return the endpoints of the first priority: Istio ranks by how much of the locality is the same."""
    if priority:  # ranks by labels instead, which is left to the mesh: nothing is known to be near
        return list(there)

    def same(one: Endpoint) -> int:
        return next((level for level in range(3) if one.locality[level] != own[level]), 3)

    best = max(map(same, there))
    return [one for one in there if same(one) == best]
