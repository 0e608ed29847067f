"""The article's loop: one curl for many requests, from the sleep pod of every cluster and from this machine.

curl 7.84 and newer will do. Each request leaves its body, then one line,
``URL#NONCE-SEQ|code|exit code|connect|first byte|total|size|address|message|URL#NONCE-SEQ``. The fragment is never sent
to a server, so no answer can forge a record; both ends of a line must agree, so no cut goes unnoticed. Requests on a
schedule are in ``open_loop``.
"""

from __future__ import annotations

import ipaddress
import math
import re
import secrets
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import urlsplit

import pandas as pd

from meshbook import tables
from meshbook.clusters import Cluster, Fleet
from meshbook.errors import ExecError, UsageError
from meshbook.objects import PROXY_CONTAINER, Object

OUTSIDE = "external client"
"""Source of requests that this machine sends."""

MESH, VIP = "mesh", "vip"
"""Paths: by the service's name inside the mesh, or by the global load balancer's address."""

_MERGED = '"$@" 2>&1 | while IFS= read -r line || [ -n "$line" ]; do printf "%s\\n" "$line"; done'
"""Merges curl's two streams in order and sends whole lines: curl itself writes a record in some forty pieces."""

_FIELDS = ("http_code", "exitcode", "time_connect", "time_starttransfer", "time_total", "size_download", "remote_ip")
_SHAPES = (r"\d{3}", r"\d{1,3}", r"\d+\.\d{6}", r"\d+\.\d{6}", r"\d+\.\d{6}", r"\d+", r"[\d.:A-Fa-f]*")
_VALUES = re.compile("".join(rf"({shape})\|" for shape in _SHAPES) + "(.*)")
_FORMAT = "%{stderr}\\n%{url}|" + "".join(f"%{{{name}}}|" for name in _FIELDS) + "%{errormsg}|%{url}\\n"
_ANSWER = re.compile(r"Hello version: (\S+), instance: (\S+)")
_NAMES = {5: "dns", 6: "dns", 7: "refused", 18: "cut", 28: "timeout", 35: "tls", 52: "no_answer", 55: "reset"}
_NAMES |= {56: "reset", 60: "tls"}
_DETAIL_LENGTH = 200
_DAMAGED: dict[str, object] = {"error": tables.GARBLED, "detail": "the probe's record of this transfer is damaged"}


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What one curl does: ``requests`` transfers, numbered from 1, one after the other."""

    url: str
    requests: int
    timeout_s: float = 5.0
    """Longest time of one transfer; one that takes longer is an error row, not a delay of the rest."""
    connect_timeout_s: float = 2.0
    nonce: str = field(default_factory=lambda: secrets.token_hex(8))

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            fit = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.username
        except ValueError:
            fit = False
        if not fit or re.search(r"[\s|\"'<>\\^`\x00-\x1f\x7f#]", self.url):
            raise UsageError(f"not a URL to ask: {self.url!r}", hint="http://name:port/path, without user and fragment")
        if self.requests < 1:
            raise UsageError(f"at least one request is needed, not {self.requests}")
        if not self.timeout_s > 0 or not self.connect_timeout_s > 0:
            raise UsageError("time-outs are above 0 s")

    @property
    def numbers(self) -> range:
        return range(1, self.requests + 1)

    @property
    def longest_s(self) -> float:
        """Upper bound of the time that all transfers take together."""
        return self.requests * (self.timeout_s + 0.05) + 5


def command(ask: Ask, *, direct: bool = False) -> list[str]:
    """Return the argv of one curl for all of ``ask``; its records come on stderr, unbuffered, right after each body.

    ``Connection: close`` gives each transfer a connection of its own, as the article's loop of single curls has.
    ``direct`` goes past any proxy that the environment names.
    """
    escaped = re.sub(r"([\[\]{}])", r"\\\1", ask.url)
    counter = f"#{ask.nonce}-[1-{ask.requests}:1]"
    limits = ["--max-time", f"{ask.timeout_s:g}", "--connect-timeout", f"{min(ask.connect_timeout_s, ask.timeout_s):g}"]
    shape = ["-q", "--silent", "--no-buffer", "--http1.1", "--header", "Connection: close", "--write-out", _FORMAT]
    past_proxies = ["--noproxy", "*"] if direct else []
    return ["curl", *shape, *limits, *past_proxies, escaped + counter]


def parse_records(
    text: str, ask: Ask, *, source: str, path: str, arrivals: Sequence[float] = (), note: str = ""
) -> pd.DataFrame:
    """Return one row of ANSWERS for each transfer of ``ask``; ``text`` is the merged stdout and stderr of its curl.

    ``arrivals[i]`` is the Unix time at which line i of ``text`` was complete at the reader. curl before 8.16 can stamp
    nothing, so ``time`` is arrival minus total time: never early, and late by what the line took to get here (one way,
    and the reader's delay) unless a later record, in order, proves it earlier. Without an arrival it is missing.
    Records that never came become rows marked ``lost``, damaged ones ``garbled``; ``note`` (what the exec said, say) or
    the text's last line becomes their detail.
    """
    found: dict[int, dict[str, object]] = {}
    for seq, row in _records(text, ask, arrivals):
        if found.get(seq, _DAMAGED)["error"] == tables.GARBLED:
            found[seq] = row
    _in_order(found, ask)
    lost = {"error": tables.LOST, "detail": one_line(note) or _last_words(text, ask)}
    fixed = {"source": source, "path": path, "url": ask.url}
    return tables.from_rows(({**fixed, "seq": seq, **found.get(seq, lost)} for seq in ask.numbers), tables.ANSWERS)


def _records(text: str, ask: Ask, arrivals: Sequence[float]) -> Iterator[tuple[int, dict[str, object]]]:
    mark = re.escape(f"{ask.url}#{ask.nonce}-")
    whole = re.compile(rf"{mark}(\d+)\|(.*)\|{mark}\1")
    begun = re.compile(rf"{mark}(\d+)\|")
    ends = [match.end() for match in re.finditer("\n", text)]
    body_from = 0
    for index, start in enumerate([0, *ends]):
        line = text[start : ends[index] - 1 if index < len(ends) else len(text)]
        if (match := begun.search(line)) is None:
            continue
        body, body_from = text[body_from : max(body_from, start - 1)], start + len(line) + 1
        values = _VALUES.fullmatch(complete[2]) if (complete := whole.fullmatch(line)) else None
        row = _row(values, body) if values else dict(_DAMAGED)
        if values and index < len(arrivals):
            row["time"] = arrivals[index] - float(values[5])
        yield int(match[1]), row


def _in_order(found: dict[int, dict[str, object]], ask: Ask) -> None:
    """Make Unix times dates, each the latest possible: a transfer began before the next one, by its own length."""
    latest = math.inf
    for row in (found[seq] for seq in reversed(ask.numbers) if "time" in found.get(seq, {})):
        latest = min(cast(float, row["time"]), latest - cast(float, row["time_total_ms"]) / 1000)
        row["time"] = datetime.fromtimestamp(latest, UTC)


def _row(values: re.Match[str], body: str) -> dict[str, object]:
    connect_s, first_s, total_s = map(float, values.group(3, 4, 5))
    size, came = int(values[6]), body.encode()
    ended = Ended(
        code=int(values[1]),
        exit_code=int(values[2]),
        connect_s=connect_s,
        first_s=first_s,
        total_s=total_s,
        body=came[-size:].decode("utf-8", "replace") if size else "",
        said=values[8],
        remote_ip=values[7],
    )
    return ended.row(whole=size <= len(came))


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How one request ended, whoever sent it: HTTP status (0: none), curl's exit code, lengths (0: not reached)."""

    code: int
    exit_code: int
    connect_s: float
    first_s: float
    total_s: float
    body: str
    said: str
    remote_ip: str

    def row(self, *, whole: bool = True) -> dict[str, object]:
        """Return the columns that tell of the answer; ``whole`` says that no byte of the body was lost on its way."""
        answer = _ANSWER.fullmatch(self.body.strip()) if whole else None
        if self.exit_code:
            error = _NAMES.get(self.exit_code, f"curl_{self.exit_code}")
        elif self.code != 200:
            error = f"http_{self.code}"
        else:
            error = "" if answer else "unexpected" if whole else tables.GARBLED
        version, instance = answer.groups() if answer and not error else ("", "")
        return {
            "version": version,
            "instance": instance,
            "code": self.code or None,
            "exit_code": self.exit_code,
            "time_connect_ms": round(self.connect_s * 1000, 3) or None,
            "time_starttransfer_ms": round(self.first_s * 1000, 3) or None,
            "time_total_ms": round(self.total_s * 1000, 3),
            "remote_ip": self.remote_ip,
            "error": error,
            "detail": one_line(self.said or (self.body if error else "")),
        }


def one_line(text: str) -> str:
    return " ".join(text.split())[:_DETAIL_LENGTH]


def _last_words(text: str, ask: Ask) -> str:
    """Return what came last and is neither record nor answer, such as ``sh: curl: not found``."""
    lines = [line for line in text.splitlines() if line.strip() and ask.nonce not in line and not _ANSWER.search(line)]
    return one_line(lines[-1]) if lines else "no record of this transfer came back"


def curl_from_pods(
    fleet: Fleet,
    url: str,
    requests: int = 20,
    *,
    namespace: str = "sample",
    selector: str = "app=sleep",
    timeout_s: float = 5.0,
) -> pd.DataFrame:
    """Send ``requests`` from the pod that ``selector`` finds in each cluster, side by side, and return ANSWERS.

    One exec and one curl per cluster, in the pod's first container that is no sidecar. ``timeout_s`` bounds each
    request. An exec that breaks leaves the rows received so far and rows marked ``lost``; a cluster without such a pod
    is a ClusterError.
    """
    ask = Ask(url=url, requests=requests, timeout_s=timeout_s)
    frames = fleet.each(lambda cluster: _from_pod(cluster, ask, namespace, selector))
    return _ordered(frames.values())


def _from_pod(cluster: Cluster, ask: Ask, namespace: str, selector: str) -> pd.DataFrame:
    pod = cluster.ready_pod(selector, namespace)
    container = container_of(cluster.get("Pod", pod, namespace))
    lines: list[str] = []
    arrivals: list[float] = []

    def on_line(line: str, complete: datetime) -> None:
        lines.append(line)
        arrivals.append(complete.timestamp())

    shell = ["/bin/sh", "-c", _MERGED, "sh", *command(ask)]
    where = {"namespace": namespace, "container": container}
    try:
        result = cluster.exec(pod, shell, **where, timeout_s=ask.longest_s, on_line=on_line)
        note = result.stderr or (f"the command ended with exit code {result.exit_code}" if result.exit_code else "")
    except ExecError as error:
        note = error.message
    return parse_records("\n".join(lines), ask, source=cluster.name, path=MESH, arrivals=arrivals, note=note)


def container_of(pod: Object) -> str:
    """Return the pod's first container that is no sidecar."""
    names = [str(container["name"]) for container in pod["spec"]["containers"]]
    return next((name for name in names if name != PROXY_CONTAINER), names[0])


def curl_from_here(url: str, requests: int = 10, *, path: str = VIP, timeout_s: float = 5.0) -> pd.DataFrame:
    """Send ``requests`` from this machine, one after the other, and return ANSWERS with the source ``external client``.

    ``timeout_s`` bounds each request. A curl that outlives the sum of its own time-outs is killed, and what it had not
    yet told is ``lost``.
    """
    ask = Ask(url=url, requests=requests, timeout_s=timeout_s)
    argv = [curl_program(), *command(ask, direct=is_near(url))[1:]]
    lines: list[bytes] = []
    arrivals: list[float] = []
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(argv, **pipes) as process:
        assert process.stdout is not None
        limit = threading.Timer(ask.longest_s, process.kill)
        limit.start()
        try:
            for line in process.stdout:
                arrivals.append(time.time())
                lines.append(line)
        finally:
            limit.cancel()
            process.kill()
    text = b"".join(lines).decode("utf-8", "replace")
    note = f"curl was stopped after {ask.longest_s:g} s" if process.returncode == -signal.SIGKILL else ""
    return _ordered([parse_records(text, ask, source=OUTSIDE, path=path, arrivals=arrivals, note=note)])


def _ordered(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    whole = pd.concat(list(frames), ignore_index=True).sort_values(["source", "seq"], ignore_index=True)
    return tables.conform(whole, tables.ANSWERS)


def curl_program() -> str:
    """Return where this machine's curl is; UsageError when it has none."""
    program = shutil.which("curl")
    if program is None:
        raise UsageError("there is no curl on this machine's PATH", hint="install curl 7.84 or newer")
    return program


def is_near(url: str) -> bool:
    """Tell whether ``url`` names this machine or a private address, which no proxy can reach."""
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_private
