"""Look at what the global load balancer looks at: the ingress gateways' pods, and the BackendConfig's health check.

Its own view of its backends is not in the Kubernetes API, so it is not claimed to be known here.
"""

from __future__ import annotations

from meshbook.analysis import LoadBalancer
from meshbook.clusters import Cluster, Fleet, Object, Scope
from meshbook.errors import ClusterError, GatheredError
from meshbook.objects import is_ready

GATEWAYS = "istio=ingressgateway"
SILENCE_S = 1.0
"""Seconds after which a cluster that does not answer is left out."""


def look(fleet: Fleet, namespace: str, *, health_check: str = "", selector: str = GATEWAYS) -> LoadBalancer:
    """Look once at every cluster's gateways; one that does not answer at once is told as silent."""

    def ready(cluster: Cluster) -> tuple[int, int]:
        pods = _once(cluster, "Pod", namespace, selector)
        return sum(map(is_ready, pods)), len(pods)

    try:
        gateways = fleet.each(ready)
    except GatheredError as error:
        gateways = {name: found for name, found in error.results.items() if isinstance(found, tuple)}
    silent = tuple(cluster.name for cluster in fleet if cluster.name not in gateways)
    return LoadBalancer(health_check=health_check, gateways=gateways, silent=silent)


def health_check(config: Cluster, namespace: str) -> str:
    """Return what the load balancer asks, ``port 15021, /healthz/ready``; empty where no BackendConfig says so.

    To be read before an outage: the config cluster may be the one that falls silent.
    """
    try:
        found = _once(config, "BackendConfig", namespace)
    except ClusterError:
        return ""
    checks = [one["spec"].get("healthCheck") or {} for one in found]
    return ", ".join(f"port {check.get('port', '?')}, {check.get('requestPath', '/')}" for check in checks)


def _once(cluster: Cluster, kind: str, namespace: str, labels: str = "") -> list[Object]:
    return cluster.list_once(Scope(kind=kind, namespace=namespace, labels=labels), SILENCE_S).get("items") or []
