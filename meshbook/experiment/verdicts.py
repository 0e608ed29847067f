"""What an experiment proves, as verdicts; of a dry run, what was planned. Pure.

Every trial must leave all as it was. That the service survives within limits is claimed of those modes only that are
named for it: the others are measured, and how long is long is for the reader to say. Failures that the load itself
explains leave a claim open (``analysis.overload``). A new claim on requests is ``analysis``'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pandas as pd

from meshbook import analysis, tables
from meshbook.analysis import RESTORE, SHARE_UNCHANGED
from meshbook.experiment.plan import Limits
from meshbook.experiment.results import CLUSTER_DOWN, Results, Trial
from meshbook.outage import Plan
from meshbook.verdict import FAIL, INCONCLUSIVE, PASS, REFUSED, WORST_FIRST, Verdict

_GONE_FOR_GOOD = frozenset({"scale-to-zero", "readiness-lost", CLUSTER_DOWN})
"""Modes in which the version is not there at all once the outage has begun."""


def claims(
    results: Results, plans: Sequence[Plan], limits: Limits, calibration: pd.DataFrame | None = None
) -> list[Verdict]:
    """Return the verdicts on an experiment; where nothing was done, what was planned, and what of it would be refused.

    ``calibration`` (CALIBRATION) adds the claim that the measurement is true, unless it is empty.
    """
    trials = results.trials
    calibrated = [] if calibration is None or calibration.empty else [analysis.measures_truly(calibration)]
    if not trials:
        nothing = Verdict(claim="an outage was done", outcome="inconclusive", reason="None was planned or done.")
        return [*map(_planned, plans), *calibrated] or [nothing]
    judged = [trial for trial in trials if trial.record.mode in limits.must_survive]
    found = [
        _worst(
            trials, lambda one: analysis.answers_from_every_cluster(one.baseline, one.versions), "before each outage"
        )
    ]
    if judged:
        found.append(_worst(judged, lambda one: _carried(one, limits)))
        found.append(_worst(judged, lambda one: _prompt(one, limits)))
    for source in sorted({str(source) for trial in judged for source in trial.witnessed["source"]}):
        found.append(_worst(judged, partial(_gap, source=source, limits=limits), f"(seen by {source})"))
    found.append(
        _worst(trials, lambda one: analysis.returns_to_every_cluster(one.witnessed, one.ready_again, one.versions))
    )
    found.append(_worst(trials, _share_unchanged))
    found.append(_worst(trials, _steady_again))
    return [*found, *([_all_done(results)] if results.not_done else []), *calibrated]


def _steady_again(trial: Trial) -> Verdict:
    return Verdict(
        claim="afterwards everything is steady again",
        outcome=FAIL if trial.unsteady else PASS,
        reason=trial.unsteady or "The application's Deployments are settled, and requests from outside are answered.",
    )


def _all_done(results: Results) -> Verdict:
    missing, planned = results.not_done, len(results.trials) + len(results.not_done)
    return Verdict(
        claim="every planned outage was done, and restored",
        outcome=FAIL if results.left_down else INCONCLUSIVE,
        reason=results.left_down or f"{len(missing)} of {planned} were not. {missing[0].trial}: {missing[0].reason}",
        details=tuple({"outage": one.trial, "not done because": one.reason} for one in missing),
    )


def _planned(plan: Plan) -> Verdict:
    """Say that a plan could be drawn, and in ``details`` what would still be refused."""
    wrong = [f"{check.name}? {check.saw}" for check in plan.checks if check.ok is False]
    return Verdict(
        claim=f"{plan.mode} at {plan.context} is planned (a dry run: nothing was done)",
        outcome=PASS,
        reason=f"It would be refused. {'; '.join(wrong)}" if wrong else f"{len(plan.checks)} checks, none against it.",
        details=tuple({REFUSED: f"{plan.mode} at {plan.context}: {one}"} for one in wrong),
    )


def _worst(trials: Sequence[Trial], judged: Callable[[Trial], Verdict], when: str = "") -> Verdict:
    """Return the worst of the verdicts on each trial, with all of them as its parts."""
    verdicts = [judged(trial) for trial in trials]
    worst = min(verdicts, key=lambda one: (WORST_FIRST.index(one.outcome), -(one.estimate or one.high or 0.0)))
    claim = f"{worst.claim} {when}".strip()
    if len(trials) == 1:
        return replace(worst, claim=claim)
    counts = ", ".join(f"{sum(v.outcome == word for v in verdicts)} {word}" for word in (PASS, INCONCLUSIVE, FAIL))
    parts = tuple(
        {**trial.name, "outcome": verdict.outcome, "measured": verdict.numbers}
        for trial, verdict in zip(trials, verdicts, strict=True)
    )
    reason = f"{len(trials)} outages: {counts}. The worst: {worst.reason}"
    return replace(worst, claim=claim, reason=reason, n=sum(verdict.n for verdict in verdicts), details=parts)


def _carried(trial: Trial, limits: Limits) -> Verdict:
    since, until = trial.record.outage.asked, trial.record.end
    others = [cluster for cluster, version in trial.versions.items() if version != trial.record.version]
    if trial.record.mode not in _GONE_FOR_GOOD or len(others) != 1:

        def few_failed(rows: pd.DataFrame) -> Verdict:
            return analysis.all_answered(rows[rows["time"].between(since, until)], limits.max_failed_share)

        return _unless_overloaded(trial, trial.witnessed, few_failed)
    down = trial.down if trial.record.mode == "scale-to-zero" else since + (until - since) / 2
    survivor, most = others[0], limits.max_failed_share

    def carried(rows: pd.DataFrame) -> Verdict:
        found = analysis.survives_outage(rows, since, until, survivor=survivor, gone_at=down, max_failed_share=most)
        return replace(found, claim=found.claim.replace(survivor, "the survivor", 1))

    return _unless_overloaded(trial, trial.witnessed, carried)


def _prompt(trial: Trial, limits: Limits) -> Verdict:
    rows = trial.witnessed
    during = rows[rows["time"].between(trial.record.outage.asked, trial.record.end)]

    def promptly(rows: pd.DataFrame) -> Verdict:
        return analysis.answered_promptly(rows, trial.slow_after_s, limits.max_failed_share)

    return _unless_overloaded(trial, during, promptly)


def _gap(trial: Trial, source: str, limits: Limits) -> Verdict:
    rows = trial.witnessed

    def interrupted(rows: pd.DataFrame) -> Verdict:
        found = analysis.interrupted_at_most(rows, *trial.span, max_gap_s=limits.max_gap_s)
        note = f" The limit is {limits.max_gap_s:g} s, {limits.gap_note}." if limits.gap_note else ""
        return replace(found, reason=f"{found.reason}{note}")

    return _unless_overloaded(trial, rows[rows["source"] == source], interrupted)


def _unless_overloaded(trial: Trial, rows: pd.DataFrame, judged: Callable[[pd.DataFrame], Verdict]) -> Verdict:
    """Return the verdict on ``rows``; inconclusive where, but for what the load itself explains, it were no *fail*."""
    verdict, overload = judged(rows), trial.overload
    explained = overload.explained.reindex(rows.index)
    if verdict.outcome == PASS or not explained.any():
        return verdict
    if judged(rows[~explained]).outcome == FAIL:
        return verdict
    before = f"; before, it bore {trial.bears}" if trial.bears else ""
    why = f"The survivor was {overload}{before}. {int(explained.sum())} requests went wrong for that. {verdict.reason}"
    return replace(verdict, outcome=INCONCLUSIVE, reason=why)


def _share_unchanged(trial: Trial) -> Verdict:
    rows = trial.phases
    row = rows[(rows["part"] == RESTORE) & (rows["phase"] == SHARE_UNCHANGED)].iloc[0]
    found = not pd.isna(row["high_s"])
    untouched = str(row["detail"]).startswith("no version")
    record, measured = trial.record, tables.measured(trial.witnessed)
    return Verdict(
        claim=f"afterwards the share of each version is unchanged, within {100 * record.margin:g} points",
        outcome="pass" if found or untouched else "inconclusive",
        reason=f"{row['detail'][:1].upper()}{row['detail'][1:]}.",
        n=int((~measured["time"].between(record.outage.asked, record.restore.asked)).sum()),
        low=math.floor(100 * row["low_s"]) / 100 if found else None,
        high=math.ceil(100 * row["high_s"]) / 100 if found else None,
        unit="s after the restore request" if found else "",
    )
