"""Requests on a schedule, from everywhere at once, while something else happens: an open loop.

A request leaves on its beat whatever earlier ones do, so that an outage is seen as it is and not stretched by the
requests that hang in it. What could not be sent in time is a row that says so. This machine sends by the
program ``sender``, a pod by ``pod_session``; what the rows mean is for ``analysis``.
"""

from __future__ import annotations

import json
import math
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import urlsplit, urlunsplit

import pandas as pd

from meshbook import tables
from meshbook.clusters import Cluster
from meshbook.errors import UsageError, WaitTimeout
from meshbook.probes import sender
from meshbook.probes.clock_sync import Clock
from meshbook.probes.curl import OUTSIDE, VIP, Ended, is_near, one_line
from meshbook.probes.pod_session import PodStream
from meshbook.probes.schedule import Row, Schedule, stamped

HIGHEST_RATE = 200.0
"""Requests per second and source: a pod needs a curl for each that may be on its way at once."""
LONGEST_S = 3600.0
"""Seconds after which a watch that nobody stops ends by itself."""
_READY_S = 20.0
_LEAD_S = 0.3
"""Seconds that the process which sends from here may take to start."""
_SPARE_S = 0.1
"""Seconds for a request that was due right before the end to be sent on a busy machine."""
_LAST_WORDS_S = 3.0
"""Seconds that the last rows may need to get here."""


class Stream(Protocol):
    """A source of requests; ``run`` sends by the schedule and ends by itself."""

    source: str
    path: str
    url: str

    @property
    def clock(self) -> Clock | None:
        """How far the source's clock is off; None where it is this machine's."""

    def run(self) -> None:
        """Send until the schedule is over; called in a thread of its own."""

    def rows(self) -> dict[int, Row]:
        """Return the requests known to have ended, or not to have been sent, by their number."""

    def why_lost(self, number: int) -> str:
        """Return what is known about a request of which no record came."""


