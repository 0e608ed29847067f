"""The article's loop: one curl for many requests, from the sleep pod of every cluster and from this machine.

What curl is told, and how its records are read, is in ``records``. Requests on a schedule are in ``open_loop``.
"""

from __future__ import annotations

import ipaddress
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import pandas as pd

from meshbook import tables
from meshbook.clusters import Cluster, Fleet
from meshbook.errors import ExecError, UsageError
from meshbook.objects import PROXY_CONTAINER, Object
from meshbook.probes.records import Ask, command, parse_records

OUTSIDE = "external client"
"""Source of requests that this machine sends."""

MESH, VIP = "mesh", "vip"
"""Paths: by the service's name inside the mesh, or by the global load balancer's address."""

_MERGED = '"$@" 2>&1 | while IFS= read -r line || [ -n "$line" ]; do printf "%s\\n" "$line"; done'
"""Merges curl's two streams in order and sends whole lines: curl itself writes a record in some forty pieces."""


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
    is a ClusterError. No requests are no rows.
    """
    if not requests:
        return tables.empty(tables.ANSWERS)
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
    yet told is ``lost``. No requests are no rows.
    """
    if not requests:
        return tables.empty(tables.ANSWERS)
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
