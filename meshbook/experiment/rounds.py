"""What came out of outages: one round, all rounds as tables, and the ladder made of them. Pure.

An outage of the service is known as a range, so the middle of several is one too: it lies between the middle of the
lower ends and the middle of the upper ends. An outage that was not seen may have been as long as what the requests left
unwatched.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

import pandas as pd

from meshbook import analysis, tables
from meshbook.analysis import SHARE_UNCHANGED, TrialRecord
from meshbook.experiment.rungs import Rung

NOT_SEEN_TO_END = "…"
_LONG_MS = 10_000.0


@dataclass(frozen=True, kw_only=True)
class Round:
    """One outage as it was measured."""

    rung: Rung
    record: TrialRecord
    """When it was, what was answered (``record.answers``), and what API servers showed."""
    phases: pd.DataFrame
    layers: pd.DataFrame
    sends: pd.DataFrame
    clocks: pd.DataFrame
    loop: pd.DataFrame
    """ANSWERS of the article's own loop of requests, sent in the middle of the outage."""
    gone: datetime
    """When the API said that it was away."""
    ready_again: datetime

    @property
    def answers(self) -> pd.DataFrame:
        return self.record.answers

    @property
    def baseline(self) -> pd.DataFrame:
        """The answers from before the outage."""
        return self.answers[self.answers["time"] < self.record.outage.asked]

    @property
    def span(self) -> tuple[datetime, datetime]:
        """From the order to the middle of what was watched after all was ready again.

        Not to its very end, since an outage that begins there has none.
        """
        due = self.answers["time"].fillna(self.answers["scheduled"]).max()
        last = self.ready_again if pd.isna(due) else max(self.ready_again, due.to_pydatetime())
        return self.record.outage.asked, self.ready_again + (last - self.ready_again) / 2

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield one row of TRIALS for each source."""
        fixed = {"mode": self.rung.mode, "context": self.rung.context, "trial": self.rung.repeat}
        found = analysis.downtime(self.answers, *self.span).astype(object)
        for row in found.where(found.notna(), None).to_dict("records"):
            yield {**fixed, **{str(name): value for name, value in row.items()}}


def answers(done: Sequence[Round]) -> pd.DataFrame:
    """Return ANSWERS of all outages, one after the other."""
    return _joined([one.answers for one in done], tables.ANSWERS)


def loops(done: Sequence[Round]) -> pd.DataFrame:
    """Return ANSWERS of the article's loop in the middle of each outage."""
    return _joined([one.loop for one in done], tables.ANSWERS)


def phases(done: Sequence[Round]) -> pd.DataFrame:
    """Return PHASES of all outages."""
    return _joined([one.phases for one in done], tables.PHASES)


def layers(done: Sequence[Round]) -> pd.DataFrame:
    """Return ATTRIBUTION of one outage of each kind and cluster, with two columns before it that say which."""
    parts = [
        one.layers.assign(mode=one.rung.mode, at=one.rung.context)[["mode", "at", *tables.ATTRIBUTION.names]]
        for one in one_of_each(done)
    ]
    return pd.concat(parts, ignore_index=True) if parts else tables.empty(tables.ATTRIBUTION)


def one_of_each(done: Sequence[Round]) -> list[Round]:
    """Return the first outage of each kind and cluster."""
    return [one for one in done if one.rung.repeat == 1]


def _joined(frames: Sequence[pd.DataFrame], table: tables.Table) -> pd.DataFrame:
    return tables.conform(pd.concat(frames, ignore_index=True), table) if frames else tables.empty(table)


def headline(one: Round) -> list[str]:
    """Return what came out of one outage in a few lines, for people in a hurry."""
    lines = [f"{row['source']}: {_noticed(row)}" for row in one.rows()]
    for _, row in one.phases[one.phases["phase"] == SHARE_UNCHANGED].iterrows():
        when = "" if pd.isna(row["high_s"]) else f" {row['high_s']:.1f} s after the restore request"
        lines.append(f"share unchanged{when}: {str(row['detail']).partition(', the same')[0]}")
    return lines


