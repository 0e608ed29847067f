"""The printed columns of each kind. What a cell shows is computed in ``cells``."""

from __future__ import annotations

from dataclasses import dataclass

from meshbook.lab.apiserver import cells
from meshbook.lab.apiserver.cells import Cell, number, text
from meshbook.lab.apiserver.kinds import Json, Kind


@dataclass(frozen=True)
class Column:
    """One printed column. ``wide`` ones are shown by ``-o wide`` only."""

    name: str
    cell: Cell
    type: str = "string"
    wide: bool = False

    def definition(self) -> Json:
        head: Json = {"name": self.name, "type": self.type, "format": "name" if self.name == "Name" else ""}
        return head | {"description": "", "priority": int(self.wide)}


def wide(name: str, cell: Cell) -> Column:
    return Column(name, cell, wide=True)


_NAME, _AGE = Column("Name", text("metadata.name")), Column("Age", cells.age)
DEFAULT_COLUMNS = (_NAME, _AGE)
_CREATED = Column("Created At", text("metadata.creationTimestamp"))
_SHOWN = {"date": "string"}
_ROLE = Column("Role", cells.role)
_SUBJECTS = tuple(wide(f"{kind}s", cells.subjects(kind)) for kind in ("User", "Group", "ServiceAccount"))
_OF_PODS = (
    wide("Containers", cells.containers("name")),
    wide("Images", cells.containers("image")),
    wide("Selector", cells.selector),
)

COLUMNS: dict[str, tuple[Column, ...]] = {
    "/configmaps": (_NAME, Column("Data", cells.count("data"), "integer"), _AGE),
    "/endpoints": (_NAME, Column("Endpoints", cells.endpoints), _AGE),
    "/events": (
        Column("Last Seen", cells.seen),
        Column("Type", text("type")),
        Column("Reason", text("reason")),
        Column("Object", cells.involved),
        Column("Message", text("message")),
        wide("Name", text("metadata.name")),
    ),
    "/namespaces": (_NAME, Column("Status", text("status.phase")), _AGE),
    "/nodes": (
        _NAME,
        Column("Status", cells.node_ready),
        Column("Roles", lambda _: "<none>"),
        _AGE,
        Column("Version", text("status.nodeInfo.kubeletVersion")),
        wide("Internal-IP", cells.node_address),
        wide("External-IP", lambda _: "<none>"),
        wide("OS-Image", text("status.nodeInfo.osImage", "<unknown>")),
        wide("Kernel-Version", text("status.nodeInfo.kernelVersion", "<unknown>")),
        wide("Container-Runtime", text("status.nodeInfo.containerRuntimeVersion", "<unknown>")),
    ),
    "/pods": (
        _NAME,
        Column("Ready", cells.pod_ready),
        Column("Status", cells.pod_status),
        Column("Restarts", cells.restarts),
        _AGE,
        wide("IP", text("status.podIP", "<none>")),
        wide("Node", text("spec.nodeName", "<none>")),
        wide("Nominated Node", lambda _: "<none>"),
        wide("Readiness Gates", lambda _: "<none>"),
    ),
    "/secrets": (_NAME, Column("Type", text("type")), Column("Data", cells.count("data"), "integer"), _AGE),
    "/serviceaccounts": (_NAME, Column("Secrets", cells.count("secrets"), "integer"), _AGE),
    "/services": (
        _NAME,
        Column("Type", text("spec.type")),
        Column("Cluster-IP", text("spec.clusterIP", "<none>")),
        Column("External-IP", cells.external),
        Column("Port(s)", cells.ports),
        _AGE,
        wide("Selector", cells.selector),
    ),
    "apps/deployments": (
        _NAME,
        Column("Ready", cells.ready_of_wanted),
        Column("Up-to-date", number("status.updatedReplicas"), "integer"),
        Column("Available", number("status.availableReplicas"), "integer"),
        _AGE,
        *_OF_PODS,
    ),
    "apps/replicasets": (
        _NAME,
        Column("Desired", number("spec.replicas"), "integer"),
        Column("Current", number("status.replicas"), "integer"),
        Column("Ready", number("status.readyReplicas"), "integer"),
        _AGE,
        *_OF_PODS,
    ),
    "batch/jobs": (
        _NAME,
        Column("Status", cells.job_status),
        Column("Completions", cells.job_completions),
        Column("Duration", cells.job_duration),
        _AGE,
        *_OF_PODS,
    ),
    "autoscaling/horizontalpodautoscalers": (
        _NAME,
        Column("Reference", cells.target),
        Column("Targets", cells.targets),
        Column("MinPods", text("spec.minReplicas")),
        Column("MaxPods", number("spec.maxReplicas"), "integer"),
        Column("Replicas", number("status.currentReplicas"), "integer"),
        _AGE,
    ),
    "discovery.k8s.io/endpointslices": (
        _NAME,
        Column("AddressType", text("addressType")),
        Column("Ports", cells.slice_ports),
        Column("Endpoints", cells.slice_endpoints),
        _AGE,
    ),
    "policy/poddisruptionbudgets": (
        _NAME,
        Column("Min Available", text("spec.minAvailable", "N/A")),
        Column("Max Unavailable", text("spec.maxUnavailable", "N/A")),
        Column("Allowed Disruptions", number("status.disruptionsAllowed"), "integer"),
        _AGE,
    ),
    "admissionregistration.k8s.io/mutatingwebhookconfigurations": (
        _NAME,
        Column("Webhooks", cells.count("webhooks"), "integer"),
        _AGE,
    ),
    "apiextensions.k8s.io/customresourcedefinitions": (_NAME, _CREATED),
    "coordination.k8s.io/leases": (_NAME, Column("Holder", text("spec.holderIdentity")), _AGE),
    "rbac.authorization.k8s.io/clusterroles": (_NAME, _CREATED),
    "rbac.authorization.k8s.io/roles": (_NAME, _CREATED),
    "rbac.authorization.k8s.io/clusterrolebindings": (_NAME, _ROLE, _AGE, *_SUBJECTS),
    "rbac.authorization.k8s.io/rolebindings": (_NAME, _ROLE, _AGE, *_SUBJECTS),
}


def columns_of(kind: Kind) -> tuple[Column, ...]:
    """Return the columns of a kind; those of a custom kind are in its definition."""
    if not kind.printed:
        return COLUMNS.get(kind.bucket, DEFAULT_COLUMNS)
    return (
        _NAME,
        *(Column(p.name, cells.at(p.path, p.type), _SHOWN.get(p.type, p.type), p.wide) for p in kind.printed),
    )
