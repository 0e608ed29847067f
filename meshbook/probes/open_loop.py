"""Requests on a schedule, from everywhere at once, while something else happens: an open loop.

A request leaves on its tick whatever earlier ones do, so that an outage is seen as it is and not stretched by the
requests that hang in it. What could not be sent in time is a row that says so. Who sends is in ``session``; what the
rows mean is for ``analysis``.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pandas as pd

from meshbook import tables
from meshbook.clusters import Cluster
from meshbook.errors import UsageError, WaitTimeout
from meshbook.probes.curl import MESH, OUTSIDE, VIP, Ask, is_near
from meshbook.probes.session import Row, Schedule, Source, talk_here, talk_in_pod

HIGHEST_RATE = 200.0
"""Requests per second and source: each is a line that an API server carries, and a connection of its own."""
LONGEST_S = 3600.0
"""Seconds after which a watch that nobody stops ends by itself."""
_READY_S = 20.0
_LEAD_S = 0.7
"""Seconds that the word to send may take to every source: a quarter of one until it leaves, and its way."""


class Watch:
    """Streams of requests on one schedule, from the end of its making until ``stop`` or the schedule's end.

    A context manager. ``frame`` holds the rows so far, ``sends`` what became of the schedule, ``clocks`` how far the
    sources' clocks can be trusted. Prints nothing.
    """

    def __init__(self, schedule: Schedule, streams: Sequence[Source]) -> None:
        self.schedule, self._streams = schedule, tuple(streams)
        self._done = False
        self._threads = [_started(stream) for stream in streams]
        try:
            deadline = time.monotonic() + _READY_S
            for stream in streams:
                _wait_until_ready(stream, deadline)
            schedule.begin = time.time() + _LEAD_S
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

    def _fixed(self, stream: Source, number: int) -> Row:
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

    ``outside`` is asked from this machine (path ``vip``), ``inside`` from the prober pod of every cluster (path
    ``mesh``); either may be left out. Each request has a connection of its own and ``timeout_s`` seconds, so one that
    hangs delays no other. Returns when the first requests leave, about a second later; an error says who cannot send.
    """
    if not 0 < rate_per_s <= HIGHEST_RATE:
        raise UsageError(f"a watch sends more than 0 and at most {HIGHEST_RATE:g} requests per s, not {rate_per_s:g}")
    if not 0 < timeout_s <= 60:
        raise UsageError(f"a request gets more than 0 and at most 60 s, not {timeout_s:g}")
    schedule = Schedule(gap_s=1 / rate_per_s, timeout_s=timeout_s, requests=math.ceil(LONGEST_S * rate_per_s))
    streams: list[Source] = []
    if outside:
        here = Source(schedule=schedule, source=OUTSIDE, path=VIP, url=_plain(outside), talk=talk_here)
        streams.append(replace(here, direct=is_near(outside), same_clock=True))
    for cluster in fleet if inside else ():
        talk = partial(talk_in_pod, cluster=cluster, namespace=namespace)
        streams.append(Source(schedule=schedule, source=cluster.name, path=MESH, url=_plain(inside), talk=talk))
    if not streams:
        raise UsageError("a watch needs something to ask", hint="outside=http://VIP/hello, inside=http://…:5000/hello")
    return Watch(schedule, streams)


def _plain(url: str) -> str:
    if not Ask(url=url, requests=1).url.startswith("http://"):
        raise UsageError(f"a watch asks plain http only, not {url!r}", hint="the article's VIP is http://VIP/hello")
    return url


def _started(stream: Source) -> threading.Thread:
    thread = threading.Thread(target=stream.run, name=f"meshbook watch {stream.source}", daemon=True)
    thread.start()
    return thread


def _wait_until_ready(stream: Source, deadline: float) -> None:
    while not stream.ready.wait(0.02):
        if stream.broken is not None:
            raise stream.broken
        if time.monotonic() > deadline:
            raise WaitTimeout(f"{stream.source}: no sender was ready within {_READY_S:g} s", saw=stream.why_lost(0))


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
