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

from meshbook import analysis
from meshbook.experiment.checks import MOST_OFFERED
from meshbook.experiment.plan import Limits
from meshbook.experiment.results import Results, Trial
from meshbook.outage import MODES, Plan
from meshbook.verdict import FAIL, INCONCLUSIVE, PASS, REFUSED, WORST_FIRST, Verdict


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
    found = [_worst(trials, lambda one: _served(one, one.baseline), "before each outage", _least)]
    if carried := [trial for trial in judged if _has_others(trial)]:
        found.append(_worst(carried, _carried, off=_least))
    if judged:
        found.append(_worst(judged, partial(_few_fail, limits=limits)))
        found.append(_worst(judged, partial(_prompt, limits=limits)))
    for source in dict.fromkeys(str(source) for trial in judged for source in trial.witnessed["source"].unique()):
        found.append(_worst(judged, partial(_gap, source=source, limits=limits), f"(seen by {source})"))
    found.append(_worst(trials, lambda one: _served(one, one.afterwards), "after each outage", _least))
    split = partial(_worst, trials, lambda one: analysis.split_as_expected(one.afterwards, one.test))
    found.append(split("after each outage", analysis.farthest_off))
    found.append(_worst(trials, _steady_again))
    return [*found, *([_all_done(results)] if results.not_done else []), *calibrated]


def _served(trial: Trial, answers: pd.DataFrame) -> Verdict:
    """Compare who answered with what the mesh is configured for; see ``analysis.answers_as_expected``."""
    return analysis.answers_as_expected(answers, trial.versions, trial.test.expected)


def _has_others(trial: Trial) -> bool:
    """Tell whether its outage leaves the others alone for as long as it lasts."""
    mode = MODES[trial.record.mode]
    return mode.stops and mode.lasts and len(trial.versions) > 1


def _steady_again(trial: Trial) -> Verdict:
    return Verdict(
        claim="afterwards everything is steady again",
        outcome=FAIL if trial.unsteady else PASS,
        reason=trial.unsteady or "The service's Deployments are settled, and who should answers each source.",
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
        claim=f"{plan.mode} at {plan.context} is planned (a dry run: nothing was taken down)",
        outcome=PASS,
        reason=f"It would be refused. {'; '.join(wrong)}" if wrong else f"{len(plan.checks)} checks, none against it.",
        details=tuple({REFUSED: f"{plan.mode} at {plan.context}: {one}"} for one in wrong),
        planned=True,
    )


def _most(verdict: Verdict) -> float:
    """Return how bad it is where much is bad; endless where nothing bounds it."""
    return math.inf if verdict.high is None else verdict.high


def _least(verdict: Verdict) -> float:
    """Return how bad it is where little is bad."""
    return -(verdict.estimate or 0.0)


def _worst(
    trials: Sequence[Trial],
    judged: Callable[[Trial], Verdict],
    when: str = "",
    off: Callable[[Verdict], float] = _most,
) -> Verdict:
    """Return the worst of the verdicts on each trial, with all as its parts: of the same outcome, the most ``off``."""
    verdicts = [judged(trial) for trial in trials]
    worst = min(verdicts, key=lambda one: (WORST_FIRST.index(one.outcome), -off(one)))
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


def _carried(trial: Trial) -> Verdict:
    since, until, down = trial.record.outage.asked, trial.record.end, trial.record.context
    # proxies that are told that endpoints are gone, and by nobody else, may take their time
    gone_at = trial.down if MODES[trial.record.mode].ends_pods else since + (until - since) / 2
    carried = partial(analysis.carried_by_the_others, versions=trial.versions, down=down, gone_at=gone_at)
    return _unless_overloaded(trial, trial.witnessed, lambda rows: carried(rows, since, until))


def _few_fail(trial: Trial, limits: Limits) -> Verdict:
    few = partial(analysis.few_fail, max_failed_share=limits.max_failed_share)
    return _unless_overloaded(trial, trial.witnessed, lambda rows: few(rows, *trial.span))


def _prompt(trial: Trial, limits: Limits) -> Verdict:
    since, until = trial.span
    during = trial.witnessed[trial.witnessed["time"].between(since, until, inclusive="left")]
    most, slow_after_s = limits.max_failed_share, trial.slow_after_s
    return _unless_overloaded(trial, during, lambda rows: analysis.answered_promptly(rows, slow_after_s, most))


def _gap(trial: Trial, source: str, limits: Limits) -> Verdict:
    rows = trial.witnessed[trial.witnessed["source"] == source]
    interrupted = partial(analysis.interrupted_at_most, max_gap_s=limits.max_gap_s)
    found = _unless_overloaded(trial, rows, lambda rows: interrupted(rows, *trial.span))
    note = f" The limit is {limits.max_gap_s:g} s, {limits.gap_note}." if limits.gap_note else ""
    return replace(found, reason=f"{found.reason}{note}")


def _unless_overloaded(trial: Trial, rows: pd.DataFrame, judged: Callable[[pd.DataFrame], Verdict]) -> Verdict:
    """Return the verdict on ``rows``; inconclusive where, but for what the load itself explains, it were no *fail*."""
    verdict, overload = judged(rows), trial.overload
    explained = overload.explained.reindex(rows.index)
    if verdict.outcome == PASS or not explained.any() or judged(rows[~explained]).outcome == FAIL:
        return verdict
    before = f"; when measured, it bore {trial.bears}" if trial.bears else ""
    if trial.bears and overload.served_per_s < MOST_OFFERED * trial.bears.low_per_s:
        before += ": something else took its time, as on a busy machine"
    failed = int((rows.loc[explained, "error"] != "").sum())
    wrong = f"{int(explained.sum()) - failed} requests were late and {failed} failed for that"
    why = f"The survivor was {overload}{before}. {wrong}."
    return replace(verdict, outcome=INCONCLUSIVE, reason=f"{why} {verdict.reason}")
