"""What came out of an experiment: each trial, and all trials as tables. What they prove is in ``verdicts``. Pure.

Downtime is known as a range, so the median of several is one too: it lies between the median of the lower ends and that
of the upper ends. An outage that was not seen may have been as long as what the requests left unwatched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import pandas as pd

from meshbook import analysis, tables
from meshbook.analysis import UNAVAILABLE, Capacity, Overload, Part, SplitTest, TrialRecord
from meshbook.outage import MODES

_LONG_MS = 10_000.0
_MOST_TOLD = 3
"""Episodes of one source that a headline tells one by one."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One outage as it was measured."""

    record: TrialRecord
    """Which it was and when, what was answered (``record.answers``), and what API servers showed."""
    phases: pd.DataFrame
    attribution: pd.DataFrame
    loop: pd.DataFrame
    """ANSWERS of the article's own loop of requests, sent in the middle of the outage."""
    afterwards: pd.DataFrame
    """ANSWERS to requests of each source, one at a time, once all was restored."""
    versions: Mapping[str, str]
    """By context: the version of the application there."""
    test: SplitTest
    """What share of its answers each cluster should give each source, and how those of ``afterwards`` are compared."""
    down: datetime
    """When the API said that it was down."""
    ready_again: datetime
    bears: Capacity | None = None
    """What the side that survives was measured to bear; None: not known."""
    slow_after_s: float = 1.0
    """An answer that takes longer is late."""
    silenced: frozenset[str] = frozenset()
    """Sources from outside that ask at an address of the outage's cluster alone."""
    unsteady: str = ""
    """What was not as it should be again, long after the restore; empty: all was."""

    @property
    def name(self) -> dict[str, Any]:
        """Which trial it is: the first columns of its rows."""
        return {"mode": self.record.mode, "context": self.record.context, "trial": self.record.trial}

    @property
    def answers(self) -> pd.DataFrame:
        return self.record.answers

    @property
    def baseline(self) -> pd.DataFrame:
        """The answers from before the outage."""
        return self.answers[self.answers["time"] < self.record.outage.asked]

    @property
    def witnessed(self) -> pd.DataFrame:
        """The answers to those who could see: who asks from a cluster that is down, or by its own address, cannot."""
        silenced = {self.record.context, *self.silenced} if MODES[self.record.mode].silences else set()
        return self.answers[~self.answers["source"].isin(silenced)]

    @property
    def span(self) -> tuple[datetime, datetime]:
        """From the request to the middle of what was watched after all was ready again.

        Not to its very end, since an outage that begins there has none.
        """
        due = self.answers["time"].fillna(self.answers["scheduled"]).max()
        last = self.ready_again if pd.isna(due) else max(self.ready_again, due.to_pydatetime())
        return self.record.outage.asked, self.ready_again + (last - self.ready_again) / 2

    @property
    def survivors(self) -> list[str]:
        """The clusters that carry the service meanwhile."""
        return [cluster for cluster in self.versions if cluster != self.record.stopped]

    @cached_property
    def overload(self) -> Overload:
        """Which of its requests (``witnessed``) went wrong for the load on the service."""
        unready = analysis.unready(self.record.changes, self.survivors)
        return analysis.overload(self.witnessed, *self.span, self.slow_after_s, unready)

    @property
    def coverage(self) -> pd.DataFrame:
        """COVERAGE: who was answered by whom before, during and after; what is sent while it changes is in no part."""
        parts = (
            Part(name="before", until=self.record.outage.asked),
            Part(name="during", since=self.down, until=self.record.end, down=self.record.stopped),
            Part(name="after", since=self.ready_again),
        )
        return analysis.coverage(self.witnessed, self.versions, self.test.expected, parts)

    @property
    def load(self) -> pd.DataFrame:
        """LOAD: how busy the side that survives was before, during and after."""
        times = self.answers["time"].dropna()
        since, until = self.record.outage.asked, self.record.end
        parts = {"before": (times.min(), since), "during": (since, until), "after": (until, times.max())}
        bears = self.bears.per_s if self.bears else None
        found = analysis.utilisation(self.answers, parts, self.survivors, bears)
        return tables.conform(found.assign(**self.name), tables.LOAD)

    @property
    def downtime(self) -> pd.DataFrame:
        """TRIALS: what each source noticed."""
        since, until = self.span
        found = analysis.downtime(self.answers, since, until)
        late = self.answers[tables.late(self.answers, self.slow_after_s)]
        counts = late.loc[late["time"].between(since, until, inclusive="left"), "source"].value_counts()
        return tables.conform(found.assign(late=found["source"].map(counts).fillna(0), **self.name), tables.TRIALS)

    @property
    def episodes(self) -> pd.DataFrame:
        """TRIAL_EPISODES: when each source was unavailable or degraded."""
        return tables.conform(analysis.episodes(self.answers, *self.span).assign(**self.name), tables.TRIAL_EPISODES)

    @property
    def headline(self) -> list[str]:
        """What each source noticed, in a line each, for people in a hurry."""
        told = {key: some for key, some in self.episodes.groupby(["source", "path"])}
        rows = self.downtime.to_dict("records")
        return [f"{row['source']}: {_noticed(row, told.get((row['source'], row['path'])))}" for row in rows]


