"""What an outage is about: an application behind a Service, and an east-west gateway."""

from __future__ import annotations

from typing import Any

from meshbook import outage
from meshbook.clusters import Cluster, Fleet
from meshbook.objects import annotations_of

NAMESPACE, SYSTEM = "sample", "istio-system"
LABELS = {"app": "web", "version": "v1"}
GATEWAY = {"istio": "eastwestgateway"}
LEASE = "coordination.k8s.io/v1/Lease"
TARGETS = {
    "scale-to-zero": ("Deployment", "web", NAMESPACE),
    "pods-deleted": ("Deployment", "web", NAMESPACE),
    "readiness-lost": ("Service", "web", NAMESPACE),
    "east-west-down": ("Deployment", "gateway", SYSTEM),
}
"""What each mode changes."""

Json = dict[str, Any]


def deployment(name: str, namespace: str, labels: dict[str, str], replicas: int = 2) -> Json:
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "web"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": spec}


def service(name: str, namespace: str, selector: dict[str, str] | None, **labels: str) -> Json:
    spec: Json = {"ports": [{"name": "http", "port": 80}]} | ({"selector": selector} if selector else {})
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels}, "spec": spec}


def autoscaler(least: int, most: int) -> Json:
    scaled = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    spec = {"scaleTargetRef": scaled, "minReplicas": least, "maxReplicas": most}
    return {"metadata": {"name": "web", "namespace": NAMESPACE}, "spec": spec}


def furnish(cluster: Cluster) -> None:
    for namespace in (NAMESPACE, SYSTEM):
        cluster.create_namespace(namespace)
    cluster.create("Deployment", deployment("web", NAMESPACE, LABELS))
    cluster.create("Service", service("web", NAMESPACE, {"app": "web"}))
    cluster.create("Deployment", deployment("gateway", SYSTEM, GATEWAY, replicas=1))
    cluster.create("Service", service("gateway", SYSTEM, GATEWAY, **GATEWAY))


def be_a_lab(cluster: Cluster) -> None:
    cluster.create("Node", {"metadata": {"name": "node-1", "labels": {"meshbook.io/lab": "true"}}})


def intent(fleet: Fleet, mode: str = "scale-to-zero", **more: Any) -> outage.Intent:
    """Return an outage of web at cluster1; what belongs to its safeguards is given beside the rest."""
    words = ("allow_outage", "named_workloads", "watchdog_s")
    safeguards = outage.Safeguards(**{word: more.pop(word) for word in words if word in more})
    given = {"cluster": fleet["cluster1"], "deployment": "web", "namespace": NAMESPACE, "survivors": tuple(fleet)}
    return outage.Intent(**(given | {"mode": mode, "timeout_s": 10.0, "safeguards": safeguards} | more))


def must_not_begin(wanted: outage.Intent) -> None:
    with outage.outage(wanted):
        raise AssertionError("the block must not begin")


def interrupted(wanted: outage.Intent, *, lease: bool = False) -> str:
    """Leave everything as a process does that was killed in the middle of an outage; return its run."""
    cluster, (kind, name, namespace) = wanted.cluster, TARGETS[wanted.mode]
    with outage.outage(wanted):
        down = cluster.get(kind, name, namespace)
        (held,) = cluster.list(LEASE, NAMESPACE)
    if lease:
        kept = ("name", "namespace", "labels", "ownerReferences")
        metadata = {key: value for key, value in held["metadata"].items() if key in kept}
        cluster.create(LEASE, {"metadata": metadata, "spec": held["spec"]})
    part = "replicas" if kind == "Deployment" else "selector"
    change = {"metadata": {"annotations": annotations_of(down)}, "spec": {part: down["spec"][part]}}
    cluster.patch(kind, name, change, namespace=namespace)
    return wanted.run


def shape(cluster: Cluster) -> Json:
    """Return all that an outage may have touched."""
    found = [(kind, one) for kind in ("Deployment", "Service") for one in cluster.list(kind)]
    return {f"{kind} {one['metadata']['name']}": (one["spec"], annotations_of(one)) for kind, one in found}


def replicas(cluster: Cluster, name: str = "web", namespace: str = NAMESPACE) -> int:
    return int(cluster.get("Deployment", name, namespace)["spec"]["replicas"])


def record(cluster: Cluster, name: str = "web", namespace: str = NAMESPACE) -> dict[str, str]:
    return annotations_of(cluster.get("Deployment", name, namespace))


def endpoints(cluster: Cluster) -> int:
    return len((cluster.find("EndpointSlice", "web-1", NAMESPACE) or {}).get("endpoints") or [])


def pods(cluster: Cluster, namespace: str = NAMESPACE) -> list[str]:
    return [pod["metadata"]["uid"] for pod in cluster.list("Pod", namespace)]


def leases(cluster: Cluster) -> list[str]:
    return [one["metadata"]["name"] for one in cluster.list(LEASE, NAMESPACE)]
