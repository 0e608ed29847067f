"""When requests are to leave, and the time columns of those that did. Pure but for a look at this machine's clock.

Lateness is never hidden: a row has the time that was planned, the time that came true, and how sure that time is.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime

Row = dict[str, object]
"""A row of ``tables.ANSWERS`` without its source and path."""


@dataclass(kw_only=True)
class Schedule:
    """When all sources send: request n at ``begin + (n - 1) * gap_s``, each with ``timeout_s`` to end."""

    gap_us: int
    timeout_s: float
    requests: int
    begin: float = math.inf
    """Unix time of the first; infinite until every source is ready."""
    end: float = math.inf
    """No request that is scheduled later is sent."""

    @property
    def gap_s(self) -> float:
        return self.gap_us / 1e6

    def due(self, number: int) -> float:
        return self.begin + (number - 1) * self.gap_s

    @property
    def numbers(self) -> range:
        """The requests whose time has come."""
        past = min(self.end, time.time()) - self.begin
        return range(1, min(self.requests, math.floor(past / self.gap_s) + 1 if past >= 0 else 0) + 1)

    @property
    def over(self) -> float:
        """When the last request has ended, at the latest."""
        return min(self.end, self.due(self.requests)) + self.timeout_s


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
