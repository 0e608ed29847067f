"""The measurement's own error: what it said of faults whose true begin and end are known. Pure; the truth is data.

Who injects the faults stamps them: a lab that freezes an application, a scratch workload, a server of the bench.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from meshbook import tables
from meshbook.analysis.availability import Stream, Window, streams
from meshbook.analysis.estimates import estimates_of
from meshbook.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A time for which a service was away in truth, with time zone; each edge may be wrong by ``error_ms``."""

    name: str
    start: datetime
    end: datetime
    error_ms: float = 0.0

    def __post_init__(self) -> None:
        if None in (self.start.tzinfo, self.end.tzinfo) or self.end <= self.start:
            raise UsageError(f"fault {self.name} has a begin and a later end, both with a time zone")

    @property
    def span(self) -> tuple[float, float]:
        return self.start.timestamp(), self.end.timestamp()

    @property
    def seconds(self) -> float:
        return (self.end - self.start).total_seconds()


def calibrate(frame: pd.DataFrame, faults: Iterable[Fault], *, prompt_ms: float | None = None) -> pd.DataFrame:
    """Return CALIBRATION: for each source of ``frame`` (ANSWERS) and each fault, the truth and what was measured.

    A fault that no window shows was measured as: away for 0 to as long as an unseen outage can have been there.
    """
    known = list(faults)
    rows = (row for stream in streams(frame, prompt_ms) for row in _held_against(stream, known))
    return tables.from_rows(rows, tables.CALIBRATION)


def _held_against(stream: Stream, faults: list[Fault]) -> Iterator[dict[str, object]]:
    for fault in faults:
        found = estimates_of(stream, *fault.span)
        estimate = max(found, key=lambda each: (each.window is not None, each.overlap(fault.span)))
        window, low, high = estimate.window, estimate.low_s, estimate.high_s
        off = [low - fault.seconds - fault.error_ms / 500, fault.seconds - high - fault.error_ms / 500]
        off += _edges_off(window, fault, stream.clock_error) if window else []
        yield {
            "fault": fault.name,
            "source": stream.source,
            "path": stream.path,
            "true_ms": round(fault.seconds * 1000, 1),
            "seen": window is not None,
            "low_ms": round(low * 1000, 1),
            "high_ms": round(high * 1000, 1) if math.isfinite(high) else None,
            "within": max(off) <= 0,
            "off_ms": round(max(0.0, *off) * 1000, 1),
            "width_ms": round((high - low) * 1000, 1) if math.isfinite(high) else None,
        }


def _edges_off(window: Window, fault: Fault, clock_error: float) -> list[float]:
    """Return by how many seconds each edge lies on the wrong side of each of its bounds; below 0 where it does not."""
    start, end = fault.span
    slack = clock_error + fault.error_ms / 1000
    off = (window.gap.start - start, start - window.gone, window.still - end, end - window.gap.end)
    return [seconds - slack for seconds in off]
