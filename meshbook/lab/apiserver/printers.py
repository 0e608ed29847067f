"""Tables (``meta.k8s.io/v1``), which ``kubectl get`` prints: the columns of each kind and what a cell shows. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from meshbook.lab.apiserver.errors import not_acceptable
from meshbook.lab.apiserver.kinds import Kind
from meshbook.lab.apiserver.requests import ApiRequest, value_at
from meshbook.lab.apiserver.store import Stored
from meshbook.objects import Object, condition, is_deleting, moment_of

Cell = Callable[[Object], Any]
OFFERED = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
"""What a real server offers; here all answers are JSON, as YAML's readers take it too."""
_TAKEN = ("application/json", "application/*", "*/*", "")

MINUTE, HOUR, DAY = 60, 3600, 86400
YEAR = 365 * DAY
_AGES = (
    (2 * YEAR, YEAR, "y", DAY, "d", 8),
    (2 * DAY, DAY, "d", HOUR, "h", 8),
    (3 * HOUR, HOUR, "h", MINUTE, "m", 8),
    (0, MINUTE, "m", 1, "s", 10),
)
"""From how many seconds on; unit, letter; finer unit, letter, and the count of units from which it is left out."""


@dataclass(frozen=True)
class Column:
    """One printed column. ``wide`` ones are shown by ``-o wide`` only."""

    name: str
    cell: Cell
    type: str = "string"
    wide: bool = False

    def definition(self) -> Object:
        head: Object = {"name": self.name, "type": self.type, "format": "name" if self.name == "Name" else ""}
        return head | {"description": "", "priority": int(self.wide)}


def wants_table(request: ApiRequest) -> bool:
    """Tell which of the offered media types is taken: Table, if it comes before plain JSON."""
    for offer in request.headers.get("Accept", "").split(","):
        media, *parameters = [part.strip() for part in offer.split(";")]
        converted = [part for part in parameters if part.startswith("as=")]
        if media == "application/json" and converted == ["as=Table"] and "g=meta.k8s.io" in parameters:
            return True
        if media in _TAKEN and not converted:
            return False
    raise not_acceptable(request.kind, OFFERED)


def table(request: ApiRequest, entries: Sequence[Stored], revision: int, *, with_columns: bool = True) -> Object:
    """Return the Table of ``entries``; ``includeObject`` says how much of each object goes along."""
    columns, include = columns_of(request.kind), request.query.get("includeObject", "")
    rows = [{"cells": [c.cell(e.object) for c in columns], "object": _embedded(e.object, include)} for e in entries]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": str(revision)},
        "columnDefinitions": [column.definition() for column in columns] if with_columns else None,
        "rows": rows,
    }


def _embedded(obj: Object, include: str) -> Object | None:
    if include in ("None", "Object"):
        return obj if include == "Object" else None
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def columns_of(kind: Kind) -> tuple[Column, ...]:
    if not kind.custom:
        return _COLUMNS[kind.kind]
    shown = {"date": "string"}
    return (_NAME, *(Column(c.name, _custom(c.path, c.type), shown.get(c.type, c.type)) for c in kind.columns))


def elapsed(since: str, now: datetime | None = None) -> str:
    """Return the time since a time of the API as kubectl prints ages: ``5s``, ``4h59m``, ``3d2h``."""
    if not since:
        return "<unknown>"
    seconds = max(0, int(((now or datetime.now(UTC)) - moment_of(since)).total_seconds()))
    if seconds < 2 * MINUTE:
        return f"{seconds}s"
    size, unit, finer, letter, detailed = next(row[1:] for row in _AGES if seconds >= row[0])
    whole, rest = divmod(seconds, size)
    fine = rest // finer if whole < detailed else 0
    return f"{whole}{unit}" + (f"{fine}{letter}" if fine else "")


def _text(path: str, absent: str = "") -> Cell:
    return lambda obj: value_at(obj, path) or absent


def _number(path: str) -> Cell:
    return lambda obj: int(value_at(obj, path) or 0)


def _length(name: str) -> Cell:
    return lambda obj: len(obj.get(name) or ())


def _custom(path: str, kind: str) -> Cell:
    """What stands at the path of a custom kind's column: nothing where there is nothing, lists as JSON."""

    def cell(obj: Object) -> Any:
        value: Any = obj
        for name in path.strip(".").split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if kind == "date":
            return elapsed(value or "")
        return value if value is None or isinstance(value, str) else json.dumps(value, separators=(",", ":"))

    return cell


