"""How long a service may have been away within a time of interest, each possibility with its range. Pure.

``outages`` lists the windows of a whole frame; a estimate also says what no window shows, and what was not watched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from meshbook import tables
from meshbook.analysis.availability import (
    Stream,
    Window,
    ceil_ms,
    floor_ms,
    hidden,
    in_ms,
    streams,
    streams_and_rows,
    unseen,
    windows_of,
)
from meshbook.analysis.bounds import Gap


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The service was away for ``low_s`` at least and ``high_s`` at most (infinite: its begin or end was not seen)."""

    source: str
    path: str
    low_s: float
    high_s: float
    window: Window | None = None
    """What shows it; None where nothing does, and it may not have been at all."""

    @property
    def failed(self) -> int:
        return self.window.failed if self.window else 0

    @property
    def slow(self) -> int:
        return len(self.window.requests) - self.failed if self.window else 0

    def overlap(self, span: tuple[float, float]) -> float:
        """Return how many seconds of ``span`` this estimate's window covers at most."""
        gap = self.window.gap if self.window else Gap(start=span[1], end=span[1])
        return min(gap.end, span[1]) - max(gap.start, span[0])


def estimates(frame: pd.DataFrame, start: float, end: float) -> list[Estimate]:
    """Return, for each source and path of ``frame`` (ANSWERS), all estimates that touch the Unix times given.

    One for each window; one for the longest outage that none of them shows; and an open one with an infinite end for
    each part of that time before the first good answer or after the last.
    """
    return [one for stream in streams(frame) for one in estimates_of(stream, start, end)]


def estimates_of(stream: Stream, start: float, end: float) -> list[Estimate]:
    """Return the estimates of one stream."""

    def touches(gap: Gap) -> bool:
        return gap.start - stream.clock_error <= end and gap.end + stream.clock_error >= start

    def estimate(low_s: float, high_s: float, window: Window | None = None) -> Estimate:
        return Estimate(source=stream.source, path=stream.path, low_s=low_s, high_s=high_s, window=window)

    windows = windows_of(stream)
    rest = [gap for gap in hidden(stream, windows) if touches(gap)]
    found = [estimate(window.low, window.gap.length, window) for window in windows if any(map(touches, window.others))]
    found += [estimate(0.0, math.inf) for gap in rest if math.isinf(gap.length)]
    return [*found, estimate(0.0, unseen(rest))]


def downtime(frame: pd.DataFrame, start: datetime, end: datetime) -> pd.DataFrame:
    """Return DOWNTIME: for each source and path of ``frame`` (ANSWERS), how long it was without the service between.

    Late answers alone are no outage for sure: they widen what can have been, and count as no window.
    """
    rows = (_downtime(stream, rows, start, end) for stream, rows in streams_and_rows(frame))
    return tables.from_rows(rows, tables.DOWNTIME)


def _downtime(stream: Stream, rows: pd.DataFrame, start: datetime, end: datetime) -> dict[str, object]:
    sent = rows[rows["time"].fillna(rows["scheduled"]).between(start, end, inclusive="left")]
    measured = tables.measured(sent)
    found = estimates_of(stream, start.timestamp(), end.timestamp())
    failed = [one.window for one in found if one.window and one.failed]
    known = len(measured) > len(sent) / 2
    low_s, high_s, degraded = 0.0, max(one.high_s for one in found), {}
    if failed:
        surely = max(one.still for one in failed) - min(one.gone for one in failed)
        at_most = max(one.gap.end for one in failed) - min(one.gap.start for one in failed)
        degraded = {"degraded_low_ms": floor_ms(max(0.0, surely)), "degraded_high_ms": ceil_ms(at_most)}
        low_s, high_s = sum(one.low for one in failed), min(at_most, sum(one.gap.length for one in failed))
    return {
        "source": stream.source,
        "path": stream.path,
        "sent": len(measured),
        "failed": int((measured["error"] != "").sum()),
        "windows": len(failed),
        "low_ms": floor_ms(low_s) if known else None,
        "high_ms": ceil_ms(high_s) if known else None,
        "longest_gap_ms": in_ms(stream.longest_silence(Gap(start=-math.inf, end=math.inf))),
        **degraded,
    }
