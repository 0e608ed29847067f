"""DestinationRules: balance, outlier detection, subsets. Pure.

Understood: in ``trafficPolicy`` ``loadBalancer.simple``, ``loadBalancer.localityLbSetting.enabled`` and
``outlierDetection``; ``subsets`` with the same. The rest of the API is accepted by the API server and has no effect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from meshbook.lab.envoy.clusters import Balance, Outliers
from meshbook.lab.istiod.registry import DOMAIN, SYSTEM_NAMESPACE, MeshService, Object

BALANCES = {
    "ROUND_ROBIN": Balance.ROUND_ROBIN,
    "LEAST_REQUEST": Balance.LEAST_REQUEST,
    "LEAST_CONN": Balance.LEAST_REQUEST,
    "RANDOM": Balance.RANDOM,
}
DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
UNIT_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How a client treats one service, or one subset of it. Without a rule: round robin over all networks."""

    balance: Balance = Balance.ROUND_ROBIN
    outliers: Outliers | None = None
    locality_enabled: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels that a subset's pods carry; empty: all pods."""

    @property
    def failover(self) -> bool:
        """Outlier detection turns locality failover on: near endpoints first, others when those are gone."""
        return self.outliers is not None and self.locality_enabled


EVERYTHING = Policy()
"""What holds where no DestinationRule speaks."""


def of_service(service: MeshService, client_namespace: str, rules: Sequence[Object]) -> dict[str, Policy]:
    """Return policies by subset name ("": the whole service); the client's namespace's rule counts first."""
    order = (client_namespace, service.namespace, SYSTEM_NAMESPACE)
    ours = [rule for rule in rules if _concerns(rule, service) and rule["metadata"]["namespace"] in order]
    if not ours:
        return {"": EVERYTHING}
    spec = min(ours, key=lambda rule: (order.index(rule["metadata"]["namespace"]), rule["metadata"]["name"]))["spec"]
    top = spec.get("trafficPolicy") or {}
    subsets = {
        subset["name"]: _policy(top | (subset.get("trafficPolicy") or {}), subset.get("labels"))
        for subset in spec.get("subsets") or []
    }
    return {"": _policy(top)} | subsets


def full_host(host: str, namespace: str) -> str:
    """Return a host as Istio reads it: a name without dots is a service of the object's own namespace."""
    return host if "." in host or host == "*" else f"{host}.{namespace}.{DOMAIN}"


def host_covers(pattern: str, host: str) -> bool:
    """Tell whether ``pattern`` (a host, ``*`` or ``*.suffix``) covers ``host``."""
    return pattern in ("*", host) or (pattern.startswith("*.") and host.endswith(pattern[1:]))


def duration_s(text: Any, default: float) -> float:
    """Return the seconds of a duration such as ``1m30s`` or ``500ms``; ``default`` when there is none."""
    parts = DURATION.findall(str(text or ""))
    return sum(float(number) * UNIT_S[unit] for number, unit in parts) if parts else default


def _concerns(rule: Object, service: MeshService) -> bool:
    return host_covers(full_host(rule["spec"]["host"], rule["metadata"]["namespace"]), service.host)


def _policy(traffic: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> Policy:
    balancer = traffic.get("loadBalancer") or {}
    locality = balancer.get("localityLbSetting") or {}
    return Policy(
        balance=BALANCES.get(balancer.get("simple", ""), Balance.ROUND_ROBIN),
        outliers=_outliers(traffic.get("outlierDetection")),
        locality_enabled=locality.get("enabled", True) is not False,
        labels=labels or {},
    )


def _outliers(detection: Mapping[str, Any] | None) -> Outliers | None:
    if detection is None:
        return None
    gateway = detection.get("consecutiveGatewayErrors")
    return Outliers(
        consecutive_5xx=detection.get("consecutive5xxErrors", 5) or None,
        consecutive_gateway=gateway or None,
        interval_s=duration_s(detection.get("interval"), 10),
        ejection_s=duration_s(detection.get("baseEjectionTime"), 30),
        max_percent=detection.get("maxEjectionPercent", 10),
    )