def _statuses(pod: Object) -> list[Object]:
    return pod.get("status", {}).get("containerStatuses") or []


def _pod_ready(pod: Object) -> str:
    return f"{sum(bool(status.get('ready')) for status in _statuses(pod))}/{len(pod['spec']['containers'])}"


def _pod_status(pod: Object) -> str:
    status = pod.get("status", {})
    shown = status.get("reason") or status.get("phase", "")
    for container in reversed(_statuses(pod)):
        state = container.get("state", {})
        reasons = (state.get("waiting", {}).get("reason"), state.get("terminated", {}).get("reason"))
        shown = next(filter(None, reasons), shown)
    return "Terminating" if is_deleting(pod) else shown


def _restarts(pod: Object) -> str:
    return str(sum(status.get("restartCount", 0) for status in _statuses(pod)))


def _ready_of_wanted(deployment: Object) -> str:
    return f"{value_at(deployment, 'status.readyReplicas') or 0}/{value_at(deployment, 'spec.replicas') or 0}"


def _ports(service: Object) -> str:
    ports = service["spec"].get("ports") or []
    shown = [f"{p['port']}{':' + str(p['nodePort']) if 'nodePort' in p else ''}/{p['protocol']}" for p in ports]
    return ",".join(shown) or "<none>"


def _external(service: Object) -> str:
    spec, ingress = service["spec"], service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    if spec["type"] == "LoadBalancer":
        return ",".join(entry.get("ip") or entry.get("hostname", "") for entry in ingress) or "<pending>"
    return spec.get("externalName") or ",".join(spec.get("externalIPs") or ()) or "<none>"


def _selector(obj: Object) -> str:
    selector = obj["spec"].get("selector") or {}
    labels = selector.get("matchLabels", {} if "matchExpressions" in selector else selector)
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or "<none>"


def _containers(name: str) -> Cell:
    return lambda obj: ",".join(c.get(name, "") for c in obj["spec"]["template"]["spec"]["containers"])


def _node_status(node: Object) -> str:
    cordoned = ",SchedulingDisabled" if node.get("spec", {}).get("unschedulable") else ""
    return ("Ready" if condition(node, "Ready").get("status") == "True" else "NotReady") + cordoned


def _node_address(node: Object) -> str:
    addresses = node.get("status", {}).get("addresses") or ()
    return next((a["address"] for a in addresses if a["type"] == "InternalIP"), "<none>")


def _first_three(shown: list[str], absent: str) -> str:
    return ",".join(shown[:3]) + (f" + {len(shown) - 3} more..." if len(shown) > 3 else "") or absent


def _endpoints(obj: Object) -> str:
    shown = [
        f"{address['ip']}:{port['port']}"
        for subset in obj.get("subsets") or ()
        for port in subset.get("ports") or ()
        for address in subset.get("addresses") or ()
    ]
    return _first_three(shown, "<none>")


def _slice_endpoints(obj: Object) -> str:
    return _first_three([a for one in obj.get("endpoints") or () for a in one.get("addresses") or ()], "<unset>")


def _slice_ports(obj: Object) -> str:
    return ",".join(str(port.get("port")) for port in obj.get("ports") or ()) or "<unset>"


def _scale_target(obj: Object) -> str:
    reference = obj["spec"]["scaleTargetRef"]
    return f"{reference['kind']}/{reference['name']}"


def _targets(obj: Object) -> str:
    """What an autoscaler aims at; the lab measures no load."""
    resources = [metric["resource"] for metric in obj["spec"].get("metrics") or () if "resource" in metric]
    shown = [f"{one['name']}: <unknown>/{one['target'].get('averageUtilization', '')}%" for one in resources]
    return ", ".join(shown) or "<none>"


