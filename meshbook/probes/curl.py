"""The article's loop: curl for many requests, from the sleep pod of every cluster and from this machine.

What curl is told, and how its records are read, is in ``records``. Requests on a schedule are in ``open_loop``.
"""

from __future__ import annotations

import ipaddress
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from urllib.parse import urlsplit

import pandas as pd

from meshbook import progress, tables
from meshbook.clusters import Cluster, Fleet, OnLine, gather
from meshbook.errors import ClusterError, ExecError, UsageError
from meshbook.mesh import Entry, IngressGateway, entries_of
from meshbook.objects import PROXY_CONTAINER, Object
from meshbook.probes.records import TIMED_OUT, Ask, article_loop, command, last_record, parse_records, side_by_side
from meshbook.probes.session import run_here
from meshbook.settings import REQUEST_S

MESH = "mesh"
"""Path of requests by the service's name inside the mesh; those from outside have their entry's."""

_MERGED = '"$@" 2>&1 | while IFS= read -r line || [ -n "$line" ]; do printf "%s\\n" "$line"; done'
"""Merges curl's two streams in order and sends whole lines: curl itself writes a record in some forty pieces."""


def curl_from_pods(
    fleet: Fleet,
    url: str,
    requests: int = 20,
    *,
    namespace: str = "sample",
    timeout_s: float = REQUEST_S,
    at_once: bool = False,
) -> pd.DataFrame:
    """Send ``requests`` from the ``sleep`` pod of each cluster, and return ANSWERS.

    All clusters at once; in each one request after the other, and once one has taken all of its ``timeout_s``, the rest
    side by side: a way that hangs is not waited for again and again, and where that is known, they go ``at_once``. They
    are sent in the pod's first container that is no sidecar. An exec that breaks leaves the rows received so far and
    rows marked ``lost``; one that this user may not start is an error. A cluster without such a pod has no rows, and
    where none has one that is an error. No requests are no rows.
    """
    if not requests:
        return tables.empty(tables.ANSWERS)
    ask = Ask(url=url, requests=requests, timeout_s=timeout_s, at_once=at_once)
    pods = fleet.each(lambda cluster: _ready_pod(cluster, namespace))
    absent = [pod for pod in pods.values() if isinstance(pod, ClusterError)]
    if len(absent) == len(pods):
        raise absent[0]
    frames = fleet.each(lambda cluster: _from_pod(cluster, ask, pods[cluster.name], namespace))
    return _ordered(frames.values())


def _ready_pod(cluster: Cluster, namespace: str) -> str | ClusterError:
    """Return the name of a pod that can send, or what stands in its way."""
    try:
        return cluster.ready_pod("app=sleep", namespace)
    except ClusterError as error:
        if error.code:
            raise
        return error


def curl_gateways(
    fleet: Fleet,
    gateways: Sequence[IngressGateway],
    requests: int = 12,
    *,
    namespace: str = "sample",
    timeout_s: float = REQUEST_S,
    at_once: bool = False,
) -> pd.DataFrame:
    """Ask every ingress gateway from a pod of its own cluster as ``curl_from_pods`` does, side by side; return ANSWERS.

    Twelve requests show both of two clusters, in forty gateways even. A gateway that never answers takes two time-outs,
    ``at_once`` one. One that could not be asked leaves a row marked ``lost`` that says why.
    """
    pods = fleet.each(lambda cluster: _ready_pod(cluster, namespace))

    def ask(one: IngressGateway) -> pd.DataFrame:
        pod = pods[one.cluster]
        if one.url and not isinstance(pod, ClusterError):
            asked = Ask(url=one.url, requests=requests, timeout_s=timeout_s, at_once=at_once)
            return _from_pod(fleet[one.cluster], asked, pod, namespace, one.path)
        why = pod.message if isinstance(pod, ClusterError) else f"it was not looked up: needs {one.need}"
        row = {"source": one.cluster, "path": one.path, "seq": 1, "error": tables.LOST, "detail": why}
        return tables.from_rows([row], tables.ANSWERS)

    frames = gather({f"{one.cluster} {one.path}": partial(ask, one) for one in gateways})
    return tables.joined(*frames.values()) if frames else tables.empty(tables.ANSWERS)


