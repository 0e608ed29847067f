"""What must hold before an outage starts: consent, whose workload it is, and a survivor that can carry the load."""

from __future__ import annotations

from meshbook.clusters import Cluster, DeploymentState, Object, is_loopback
from meshbook.errors import ClusterError
from meshbook.outage import headroom
from meshbook.outage.headroom import Side
from meshbook.outage.intent import Intent
from meshbook.outage.records import Check
from meshbook.outage.scaling import autoscaler_of, labels_of_pods
from meshbook.outage.subjects import Subject
from meshbook.settings import FIELD_MANAGER

LAB_LABEL = "meshbook.io/lab"
METRICS = "metrics.k8s.io/v1beta1/PodMetrics"

_MAKING = {"Deployment": "f:template", "Service": "f:ports"}
"""The field of a spec that belongs to who made the object, and not to who scales it."""


def is_lab(cluster: Cluster) -> bool:
    """Tell whether a cluster serves nobody: its API server is this machine, and all its nodes say that it is a lab."""
    if not is_loopback(cluster.connection.server):
        return False
    try:
        nodes = cluster.list("Node")
    except ClusterError as error:
        if error.code not in (401, 403, 404):
            raise
        return False
    return bool(nodes) and all(LAB_LABEL in (node["metadata"].get("labels") or {}) for node in nodes)


def consent(intent: Intent, *, lab: bool) -> Check:
    """Say whether this may be done here at all."""
    saw = (
        "this is a lab" if lab else f"allow_outage is {str(intent.safeguards.allow_outage).lower()}, and this is no lab"
    )
    return Check(name="it is allowed", ok=lab or intent.safeguards.allow_outage, saw=saw)


def ownership(intent: Intent, subjects: tuple[Subject, ...], *, lab: bool) -> Check:
    """Say whether meshbook may touch this: it has made it, or the user has named it."""
    name = "it is meshbook's own, or was named"
    if lab:
        return Check(name=name, ok=True, saw="this is a lab")
    unnamed = [subject for subject in subjects if subject.name not in intent.safeguards.named_workloads]
    foreign = [str(subject) for subject in unnamed if not made_by_meshbook(subject.kind, subject.read())]
    saw = "; ".join(f"{one} is not" for one in foreign) or ("made by meshbook" if unnamed else "it was named")
    return Check(name=name, ok=not foreign, saw=saw)


def made_by_meshbook(kind: str, found: Object) -> bool:
    """Tell whether meshbook wrote the object, and did not merely scale it, by who manages its fields."""
    for entry in found["metadata"].get("managedFields") or []:
        fields = (entry.get("fieldsV1") or {}).get("f:spec") or {}
        if entry.get("manager") == FIELD_MANAGER and _MAKING[kind] in fields:
            return True
    return False


def survivors(intent: Intent, *, lab: bool) -> list[Check]:
    """Say whether somebody carries on, and has room for it."""
    deployment = intent.cluster.get("Deployment", intent.deployment, intent.namespace)
    app = labels_of_pods(deployment).get("app", intent.deployment)
    taken = _side(intent.cluster, intent.namespace, [deployment])
    others = [_survivor(other, intent.namespace, app) for other in intent.others]
    return [
        headroom.survivors_are_healthy(others, required=bool(intent.survivors) or not lab),
        headroom.replicas_suffice(taken, others),
        headroom.cpu_suffices(taken, others),
    ]


def _survivor(cluster: Cluster, namespace: str, app: str) -> Side:
    try:
        found = [one for one in cluster.list("Deployment", namespace) if labels_of_pods(one).get("app") == app]
        if not found:
            return _unknown(cluster, f"has no Deployment of app {app} in {namespace}")
        return _side(cluster, namespace, found)
    except ClusterError as error:
        return _unknown(cluster, f"cannot be asked: {error.message}")


def _unknown(cluster: Cluster, problem: str) -> Side:
    return Side(context=cluster.name, desired=0, ready=0, ceiling=0, problem=problem)


def _side(cluster: Cluster, namespace: str, deployments: list[Object]) -> Side:
    states = [DeploymentState.of(cluster.name, one) for one in deployments]
    desired = sum(state.desired for state in states)
    return Side(
        context=cluster.name,
        desired=desired,
        ready=sum(min(state.ready, state.available) for state in states),
        ceiling=sum(_ceiling(cluster, one, state) for one, state in zip(deployments, states, strict=True)),
        cpu_used=_cpu_used(cluster, namespace, {labels_of_pods(one).get("app", "") for one in deployments}),
        cpu_requested=_cpu_requested(deployments),
    )


def _ceiling(cluster: Cluster, deployment: Object, state: DeploymentState) -> int:
    bounds = autoscaler_of(Subject.of(cluster, "Deployment", deployment), deployment)
    return max(state.desired, int(bounds.split()[2])) if bounds else state.desired


def _cpu_requested(deployments: list[Object]) -> float | None:
    """Return what one pod asks for, at least over ``deployments``; None when one does not say."""
    asked = []
    for deployment in deployments:
        containers = deployment["spec"]["template"]["spec"]["containers"]
        requests = [((one.get("resources") or {}).get("requests") or {}).get("cpu") for one in containers]
        if not all(requests):
            return None
        asked.append(sum(headroom.cores(str(quantity)) for quantity in requests))
    return min(asked, default=None)


def _cpu_used(cluster: Cluster, namespace: str, apps: set[str]) -> float | None:
    try:
        found = [one for app in apps for one in cluster.list(METRICS, namespace, labels=f"app={app}")]
    except ClusterError as error:
        if error.code not in (403, 404, 503):
            raise
        return None
    usages = [container["usage"]["cpu"] for one in found for container in one.get("containers") or []]
    return sum(map(headroom.cores, usages)) if usages else None
