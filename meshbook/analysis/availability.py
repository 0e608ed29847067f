"""Rows of an open loop to outage windows, one list per source and path. Pure.

A window is a run of requests, in the order of their sending, without a good and prompt answer among them: one such
answer ends it, so two windows have at least one between them. Its edges are ranges: the service went away between
``last_good`` and ``first_bad`` and was back between ``last_bad`` and ``first_good``. Its length is a range too, from
what requests prove to what they leave possible (``evidence``), both widened by the error of their time stamps. The
edges are widened by the sender's clock error as well; the length is not, since an offset shifts both edges alike.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import pandas as pd

from meshbook import tables
from meshbook.analysis.bounds import Away, Gap, Request, gaps, proofs, requests_of
from meshbook.analysis.latency import margin_of, prompt_of


@dataclass(frozen=True, kw_only=True)
class Stream:
    """The requests of one source and path, and what they say about the service's pace."""

    source: str
    path: str
    requests: tuple[Request, ...]
    prompt: float
    clock_error: float
    unknown: int

    @classmethod
    def of(cls, rows: pd.DataFrame, prompt_ms: float | None) -> Stream:
        requests = tuple(requests_of(rows))
        clock = rows["clock_error_ms"].astype("float64").max()
        return cls(
            source=str(rows["source"].iloc[0]),
            path=str(rows["path"].iloc[0]),
            requests=requests,
            prompt=prompt_of(rows) if prompt_ms is None else prompt_ms / 1000,
            clock_error=0.0 if math.isnan(clock) else float(clock) / 1000,
            unknown=len(rows) - len(requests),
        )

    @cached_property
    def sent(self) -> list[float]:
        return [request.sent for request in self.requests]

    @cached_property
    def arrivals(self) -> list[float]:
        """When good answers arrived, in order."""
        return sorted(request.end for request in self.requests if request.good)

    def longest_silence(self, gap: Gap) -> float | None:
        """Return the longest time in s between two good answers that arrived one after the other around ``gap``."""
        first, last = bisect_left(self.arrivals, gap.start), bisect_right(self.arrivals, gap.end)
        around = self.arrivals[max(0, first - 1) : last + 1]
        return max((b - a for a, b in itertools.pairwise(around)), default=None)


@dataclass(frozen=True, kw_only=True)
class Window:
    """One outage, in Unix times and seconds."""

    gap: Gap
    """The longest stretch that is possible."""
    others: tuple[Gap, ...]
    """All that are possible, since an answer that came late proves little about when the service was there."""
    gone: float
    """When it had gone, at the latest."""
    still: float
    """Until when it was gone, at least."""
    low: float
    """The longest time that it was away for, at least."""
    requests: tuple[Request, ...]
    """Those without a good and prompt answer, in the order of their sending."""

    @property
    def failed(self) -> int:
        return sum(not request.good for request in self.requests)


def streams(frame: pd.DataFrame, prompt_ms: float | None = None) -> list[Stream]:
    """Return what ``frame`` (ANSWERS) holds by source and path."""
    return [stream for stream, _ in streams_and_rows(frame, prompt_ms)]


def streams_and_rows(frame: pd.DataFrame, prompt_ms: float | None = None) -> Iterator[tuple[Stream, pd.DataFrame]]:
    answers = tables.conform(frame, tables.ANSWERS)
    for _, rows in answers.groupby(["source", "path"], sort=True):
        yield Stream.of(rows, prompt_ms), rows


def outage_windows(frame: pd.DataFrame, *, prompt_ms: float | None = None) -> pd.DataFrame:
    """Return WINDOWS: every time that a source of ``frame`` (ANSWERS) found the service away, with error bars.

    An answer that took longer than ``prompt_ms`` is slow and part of a window; by default five times what is
    usual for that source, and at least 60 ms. No window at all does not mean no outage: ``coverage`` says
    how long one can have been.
    """
    rows = [
        _row(stream, number, window)
        for stream in streams(frame, prompt_ms)
        for number, window in enumerate(windows_of(stream), 1)
    ]
    return tables.from_rows(rows, tables.WINDOWS)


def windows_of(stream: Stream) -> list[Window]:
    """Return the windows of one stream in their order."""
    every, runs = stream.requests, list(_runs(stream.requests, stream.prompt))
    good = [-1, *(n for n, r in enumerate(every) if r.good)]
    possible = gaps(every)
    candidates = [possible[bisect_left(good, run.start) - 1 : bisect_left(good, run.stop)] for run in runs]
    disturbed = [Gap(start=some[0].start, end=max(gap.end for gap in some)) for some in candidates]
    margin = margin_of(every, disturbed, stream.prompt)
    found = []
    for run, some, around in zip(runs, candidates, disturbed, strict=True):
        first, last = bisect_left(stream.sent, around.start), bisect_right(stream.sent, around.end)
        proved = [_proved(every[first:last], gap, margin) for gap in some]
        found.append(_window(every[run.start : run.stop], some, proved))
    return found


