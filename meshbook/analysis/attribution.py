"""Which layer saved the requests: endpoints taken out, retries, the load balancer, or none. Pure.

Told by what proxies logged and what API servers showed, with the source of each statement beside it. A proxy that sends
a request to a good endpoint at once has been saved by news of the endpoints (or by luck), one that tries again by its
retry policy. What the log does not tell stays unknown: Envoy's own view of an endpoint's health is in no access log.

Two forms of log are read: JSON with Istio's names (``accessLogEncoding: JSON``), and Istio's default text. Neither
counts the tries of a request; a mesh does whose ``accessLogFormat`` adds ``%UPSTREAM_REQUEST_ATTEMPT_COUNT%``, in JSON
under the name ``upstream_request_attempt_count``, in text as a number at the end of the line.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from meshbook import tables
from meshbook.objects import EAST_WEST_PORT
from meshbook.verdict import counted

_ATTEMPTS = "upstream_request_attempt_count"
_QUOTED = r'"((?:[^"\\]|\\.)*)"'


def _quoted(name: str) -> str:
    return _QUOTED.replace("(", f"(?P<{name}>", 1)


_TEXT = re.compile(
    rf"\[(?P<start_time>[^\]]+)\] {_quoted('request')} (?P<response_code>\d+) (?P<response_flags>\S+)"
    rf" (?P<response_code_details>\S+) \S+ {_QUOTED} \S+ \S+ (?P<duration>\S+) \S+ {_QUOTED} {_QUOTED}"
    rf" {_quoted('request_id')} {_QUOTED} {_quoted('upstream_host')} (?P<upstream_cluster>\S+)(?P<rest>.*)"
)
_COUNT_AT_END = re.compile(r" \S+ \S+ \S+ \S+ \S+ (\d+)\s*$")
_CLIENTS = {"sidecar": "clients' sidecars", "gateway": "ingress gateways"}
_FLAGS = {
    "DC": "client gave up",
    "LR": "connection reset by the proxy itself",
    "NC": "no such cluster",
    "NR": "no route",
    "UC": "connection cut by the endpoint",
    "UF": "endpoint not reached",
    "UH": "no healthy endpoint",
    "UR": "reset by the endpoint",
    "URX": "all tries used up",
    "UT": "endpoint too slow",
}


@dataclass(frozen=True, kw_only=True)
class AccessLogs:
    """What the proxies logged: ACCESS, and what could not be had."""

    frame: pd.DataFrame
    pods: int
    """Proxies whose log was read."""
    unread: tuple[str, ...] = ()
    """Proxies and namespaces that could not be asked."""

    @property
    def counts_attempts(self) -> bool:
        """Whether the logs tell how many times a request was tried."""
        return bool(self.frame["attempts"].notna().any())

    @property
    def words(self) -> str:
        """One sentence on where this is known from."""
        if not self.pods:
            return "no access log: no proxy could be asked for its own"
        if self.frame.empty:
            return f"access logs of {self.pods} proxies: none of them prints any (is meshConfig.accessLogFile set?)"
        counted = "tries counted" if self.counts_attempts else "tries not told by this log format"
        without = f"; not those of {', '.join(self.unread)}" if self.unread else ""
        return f"access logs of {self.pods} proxies, {counted}{without}"


@dataclass(frozen=True, kw_only=True)
class LoadBalancer:
    """What is known of what stands in front: what it asks for health, and how what it sends to fared meanwhile."""

    path: str
    """Way from outside, as in ANSWERS: a fleet's ``vip``, a ``load balancer`` of each cluster, or an ``address``."""
    health_check: str
    """``port 15021, /healthz/ready``; empty where no BackendConfig says so."""
    gateways: Mapping[str, tuple[int, int]]
    """By context: gateway pods that were ready in the middle of the outage, and all of them."""
    unreachable: tuple[str, ...] = ()
    """Contexts whose API server did not say."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What there is to judge by."""

    logs: AccessLogs
    since: datetime
    until: datetime
    service: str
    """Host name of the service, or the start of it: ``helloworld.sample``."""
    endpoints: Mapping[str, str]
    """By context: what happened to the service's endpoints, in words."""
    balancer: LoadBalancer | None = None


def parse_access_log(line: str) -> dict[str, object] | None:
    """Return what a line tells as columns of ACCESS (all but context, pod and role); None where it is no access log."""
    fields = _json(line) if line.startswith("{") else _text(line)
    try:
        return fields and _columns({name: value for name, value in fields.items() if value not in (None, "", "-")})
    except (KeyError, ValueError, TypeError):
        return None


def _json(line: str) -> dict[str, Any] | None:
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) and "response_flags" in fields else None


def _text(line: str) -> dict[str, Any] | None:
    match = _TEXT.match(line)
    if match is None:
        return None
    fields: dict[str, Any] = match.groupdict()
    words = fields.pop("request").split(" ")
    count = _COUNT_AT_END.fullmatch(fields.pop("rest"))
    return {**fields, "path": words[1] if len(words) == 3 else "", _ATTEMPTS: count[1] if count else None}


