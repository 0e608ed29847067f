"""How a client treats a service: its DestinationRule, and the endpoints, weights and priorities that it gets. Pure.

Understood of a DestinationRule: in ``trafficPolicy`` ``loadBalancer.simple``, ``localityLbSetting.enabled`` there,
``outlierDetection`` and ``connectionPool.http.h2UpgradePolicy``; ``subsets`` with the same. The rest is accepted by the
API server and has no effect.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from meshbook.lab.envoy.clusters import Endpoint, Locality
from meshbook.lab.envoy.elements import Json, seconds
from meshbook.lab.istiod.registry import Instance, Mesh, MeshService, Proxy, carries, full_host, host_covers
from meshbook.lab.topology import PROXY_INBOUND_PORT
from meshbook.objects import SYSTEM_NAMESPACE, Object

LEAST_REQUEST = "LEAST_REQUEST"
"""Istio's default: of two endpoints picked by chance, the one with fewer requests in flight."""
BALANCES = {"ROUND_ROBIN": "ROUND_ROBIN", "RANDOM": "RANDOM"}
DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
UNIT_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a rule says of one service, or of one subset of it. Without a rule: Istio's default over all networks."""

    cluster: Json = field(default_factory=lambda: {"lb_policy": LEAST_REQUEST})
    """The fields of Envoy's cluster that it sets."""
    failover: bool = False
    """Near endpoints first, others when those are gone: outlier detection turns that on."""
    http2: bool = False
    """Proxies speak HTTP/2 to each other, whatever the port's protocol."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels that a subset's pods carry; empty: all pods."""

    def chosen(self, instances: Sequence[Instance]) -> list[Instance]:
        return [one for one in instances if not self.labels or carries(one.labels, self.labels)]


def policies(service: MeshService, client_namespace: str, rules: Sequence[Object]) -> dict[str, Policy]:
    """Return policies by subset name ("": the whole service); the client's namespace's rule counts first."""
    order = (client_namespace, service.namespace, SYSTEM_NAMESPACE)
    ours = [
        rule
        for rule in rules
        if (home := rule["metadata"]["namespace"]) in order
        and host_covers(full_host(rule["spec"]["host"], home), service.host)
    ]
    if not ours:
        return {"": Policy()}
    spec = min(ours, key=lambda rule: (order.index(rule["metadata"]["namespace"]), rule["metadata"]["name"]))["spec"]
    top = spec.get("trafficPolicy") or {}
    subsets = {
        subset["name"]: _policy(top | (subset.get("trafficPolicy") or {}), subset.get("labels"))
        for subset in spec.get("subsets") or []
    }
    return {"": _policy(top)} | subsets


def endpoints(proxy: Proxy, instances: Sequence[Instance], policy: Policy, mesh: Mesh) -> list[Endpoint]:
    """Return what ``proxy`` sees of a service port.

    Pods of its own network appear by their own address, every other network as its gateways, which weigh as much as the
    pods behind them. A network without a gateway cannot be reached, nor can a pod without a sidecar in another network.
    """
    near: list[Instance] = []
    far: dict[str, list[Instance]] = defaultdict(list)
    for one in policy.chosen(instances):
        if one.network == proxy.network:
            near.append(one)
        elif one.mtls and one.network in mesh.gateways:
            far[one.network].append(one)
    scale = math.lcm(*(len(mesh.gateways[network]) for network in far))
    found = [_direct(one, scale, PROXY_INBOUND_PORT if one.mtls else mesh.bindable(one.port)) for one in near]
    for network, behind in far.items():
        addresses = mesh.gateways[network]
        weight = len(behind) * scale // len(addresses)
        locality = Counter(one.locality for one in behind).most_common(1)[0][0]
        found += [Endpoint(address=ip, port=port, weight=weight, locality=locality) for ip, port in addresses]
    return _by_priority(found, proxy.locality) if policy.failover else found


def passed_through(proxy: Proxy, instances: Sequence[Instance], policy: Policy) -> list[Endpoint]:
    """Return what an east-west gateway passes connections to: the mutual TLS ports of its own network's pods."""
    chosen = [one for one in policy.chosen(instances) if one.mtls and one.network == proxy.network]
    return [_direct(one, 1, PROXY_INBOUND_PORT) for one in chosen]


def duration_s(text: Any, default: float) -> float:
    """Return the seconds of a duration such as ``1m30s`` or ``500ms``; ``default`` when there is none."""
    parts = DURATION.findall(str(text or ""))
    return sum(float(number) * UNIT_S[unit] for number, unit in parts) if parts else default


def _direct(one: Instance, weight: int, port: int) -> Endpoint:
    return Endpoint(address=one.address, port=port, weight=weight, locality=one.locality, mtls=one.mtls)


def _by_priority(found: Sequence[Endpoint], own: Locality) -> list[Endpoint]:
    """Rank by distance: same zone, same region, elsewhere; Envoy wants the ranks without gaps."""

    def distance(one: Locality) -> int:
        return 2 if one.region != own.region else int(one.zone != own.zone)

    distances = sorted({distance(one.locality) for one in found})
    return [replace(one, priority=distances.index(distance(one.locality))) for one in found]


def _policy(traffic: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> Policy:
    balancer, detection = traffic.get("loadBalancer") or {}, traffic.get("outlierDetection")
    cluster: Json = {"lb_policy": BALANCES.get(balancer.get("simple", ""), LEAST_REQUEST)}
    if detection is not None:
        cluster["outlier_detection"] = _outlier_detection(detection)
    by_locality = (balancer.get("localityLbSetting") or {}).get("enabled", True) is not False
    http2 = ((traffic.get("connectionPool") or {}).get("http") or {}).get("h2UpgradePolicy") == "UPGRADE"
    failover = detection is not None and by_locality
    return Policy(cluster=cluster, failover=failover, http2=http2, labels=labels or {})


def _outlier_detection(detection: Mapping[str, Any]) -> Json:
    """Return Istio's rule in Envoy's words, with Istio's defaults; Envoy's own success rate stays out of it."""
    any_5xx, gateway = detection.get("consecutive5xxErrors", 5), detection.get("consecutiveGatewayErrors")
    return {
        "consecutive_5xx": any_5xx or 5,
        "enforcing_consecutive_5xx": 100 if any_5xx else 0,
        "consecutive_gateway_failure": gateway or 5,
        "enforcing_consecutive_gateway_failure": 100 if gateway else 0,
        "enforcing_success_rate": 0,
        "interval": seconds(duration_s(detection.get("interval"), 10)),
        "base_ejection_time": seconds(duration_s(detection.get("baseEjectionTime"), 30)),
        "max_ejection_percent": detection.get("maxEjectionPercent", 10),
    }
