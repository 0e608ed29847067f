"""How long a service was unavailable, out of the rows of an open loop: each source and path on its own. Pure.

A window is a run of requests, in the order of their sending, without a good and prompt answer among them: one such
answer ends it, so two windows have at least one between them. Its edges and its length are ranges, from what requests
prove to what they leave possible (``bounds``), widened by the error of their time stamps. The edges are widened by the
sender's clock error as well; the length is not, since an offset shifts both edges alike.

How true the ranges are is in ``calibration``, what they mean for a claim in ``claims``.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import pandas as pd

from meshbook import tables
from meshbook.analysis.bounds import Gap, Proof, Request, gaps, margin_of, prompt_of, proved, requests_of


@dataclass(frozen=True, kw_only=True)
class Window:
    """One outage as a source saw it, in Unix times and seconds."""

    gap: Gap
    """The longest stretch that is possible."""
    candidates: tuple[Gap, ...]
    """All that are possible, since an answer that came late proves little about when the service was there."""
    proof: Proof
    """What is proved within ``gap``; as wide as it where nothing is."""
    low: float
    """The longest time that it was down for, at least."""
    requests: tuple[Request, ...]
    """Those without a good and prompt answer, in the order of their sending."""

    @property
    def failed(self) -> int:
        return sum(not request.good for request in self.requests)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The service was down for ``low_s`` at least and ``high_s`` at most (infinite: its begin or end was not seen)."""

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


@dataclass(frozen=True, kw_only=True, eq=False)
class Stream:
    """The requests of one source and path, and what follows from them."""

    source: str
    path: str
    rows: pd.DataFrame
    """ANSWERS, those without a result among them."""
    requests: tuple[Request, ...]
    prompt: float
    """Seconds within which the service answers when nothing is wrong."""
    clock_error: float

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Stream:
        return cls(
            source=str(rows["source"].iloc[0]),
            path=str(rows["path"].iloc[0]),
            rows=rows,
            requests=tuple(requests_of(rows)),
            prompt=prompt_of(rows),
            clock_error=float(tables.clock_errors_ms(rows).max()) / 1000,
        )

    @cached_property
    def sent(self) -> list[float]:
        return [request.sent for request in self.requests]

    @cached_property
    def gaps(self) -> list[Gap]:
        """Every stretch that the service may have been down for."""
        return gaps(self.requests)

    @cached_property
    def hidden(self) -> list[Gap]:
        """Those of them that no window shows."""
        shown = {gap for window in self.windows for gap in window.candidates}
        return [gap for gap in self.gaps if gap not in shown]

    @cached_property
    def margin(self) -> float:
        """Seconds within which the service surely answers while it is there."""
        return margin_of(self.requests, [_around(candidates) for _, candidates in self._runs], self.prompt)

    @cached_property
    def windows(self) -> list[Window]:
        """The windows in their order."""
        found = []
        for run, candidates in self._runs:
            around = _around(candidates)
            near = self.requests[bisect_left(self.sent, around.start) : bisect_right(self.sent, around.end)]
            proofs = [proved(near, gap, self.margin) for gap in candidates]
            found.append(_window(self.requests[run.start : run.stop], candidates, proofs))
        return found

    @cached_property
    def _runs(self) -> list[tuple[range, list[Gap]]]:
        """Places of requests that follow each other without a good and prompt answer, and what is possible there."""
        good = [-1, *(place for place, request in enumerate(self.requests) if request.good)]
        prompt = [request.good and request.end - request.sent <= self.prompt for request in self.requests]
        found = []
        for calm, places in itertools.groupby(range(len(prompt)), lambda place: prompt[place]):
            if not calm:
                run = list(places)
                gaps = self.gaps[bisect_left(good, run[0]) - 1 : bisect_left(good, run[-1] + 1)]
                found.append((range(run[0], run[-1] + 1), gaps))
        return found

    def estimates(self, start: float, end: float) -> list[Estimate]:
        """Return how long it may have been down at a time that touches the one given (Unix times).

        One for each window; one for the longest outage that none of them shows; and an open one with an infinite end
        for each part of that time before the first good answer or after the last.
        """

        def touches(gap: Gap) -> bool:
            return gap.start - self.clock_error <= end and gap.end + self.clock_error >= start

        def estimate(low_s: float, high_s: float, window: Window | None = None) -> Estimate:
            return Estimate(source=self.source, path=self.path, low_s=low_s, high_s=high_s, window=window)

        seen = [each for each in self.windows if any(map(touches, each.candidates))]
        unseen = [gap.length for gap in self.hidden if touches(gap)]
        found = [estimate(window.low, window.gap.length, window) for window in seen]
        found += [estimate(0.0, length) for length in unseen if math.isinf(length)]
        return [*found, estimate(0.0, max(filter(math.isfinite, unseen), default=0.0))]


