"""Cells of printed rows: what a column shows of an object, in kubectl's words. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from meshbook.lab.apiserver.kinds import Json
from meshbook.lab.apiserver.selectors import value_at

Cell = Callable[[Json], Any]
MINUTE, HOUR, DAY = 60, 3600, 86400
YEAR = 365 * DAY
_AGES = (
    (2 * YEAR, YEAR, "y", DAY, "d", 8),
    (2 * DAY, DAY, "d", HOUR, "h", 8),
    (3 * HOUR, HOUR, "h", MINUTE, "m", 8),
    (0, MINUTE, "m", 1, "s", 10),
)
"""From how many seconds on; unit, letter; finer unit, letter, and the count of units from which it is left out."""


def text(path: str, absent: str = "") -> Cell:
    return lambda obj: value_at(obj, path) or absent


def number(path: str) -> Cell:
    return lambda obj: int(value_at(obj, path) or 0)


def count(name: str) -> Cell:
    return lambda obj: len(obj.get(name) or ())


def elapsed(since: str, now: datetime | None = None) -> str:
    """Return the time since an RFC 3339 time as kubectl prints ages: ``5s``, ``4h59m``, ``3d2h``."""
    if not since:
        return "<unknown>"
    start = datetime.fromisoformat(since.replace("Z", "+00:00"))
    seconds = max(0, int(((now or datetime.now(UTC)) - start).total_seconds()))
    if seconds < 2 * MINUTE:
        return f"{seconds}s"
    size, unit, finer, letter, detailed = next(row[1:] for row in _AGES if seconds >= row[0])
    whole, rest = divmod(seconds, size)
    fine = rest // finer if whole < detailed else 0
    return f"{whole}{unit}" + (f"{fine}{letter}" if fine else "")


def age(obj: Json) -> str:
    return elapsed(obj["metadata"].get("creationTimestamp", ""))


def ready_of_wanted(obj: Json) -> str:
    return f"{value_at(obj, 'status.readyReplicas') or 0}/{value_at(obj, 'spec.replicas') or 0}"


def _statuses(pod: Json) -> list[Json]:
    return pod.get("status", {}).get("containerStatuses") or []


def pod_ready(pod: Json) -> str:
    return f"{sum(bool(s.get('ready')) for s in _statuses(pod))}/{len(pod['spec']['containers'])}"


def pod_status(pod: Json) -> str:
    status = pod.get("status", {})
    shown = status.get("reason") or status.get("phase", "")
    for container in reversed(_statuses(pod)):
        state = container.get("state", {})
        reasons = (state.get("waiting", {}).get("reason"), state.get("terminated", {}).get("reason"))
        shown = next(filter(None, reasons), shown)
    return "Terminating" if "deletionTimestamp" in pod["metadata"] else shown


def restarts(pod: Json) -> str:
    return str(sum(status.get("restartCount", 0) for status in _statuses(pod)))


def ports(service: Json) -> str:
    ports = service["spec"].get("ports") or []
    shown = [f"{p['port']}{':' + str(p['nodePort']) if 'nodePort' in p else ''}/{p['protocol']}" for p in ports]
    return ",".join(shown) or "<none>"


def external(service: Json) -> str:
    spec, ingress = service["spec"], service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    if spec["type"] == "LoadBalancer":
        return ",".join(entry.get("ip") or entry.get("hostname", "") for entry in ingress) or "<pending>"
    return spec.get("externalName") or ",".join(spec.get("externalIPs") or ()) or "<none>"


def job_status(job: Json) -> str:
    true = {one["type"] for one in job.get("status", {}).get("conditions") or () if one["status"] == "True"}
    if "deletionTimestamp" in job["metadata"] and not true & {"Complete", "Failed"}:
        return "Terminating"
    order = ("Complete", "Failed", "FailureTarget", "SuccessCriteriaMet")
    return next((name for name in order if name in true), "Running")


def job_completions(job: Json) -> str:
    return f"{value_at(job, 'status.succeeded') or 0}/{value_at(job, 'spec.completions') or 0}"


def job_duration(job: Json) -> str:
    status = job.get("status", {})
    if "startTime" not in status:
        return ""
    end = status.get("completionTime")
    return elapsed(status["startTime"], datetime.fromisoformat(end) if end else None)


def _pairs(labels: Json | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or "<none>"


def selector(obj: Json) -> str:
    selector = obj["spec"].get("selector")
    return _pairs(selector.get("matchLabels") if selector and "matchLabels" in selector else selector)


def containers(field: str) -> Cell:
    return lambda obj: ",".join(c.get(field, "") for c in obj["spec"]["template"]["spec"]["containers"])


def node_ready(node: Json) -> str:
    conditions = {c["type"]: c["status"] for c in node.get("status", {}).get("conditions") or ()}
    cordoned = ",SchedulingDisabled" if node.get("spec", {}).get("unschedulable") else ""
    return ("Ready" if conditions.get("Ready") == "True" else "NotReady") + cordoned


def node_address(node: Json) -> str:
    addresses = node.get("status", {}).get("addresses") or ()
    return next((a["address"] for a in addresses if a["type"] == "InternalIP"), "<none>")


def endpoints(obj: Json) -> str:
    shown = [
        f"{address['ip']}:{port['port']}"
        for subset in obj.get("subsets") or ()
        for port in subset.get("ports") or ()
        for address in subset.get("addresses") or ()
    ]
    return ",".join(shown[:3]) + (f" + {len(shown) - 3} more..." if len(shown) > 3 else "") or "<none>"


def slice_endpoints(obj: Json) -> str:
    addresses = [a for endpoint in obj.get("endpoints") or () for a in endpoint.get("addresses") or ()]
    return ",".join(addresses[:3]) + (f" + {len(addresses) - 3} more..." if len(addresses) > 3 else "") or "<unset>"


def slice_ports(obj: Json) -> str:
    return ",".join(str(port.get("port")) for port in obj.get("ports") or ()) or "<unset>"


def target(obj: Json) -> str:
    reference = obj["spec"]["scaleTargetRef"]
    return f"{reference['kind']}/{reference['name']}"


def targets(obj: Json) -> str:
    known = {m["resource"]["name"]: m for m in obj.get("status", {}).get("currentMetrics") or () if "resource" in m}
    shown = []
    for metric in (m["resource"] for m in obj["spec"].get("metrics") or () if "resource" in m):
        current = value_at(known.get(metric["name"]), "resource.current.averageUtilization") or "<unknown>"
        goal = metric["target"].get("averageUtilization", "")
        shown.append(f"{metric['name']}: {current}{'' if current == '<unknown>' else '%'}/{goal}%")
    return ", ".join(shown) or "<none>"


def seen(event: Json) -> str:
    return elapsed(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"])


def involved(event: Json) -> str:
    reference = event["involvedObject"]
    return f"{reference.get('kind', '').lower()}/{reference.get('name', '')}"


def role(binding: Json) -> str:
    return f"{binding['roleRef']['kind']}/{binding['roleRef']['name']}"


def subjects(kind: str) -> Cell:
    def cell(binding: Json) -> str:
        found = [subject for subject in binding.get("subjects") or () if subject["kind"] == kind]
        return ", ".join("/".join(filter(None, (s.get("namespace"), s["name"]))) for s in found)

    return cell


def at(path: str, kind: str) -> Cell:
    """What stands at a JSONPath, as columns of custom kinds show it: nothing where there is nothing."""

    def cell(obj: Json) -> Any:
        value = _found(obj, path)
        if kind == "date":
            return elapsed(value or "")
        if value is None or kind in ("integer", "number"):
            return value
        return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))

    return cell


_STEP = re.compile(r"""\.(?P<name>[\w-]+)|\[(?:(?P<index>\d+)|\?\(@\.(?P<key>\w+)==["'](?P<value>[^"']*)["']\))\]""")


def _found(value: Any, path: str) -> Any:
    """Follow the steps that columns use: ``.member``, ``[0]``, ``[?(@.type=="Ready")]``."""
    for step in _STEP.finditer(path):
        if step["name"]:
            value = value.get(step["name"]) if isinstance(value, dict) else None
        elif isinstance(value, list) and step["index"]:
            value = next(iter(value[int(step["index"]) :]), None)
        elif isinstance(value, list):
            value = next((item for item in value if item.get(step["key"]) == step["value"]), None)
    return value
