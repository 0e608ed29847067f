"""The printed columns of each kind: the cells of its row in a Table. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from meshbook.lab.apiserver.kinds import Json
from meshbook.lab.apiserver.selectors import value_at

Cell = Callable[[Json], Any]
_UNITS = ((86400 * 365, "y"), (86400, "d"), (3600, "h"), (60, "m"))


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


def _path(path: str, absent: str = "") -> Cell:
    return lambda obj: value_at(obj, path) or absent


def _number(path: str) -> Cell:
    return lambda obj: int(value_at(obj, path) or 0)


def _count(name: str) -> Cell:
    return lambda obj: len(obj.get(name) or ())


def elapsed(since: str, now: datetime | None = None) -> str:
    """Return the time since an RFC 3339 time as kubectl prints ages: ``5s``, ``4h59m``, ``3d2h``."""
    if not since:
        return "<unknown>"
    start = datetime.fromisoformat(since.replace("Z", "+00:00"))
    seconds = max(0, int(((now or datetime.now(UTC)) - start).total_seconds()))
    if seconds < 120:
        return f"{seconds}s"
    size, unit = next((size, unit) for size, unit in _UNITS if seconds >= 2 * size or (size, seconds) == (60, 120))
    smaller = {"y": (86400, "d", 8), "d": (3600, "h", 8), "h": (60, "m", 8), "m": (1, "s", 10)}[unit]
    whole, rest = divmod(seconds, size)
    fine = rest // smaller[0] if whole < smaller[2] else 0
    return f"{whole}{unit}" + (f"{fine}{smaller[1]}" if fine else "")


def _age(obj: Json) -> str:
    return elapsed(obj["metadata"].get("creationTimestamp", ""))


def _ready_of_wanted(obj: Json) -> str:
    return f"{value_at(obj, 'status.readyReplicas') or 0}/{value_at(obj, 'spec.replicas') or 0}"


def _statuses(pod: Json) -> list[Json]:
    return pod.get("status", {}).get("containerStatuses") or []


def _pod_ready(pod: Json) -> str:
    return f"{sum(bool(s.get('ready')) for s in _statuses(pod))}/{len(pod['spec']['containers'])}"


def _pod_status(pod: Json) -> str:
    status = pod.get("status", {})
    shown = status.get("reason") or status.get("phase", "")
    for container in reversed(_statuses(pod)):
        state = container.get("state", {})
        reasons = (state.get("waiting", {}).get("reason"), state.get("terminated", {}).get("reason"))
        shown = next(filter(None, reasons), shown)
    return "Terminating" if "deletionTimestamp" in pod["metadata"] else shown


def _restarts(pod: Json) -> str:
    return str(sum(status.get("restartCount", 0) for status in _statuses(pod)))


def _ports(service: Json) -> str:
    ports = service["spec"].get("ports") or []
    shown = [f"{p['port']}{':' + str(p['nodePort']) if 'nodePort' in p else ''}/{p['protocol']}" for p in ports]
    return ",".join(shown) or "<none>"


def _external(service: Json) -> str:
    spec, ingress = service["spec"], service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    if spec["type"] == "LoadBalancer":
        return ",".join(entry.get("ip") or entry.get("hostname", "") for entry in ingress) or "<pending>"
    return spec.get("externalName") or ",".join(spec.get("externalIPs") or ()) or "<none>"


def _pairs(labels: Json | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or "<none>"


def _selector(obj: Json) -> str:
    selector = obj["spec"].get("selector")
    return _pairs(selector.get("matchLabels") if selector and "matchLabels" in selector else selector)


def _containers(field: str) -> Cell:
    return lambda obj: ",".join(c.get(field, "") for c in obj["spec"]["template"]["spec"]["containers"])


def _node_ready(node: Json) -> str:
    conditions = {c["type"]: c["status"] for c in node.get("status", {}).get("conditions") or ()}
    cordoned = ",SchedulingDisabled" if node.get("spec", {}).get("unschedulable") else ""
    return ("Ready" if conditions.get("Ready") == "True" else "NotReady") + cordoned


def _node_address(node: Json) -> str:
    addresses = node.get("status", {}).get("addresses") or ()
    return next((a["address"] for a in addresses if a["type"] == "InternalIP"), "<none>")


def _endpoints(obj: Json) -> str:
    shown = [
        f"{address['ip']}:{port['port']}"
        for subset in obj.get("subsets") or ()
        for port in subset.get("ports") or ()
        for address in subset.get("addresses") or ()
    ]
    return ",".join(shown[:3]) + (f" + {len(shown) - 3} more..." if len(shown) > 3 else "") or "<none>"


def _slice_endpoints(obj: Json) -> str:
    addresses = [a for endpoint in obj.get("endpoints") or () for a in endpoint.get("addresses") or ()]
    return ",".join(addresses[:3]) + (f" + {len(addresses) - 3} more..." if len(addresses) > 3 else "") or "<unset>"


def _slice_ports(obj: Json) -> str:
    return ",".join(str(port.get("port")) for port in obj.get("ports") or ()) or "<unset>"


def _target(obj: Json) -> str:
    reference = obj["spec"]["scaleTargetRef"]
    return f"{reference['kind']}/{reference['name']}"


def _targets(obj: Json) -> str:
    known = {m["resource"]["name"]: m for m in obj.get("status", {}).get("currentMetrics") or () if "resource" in m}
    shown = []
    for metric in (m["resource"] for m in obj["spec"].get("metrics") or () if "resource" in m):
        current = value_at(known.get(metric["name"]), "resource.current.averageUtilization") or "<unknown>"
        goal = metric["target"].get("averageUtilization", "")
        shown.append(f"{metric['name']}: {current}{'' if current == '<unknown>' else '%'}/{goal}%")
    return ", ".join(shown) or "<none>"


def _seen(event: Json) -> str:
    return elapsed(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"])


def _object(event: Json) -> str:
    reference = event["involvedObject"]
    return f"{reference.get('kind', '').lower()}/{reference.get('name', '')}"


def _spec_json(name: str) -> Cell:
    """A list of the spec as JSON, as columns of custom resources show one."""
    return lambda obj: json.dumps(value, separators=(",", ":")) if (value := obj.get("spec", {}).get(name)) else ""


def wide(name: str, cell: Cell) -> Column:
    return Column(name, cell, wide=True)


_NAME, _AGE = Column("Name", _path("metadata.name")), Column("Age", _age)
DEFAULT_COLUMNS = (_NAME, _AGE)
_OF_PODS = (
    wide("Containers", _containers("name")),
    wide("Images", _containers("image")),
    wide("Selector", _selector),
)

COLUMNS: dict[str, tuple[Column, ...]] = {
    "/configmaps": (_NAME, Column("Data", _count("data"), "integer"), _AGE),
    "/endpoints": (_NAME, Column("Endpoints", _endpoints), _AGE),
    "/events": (
        Column("Last Seen", _seen),
        Column("Type", _path("type")),
        Column("Reason", _path("reason")),
        Column("Object", _object),
        Column("Message", _path("message")),
        wide("Name", _path("metadata.name")),
    ),
    "/namespaces": (_NAME, Column("Status", _path("status.phase")), _AGE),
    "/nodes": (
        _NAME,
        Column("Status", _node_ready),
        Column("Roles", lambda _: "<none>"),
        _AGE,
        Column("Version", _path("status.nodeInfo.kubeletVersion")),
        wide("Internal-IP", _node_address),
        wide("OS-Image", _path("status.nodeInfo.osImage", "<unknown>")),
        wide("Container-Runtime", _path("status.nodeInfo.containerRuntimeVersion", "<unknown>")),
    ),
    "/pods": (
        _NAME,
        Column("Ready", _pod_ready),
        Column("Status", _pod_status),
        Column("Restarts", _restarts),
        _AGE,
        wide("IP", _path("status.podIP", "<none>")),
        wide("Node", _path("spec.nodeName", "<none>")),
        wide("Nominated Node", lambda _: "<none>"),
        wide("Readiness Gates", lambda _: "<none>"),
    ),
    "/secrets": (_NAME, Column("Type", _path("type")), Column("Data", _count("data"), "integer"), _AGE),
    "/serviceaccounts": (_NAME, Column("Secrets", _count("secrets"), "integer"), _AGE),
    "/services": (
        _NAME,
        Column("Type", _path("spec.type")),
        Column("Cluster-IP", _path("spec.clusterIP", "<none>")),
        Column("External-IP", _external),
        Column("Port(s)", _ports),
        _AGE,
        wide("Selector", _selector),
    ),
    "apps/deployments": (
        _NAME,
        Column("Ready", _ready_of_wanted),
        Column("Up-to-date", _number("status.updatedReplicas"), "integer"),
        Column("Available", _number("status.availableReplicas"), "integer"),
        _AGE,
        *_OF_PODS,
    ),
    "apps/replicasets": (
        _NAME,
        Column("Desired", _number("spec.replicas"), "integer"),
        Column("Current", _number("status.replicas"), "integer"),
        Column("Ready", _number("status.readyReplicas"), "integer"),
        _AGE,
        *_OF_PODS,
    ),
    "autoscaling/horizontalpodautoscalers": (
        _NAME,
        Column("Reference", _target),
        Column("Targets", _targets),
        Column("MinPods", _path("spec.minReplicas")),
        Column("MaxPods", _number("spec.maxReplicas"), "integer"),
        Column("Replicas", _number("status.currentReplicas"), "integer"),
        _AGE,
    ),
    "discovery.k8s.io/endpointslices": (
        _NAME,
        Column("AddressType", _path("addressType")),
        Column("Ports", _slice_ports),
        Column("Endpoints", _slice_endpoints),
        _AGE,
    ),
    "policy/poddisruptionbudgets": (
        _NAME,
        Column("Min Available", _path("spec.minAvailable", "N/A")),
        Column("Max Unavailable", _path("spec.maxUnavailable", "N/A")),
        Column("Allowed Disruptions", _number("status.disruptionsAllowed"), "integer"),
        _AGE,
    ),
    "admissionregistration.k8s.io/mutatingwebhookconfigurations": (
        _NAME,
        Column("Webhooks", _count("webhooks"), "integer"),
        _AGE,
    ),
    "networking.istio.io/destinationrules": (_NAME, Column("Host", _path("spec.host")), _AGE),
    "networking.istio.io/virtualservices": (
        _NAME,
        Column("Gateways", _spec_json("gateways")),
        Column("Hosts", _spec_json("hosts")),
        _AGE,
    ),
    "networking.gke.io/multiclusteringresses": (_NAME, Column("VIP", _path("status.VIP")), _AGE),
}
