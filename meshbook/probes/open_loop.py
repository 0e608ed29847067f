"""Requests on a schedule, from everywhere at once, while something else happens: an open loop.

A request leaves on its tick whatever earlier ones do, so that an outage is seen as it is and not stretched by the
requests that hang in it. What could not be sent in time is a row that says so. Who sends is in ``source``; what the
rows mean is for ``analysis``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence

import pandas as pd

from meshbook.clusters import Cluster
from meshbook.errors import UsageError
from meshbook.mesh import Entry
from meshbook.probes.session import Schedule
from meshbook.probes.source import Source, sources, start, stop, to_answers

HIGHEST_RATE = 200.0
"""Requests per second and source: each is a line that an API server carries, and a connection of its own."""
MOST_IN_FLIGHT = 4096
"""Requests of a source on their way at once: each is a connection in its pod and two in the pod's proxy."""
LONGEST_S = 3600.0
"""Seconds after which a watch that nobody stops ends by itself."""
_LEAD_S = 0.7
"""Seconds that the word to send may take to every source: a quarter of one until it leaves, and its way."""


class Watch:
    """Requests of all sources on one schedule, from the end of its making until ``stop`` or the schedule's end.

    A context manager. ``frame`` holds the rows so far. Prints nothing.
    """

    def __init__(self, schedule: Schedule, sources: Sequence[Source]) -> None:
        self.schedule, self._sources = schedule, tuple(sources)
        self._done = False
        self._threads = start(sources)
        try:
            schedule.begin = time.time() + _LEAD_S
            time.sleep(_LEAD_S)
        except BaseException:
            stop(sources, self._threads)
            raise

    @property
    def frame(self) -> pd.DataFrame:
        """ANSWERS of what is known so far; after ``stop`` a row for every request that was scheduled."""
        return to_answers(self._sources, done=self._done)

    @property
    def so_far(self) -> str:
        """How many requests of each source have failed, in a line that fits a terminal."""
        return f"failed: {', '.join(source.so_far for source in self._sources)}"

    def stop(self) -> pd.DataFrame:
        """Send no more, wait for the requests on their way (their time-out at most), and return all rows."""
        self.schedule.end = min(self.schedule.end, time.time())
        for thread in self._threads:
            thread.join()
        self._done = True
        return self.frame

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def watch(
    fleet: Iterable[Cluster] = (),
    outside: str | Sequence[Entry] = (),
    inside: str = "",
    *,
    rate_per_s: float = 10.0,
    timeout_s: float = 1.0,
    namespace: str = "sample",
) -> Watch:
    """Start to send ``rate_per_s`` requests a second from everywhere on one schedule, and return the Watch.

    ``outside`` (entries, or a URL) is asked from this machine, ``inside`` from the prober pod of every cluster (path
    ``mesh``); either may be left out. Each request has a connection of its own and ``timeout_s`` seconds, so one that
    hangs delays no other; a source with 4096 requests in flight (20 s of silence at 200 per s) drops those that are
    due. Returns when the first requests leave, about a second later; an error says who cannot send.
    """
    if not 0 < rate_per_s <= HIGHEST_RATE:
        raise UsageError(f"a watch sends more than 0 and at most {HIGHEST_RATE:g} requests per s, not {rate_per_s:g}")
    if not 0 < timeout_s <= 60:
        raise UsageError(f"a request gets more than 0 and at most 60 s, not {timeout_s:g}")
    requests = math.ceil(LONGEST_S * rate_per_s)
    schedule = Schedule(gap_s=1 / rate_per_s, timeout_s=timeout_s, requests=requests, in_flight=MOST_IN_FLIGHT)
    return Watch(schedule, sources(fleet, outside, inside, schedule, namespace))