def _around(candidates: Sequence[Gap]) -> Gap:
    return Gap(start=candidates[0].start, end=max(gap.end for gap in candidates))


def _window(requests: tuple[Request, ...], candidates: Sequence[Gap], proofs: Sequence[Proof | None]) -> Window:
    longest = max(candidates, key=lambda gap: gap.length)
    nothing = Proof(down_by=_around(candidates).end, down_until=candidates[0].start)
    return Window(
        gap=longest,
        candidates=tuple(candidates),
        proof=proofs[candidates.index(longest)] or nothing,
        low=max([0.0, *(proof.length for proof in proofs if proof)]),
        requests=requests,
    )


def streams(frame: pd.DataFrame) -> list[Stream]:
    """Return what ``frame`` (ANSWERS) holds, by source and path."""
    answers = tables.conform(frame, tables.ANSWERS)
    return [Stream.of(rows) for _, rows in answers.groupby(["source", "path"], sort=True)]


def outage_windows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return WINDOWS: every time that a source of ``frame`` (ANSWERS) found the service unavailable, with error bars.

    An answer that took more than five times what is usual for its source, and more than 60 ms, is slow and part of a
    window. No window at all does not mean no outage: ``downtime`` says how long one can have been.
    """
    rows = (_row(stream, *place) for stream in streams(frame) for place in enumerate(stream.windows, 1))
    return tables.from_rows(rows, tables.WINDOWS)


def _row(stream: Stream, number: int, window: Window) -> dict[str, object]:
    gap, clock = window.gap, stream.clock_error
    return {
        "source": stream.source,
        "path": stream.path,
        "number": number,
        "kind": "failed" if window.failed else "slow",
        "last_good": _moment(gap.start - clock),
        "first_bad": _moment(min(window.proof.down_by, gap.end) + clock),
        "last_bad": _moment(window.proof.down_until - clock),
        "first_good": _moment(gap.end + clock),
        "low_ms": _floor_ms(window.low),
        "high_ms": _ceil_ms(gap.length),
        "sent": bisect_left(stream.sent, gap.end) - bisect_left(stream.sent, window.requests[0].sent),
        "failed": window.failed,
        "slow": len(window.requests) - window.failed,
    }


def downtime(frame: pd.DataFrame, start: datetime, end: datetime) -> pd.DataFrame:
    """Return DOWNTIME: for each source and path of ``frame`` (ANSWERS), how long it was without the service between.

    Late answers alone are no outage for sure: they widen what can have been, and count as no window.
    """
    return tables.from_rows((_downtime(stream, start, end) for stream in streams(frame)), tables.DOWNTIME)


def _downtime(stream: Stream, start: datetime, end: datetime) -> dict[str, object]:
    rows = stream.rows
    sent = rows[rows["time"].fillna(rows["scheduled"]).between(start, end, inclusive="left")]
    measured = tables.measured(sent)
    found = stream.estimates(start.timestamp(), end.timestamp())
    failed = [one.window for one in found if one.window and one.failed]
    known = len(measured) > len(sent) / 2
    low_s, high_s, degraded = 0.0, max(one.high_s for one in found), {}
    if failed:
        surely = max(one.proof.down_until for one in failed) - min(one.proof.down_by for one in failed)
        at_most = max(one.gap.end for one in failed) - min(one.gap.start for one in failed)
        degraded = {"degraded_low_ms": _floor_ms(max(0.0, surely)), "degraded_high_ms": _ceil_ms(at_most)}
        low_s, high_s = sum(one.low for one in failed), min(at_most, sum(one.gap.length for one in failed))
    return {
        "source": stream.source,
        "path": stream.path,
        "sent": len(measured),
        "failed": int((measured["error"] != "").sum()),
        "windows": len(failed),
        "low_ms": _floor_ms(low_s) if known else None,
        "high_ms": _ceil_ms(high_s) if known else None,
        **degraded,
    }


def _moment(at: float) -> datetime | None:
    return datetime.fromtimestamp(at, UTC) if math.isfinite(at) else None


def _floor_ms(seconds: float) -> float:
    return math.floor(seconds * 10_000) / 10


def _ceil_ms(seconds: float) -> float | None:
    return math.ceil(seconds * 10_000) / 10 if math.isfinite(seconds) else None