def _runs(requests: Sequence[Request], prompt: float) -> Iterator[range]:
    """Yield the places of requests that follow each other without a good and prompt answer."""
    for calm, places in itertools.groupby(range(len(requests)), lambda n: requests[n].is_prompt(prompt)):
        if not calm:
            run = list(places)
            yield range(run[0], run[-1] + 1)


def _window(requests: tuple[Request, ...], candidates: Sequence[Gap], proved: Sequence[Away | None]) -> Window:
    longest = max(candidates, key=lambda gap: gap.length)
    low = max((away.still - away.gone for away in proved if away), default=0.0)
    nothing = Away(gone=max(gap.end for gap in candidates), still=candidates[0].start)
    away = proved[candidates.index(longest)] or nothing
    return Window(
        gap=longest, others=tuple(candidates), gone=away.gone, still=away.still, low=max(0.0, low), requests=requests
    )


def _proved(requests: Sequence[Request], gap: Gap, margin: float) -> Away | None:
    """Return when the service had gone at the latest and was still gone at least, within one possible stretch."""
    found = list(proofs([each for each in requests if gap.start <= each.sent <= gap.end], gap, margin))
    return Away(gone=min(each.gone for each in found), still=max(each.still for each in found)) if found else None


def _row(stream: Stream, number: int, window: Window) -> dict[str, object]:
    gap, clock = window.gap, stream.clock_error
    return {
        "source": stream.source,
        "path": stream.path,
        "number": number,
        "kind": "failed" if window.failed else "slow",
        "last_good": _moment(gap.start - clock),
        "first_bad": _moment(min(window.gone, gap.end) + clock),
        "last_bad": _moment(window.still - clock),
        "first_good": _moment(gap.end + clock),
        "low_ms": floor_ms(window.low),
        "high_ms": ceil_ms(gap.length),
        "sent": bisect_left(stream.sent, gap.end) - bisect_left(stream.sent, window.requests[0].sent),
        "failed": window.failed,
        "slow": len(window.requests) - window.failed,
        "longest_gap_ms": in_ms(stream.longest_silence(gap)),
    }


def coverage(frame: pd.DataFrame, *, prompt_ms: float | None = None) -> pd.DataFrame:
    """Return COVERAGE: what each source watched, and how long an outage can have been that no window shows."""
    return tables.from_rows((_coverage(stream) for stream in streams(frame, prompt_ms)), tables.COVERAGE)


def _coverage(stream: Stream) -> dict[str, object]:
    good = [request for request in stream.requests if request.good]
    windows = windows_of(stream)
    return {
        "source": stream.source,
        "path": stream.path,
        "since": _moment(good[0].sent) if good else None,
        "until": _moment(good[-1].sent) if good else None,
        "sent": len(stream.requests),
        "failed": len(stream.requests) - len(good),
        "unknown": stream.unknown,
        "windows": len(windows),
        "detection_limit_ms": ceil_ms(unseen(hidden(stream, windows))) if len(good) > 1 else None,
        "longest_gap_ms": in_ms(stream.longest_silence(Gap(start=-math.inf, end=math.inf))),
        "prompt_ms": round(stream.prompt * 1000, 1),
        "clock_error_ms": round(stream.clock_error * 1000, 3),
    }


def hidden(stream: Stream, windows: Sequence[Window]) -> list[Gap]:
    """Return every stretch that the service may have been away for without one of ``windows`` showing it."""
    shown = {gap for window in windows for gap in window.others}
    return [gap for gap in gaps(stream.requests) if gap not in shown]


def unseen(gaps: Iterable[Gap]) -> float:
    """Return the length in seconds of the longest of ``gaps`` that has both ends."""
    return max((gap.length for gap in gaps if math.isfinite(gap.length)), default=0.0)


def in_ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def _moment(at: float) -> datetime | None:
    return datetime.fromtimestamp(at, UTC) if math.isfinite(at) else None


def floor_ms(seconds: float) -> float:
    return math.floor(seconds * 10_000) / 10


def ceil_ms(seconds: float) -> float | None:
    return math.ceil(seconds * 10_000) / 10 if math.isfinite(seconds) else None
