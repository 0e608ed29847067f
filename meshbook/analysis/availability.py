"""How long a service was unavailable, out of the rows of an open loop: each source and path on its own. Pure.

A window is a run of requests, in the order of their sending, without a good and prompt answer among them: one such
answer ends it, so two windows have at least one between them. Its edges and its length are ranges, from what requests
prove to what they leave possible (``bounds``), widened by the error of their time stamps. The edges are widened by the
sender's clock error as well; the length is not, since an offset shifts both edges alike.

Windows with fewer than ``RECOVERED`` good answers between them are one episode. One with a single window, whose length
is proved, is *unavailable*: no good answer at all. All others are *degraded*: a share of the requests failed.

How true the ranges are is in ``calibration``, what they mean for a claim in ``outages``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import numpy as np
import pandas as pd

from meshbook import tables
from meshbook.analysis.bounds import Flags, gaps_of, margin_of, prompt_of, proved, ranges, requests_of

UNAVAILABLE, DEGRADED = "unavailable", "degraded"
RECOVERED = 3
"""Good answers in a row by which a service is back, so that what fails after them is told apart: where nine in ten
fail, so many come together once in a thousand times."""

_USED = ["time", "scheduled", "cluster", "version", "time_total_ms", "error", "time_error_ms", "clock_error_ms"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stream:
    """The requests of one source and path, and what follows from them: frames with Unix times and seconds."""

    source: str
    path: str
    rows: pd.DataFrame
    """ANSWERS, those without a result among them; only the columns that matter here."""
    requests: pd.DataFrame
    """As in ``bounds``."""
    prompt: float
    """Seconds within which the service answers when nothing is wrong."""
    clock_error: float

    @classmethod
    def of(cls, source: str, path: str, rows: pd.DataFrame) -> Stream:
        return cls(
            source=source,
            path=path,
            rows=rows,
            requests=requests_of(rows),
            prompt=prompt_of(rows),
            clock_error=float(tables.clock_errors_ms(rows).max()) / 1000,
        )

    @cached_property
    def gaps(self) -> pd.DataFrame:
        """Every stretch that the service may have been down for, as in ``bounds``."""
        return gaps_of(self.requests)

    @cached_property
    def margin(self) -> float:
        """Seconds within which the service surely answers while it is there."""
        return margin_of(self.requests, self._runs, self.prompt)

    @cached_property
    def windows(self) -> pd.DataFrame:
        """The windows in their order.

        Any of the gaps from place ``first`` to ``last`` is possible, since an answer that came late proves little about
        when the service was there; the longest is from ``start`` to ``end``, ``high_s`` long, and the service was down
        from ``down_by`` to ``down_until`` in it for sure (where nothing is proved, these lie outside of it). It was
        down for ``low_s`` at least in any case. So many requests were ``sent`` in that time, ``failed`` and ``slow``.
        """
        runs = self._runs
        gap, run = ranges(runs["first"].to_numpy(), runs["last"].to_numpy() + 1)
        possible = self.gaps.take(gap).reset_index(drop=True)
        possible["high_s"] = possible["end"] - possible["start"]
        around = possible.assign(start=np.maximum(possible["start"], runs["start"].to_numpy()[run]))
        possible["down_by"], possible["down_until"] = proved(self.requests, around, self.margin)
        proof_s = (possible["down_until"] - possible["down_by"]).groupby(run).max()
        longest = possible.loc[possible["high_s"].groupby(run).idxmax()].reset_index(drop=True)
        unproved = longest["down_by"].isna()
        sent = self.requests["sent"].to_numpy()
        return longest.assign(
            down_by=longest["down_by"].mask(unproved, runs["end"]),
            down_until=longest["down_until"].mask(unproved, runs["start"]),
            low_s=proof_s.clip(lower=0.0).fillna(0.0),
            sent=np.searchsorted(sent, longest["end"]) - np.searchsorted(sent, sent[runs["begin"].to_numpy()]),
            **runs[["first", "last", "failed", "slow"]],
        )

    @cached_property
    def _runs(self) -> pd.DataFrame:
        """Requests that follow each other without a good and prompt answer, from place ``begin``, and their gaps."""
        good = self.requests["good"].to_numpy()
        prompt = good & (self.requests["end"] - self.requests["sent"] <= self.prompt).to_numpy()
        edges = np.flatnonzero(np.diff(prompt, prepend=True, append=True))
        begin, stop = edges[::2], edges[1::2]
        answered = np.append(0, np.cumsum(good))
        first, last = answered[begin], answered[stop]
        return pd.DataFrame(
            {
                "begin": begin,
                "first": first,
                "last": last,
                "start": self.gaps["start"].to_numpy()[first],
                "end": self.gaps["end"].to_numpy()[last],
                "failed": stop - begin - (last - first),
                "slow": last - first,
            }
        )

    @cached_property
    def hidden(self) -> pd.DataFrame:
        """Those of the gaps that no window shows."""
        shown, _ = ranges(self._runs["first"].to_numpy(), self._runs["last"].to_numpy() + 1)
        alike = pd.MultiIndex.from_frame(self.gaps)
        return self.gaps.loc[~alike.isin(alike[shown])] if len(shown) else self.gaps

    def estimates(self, start: float, end: float) -> pd.DataFrame:
        """Return how long it may have been down at a time that touches the one given (Unix times).

        The windows, ``seen``; the longest outage that none of them shows; and one with an infinite ``high_s`` for each
        part of that time before the first good answer or after the last.
        """
        touching = np.append(0, np.cumsum(self._touches(self.gaps, start, end)))
        first, last = (self.windows[name].to_numpy() for name in ("first", "last"))
        seen: pd.DataFrame = self.windows[touching[last + 1] > touching[first]]
        hidden = self.hidden[self._touches(self.hidden, start, end)]
        length = (hidden["end"] - hidden["start"]).to_numpy()
        finite = np.isfinite(length)
        unseen = pd.DataFrame({"high_s": np.append(length[~finite], length[finite].max(initial=0.0))})
        unseen = unseen.assign(low_s=0.0, failed=0, slow=0, seen=False)
        found: pd.DataFrame = pd.concat([seen.assign(seen=True), unseen], ignore_index=True)
        return found.assign(source=self.source, path=self.path)

    def _touches(self, gaps: pd.DataFrame, start: float, end: float) -> Flags:
        slack = self.clock_error
        touching: Flags = ((gaps["start"] - slack <= end) & (gaps["end"] + slack >= start)).to_numpy()
        return touching


def streams(frame: pd.DataFrame) -> list[Stream]:
    """Return what ``frame`` (ANSWERS) holds, by source and path."""
    answers = tables.conform(frame, tables.ANSWERS)[["source", "path", *_USED]]
    parts = answers.groupby(["source", "path"], sort=False)[_USED]
    return [Stream.of(str(source), str(path), rows) for (source, path), rows in parts]


def longest_of(estimates: pd.DataFrame) -> tuple[float, float]:
    """Return the range in s of the longest time unavailable of some ``Stream.estimates``, seen or not."""
    return float(estimates["low_s"].max()), float(estimates["high_s"].max())


def downtime(frame: pd.DataFrame, start: datetime, end: datetime) -> pd.DataFrame:
    """Return DOWNTIME: for each source and path of ``frame`` (ANSWERS), how long it was without the service between.

    Late answers alone are no outage for sure: they widen what can have been, and count as a window only where they
    prove one, as those do that waited together for a service that stood still.
    """
    return tables.from_rows((_downtime(stream, start, end) for stream in streams(frame)), tables.DOWNTIME)


def _downtime(stream: Stream, start: datetime, end: datetime) -> dict[str, object]:
    measured, known = _sent(stream, start, end)
    found = stream.estimates(start.timestamp(), end.timestamp())
    failed = _telling(found)
    (low_s, high_s), degraded = longest_of(found), {}
    if len(failed):
        surely = failed["down_until"].max() - failed["down_by"].min()
        at_most = failed["end"].max() - failed["start"].min()
        degraded = {"degraded_low_ms": _floor_ms(max(0.0, surely)), "degraded_high_ms": _ceil_ms(at_most)}
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


def _sent(stream: Stream, start: datetime, end: datetime) -> tuple[pd.DataFrame, bool]:
    """Return the rows with a result that were sent between, and whether they are most of those that were to be."""
    sent = stream.rows.loc[stream.rows["time"].fillna(stream.rows["scheduled"]).between(start, end, inclusive="left")]
    measured = tables.measured(sent[["error"]])
    return measured, len(measured) > len(sent) / 2


def _telling(estimates: pd.DataFrame) -> pd.DataFrame:
    """Return the windows in which a request failed, or that late answers prove."""
    found: pd.DataFrame = estimates[estimates["seen"] & ((estimates["failed"] > 0) | (estimates["low_s"] > 0))]
    return found


def episodes(frame: pd.DataFrame, start: datetime, end: datetime) -> pd.DataFrame:
    """Return EPISODES: when each source of ``frame`` (ANSWERS) was unavailable or degraded between."""
    rows = [row for stream in streams(frame) for row in _episodes(stream, start, end)]
    return tables.from_rows(rows, tables.EPISODES)


def _episodes(stream: Stream, start: datetime, end: datetime) -> Iterator[dict[str, object]]:
    _, known = _sent(stream, start, end)
    windows = _telling(stream.estimates(start.timestamp(), end.timestamp()))
    if not known or windows.empty:
        return
    windows = windows.sort_values("first").reset_index(drop=True)
    between = windows["first"] - windows["last"].shift()  # good answers since the window before
    for number, (_, some) in enumerate(windows.groupby((between >= RECOVERED).cumsum()), start=1):
        low_s = max(0.0, some["down_until"].max() - some["down_by"].min())
        whole = len(some) == 1 and some["low_s"].iloc[0] > 0
        answered = some["slow"].sum() + between[some.index[1:]].sum()
        yield {
            "source": stream.source,
            "path": stream.path,
            "number": number,
            "kind": UNAVAILABLE if whole else DEGRADED,
            "last_good": _moment(some["start"].min() - stream.clock_error),
            "first_good": _moment(some["end"].max() + stream.clock_error),
            "low_ms": _floor_ms(some["low_s"].iloc[0] if whole else low_s),
            "high_ms": _ceil_ms(some["end"].max() - some["start"].min()),
            "failed": int(some["failed"].sum()),
            "sent": int(some["failed"].sum() + answered),
            "windows": len(some),
            "longest_low_ms": _floor_ms(some["low_s"].max()),
            "longest_high_ms": _ceil_ms(some["high_s"].max()),
        }


def _moment(unix_s: float) -> datetime | None:
    return datetime.fromtimestamp(unix_s, UTC) if math.isfinite(unix_s) else None


def _floor_ms(seconds: float) -> float:
    return math.floor(seconds * 10_000) / 10


def _ceil_ms(seconds: float) -> float | None:
    return math.ceil(seconds * 10_000) / 10 if math.isfinite(seconds) else None