def _columns(fields: Mapping[str, Any]) -> dict[str, object]:
    hop, service = _hop_and_service(str(fields.get("upstream_cluster", "")))
    host, code = str(fields.get("upstream_host", "")), int(fields.get("response_code", 0))
    network = "other network" if host.rpartition(":")[2] == str(EAST_WEST_PORT) else "same network"
    return {
        "time": datetime.fromisoformat(str(fields["start_time"])),
        "hop": hop,
        "path": str(fields.get("path", "")),
        "code": code or None,
        "flags": str(fields.get("response_flags", "")),
        "details": str(fields.get("response_code_details", "")),
        "attempts": int(fields[_ATTEMPTS]) if _ATTEMPTS in fields else None,
        "upstream": network if host and hop != "unrouted" else "",
        "service": service,
        "duration_ms": float(fields["duration"]) if "duration" in fields else None,
        "request_id": str(fields.get("request_id", "")),
    }


def _hop_and_service(cluster: str) -> tuple[str, str]:
    """Return what Envoy's cluster name tells: ``outbound|5000||host`` is Istio's, ``outbound_.5000_._.host`` an SNI."""
    if cluster.startswith("outbound_."):
        return "passthrough", cluster.split("_.")[-1]
    direction, _, rest = cluster.partition("|")
    return (direction, rest.rpartition("|")[2]) if direction in ("outbound", "inbound") else ("unrouted", "")


def attribute(evidence: Evidence) -> pd.DataFrame:
    """Return ATTRIBUTION: endpoints first, then the proxies on the way of a request, the load balancer last."""
    frame = tables.conform(evidence.logs.frame, tables.ACCESS)
    inside = frame["time"].between(evidence.since, evidence.until) & frame["service"].str.startswith(evidence.service)
    lines = frame[inside]
    endpoints = [
        {"layer": "mesh endpoints", "context": context, "did": words, "known_by": f"API server of {context}"}
        for context, words in evidence.endpoints.items()
    ]
    rows = [*endpoints, *_proxies(lines, evidence.logs), *_passed(lines), _balancer(evidence.balancer)]
    return tables.from_rows(rows, tables.ATTRIBUTION)


def _proxies(lines: pd.DataFrame, logs: AccessLogs) -> Iterator[dict[str, Any]]:
    ours = lines[lines["hop"] == "outbound"]
    for (role, context), some in ours.groupby(["role", "context"], sort=True):
        known_by = logs.words if logs.counts_attempts else f"{logs.words}; best effort"
        yield {"layer": _CLIENTS[str(role)], "context": context, "known_by": known_by, **_counted(some)}
    if ours.empty:
        did = "not known: no log of theirs was read"
        yield {"layer": _CLIENTS["sidecar"], "did": did, "known_by": logs.words}


def _counted(lines: pd.DataFrame) -> dict[str, Any]:
    good = (lines["code"] == 200).fillna(False).astype(bool)
    counted = bool(lines["attempts"].notna().all())
    retried = int((good & (lines["attempts"] > 1).fillna(False).astype(bool)).sum())
    bad = lines[~good]
    counts: dict[str, Any] = {"at_once": int(good.sum()) - retried, "by_retry": retried} if counted else {}
    words = [
        f"{counts['at_once']} answered at once, {retried} by a retry" if counted else f"{int(good.sum())} answered"
    ]
    words += [f"{len(bad)} not saved ({flags_in_words(bad['flags'].tolist())})"] if len(bad) else []
    return {
        "requests": len(lines),
        **counts,
        "not_saved": len(bad),
        "to_other": int((good & (lines["upstream"] == "other network")).sum()),
        "did": ", ".join(words),
    }


def flags_in_words(flags: Iterable[str]) -> str:
    """Return response flags counted and in words: ``UF endpoint not reached 3×``."""
    single = Counter(flag for one in flags for flag in (one.split(",") if one else ["no flag"]))
    return ", ".join(" ".join(filter(None, (flag, _FLAGS.get(flag, ""), f"{n}×"))) for flag, n in single.most_common())


def _passed(lines: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Tell of east-west gateways, which see connections and no requests."""
    for context, some in lines[lines["hop"] == "passthrough"].groupby("context", sort=True):
        broken = some[some["flags"] != ""]
        words = f"{counted(len(some), 'connection')} ended in that time"
        words += f", {len(broken)} of them broken ({flags_in_words(broken['flags'].tolist())})" if len(broken) else ""
        known_by = "its access log; it passes TLS on and sees no requests"
        yield {"layer": "east-west gateway", "context": context, "did": words, "known_by": known_by}


_IN_FRONT = {tables.VIP: "global load balancer", tables.BALANCER: "load balancer of each cluster"}


def _balancer(balancer: LoadBalancer | None) -> dict[str, Any]:
    row = {"layer": _IN_FRONT.get(balancer.path if balancer else "", "in front of the ingress gateways")}
    if balancer is None or not balancer.gateways:
        return row | {"did": "not known", "known_by": "its backends were not looked at"}
    known = [f"{context} {up} of {n}" for context, (up, n) in balancer.gateways.items()]
    ready = ", ".join(
        [*known, *(f"{context} not known, its API server was unreachable" for context in balancer.unreachable)]
    )
    if balancer.path != tables.VIP:
        did = "sends to its own cluster only" if balancer.path == tables.BALANCER else "not known"
        return row | {"did": f"{did}; ready gateways: {ready}", "known_by": "pods of the ingress gateways"}
    all_up = not balancer.unreachable and all(up == n and n for up, n in balancer.gateways.values())
    word = "had no reason to move traffic" if all_up else "may have moved traffic"
    check = balancer.health_check or "an unknown port"
    return row | {
        "did": f"{word}: it asks the ingress gateways ({check}), not the application; ready gateways: {ready}",
        "known_by": "pods and BackendConfig; its own view of health is told by its cloud, not by Kubernetes",
    }