def _noticed(row: Mapping[str, Any]) -> str:
    low, high, sent = row["low_ms"], row["high_ms"], row["sent"]
    if low is None:
        return "not known, too many of its requests were lost"
    if not row["windows"] and high is None:
        return f"none of {sent} requests failed; it did not watch from before to after"
    if not row["windows"]:
        return f"none of {sent} requests failed; detection limit {high:.0f} ms"
    counts = f"{row['failed']} of {sent} requests failed"
    if row["windows"] == 1:
        return f"unavailable for {span(low, high, seen=True)}; {counts}"
    whole = span(row["degraded_low_ms"], row["degraded_high_ms"], seen=True)
    return f"degraded for {whole}: {counts}; unavailable for {span(low, high, seen=True)} in all"


def rounds(done: Sequence[Round]) -> pd.DataFrame:
    """Return a frame of TRIALS: what each source noticed of each outage."""
    return tables.from_rows((row for one in done for row in one.rows()), tables.TRIALS)


def ladder(some: pd.DataFrame) -> pd.DataFrame:
    """Return SUMMARY from TRIALS: for each mode, cluster and source the median and the range of the times."""
    some = tables.conform(some, tables.TRIALS)
    groups = some.groupby(["mode", "context", "source"], sort=False)
    return tables.from_rows((_rung_row(key, rows) for key, rows in groups), tables.SUMMARY)


def _rung_row(key: Any, rows: pd.DataFrame) -> dict[str, Any]:
    known = rows.dropna(subset=["low_ms"])
    lows = [float(low) for low in known["low_ms"]]
    highs = [math.inf if pd.isna(high) else float(high) for high in known["high_ms"]]
    ends = {"median_low_ms": median(lows), "median_high_ms": median(highs)} if lows else {}
    ends |= {"low_ms": min(lows), "high_ms": max(highs)} if lows else {}
    disturbed = known.dropna(subset=["degraded_low_ms"])
    if len(disturbed):
        ends["degraded_low_ms"] = median(disturbed["degraded_low_ms"].tolist())
        ends["degraded_high_ms"] = median(disturbed["degraded_high_ms"].fillna(math.inf).tolist())
    return {
        **dict(zip(("mode", "context", "source"), key, strict=True)),
        "n": len(known),
        "seen": int((known["windows"] > 0).sum()),
        **{name: end if math.isfinite(end) else None for name, end in ends.items()},
        "failed": int(known["failed"].sum()),
        "sent": int(known["sent"].sum()),
    }


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Return a SUMMARY for people: times as ranges, and in words where nothing was seen or known."""
    table = tables.conform(table, tables.SUMMARY)
    shown = table[["mode", "context", "source"]].rename(columns={"context": "taken away at", "source": "seen by"})
    cells = [_cells(row) for _, row in table.iterrows()]
    return pd.concat([shown, pd.DataFrame(cells)], axis=1)


def _cells(row: Any) -> dict[str, str]:
    n, seen = int(row["n"]), int(row["seen"])
    known = bool(n)
    return {
        "n": str(n),
        "outage seen": f"{seen} of {n}" if known else "not known",
        "away: median": span(row["median_low_ms"], row["median_high_ms"], seen=2 * seen > n) if known else "",
        "away: range": span(row["low_ms"], row["high_ms"], seen=bool(seen)) if known else "",
        "first to last failure": span(row["degraded_low_ms"], row["degraded_high_ms"], seen=True) if seen else "",
        "failed requests": f"{row['failed']} of {row['sent']}" if known else "",
    }


def span(low: float, high: float | None, *, seen: bool) -> str:
    """Return a time away in words: ``120 to 340 ms``, ``none, or below 110 ms``, ``67.9 to 68.2 s``."""
    open_end = high is None or math.isnan(high)
    if open_end and not seen:
        return "none seen, but not watched from before to after"
    longest = low if high is None or open_end else high
    unit, per_unit, digits = ("ms", 1.0, 0) if longest < _LONG_MS else ("s", 1000.0, 1)
    end = NOT_SEEN_TO_END if high is None or open_end else f"{high / per_unit:.{digits}f}"
    return f"{low / per_unit:.{digits}f} to {end} {unit}" if seen else f"none, or below {end} {unit}"
