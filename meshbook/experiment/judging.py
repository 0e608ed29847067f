"""What a climb proves, as verdicts: one per claim, over all rounds that it is about. Pure.

Every round must leave all as it was. That the service survives within limits is claimed of those modes only that are
named for it: the others are measured, and how long is long is for the reader to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from meshbook import analysis, tables
from meshbook.analysis import RESTORE, SHARE_UNCHANGED
from meshbook.errors import UsageError
from meshbook.experiment.rounds import Round
from meshbook.experiment.rungs import require_known
from meshbook.outage import Plan
from meshbook.verdict import FAIL, INCONCLUSIVE, PASS, WORST_FIRST, Verdict

_SILENT = "cluster-down"
_LEAVING_FOR_GOOD = frozenset({"scale-to-zero", "readiness-lost", "cluster-down"})
"""Modes in which the version is not there at all once it has gone."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the service must keep to, in the modes that it must survive."""

    must_survive: tuple[str, ...] = ("scale-to-zero",)
    max_failed_share: float = 0.05
    max_gap_s: float = 2.0

    def __post_init__(self) -> None:
        require_known(self.must_survive, "must_survive")  # a slip of the pen would leave a mode unjudged


def claims(done: Sequence[Round], plans: Sequence[Plan], limits: Limits, versions: Sequence[str]) -> list[Verdict]:
    """Return the verdicts of a climb; where nothing was done, whether what was planned may start."""
    if not done:
        return [_may_start(plan) for plan in plans] or [_nothing()]
    judged = [one for one in done if one.rung.mode in limits.must_survive]
    found = [_over(done, lambda one: analysis.answers_from_both(one.baseline, versions), "before each outage")]
    found += [_over(judged, lambda one: _carried(one, limits), ""), *_uninterrupted(judged, limits)] if judged else []
    found.append(_over(done, lambda one: analysis.returns_to_both(_seen(one), one.ready_again, versions), ""))
    return [*found, _over(done, _share_back, "")]


def _may_start(plan: Plan) -> Verdict:
    wrong = [str(check.saw) for check in plan.checks if check.ok is False]
    claim = f"{plan.mode} at {plan.context} is ready to start (a dry run: nothing was done)"
    reason = "; ".join(wrong) or f"{len(plan.checks)} checks, none against it."
    return Verdict(claim=claim, outcome="fail" if wrong else "pass", reason=reason)


def _nothing() -> Verdict:
    return Verdict(claim="an outage was done", outcome="inconclusive", reason="None was planned, and none was done.")


def _over(done: Sequence[Round], judged: Callable[[Round], Verdict], when: str) -> Verdict:
    """Return the worst of the verdicts on each round, with all of them as its parts."""
    verdicts = [judged(one) for one in done]
    worst = min(verdicts, key=lambda one: (WORST_FIRST.index(one.outcome), -(one.estimate or one.high or 0.0)))
    claim = f"{worst.claim} {when}".strip()
    if len(done) == 1:
        return replace(worst, claim=claim)
    counts = ", ".join(f"{sum(v.outcome == word for v in verdicts)} {word}" for word in (PASS, INCONCLUSIVE, FAIL))
    parts = tuple(
        {"outage": str(one.rung), "outcome": verdict.outcome, "measured": verdict.numbers}
        for one, verdict in zip(done, verdicts, strict=True)
    )
    reason = f"{len(done)} outages: {counts}. The worst: {worst.reason}"
    return replace(worst, claim=claim, reason=reason, n=sum(verdict.n for verdict in verdicts), details=parts)


def _seen(one: Round) -> pd.DataFrame:
    """Return the rows of those who could see: pods that ask from a cluster that is away are away themselves."""
    rows = one.answers
    return rows[rows["source"] != one.rung.context] if one.rung.mode == _SILENT else rows


def _carried(one: Round, limits: Limits) -> Verdict:
    since, until = one.record.outage.asked, one.record.end
    away = one.record.version
    others = sorted(set(tables.good(one.baseline)["version"]) - {away})
    if one.rung.mode not in _LEAVING_FOR_GOOD or len(others) != 1:
        rows = _seen(one)
        return analysis.all_answered(rows[rows["time"].between(since, until)], limits.max_failed_share)
    gone = one.gone if one.rung.mode == "scale-to-zero" else since + (until - since) / 2
    options = {"survivor_version": others[0], "max_failed_share": limits.max_failed_share}
    found = analysis.survives_outage(_seen(one), since, until, gone_at=gone, **options)
    return replace(found, claim=found.claim.replace(others[0], "the survivor", 1))


def _uninterrupted(done: Sequence[Round], limits: Limits) -> Iterator[Verdict]:
    """Yield for each source whether it was never without the service for longer than allowed."""
    sources = sorted({str(source) for one in done for source in _seen(one)["source"]})
    for source in sources:
        yield _over(done, lambda one, source=source: _gap(one, source, limits), f"(seen by {source})")  # type: ignore[misc]


def _gap(one: Round, source: str, limits: Limits) -> Verdict:
    rows = _seen(one)
    mine = rows[rows["source"] == source]
    return analysis.interrupted_at_most(mine, *one.span, max_gap_s=limits.max_gap_s)


def _share_back(one: Round) -> Verdict:
    rows = one.phases[(one.phases["part"] == RESTORE) & (one.phases["phase"] == SHARE_UNCHANGED)]
    if rows.empty:
        raise UsageError("the phases of this outage do not tell of the way back")
    row = rows.iloc[0]
    found = not pd.isna(row["high_s"])
    claim = f"afterwards the share of each version is unchanged, within {100 * one.record.margin:g} points"
    untouched = str(row["detail"]).startswith("no version")
    reason = f"{row['detail'][:1].upper()}{row['detail'][1:]}."
    return Verdict(
        claim=claim,
        outcome="pass" if found or untouched else "inconclusive",
        reason=reason,
        n=int((~tables.measured(_seen(one))["time"].between(one.record.outage.asked, one.record.restore.asked)).sum()),
        low=math.floor(100 * row["low_s"]) / 100 if found else None,
        high=math.ceil(100 * row["high_s"]) / 100 if found else None,
        unit="s after the restore request" if found else "",
    )


def claims_on(calibration: pd.DataFrame) -> list[Verdict]:
    """Return the claim that the measurement is true to outages of known length; none where none was made."""
    return [] if calibration.empty else [analysis.measures_truly(calibration)]
