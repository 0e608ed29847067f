"""Where requests are sent from: the sleep pod of every cluster, or this machine. One curl each, rows back.

The arguments and the reading of the answers are in ``curl``; what goes on in the background is in ``watching``.
"""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from urllib.parse import urlsplit

import pandas as pd

from meshbook import tables
from meshbook.clusters import Cluster, Fleet, Object
from meshbook.errors import ExecError, UsageError
from meshbook.probes.curl import Ask, command, parse, rows

OUTSIDE = "outside"
"""Source of requests that this machine sends."""

MESH, VIP = "mesh", "vip"
"""Paths: by the service's name inside the mesh, or by the global load balancer's address."""

_SIDECAR = "istio-proxy"
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
    is a ClusterError.
    """
    ask = Ask(url=url, requests=requests, timeout_s=timeout_s)
    frames = fleet.each(lambda cluster: _from_pod(cluster, ask, namespace, selector))
    return _together(frames.values())


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
    return parse("\n".join(lines), ask, source=cluster.name, path=MESH, arrivals=arrivals, note=note)


def container_of(pod: Object) -> str:
    """Return the pod's first container that is no sidecar."""
    names = [str(container["name"]) for container in pod["spec"]["containers"]]
    return next((name for name in names if name != _SIDECAR), names[0])


def curl_from_here(
    url: str,
    requests: int = 10,
    *,
    path: str = VIP,
    timeout_s: float = 5.0,
    rate_per_s: float = 0.0,
    parallel: int = 1,
) -> pd.DataFrame:
    """Send ``requests`` from this machine and return ANSWERS with the source ``outside``.

    One curl sends one after the other (the article's loop), ``rate_per_s`` a second at most where given; ``parallel``
    curls share the work. ``timeout_s`` bounds each request.
    """
    if parallel < 1:
        raise UsageError(f"at least one curl is needed, not {parallel}")
    parallel = min(parallel, max(1, requests))
    whole = Ask(url=url, requests=requests, step=parallel, timeout_s=timeout_s, rate_per_s=rate_per_s / parallel)
    asks = [replace(whole, first=number) for number in range(1, parallel + 1)]
    curls: list[LocalCurl] = []
    try:
        curls.extend(LocalCurl(ask) for ask in asks)
        frame = tables.from_rows((row for curl in curls for row in curl.rows()), tables.ANSWERS)
    finally:
        for curl in curls:
            curl.stop()
    return _together([frame.assign(source=OUTSIDE, path=path)])


def _together(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    whole = pd.concat(list(frames), ignore_index=True).sort_values(["source", "seq"], ignore_index=True)
    return tables.conform(whole, tables.ANSWERS)


def curl_program() -> str:
    """Return where this machine's curl is; UsageError when it has none."""
    program = shutil.which("curl")
    if program is None:
        raise UsageError("there is no curl on this machine's PATH", hint="install curl 7.84 or newer")
    return program


class LocalCurl:
    """One curl on this machine, started at once, read by a thread of its own so that arrivals are stamped as they come.

    Killed when it outlives the sum of its own time-outs.
    """

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self._lines: list[bytes] = []
        self._arrivals: list[float] = []
        self._process = subprocess.Popen(
            [curl_program(), *command(ask, direct=is_near(ask.url))[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read, name="meshbook curl", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._arrivals.append(time.time())
            self._lines.append(line)

    def rows(self) -> list[dict[str, object]]:
        """Wait until curl has ended and return its rows, without source and path."""
        self._reader.join(self.ask.longest_s)
        note = "curl was stopped: it took longer than its own time-outs allow" if self._reader.is_alive() else ""
        self.stop()
        text = b"".join(self._lines).decode("utf-8", "replace")
        return rows(text, self.ask, self._arrivals, note)

    def stop(self) -> None:
        """End the curl if it still runs; rows that it had not yet sent become ``lost``."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()


def is_near(url: str) -> bool:
    """Tell whether ``url`` names this machine or a private address, which no proxy can reach."""
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return address.is_loopback or address.is_private
