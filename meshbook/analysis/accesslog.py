"""One line of a proxy's access log to what it tells of a request. Pure.

Two forms are read: JSON with Istio's names (``accessLogEncoding: JSON``), and Istio's default text. Neither counts the
tries of a request; a mesh does whose ``accessLogFormat`` adds ``%UPSTREAM_REQUEST_ATTEMPT_COUNT%``, in JSON under the
name ``upstream_request_attempt_count``, in text as a number at the end of the line. Other lines are passed over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

ATTEMPTS = "upstream_request_attempt_count"
EAST_WEST_PORT = "15443"

_WORD = r"(?:\S+)"
_QUOTED = r'"((?:[^"\\]|\\.)*)"'
_TEXT = re.compile(
    rf"\[(?P<start_time>[^\]]+)\] {_QUOTED.replace('(', '(?P<request>', 1)} (?P<response_code>\d+)"
    rf" (?P<response_flags>{_WORD}) (?P<response_code_details>{_WORD}) {_WORD} {_QUOTED}"
    rf" \S+ \S+ (?P<duration>\S+) \S+ {_QUOTED} {_QUOTED} {_QUOTED.replace('(', '(?P<request_id>', 1)} {_QUOTED}"
    rf" {_QUOTED.replace('(', '(?P<upstream_host>', 1)} (?P<upstream_cluster>{_WORD})"
    rf"(?P<rest>.*)"
)
_COUNT_AT_END = re.compile(r" \S+ \S+ \S+ \S+ \S+ (\d+)\s*$")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What one line tells; None and empty where it does not."""

    time: datetime
    hop: str
    """outbound, inbound, passthrough, or unrouted."""
    path: str
    code: int | None
    flags: str
    details: str
    attempts: int | None
    upstream: str
    """same network, other network, or empty where the request was sent to nobody."""
    service: str
    """Host name of the service that it was for, as far as the log names one."""
    duration_ms: float | None
    request_id: str


def parse_access_log(line: str) -> Entry | None:
    """Return what a line tells; None for a line that is no access log."""
    fields = _json(line) if line.startswith("{") else _text(line)
    if fields is None:
        return None
    try:
        return _entry({name: value for name, value in fields.items() if value not in (None, "", "-")})
    except (KeyError, ValueError, TypeError):
        return None


def _json(line: str) -> Mapping[str, Any] | None:
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) and "response_flags" in fields else None


def _text(line: str) -> Mapping[str, Any] | None:
    match = _TEXT.match(line)
    if match is None:
        return None
    fields: dict[str, Any] = match.groupdict()
    words = fields.pop("request").split(" ")
    count = _COUNT_AT_END.fullmatch(fields.pop("rest"))
    return {**fields, "path": words[1] if len(words) == 3 else "", ATTEMPTS: count[1] if count else None}


def _entry(fields: Mapping[str, Any]) -> Entry:
    cluster, code = str(fields.get("upstream_cluster", "")), int(fields.get("response_code", 0))
    duration, attempts = fields.get("duration"), fields.get(ATTEMPTS)
    hop, service = hop_and_service(cluster)
    return Entry(
        time=datetime.fromisoformat(str(fields["start_time"])),
        hop=hop,
        path=str(fields.get("path", "")),
        code=code or None,
        flags=str(fields.get("response_flags", "")),
        details=str(fields.get("response_code_details", "")),
        attempts=None if attempts is None else int(attempts),
        upstream=_where(hop, str(fields.get("upstream_host", ""))),
        service=service,
        duration_ms=None if duration is None else float(duration),
        request_id=str(fields.get("request_id", "")),
    )


def hop_and_service(cluster: str) -> tuple[str, str]:
    """Return what Envoy's cluster name tells: ``outbound|5000||host`` is Istio's, ``outbound_.5000_._.host`` an SNI."""
    if cluster.startswith("outbound_."):
        return "passthrough", cluster.split("_.")[-1]
    direction, _, rest = cluster.partition("|")
    if direction in ("outbound", "inbound"):
        return direction, rest.rpartition("|")[2]
    return "unrouted", ""


def _where(hop: str, host: str) -> str:
    if not host or hop == "unrouted":
        return ""
    return "other network" if host.rpartition(":")[2] == EAST_WEST_PORT else "same network"


@dataclass(frozen=True, kw_only=True)
class AccessLogs:
    """What the proxies told: ACCESS, and what could not be had."""

    frame: pd.DataFrame
    pods: int
    """Proxies whose log was read."""
    silent: tuple[str, ...] = ()
    """Proxies that printed no line that can be read as an access log."""
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