def _noticed(row: Mapping[Any, Any], episodes: pd.DataFrame | None) -> str:
    low, high, sent = row["low_ms"], row["high_ms"], row["sent"]
    late = f", {row['late']} late" if row["late"] else ""
    if math.isnan(low):
        return "not known, too many of its requests were lost"
    if episodes is None and math.isnan(high):
        return f"none of {sent} requests failed{late}; it did not watch from before to after"
    if episodes is None:
        return f"none of {sent} requests failed{late}; detection limit {high:.0f} ms"
    counts = f"{row['failed']} of {sent} requests failed{late}"
    if len(episodes) == 1:
        return f"{_episode(episodes.iloc[0])}; {counts}"
    longest = f"no good answer for {span(low, high, seen=True)} at the longest"
    if len(episodes) > _MOST_TOLD:
        whole = span(row["degraded_low_ms"], row["degraded_high_ms"], seen=True)
        return f"degraded for {whole}, {len(episodes)} times, {longest}; {counts}"
    return f"{', then '.join(_episode(one) for _, one in episodes.iterrows())}; {counts}"


def _episode(one: Any) -> str:
    """Return ``unavailable for 1.3 to 1.7 s from 12:00:12 on``; how much failed, where only a share did."""
    when = "" if pd.isna(one["last_good"]) else f" from {one['last_good']:%H:%M:%S} on"
    told = f"{one['kind']} for {span(one['low_ms'], one['high_ms'], seen=True)}{when}"
    if one["kind"] == UNAVAILABLE:
        return told
    longest = span(one["longest_low_ms"], one["longest_high_ms"], seen=True)
    return f"{told} ({one['failed']} of {one['sent']} failed, no good answer for {longest} at the longest)"


@dataclass(frozen=True, kw_only=True)
class NotDone:
    """A trial that was refused, or that failed and was restored: nothing of it was measured."""

    trial: str
    """``scale-to-zero at cluster1, trial 2``."""
    reason: str


@dataclass(frozen=True)
class Results:
    """All trials of an experiment, and what they come to as tables. Of no trials all tables are empty."""

    trials: Sequence[Trial] = ()
    not_done: Sequence[NotDone] = ()
    left_down: str = ""
    """What could not be restored; empty: all was."""

    @property
    def first_trials(self) -> list[Trial]:
        """The first trial of each step that was done."""
        first: dict[tuple[str, str], Trial] = {}
        for trial in self.trials:
            first.setdefault((trial.record.mode, trial.record.context), trial)
        return list(first.values())

    @property
    def answers(self) -> pd.DataFrame:
        """ANSWERS of all trials, one after the other."""
        return _joined([trial.answers for trial in self.trials], tables.ANSWERS)

    @property
    def loop(self) -> pd.DataFrame:
        """ANSWERS of the article's loop in the middle of each outage."""
        return _joined([trial.loop for trial in self.trials], tables.ANSWERS)

    @property
    def afterwards(self) -> pd.DataFrame:
        """ANSWERS to requests of each source once all was restored, of all trials."""
        return _joined([trial.afterwards for trial in self.trials], tables.ANSWERS)

    @property
    def episodes(self) -> pd.DataFrame:
        """TRIAL_EPISODES of all trials."""
        return _joined([trial.episodes for trial in self.trials], tables.TRIAL_EPISODES)

    @property
    def phases(self) -> pd.DataFrame:
        """PHASES of all trials."""
        return _joined([trial.phases for trial in self.trials], tables.PHASES)

    @property
    def load(self) -> pd.DataFrame:
        """LOAD of all trials."""
        return _joined([trial.load for trial in self.trials], tables.LOAD)

    @property
    def attribution(self) -> pd.DataFrame:
        """ATTRIBUTION of the first trial of each step, with two columns before it that say which."""
        parts = [
            trial.attribution.assign(mode=trial.record.mode, at=trial.record.context) for trial in self.first_trials
        ]
        columns = ["mode", "at", *tables.ATTRIBUTION.names]
        return pd.concat(parts, ignore_index=True)[columns] if parts else tables.empty(tables.ATTRIBUTION)

    @property
    def downtime(self) -> pd.DataFrame:
        """TRIALS: what each source noticed in each trial."""
        return _joined([trial.downtime for trial in self.trials], tables.TRIALS)

    @property
    def summary(self) -> pd.DataFrame:
        """SUMMARY: for each step and source the median and the range of the downtime."""
        return summary(self.downtime)