def _last_seen(event: Object) -> str:
    return elapsed(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"])


def _involved(event: Object) -> str:
    reference = event["involvedObject"]
    return f"{reference.get('kind', '').lower()}/{reference.get('name', '')}"


def _wide(name: str, cell: Cell) -> Column:
    return Column(name, cell, wide=True)


def _count(name: str, cell: Cell) -> Column:
    return Column(name, cell, "integer")


_NAME = Column("Name", _text("metadata.name"))
_AGE = Column("Age", lambda obj: elapsed(obj["metadata"].get("creationTimestamp", "")))
_OF_PODS = (
    _wide("Containers", _containers("name")),
    _wide("Images", _containers("image")),
    _wide("Selector", _selector),
)
_ROLE, _ROLE_BINDING = (
    (_NAME, Column("Created At", _text("metadata.creationTimestamp"))),
    (_NAME, Column("Role", lambda obj: f"{obj['roleRef']['kind']}/{obj['roleRef']['name']}"), _AGE),
)
_COLUMNS: dict[str, tuple[Column, ...]] = {
    "ClusterRole": _ROLE,
    "ClusterRoleBinding": _ROLE_BINDING,
    "ConfigMap": (_NAME, _count("Data", _length("data")), _AGE),
    "Deployment": (
        _NAME,
        Column("Ready", _ready_of_wanted),
        _count("Up-to-date", _number("status.updatedReplicas")),
        _count("Available", _number("status.availableReplicas")),
        _AGE,
        *_OF_PODS,
    ),
    "Endpoints": (_NAME, Column("Endpoints", _endpoints), _AGE),
    "EndpointSlice": (
        _NAME,
        Column("AddressType", _text("addressType")),
        Column("Ports", _slice_ports),
        Column("Endpoints", _slice_endpoints),
        _AGE,
    ),
    "Event": (
        Column("Last Seen", _last_seen),
        Column("Type", _text("type")),
        Column("Reason", _text("reason")),
        Column("Object", _involved),
        Column("Message", _text("message")),
        _wide("Name", _text("metadata.name")),
    ),
    "HorizontalPodAutoscaler": (
        _NAME,
        Column("Reference", _scale_target),
        Column("Targets", _targets),
        Column("MinPods", _text("spec.minReplicas")),
        _count("MaxPods", _number("spec.maxReplicas")),
        _count("Replicas", _number("status.currentReplicas")),
        _AGE,
    ),
    "Lease": (_NAME, Column("Holder", _text("spec.holderIdentity")), _AGE),
    "MutatingWebhookConfiguration": (_NAME, _count("Webhooks", _length("webhooks")), _AGE),
    "Namespace": (_NAME, Column("Status", _text("status.phase")), _AGE),
    "Node": (
        _NAME,
        Column("Status", _node_status),
        Column("Roles", lambda _: "<none>"),
        _AGE,
        Column("Version", _text("status.nodeInfo.kubeletVersion")),
        _wide("Internal-IP", _node_address),
        _wide("External-IP", lambda _: "<none>"),
        _wide("OS-Image", _text("status.nodeInfo.osImage", "<unknown>")),
        _wide("Kernel-Version", _text("status.nodeInfo.kernelVersion", "<unknown>")),
        _wide("Container-Runtime", _text("status.nodeInfo.containerRuntimeVersion", "<unknown>")),
    ),
    "Pod": (
        _NAME,
        Column("Ready", _pod_ready),
        Column("Status", _pod_status),
        Column("Restarts", _restarts),
        _AGE,
        _wide("IP", _text("status.podIP", "<none>")),
        _wide("Node", _text("spec.nodeName", "<none>")),
        _wide("Nominated Node", lambda _: "<none>"),
        _wide("Readiness Gates", lambda _: "<none>"),
    ),
    "PodDisruptionBudget": (
        _NAME,
        Column("Min Available", _text("spec.minAvailable", "N/A")),
        Column("Max Unavailable", _text("spec.maxUnavailable", "N/A")),
        _count("Allowed Disruptions", _number("status.disruptionsAllowed")),
        _AGE,
    ),
    "ReplicaSet": (
        _NAME,
        _count("Desired", _number("spec.replicas")),
        _count("Current", _number("status.replicas")),
        _count("Ready", _number("status.readyReplicas")),
        _AGE,
        *_OF_PODS,
    ),
    "Role": _ROLE,
    "RoleBinding": _ROLE_BINDING,
    "Secret": (_NAME, Column("Type", _text("type")), _count("Data", _length("data")), _AGE),
    "Service": (
        _NAME,
        Column("Type", _text("spec.type")),
        Column("Cluster-IP", _text("spec.clusterIP", "<none>")),
        Column("External-IP", _external),
        Column("Port(s)", _ports),
        _AGE,
        _wide("Selector", _selector),
    ),
    "ServiceAccount": (_NAME, _count("Secrets", _length("secrets")), _AGE),
}
