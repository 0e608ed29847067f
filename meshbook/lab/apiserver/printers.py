"""Tables (``meta.k8s.io/v1``), which ``kubectl get`` prints: the columns of each kind and what a cell shows. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from meshbook.lab.apiserver.errors import not_acceptable
from meshbook.lab.apiserver.kinds import Kind
from meshbook.lab.apiserver.requests import ApiRequest, value_at
from meshbook.lab.apiserver.store import Stored
from meshbook.objects import Object, condition, is_deleting, moment_of

Cell = Callable[[Object], Any]
OFFERED = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
"""What a real server offers; here all answers are JSON, which is YAML too."""
_TAKEN = ("application/json", "application/yaml", "application/*", "*/*", "")

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


@cache
def columns_of(kind: Kind) -> tuple[Column, ...]:
    if kind.custom:
        shown = {"date": "string"}
        return (_NAME, *(Column(c.name, _custom(c.path, c.type), shown.get(c.type, c.type)) for c in kind.columns))
    parts = enumerate(_COLUMNS[kind.kind].split(" | "))
    columns = [_column(text, wide=bool(wide)) for wide, part in parts for text in part.split(";")]
    return tuple(columns if kind.kind == "Event" else [_NAME, *columns])


def _column(text: str, *, wide: bool) -> Column:
    name, _, what = text.strip().partition("=")
    if what.startswith("@"):
        return Column(name, _CELLS[what[1:]], wide=wide)
    if found := _FUNCTION.fullmatch(what):
        return Column(name, _length(found[2]) if found[1] == "len" else _number(found[2]), "integer", wide)
    path, _, absent = what.partition("/")
    return Column(name, lambda obj: value_at(obj, path) or absent, wide=wide)


_NAME = Column("Name", lambda obj: obj["metadata"]["name"])
_FUNCTION = re.compile(r"(len|int)\(([\w.]+)\)")


def elapsed(since: str) -> str:
    """Return the time since a time of the API as kubectl prints ages: ``5s``, ``4h59m``, ``3d2h``."""
    if not since:
        return "<unknown>"
    seconds = max(0, int((datetime.now(UTC) - moment_of(since)).total_seconds()))
    if seconds < 2 * MINUTE:
        return f"{seconds}s"
    size, unit, finer, letter, detailed = next(row[1:] for row in _AGES if seconds >= row[0])
    whole, rest = divmod(seconds, size)
    fine = rest // finer if whole < detailed else 0
    return f"{whole}{unit}" + (f"{fine}{letter}" if fine else "")


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
    """Return ready of all containers, native sidecars among them."""
    spec, status = pod["spec"], pod.get("status", {})
    lasting = [one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"]
    names = {one["name"] for one in (*spec["containers"], *lasting)}
    known = [*(status.get("initContainerStatuses") or ()), *_statuses(pod)]
    return f"{sum(bool(one.get('ready')) for one in known if one['name'] in names)}/{len(names)}"


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
    resources = [metric["resource"] for metric in obj["spec"].get("metrics", ()) if "resource" in metric]
    shown = [f"{one['name']}: <unknown>/{one['target'].get('averageUtilization', '')}%" for one in resources]
    return ", ".join(shown) or "<none>"


def _last_seen(event: Object) -> str:
    return elapsed(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"])


def _involved(event: Object) -> str:
    reference = event["involvedObject"]
    return f"{reference.get('kind', '').lower()}/{reference.get('name', '')}"


_CELLS: dict[str, Cell] = {
    "age": lambda obj: elapsed(obj["metadata"].get("creationTimestamp", "")),
    "containers": _containers("name"),
    "endpoints": _endpoints,
    "external": _external,
    "images": _containers("image"),
    "involved": _involved,
    "last_seen": _last_seen,
    "node_address": _node_address,
    "node_status": _node_status,
    "none": lambda _: "<none>",
    "pod_ready": _pod_ready,
    "pod_status": _pod_status,
    "ports": _ports,
    "ready_of_wanted": _ready_of_wanted,
    "restarts": _restarts,
    "role": lambda obj: f"{obj['roleRef']['kind']}/{obj['roleRef']['name']}",
    "scale_target": _scale_target,
    "selector": _selector,
    "slice_endpoints": _slice_endpoints,
    "slice_ports": _slice_ports,
    "targets": _targets,
}
_OF_PODS = "| Containers=@containers; Images=@images; Selector=@selector"
_ROLE, _ROLE_BINDING = "Created At=metadata.creationTimestamp", "Role=@role; Age=@age"
_COLUMNS = {
    "ClusterRole": _ROLE,
    "ClusterRoleBinding": _ROLE_BINDING,
    "ConfigMap": "Data=len(data); Age=@age",
    "Deployment": "Ready=@ready_of_wanted; Up-to-date=int(status.updatedReplicas); "
    f"Available=int(status.availableReplicas); Age=@age {_OF_PODS}",
    "Endpoints": "Endpoints=@endpoints; Age=@age",
    "EndpointSlice": "AddressType=addressType; Ports=@slice_ports; Endpoints=@slice_endpoints; Age=@age",
    "Event": "Last Seen=@last_seen; Type=type; Reason=reason; Object=@involved; Message=message | Name=metadata.name",
    "HorizontalPodAutoscaler": "Reference=@scale_target; Targets=@targets; MinPods=spec.minReplicas; "
    "MaxPods=int(spec.maxReplicas); Replicas=int(status.currentReplicas); Age=@age",
    "Lease": "Holder=spec.holderIdentity; Age=@age",
    "MutatingWebhookConfiguration": "Webhooks=len(webhooks); Age=@age",
    "Namespace": "Status=status.phase; Age=@age",
    "Node": "Status=@node_status; Roles=@none; Age=@age; Version=status.nodeInfo.kubeletVersion | "
    "Internal-IP=@node_address; External-IP=@none; OS-Image=status.nodeInfo.osImage/<unknown>; "
    "Kernel-Version=status.nodeInfo.kernelVersion/<unknown>; "
    "Container-Runtime=status.nodeInfo.containerRuntimeVersion/<unknown>",
    "Pod": "Ready=@pod_ready; Status=@pod_status; Restarts=@restarts; Age=@age | "
    "IP=status.podIP/<none>; Node=spec.nodeName/<none>; Nominated Node=@none; Readiness Gates=@none",
    "PodDisruptionBudget": "Min Available=spec.minAvailable/N/A; Max Unavailable=spec.maxUnavailable/N/A; "
    "Allowed Disruptions=int(status.disruptionsAllowed); Age=@age",
    "ReplicaSet": "Desired=int(spec.replicas); Current=int(status.replicas); Ready=int(status.readyReplicas); "
    f"Age=@age {_OF_PODS}",
    "Role": _ROLE,
    "RoleBinding": _ROLE_BINDING,
    "Secret": "Type=type; Data=len(data); Age=@age",
    "Service": "Type=spec.type; Cluster-IP=spec.clusterIP/<none>; External-IP=@external; Port(s)=@ports; Age=@age "
    "| Selector=@selector",
    "ServiceAccount": "Secrets=len(secrets); Age=@age",
}
"""Per kind, after its name: ``Title=path``, with ``/text`` for what is absent; ``int(path)`` and ``len(field)`` are
numbers, ``@cell`` is one of the above; what stands behind ``|`` is shown by ``-o wide`` only."""