def _joined(frames: Sequence[pd.DataFrame], table: tables.Table) -> pd.DataFrame:
    return tables.conform(pd.concat(frames, ignore_index=True), table) if frames else tables.empty(table)


def summary(downtime: pd.DataFrame) -> pd.DataFrame:
    """Return SUMMARY from TRIALS: for each step and source the median and the range of the downtime."""
    rows = tables.conform(downtime, tables.TRIALS)
    steps = [rows[name] for name in ("mode", "context", "source")]
    open_ended = {
        f"{name}high_ms": rows[f"{name}high_ms"].fillna(math.inf).where(rows[f"{name}low_ms"].notna())
        for name in ("", "degraded_")
    }
    numbers = rows.select_dtypes("number").assign(**open_ended, seen=(rows["windows"] > 0).astype("Int64"))
    known = numbers.where(rows["low_ms"].notna())
    found = known.groupby(steps, sort=False).agg(**_SUMMARY).replace(math.inf, math.nan).reset_index()
    return tables.conform(found, tables.SUMMARY)


_SUMMARY: dict[str, Any] = {
    "n": ("low_ms", "count"),
    "median_low_ms": ("low_ms", "median"),
    "median_high_ms": ("high_ms", "median"),
    "low_ms": ("low_ms", "min"),
    "high_ms": ("high_ms", "max"),
    "degraded_low_ms": ("degraded_low_ms", "median"),
    "degraded_high_ms": ("degraded_high_ms", "median"),
    **{name: (name, "sum") for name in ("seen", "failed", "late", "sent")},
}
"""By column of SUMMARY: the one of TRIALS that it is of, and what of it; an end that was not seen is infinite."""


def summary_to_display(table: pd.DataFrame) -> pd.DataFrame:
    """Return a SUMMARY for people: times as ranges, and in words where nothing was seen or known.

    Of one trial each there is no median and no count of trials.
    """
    table = tables.conform(table, tables.SUMMARY)
    shown = table[["mode", "context", "source"]].rename(columns={"context": "at", "source": "seen by"})
    shown = pd.concat([shown, pd.DataFrame([_cells(row) for _, row in table.iterrows()])], axis=1)
    if (table["n"] > 1).any():
        return shown
    return shown.drop(columns=["trials", "outage seen", "no good answer: median"], errors="ignore")


def _cells(row: Any) -> dict[str, str]:
    n, seen = int(row["n"]), int(row["seen"])
    if not n:
        return {"trials": "0", "no good answer: range": "not known"}
    degraded = span(row["degraded_low_ms"], row["degraded_high_ms"], seen=True) if seen else ""
    return {
        "trials": str(n),
        "outage seen": f"in {seen} of {n}",
        "no good answer: median": span(row["median_low_ms"], row["median_high_ms"], seen=2 * seen > n),
        "no good answer: range": span(row["low_ms"], row["high_ms"], seen=bool(seen)),
        "first to last failure": degraded,
        "failed requests": f"{row['failed']} of {row['sent']}",
        "late answers": f"{row['late']} of {row['sent']}",
    }


def span(low: float, high: float, *, seen: bool) -> str:
    """Return a downtime in words: ``120 to 340 ms``, ``none, or below 110 ms``, ``67.9 to 68.2 s``."""
    open_end = math.isnan(high)
    if open_end and not seen:
        return "none seen, but not watched from before to after"
    longest = low if open_end else high
    unit, per_unit, digits = ("ms", 1.0, 0) if longest < _LONG_MS else ("s", 1000.0, 1)
    end = "…" if open_end else f"{high / per_unit:.{digits}f}"
    return f"{low / per_unit:.{digits}f} to {end} {unit}" if seen else f"none, or below {end} {unit}"