class HereStream:
    """Requests from this machine, by a process of its own, to a fixed ``address``."""

    clock: Clock | None = None
    """None: it is this machine's."""

    def __init__(self, schedule: Schedule, url: str, *, path: str, source: str = OUTSIDE) -> None:
        self.schedule, self.url, self.path, self.source = schedule, url, path, source
        self.address, self.request = route(url)
        self._rows: dict[int, Row] = {}
        self._last_words = ""

    def run(self) -> None:
        times = {name: getattr(self.schedule, name) for name in ("gap_us", "timeout_s", "requests", "begin")}
        config = {"address": self.address, "request": self.request, **times}
        argv = [sys.executable, "-I", str(Path(sender.__file__)), json.dumps(config)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with subprocess.Popen(argv, text=True, start_new_session=True, **pipes) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            stopper = threading.Thread(target=self._stop, args=(process,), name="meshbook stop", daemon=True)
            stopper.start()
            for line in process.stdout:
                self._take(line)
            stopper.join()

    def _stop(self, process: subprocess.Popen[str]) -> None:
        while process.poll() is None and time.time() < self.schedule.end + _SPARE_S:
            time.sleep(0.02)
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(self.schedule.timeout_s + _LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            process.kill()

    def _take(self, line: str) -> None:
        try:
            told: Mapping[str, object] = json.loads(line)
        except ValueError:
            self._last_words = one_line(line) or self._last_words
            return
        number = cast(int, told["number"])
        if told.get("dropped"):
            self._rows[number] = {"error": tables.DROPPED, "detail": "this machine was too busy to send it in time"}
            return
        connect, first, total, sent, error = (
            cast(float, told[key]) for key in ("connect_s", "first_s", "total_s", "sent", "error_s")
        )
        ended = Ended(
            code=cast(int, told["code"]),
            exit_code=cast(int, told["exit_code"]),
            body=str(told["body"]).encode(),
            said=str(told["said"]),
        )
        row: Row = {
            **ended.row(),
            "time_connect_ms": round(connect * 1000, 3) or None,
            "time_starttransfer_ms": round(first * 1000, 3) or None,
            "time_total_ms": round(total * 1000, 3),
            "remote_ip": self.address[0] if connect else "",
        }
        self._rows[number] = stamped(self.schedule, number, row, (sent, sent + error))

    def rows(self) -> dict[int, Row]:
        return dict(self._rows)

    def why_lost(self, number: int) -> str:
        return self._last_words or "it was not sent, or had not ended when the watch did"


def route(url: str) -> tuple[tuple[str, int], str]:
    """Return the address to connect to for ``url`` (the proxy's where there is one to use) and the request's text."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise UsageError(f"a watch asks plain http only, not {url!r}", hint="the article's VIP is http://VIP/hello")
    proxy = None if is_near(url) or urllib.request.proxy_bypass(parts.hostname) else _proxy()
    there = urlsplit(proxy) if proxy else parts
    target = url if proxy else urlunsplit(("", "", parts.path or "/", parts.query, ""))
    head = (
        f"GET {target} HTTP/1.1",
        f"Host: {parts.netloc}",
        "User-Agent: meshbook",
        "Accept: */*",
        "Connection: close",
    )
    try:
        found = socket.getaddrinfo(there.hostname, there.port or 80, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(f"cannot find {there.hostname}", hint="is the name right?", said=str(error)) from error
    host, port = found[0][4][:2]
    return (str(host), int(port)), "\r\n".join((*head, "", ""))


def _proxy() -> str:
    return urllib.request.getproxies().get("http", "")


class Watch:
    """Streams of requests on one schedule, from the end of its making until ``stop`` or the schedule's end.

    A context manager. ``frame`` holds the rows so far, ``sends`` what became of the schedule, ``clocks`` how far the
    sources' clocks can be trusted. Prints nothing.
    """

    def __init__(self, schedule: Schedule, streams: Sequence[Stream]) -> None:
        self.schedule, self._streams = schedule, tuple(streams)
        self._done = False
        pods = [stream for stream in streams if isinstance(stream, PodStream)]
        others = [stream for stream in streams if not isinstance(stream, PodStream)]
        self._threads = [_started(stream) for stream in pods]
        try:
            deadline = time.monotonic() + _READY_S
            for stream in pods:
                _wait_until_ready(stream, deadline)
            schedule.begin = time.time() + (max(pod.lead_s for pod in pods) if pods else _LEAD_S)
            self._threads += [_started(stream) for stream in others]
            time.sleep(max(0.0, schedule.begin - time.time()))
        except BaseException:
            schedule.end = 0.0
            self._join()
            raise

    @property
    def frame(self) -> pd.DataFrame:
        """ANSWERS of what is known so far; after ``stop`` a row for every request that was scheduled."""
        rows: list[Row] = []
        for stream in self._streams:
            found = stream.rows()
            numbers = self.schedule.numbers
            for number in numbers if self._done else [known for known in numbers if known in found]:
                row = found.get(number) or {"error": tables.LOST, "detail": stream.why_lost(number)}
                rows.append({**self._fixed(stream, number), **row})
        rows.sort(key=lambda row: (str(row["source"]), str(row["path"]), int(str(row["seq"]))))
        return tables.from_rows(rows, tables.ANSWERS)

    def _fixed(self, stream: Stream, number: int) -> Row:
        scheduled = datetime.fromtimestamp(self.schedule.due(number), UTC)
        return {"source": stream.source, "path": stream.path, "url": stream.url, "seq": number, "scheduled": scheduled}

    @property
    def sends(self) -> pd.DataFrame:
        """SENDS: for each source how many requests left, how late, and how many did not leave or were lost."""
        gap_ms = self.schedule.gap_s * 1000
        rows = [_summed(part, gap_ms) for _, part in self.frame.groupby(["source", "path"], sort=False)]
        return tables.from_rows(rows, tables.SENDS)

    @property
    def clocks(self) -> pd.DataFrame:
        """CLOCKS: each pod's clock against this machine's."""
        rows = [
            {
                "source": stream.source,
                "offset_ms": round(clock.offset_s * 1000, 3),
                "bound_ms": round(clock.bound_s * 1000, 3),
                "round_trip_ms": round(clock.round_trip_s * 1000, 3),
                "exchanges": clock.exchanges,
            }
            for stream in self._streams
            if (clock := stream.clock) is not None
        ]
        return tables.from_rows(rows, tables.CLOCKS)

    def stop(self) -> pd.DataFrame:
        """Send no more, wait for the requests on their way (their time-out at most), and return all rows."""
        self.schedule.end = min(self.schedule.end, time.time())
        self._join()
        self._done = True
        return self.frame

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def watch(
    fleet: Iterable[Cluster] = (),
    outside: str = "",
    inside: str = "",
    *,
    rate_per_s: float = 10.0,
    timeout_s: float = 1.0,
    namespace: str = "sample",
) -> Watch:
    """Start to send ``rate_per_s`` requests a second from everywhere on one schedule, and return the Watch.

    ``outside`` is asked from this machine (path ``vip``), ``inside`` from the sleep pod of every cluster (path
    ``mesh``); either may be left out. Each request has a connection of its own and ``timeout_s`` seconds, so one that
    hangs delays no other. Returns when the first requests leave, which takes pods 2 s at 10 a second and more at higher
    rates; an error says which pod cannot.
    """
    if not 0 < rate_per_s <= HIGHEST_RATE:
        raise UsageError(f"a watch sends more than 0 and at most {HIGHEST_RATE:g} requests per s, not {rate_per_s:g}")
    if not 0 < timeout_s <= 60:
        raise UsageError(f"a request gets more than 0 and at most 60 s, not {timeout_s:g}")
    gap_us = round(1e6 / rate_per_s)
    schedule = Schedule(gap_us=gap_us, timeout_s=timeout_s, requests=math.ceil(LONGEST_S * 1e6 / gap_us))
    streams: list[Stream] = [HereStream(schedule, outside, path=VIP)] if outside else []
    streams += [PodStream(schedule, inside, cluster, namespace=namespace) for cluster in fleet] if inside else []
    if not streams:
        raise UsageError("a watch needs something to ask", hint="outside=http://VIP/hello, inside=http://…:5000/hello")
    return Watch(schedule, streams)


def _started(stream: Stream) -> threading.Thread:
    thread = threading.Thread(target=stream.run, name=f"meshbook watch {stream.source}", daemon=True)
    thread.start()
    return thread


def _wait_until_ready(stream: PodStream, deadline: float) -> None:
    while not stream.ready.wait(0.02):
        if stream.broken is not None:
            raise stream.broken
        if time.monotonic() > deadline:
            raise WaitTimeout(
                f"{stream.source}: no pod was ready to send within {_READY_S:g} s", saw=stream.why_lost(0)
            )


def _summed(rows: pd.DataFrame, gap_ms: float) -> Row:
    late, errors = rows["late_ms"].dropna(), rows["error"]
    unknown = errors.isin({tables.LOST, tables.GARBLED})
    percentiles = {"late_median_ms": 0.5, "late_p99_ms": 0.99, "late_max_ms": 1.0}
    return {
        "source": rows["source"].iloc[0],
        "path": rows["path"].iloc[0],
        "scheduled": len(rows),
        "sent": len(rows) - int((unknown | (errors == tables.DROPPED)).sum()),
        "dropped": int((errors == tables.DROPPED).sum()),
        "lost": int(unknown.sum()),
        "late": int((late > gap_ms).sum()),
        **{name: round(float(late.quantile(share)), 1) for name, share in percentiles.items() if len(late)},
    }
