"""When requests are to leave, and the time columns of those that did. Pure but for a look at this machine's clock.

Lateness is never hidden: a row has the time that was planned, the time that came true, and how sure that time is.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from meshbook.probes.lanes import Beat

Row = dict[str, object]
"""A row of ``tables.ANSWERS`` without its source and path."""


@dataclass(kw_only=True)
class Schedule:
    """When the requests of all streams of a watch leave: number n at ``begin + (n - 1) * gap``, a Unix time."""

    beat: Beat
    begin: float = math.inf
    """Unix time of the first; infinite until every source is ready."""
    end: float = math.inf
    """No request that is scheduled later is part of the watch."""

    def due(self, number: int) -> float:
        return self.begin + (number - 1) * self.beat.gap_s

    @property
    def numbers(self) -> range:
        """The requests whose time has come."""
        past = min(self.end, time.time()) - self.begin
        return range(1, min(self.beat.requests, math.floor(past / self.beat.gap_s) + 1 if past >= 0 else 0) + 1)

    @property
    def over(self) -> float:
        """When the last request has ended, at the latest."""
        return min(self.end, self.due(self.beat.requests)) + self.beat.timeout_s


def stamped(
    schedule: Schedule, number: int, row: Row, bounds_s: tuple[float, float], clock_error_s: float = 0.0
) -> Row:
    """Return ``row`` with its time columns; ``bounds_s`` are Unix times between which the request was sent."""
    sent = sum(bounds_s) / 2
    return {
        **row,
        "time": datetime.fromtimestamp(sent, UTC),
        "late_ms": round((sent - schedule.due(number)) * 1000, 3),
        "time_error_ms": round((bounds_s[1] - bounds_s[0]) * 500, 3),
        "clock_error_ms": round(clock_error_s * 1000, 3),
    }