def _from_pod(cluster: Cluster, ask: Ask, pod: str | ClusterError, namespace: str, path: str = MESH) -> pd.DataFrame:
    if isinstance(pod, ClusterError):
        return tables.empty(tables.ANSWERS)
    where = {"namespace": namespace, "container": container_of(cluster.get("Pod", pod, namespace))}
    inside = ["-c", where["container"], pod, "--", "sh", "-c", article_loop(ask)]
    cluster.tell_kubectl("exec", *inside, namespace=namespace)

    def run(argv: list[str], on_line: OnLine) -> str:
        shell = argv if argv[0] != "curl" else ["/bin/sh", "-c", _MERGED, "sh", *argv]
        try:
            result = cluster.exec(pod, shell, **where, timeout_s=ask.longest_s, on_line=on_line)
        except ExecError as error:
            if error.code == 403:
                raise
            return error.message
        return result.stderr or (f"the command ended with exit code {result.exit_code}" if result.exit_code else "")

    return _answers(run, ask, source=cluster.name, path=path)


def _answers(
    run: Callable[[list[str], OnLine], str], ask: Ask, *, source: str, path: str, direct: bool = False
) -> pd.DataFrame:
    """Return ANSWERS to all of ``ask``; ``run`` runs one command, and returns what is to be said of its end.

    A curl ends with the first transfer that fails. Where that took all its time, the rest is sent side by side.
    """
    lines: list[str] = []
    arrivals: list[float] = []

    def on_line(line: str, complete: datetime) -> None:
        lines.append(line)
        arrivals.append(complete.timestamp())

    note, told, failed = "", 0, TIMED_OUT if ask.at_once else 1
    while failed and failed != TIMED_OUT and told < ask.requests:
        note = run(command(ask, told + 1, direct=direct), on_line)
        before, (told, failed) = told, last_record(lines, ask)
        if told == before:
            break
    if failed == TIMED_OUT and told < ask.requests:
        note = run(side_by_side(ask, told + 1, direct=direct), on_line)
    return parse_records("\n".join(lines), ask, source=source, path=path, arrivals=arrivals, note=note)


def container_of(pod: Object) -> str:
    """Return the pod's first container that is no sidecar."""
    names = [str(container["name"]) for container in pod["spec"]["containers"]]
    return next((name for name in names if name != PROXY_CONTAINER), names[0])


def curl_from_here(
    outside: str | Sequence[Entry], requests: int = 10, *, timeout_s: float = REQUEST_S, at_once: bool = False
) -> pd.DataFrame:
    """Send ``requests`` from this machine to each entry as ``curl_from_pods`` does, or to one URL.

    All entries at once. A curl that outlives the sum of its own time-outs is killed, and what it had not yet told is
    ``lost``.
    """
    asks = {
        entry: Ask(url=entry.url, requests=requests, timeout_s=timeout_s, at_once=at_once)
        for entry in (entries_of(outside) if requests else [])
    }
    frames = gather({entry.source: partial(_from_here, entry, ask) for entry, ask in asks.items()})
    return _ordered(frames.values()) if frames else tables.empty(tables.ANSWERS)


def _from_here(entry: Entry, ask: Ask) -> pd.DataFrame:
    program = curl_program()
    progress.command(article_loop(ask))

    def run(argv: list[str], on_line: OnLine) -> str:
        argv = [program if word == "curl" else word for word in argv]
        code = run_here(argv, _Reader(on_line), ask.longest_s)
        return f"curl was stopped after {ask.longest_s:g} s" if code < 0 else ""

    return _answers(run, ask, source=entry.source, path=entry.path, direct=is_near(entry.url))


@dataclass(frozen=True)
class _Reader:
    """The streams of a command that reads nothing."""

    on_line: OnLine

    def stdin(self) -> str:
        return ""


def _ordered(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    return tables.conform(pd.concat([one.sort_values("seq") for one in frames], ignore_index=True), tables.ANSWERS)


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
