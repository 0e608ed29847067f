"""Claims about an outage and what comes after it: functions from a frame of ANSWERS to a Verdict.

A duration is a range, never finer than the pace of the requests: ``meshbook.analysis`` measures it, it is judged here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import pandas as pd

from meshbook import analysis, tables
from meshbook.analysis.claims import MOST_LOST, answers_from_both, judge_errors
from meshbook.analysis.intervals import percent, percent_range, share_interval
from meshbook.errors import UsageError
from meshbook.verdict import Detail, Outcome, Verdict

STAMP_S = 0.05
"""Seconds by which a request may be stamped too late, where its row does not say it better."""
_LONGEST_HOLE = 0.1
"""Share of an outage for which nobody may have asked, all in one piece, where it is said to be survived."""
_SHORTEST_HOLE_S = 1.0


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
    since = gone_at or outage_start
    verdict = judge_errors(inside, claim, max_failed_share)
    afterwards = tables.good(inside)[_sent_surely_after(tables.good(inside), since)]
    counts = tables.good(inside)["version"].value_counts()
    who: tuple[Detail, ...] = tuple({"version": str(name), "answers": int(count)} for name, count in counts.items())
    against = _no_survivor(afterwards, survivor_version) or _unwatched(inside, since, outage_end)
    if against and (against[0] == "fail" or verdict.outcome == "pass"):
        verdict = replace(verdict, outcome=against[0], reason=f"{against[1]} {verdict.reason}")
    return replace(verdict, details=who)


Against = tuple[Outcome, str] | None
"""What speaks against a claim that its numbers bear out: the outcome and the reason."""


def _sent_surely_after(rows: pd.DataFrame, moment: datetime) -> pd.Series:
    """Tell which rows were sent after ``moment`` whatever their stamps' and clocks' errors are."""
    error_ms = rows["time_error_ms"].fillna(1000 * STAMP_S) + rows["clock_error_ms"].fillna(0.0)
    return rows["time"] - pd.to_timedelta(error_ms, unit="ms") > moment


def _no_survivor(answered: pd.DataFrame, survivor: str) -> Against:
    """Return what is wrong with who answered after the other side had gone."""
    counts = answered["version"].value_counts()
    if ghosts := ", ".join(f"{count} from {version}" for version, count in counts.items() if version != survivor):
        return "fail", f"It was not away: after it had gone, answers still came ({ghosts})."
    return None if len(answered) else ("inconclusive", f"No answer of {survivor} is known from after it had gone.")


def _unwatched(inside: pd.DataFrame, since: datetime, end: datetime) -> Against:
    """Return what is wrong with how the time was watched: requests lost in it, or a hole without any."""
    sent, lost = tables.measured(inside)["time"], len(inside) - len(tables.measured(inside))
    if lost > MOST_LOST * len(inside):
        return "inconclusive", f"{lost} of {len(inside)} requests in that time came back without a result."
    edges = pd.Series([pd.Timestamp(since), *sent[sent > since].sort_values(), pd.Timestamp(end)])
    hole_s = edges.diff().max().total_seconds()
    if hole_s <= max(_SHORTEST_HOLE_S, _LONGEST_HOLE * (end - since).total_seconds()):
        return None
    return "inconclusive", f"For {hole_s:.1f} s of it no request is known to have been sent."


def interrupted_at_most(
    frame: pd.DataFrame, outage_start: datetime, outage_end: datetime, *, max_gap_s: float
) -> Verdict:
    """Claim: at no time around the outage the service is away for more than ``max_gap_s``.

    Each source and path is measured on its own, and each time away is a range (``analysis.outage_windows``): it fails
    where one was surely longer, passes where none can have been, seen or not. The requests must begin before the outage
    and go on after it; what they leave out is unknown.
    """
    if not max_gap_s > 0:
        raise UsageError(f"a gap of {max_gap_s} s cannot be judged", hint="above 0")
    claim = f"the service is never away for more than {max_gap_s:g} s"
    answers = tables.conform(frame, tables.ANSWERS)
    inside = _between(answers, outage_start, outage_end)
    if verdict := _unseen(answers, inside, claim):
        return verdict
    found = analysis.estimates(answers, outage_start.timestamp(), outage_end.timestamp())
    surest, longest = max(found, key=lambda each: each.low_s), max(found, key=lambda each: (each.high_s, each.failed))
    worst = surest if surest.low_s > max_gap_s else longest
    low_s, high_s = _outwards(worst)
    return Verdict(
        claim=claim,
        outcome="pass" if high_s <= max_gap_s else "fail" if low_s > max_gap_s else "inconclusive",
        reason=_in_words(worst, several=len({(each.source, each.path) for each in found}) > 1),
        n=len(tables.measured(inside)),
        low=low_s,
        high=None if math.isinf(high_s) else high_s,
        limit=f"at most {max_gap_s:g} s",
        unit="s",
        details=tuple(_detail(each) for each in found if each.window),
    )


def returns_to_both(frame: pd.DataFrame, since: datetime, versions: Sequence[str]) -> Verdict:
    """Claim: from ``since`` on (the side that was away is ready again) every version answers again, everywhere.

    A source that asked before and is silent since leaves it open.
    """
    answers = tables.conform(frame, tables.ANSWERS)
    afterwards = answers[answers["time"] >= since]
    verdict = answers_from_both(afterwards, versions, sources=sorted(set(answers["source"])))
    claim = verdict.claim.replace("gets answers", "gets answers again")
    return _unseen(answers, afterwards, claim) or replace(verdict, claim=claim)


def measures_truly(calibration: pd.DataFrame) -> Verdict:
    """Claim: of outages of known length the truth always lay in the range that was measured (``analysis.calibrate``).

    The estimate is the share of truths that did; the reason names the worst error and the widest range.
    """
    known = tables.conform(calibration, tables.CALIBRATION)
    claim = "outages of known length lie in the ranges that are measured"
    if known.empty:
        return Verdict(claim=claim, outcome="inconclusive", reason="No outage of known length was measured.")
    n, within = len(known), int(known["within"].sum())
    low, high = percent_range(share_interval(within, n), n)
    off, widest, unseen = known["off_ms"].max(), known["width_ms"].max(), int((~known["seen"]).sum())
    worst = "" if within == n else f" The worst lay {off:g} ms outside."
    width = "" if pd.isna(widest) else f" Ranges were {widest:g} ms wide at most."
    shorter = f" {unseen} of them were too short to be noticed." if unseen else ""
    empty = _says_nothing(known)
    return Verdict(
        claim=claim,
        outcome="fail" if within < n else "inconclusive" if empty else "pass",
        reason=f"{within} of {n} did.{worst}{width}{shorter}{empty}",
        n=n,
        estimate=percent(within / n, n),
        low=low,
        high=high,
        limit="all of them",
        unit="%",
    )


def _says_nothing(calibration: pd.DataFrame) -> str:
    """Return which sources measured nothing: any truth lies in a range without an end, or in that of nothing seen."""
    open_ended = int(calibration["width_ms"].isna().sum())
    if open_ended:
        return f" {open_ended} ranges have no upper end, which any truth lies in."
    shown = calibration.groupby(["source", "path"], dropna=False)["seen"].any()
    blind = ", ".join(sorted({str(source) for source, _ in shown[~shown].index}))
    return f" {blind} noticed none of them, so its ranges were not tried." if blind else ""


def _outwards(estimate: analysis.Estimate) -> tuple[float, float]:
    """Return the range in s, rounded outwards to 10 ms."""
    high_s = estimate.high_s if math.isinf(estimate.high_s) else math.ceil(100 * estimate.high_s) / 100
    return math.floor(100 * estimate.low_s) / 100, high_s


def _in_words(estimate: analysis.Estimate, *, several: bool) -> str:
    (low_s, high_s), failed = _outwards(estimate), estimate.failed
    who = f"{estimate.source} by {estimate.path}: " if several else ""
    slow = f"{estimate.slow} were slow" if estimate.slow else ""
    requests = " and ".join(filter(None, [f"{failed} requests failed" if failed else "", slow]))
    if math.isinf(high_s) and requests:
        return f"{who}{requests} over {low_s:g} s, and no good answer came before or after."
    if math.isinf(high_s):
        return f"{who}The outage was not watched from before its begin to its end."
    if not requests:
        return f"{who}None seen: no request failed, so the service was away for less than {high_s:g} s, if at all."
    return f"{who}Away for {low_s:g} to {high_s:g} s; {requests} in that time."


def _detail(estimate: analysis.Estimate) -> Detail:
    low_s, high_s = _outwards(estimate)
    high = None if math.isinf(high_s) else high_s
    return {
        "source": estimate.source,
        "path": estimate.path,
        "away at least s": low_s,
        "at most s": high,
        "failed": estimate.failed,
        "slow": estimate.slow,
    }


def _between(answers: pd.DataFrame, start: datetime, end: datetime) -> pd.DataFrame:
    """Return the rows of requests that were sent in that time, or were to be, where they have no result."""
    if start.tzinfo is None or end.tzinfo is None:
        raise UsageError("begin and end of an outage carry a time zone", hint="datetime.now(UTC)")
    if end <= start:
        raise UsageError(f"an outage ends after its begin, not at {end} after {start}")
    return answers[answers["time"].fillna(answers["scheduled"]).between(start, end, inclusive="left")]


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
