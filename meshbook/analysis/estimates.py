"""How long a service may have been away within a time of interest, each possibility with its range. Pure.

``outages`` lists the windows of a whole frame; a reading also says what no window shows, and what was not watched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from meshbook.analysis.availability import Stream, Window, hidden, streams, unseen, windows_of
from meshbook.analysis.bounds import Gap


@dataclass(frozen=True, kw_only=True)
class Reading:
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
        """Return how many seconds of ``span`` this reading's window covers at most."""
        gap = self.window.gap if self.window else Gap(start=span[1], end=span[1])
        return min(gap.end, span[1]) - max(gap.start, span[0])


def readings(frame: pd.DataFrame, start: float, end: float) -> list[Reading]:
    """Return, for each source and path of ``frame`` (ANSWERS), all readings that touch the Unix times given.

    One for each window; one for the longest outage that none of them shows; and an open one with an infinite end for
    each part of that time before the first good answer or after the last.
    """
    return [reading for stream in streams(frame) for reading in readings_of(stream, start, end)]


def readings_of(stream: Stream, start: float, end: float) -> list[Reading]:
    """Return the readings of one stream."""

    def touches(gap: Gap) -> bool:
        return gap.start - stream.clock_error <= end and gap.end + stream.clock_error >= start

    def reading(low_s: float, high_s: float, window: Window | None = None) -> Reading:
        return Reading(source=stream.source, path=stream.path, low_s=low_s, high_s=high_s, window=window)

    windows = windows_of(stream)
    rest = [gap for gap in hidden(stream, windows) if touches(gap)]
    found = [reading(window.low, window.gap.length, window) for window in windows if any(map(touches, window.others))]
    found += [reading(0.0, math.inf) for gap in rest if math.isinf(gap.length)]
    return [*found, reading(0.0, unseen(rest))]
