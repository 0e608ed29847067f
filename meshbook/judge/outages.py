"""Claims about an outage and what comes after it: functions from a frame of ANSWERS to a Verdict.

Requests are stamped when they are sent, late rather than early. A duration is a range, never finer than the pace of the
requests: at most from the last good answer before it to the first good one after it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pandas as pd

from meshbook import tables
from meshbook.errors import UsageError
from meshbook.judge.claims import MOST_LOST, answers_from_both, judge_errors
from meshbook.judge.verdict import Detail, Verdict

STAMP_S = 0.05
"""Seconds by which a request may be stamped too late; both ends of a duration are widened by it."""


def survives_outage(
    frame: pd.DataFrame,
    outage_start: datetime,
    outage_end: datetime,
    *,
    survivor_version: str,
    gone_at: datetime | None = None,
    max_failed_share: float = 0.05,
) -> Verdict:
    """Claim: while one side is away, at most ``max_failed_share`` of the requests fail, and the survivor answers.

    ``outage_start`` is when it was told to go, ``gone_at`` when it had gone (default: the start), ``outage_end`` when
    it was told to come back. An answer of anybody but the survivor between the last two fails the claim: then there was
    no outage to survive. Bounds are one-sided and exact: no failure in n requests bounds the share by 3/n.
    """
    if not 0 < max_failed_share < 1:
        raise UsageError(f"a failed share of {max_failed_share} cannot be judged", hint="above 0 and below 1, as 0.05")
    claim = f"{survivor_version} carries the service: at most {100 * max_failed_share:g} % of the requests fail"
    answers = tables.conform(frame, tables.ANSWERS)
    inside = _between(answers, outage_start, outage_end)
    if verdict := _unseen(answers, inside, claim):
        return verdict
    verdict = judge_errors(inside, claim, max_failed_share)
    gone = _between(answers, (gone_at or outage_start) + timedelta(seconds=STAMP_S), outage_end)
    others = tables.good(gone)[lambda rows: rows["version"] != survivor_version]
    counts = tables.good(inside)["version"].value_counts()
    who: tuple[Detail, ...] = tuple({"version": str(name), "answers": int(count)} for name, count in counts.items())
    reason, outcome = verdict.reason, verdict.outcome
    if not others.empty:
        ghosts = ", ".join(f"{count} from {version}" for version, count in others["version"].value_counts().items())
        reason, outcome = f"It was not away: after it had gone, answers still came ({ghosts}). {reason}", "fail"
    return replace(verdict, outcome=outcome, reason=reason, details=who)


def interrupted_at_most(
    frame: pd.DataFrame, outage_start: datetime, outage_end: datetime, *, max_gap_s: float
) -> Verdict:
    """Claim: at no time around the outage the service is away for more than ``max_gap_s``.

    Each time between two good answers is a range: at least from the first to the last failed request in it, at most
    from good to good. The requests must begin before the outage and go on after it; what they leave out is unknown.
    """
    if not max_gap_s > 0:
        raise UsageError(f"a gap of {max_gap_s} s cannot be judged", hint="above 0")
    claim = f"the service is never away for more than {max_gap_s:g} s"
    answers = tables.conform(frame, tables.ANSWERS)
    inside = _between(answers, outage_start, outage_end)
    if verdict := _unseen(answers, inside, claim):
        return verdict
    gaps = _gaps(tables.measured(answers), outage_start.timestamp(), outage_end.timestamp())
    surest, longest = max(gaps, key=lambda gap: gap.low_s), max(gaps, key=lambda gap: (gap.high_s, gap.failed))
    gap = surest if surest.low_s > max_gap_s else longest
    return Verdict(
        claim=claim,
        outcome="pass" if gap.high_s <= max_gap_s else "fail" if gap.low_s > max_gap_s else "inconclusive",
        reason=gap.words,
        n=len(tables.measured(inside)),
        estimate=None if math.isinf(gap.high_s) else gap.high_s,
        low=gap.low_s,
        high=None if math.isinf(gap.high_s) else gap.high_s,
        limit=f"at most {max_gap_s:g} s",
        unit="s",
    )


def returns_to_both(frame: pd.DataFrame, since: datetime, versions: Sequence[str]) -> Verdict:
    """Claim: from ``since`` on (the side that was away is ready again) every version answers again."""
    answers = tables.conform(frame, tables.ANSWERS)
    afterwards = answers[answers["time"] >= since]
    verdict = answers_from_both(afterwards, versions)
    claim = verdict.claim.replace("gets answers", "gets answers again")
    return _unseen(answers, afterwards, claim) or replace(verdict, claim=claim)


@dataclass(frozen=True, kw_only=True)
class _Gap:
    """A time between good answers: the service was away for ``low_s`` at least, ``high_s`` at most (infinite: open)."""

    low_s: float
    high_s: float
    failed: int

    @property
    def words(self) -> str:
        if math.isinf(self.high_s):
            seen = f"{self.failed} requests failed over {self.low_s:g} s, and" if self.failed else "The outage was not"
            rest = "no good answer came before or after" if self.failed else "watched from before its begin to its end"
            return f"{seen} {rest}."
        if not self.failed:
            return f"None seen: no request failed, so the service was away for less than {self.high_s:g} s, if at all."
        return f"Away for {self.low_s:g} to {self.high_s:g} s; {self.failed} requests failed in that time."


def _gaps(measured: pd.DataFrame, start: float, end: float) -> list[_Gap]:
    """Return the times between good answers that touch the outage, those before the first and after the last too."""
    rows = measured.dropna(subset=["time"]).sort_values("time")
    sent = [(stamp.timestamp(), error == "") for stamp, error in zip(rows["time"], rows["error"], strict=True)]
    good = [-math.inf, *(at for at, fine in sent if fine), math.inf]
    bad = [at for at, fine in sent if not fine]
    return [
        _gap(before, after, [at for at in bad if before <= at <= after])
        for before, after in itertools.pairwise(good)
        if after >= start and before <= end
    ]


def _gap(before: float, after: float, failed: list[float]) -> _Gap:
    low = failed[-1] - failed[0] - STAMP_S if failed else 0.0
    high = after - before + STAMP_S
    return _Gap(
        low_s=math.floor(100 * max(0.0, low)) / 100,
        high_s=high if math.isinf(high) else math.ceil(100 * high) / 100,
        failed=len(failed),
    )


def _between(answers: pd.DataFrame, start: datetime, end: datetime) -> pd.DataFrame:
    if start.tzinfo is None or end.tzinfo is None:
        raise UsageError("begin and end of an outage carry a time zone", hint="datetime.now(UTC)")
    if end <= start:
        raise UsageError(f"an outage ends after its begin, not at {end} after {start}")
    return answers[answers["time"].between(start, end, inclusive="left")]


def _unseen(answers: pd.DataFrame, inside: pd.DataFrame, claim: str) -> Verdict | None:
    """Return the inconclusive verdict where the time in question was not watched."""
    lost = len(answers) - len(tables.measured(answers))
    if lost > MOST_LOST * len(answers):
        reason = f"{lost} of {len(answers)} requests came back without a result, so nothing is concluded."
    elif tables.measured(inside).empty:
        reason = "No request is known to have been sent in that time, so nothing is known about it."
    else:
        return None
    return Verdict(claim=claim, outcome="inconclusive", reason=reason, n=len(tables.measured(inside)))
