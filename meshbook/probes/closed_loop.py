"""Many requests as fast as they go, from everywhere at once: a closed loop.

A number of requests stays in flight; the next one leaves when one has ended. That is how to get a large sample soon, or
to see what a service bears; for outages it is the wrong tool, since requests that hang keep others from being sent:
that is what ``open_loop`` is for. Who sends is in ``source``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from meshbook.clusters import Cluster
from meshbook.errors import UsageError
from meshbook.mesh import Entry
from meshbook.probes.open_loop import MOST_IN_FLIGHT
from meshbook.probes.session import Schedule
from meshbook.probes.source import sources, start, stop, to_answers
from meshbook.settings import REQUEST_S


@dataclass(frozen=True, kw_only=True)
class ClosedLoop:
    """What each source does: ``requests`` in all, ``concurrency`` of them in flight as long as there are as many."""

    requests: int
    concurrency: int = 50
    timeout_s: float = REQUEST_S
    """Longest time of one request."""

    def __post_init__(self) -> None:
        if not 1 <= self.requests <= 10_000_000:
            raise UsageError(f"a closed loop sends 1 to 10,000,000 requests, not {self.requests}")
        if not 1 <= self.concurrency <= MOST_IN_FLIGHT:
            raise UsageError(f"1 to {MOST_IN_FLIGHT} requests may be in flight, not {self.concurrency}")
        if not 0 < self.timeout_s <= 60:
            raise UsageError(f"a request gets more than 0 and at most 60 s, not {self.timeout_s:g}")


def send_many(
    fleet: Iterable[Cluster] = (),
    outside: str | Sequence[Entry] = (),
    inside: str = "",
    *,
    loop: ClosedLoop,
    namespace: str = "sample",
) -> pd.DataFrame:
    """Send as ``loop`` says from everywhere at once, and return ANSWERS, a row for every request of every source.

    ``outside`` (entries, or a URL) is asked from this machine, ``inside`` from the prober pod of every cluster (path
    ``mesh``); either may be left out. A source that cannot start is an error; one that breaks leaves rows marked
    ``lost``.
    """
    schedule = Schedule(gap_s=0.0, timeout_s=loop.timeout_s, requests=loop.requests, in_flight=loop.concurrency)
    each = sources(fleet, outside, inside, schedule, namespace)
    threads = start(each)
    try:
        for thread in threads:
            thread.join()
    except BaseException:
        stop(each, threads)
        raise
    return to_answers(each, done=True)
