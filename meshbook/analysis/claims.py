"""Claims about who answers, how often, and through an outage: functions from a frame of ANSWERS to a Verdict.

Rows that are no measurement (lost or garbled output of the probe) count neither as good nor as failed; where they are
more than ``MOST_LOST`` of all, nothing is concluded. A duration is a range (``availability``), a share has an interval
(``intervals``). A new claim is a function whose name says what is claimed, with a test that plants the fault which it
must fail on.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import pandas as pd

from meshbook import tables
from meshbook.analysis.availability import streams
from meshbook.analysis.evidence import MOST_LOST, explained, judged, listed, no_evidence, rate_of, sent_between
from meshbook.analysis.intervals import (
    Decide,
    at_most,
    between,
    percent,
    percent_range,
    share_bounds,
    share_interval,
    to_decide,
)
from meshbook.errors import UsageError
from meshbook.verdict import WORST_FIRST, Detail, Outcome, Verdict

_MISS = 0.01
"""Accepted chance, over all sources and clusters together, of not seeing a cluster that gets its even share."""
_LONGEST_HOLE = 0.1
"""Share of an outage for which nobody may have asked, all in one piece, where it is said to be survived."""
_SHORTEST_HOLE_S = 1.0
_MOST_DETAILS = 100
"""Times unavailable that a verdict tells one by one, the longest: a page with more is not read."""
# ---- who answers


@dataclass(frozen=True)
class _Share:
    """``k`` of the ``n`` good answers that ``source`` got came from ``cluster``; it sent ``sent`` requests in all."""

    source: str
    cluster: str
    k: int
    n: int
    sent: int

    @property
    def value(self) -> float:
        return self.k / self.n if self.n else 0.0

    @property
    def numbers(self) -> tuple[float | None, float, float]:
        """Estimate, low and high in percent."""
        low, high = percent_range(share_interval(self.k, self.n), self.n)
        return (percent(self.value, self.n) if self.n else None), low, high

    @property
    def row(self) -> Detail:
        share, low, high = self.numbers
        names = ("source", "cluster", "answers", "n", "share %", "low %", "high %")
        return dict(zip(names, (self.source, self.cluster, self.k, self.n, share, low, high), strict=True))

    def measured_in(self, verdict: Verdict, answers: pd.DataFrame) -> Verdict:
        """Return ``verdict`` with this share as what was measured."""
        estimate, low, high = self.numbers
        n = int((answers["error"] == "").sum())
        return replace(verdict, n=n, estimate=estimate, low=low, high=high, unit="%")


def _shares(answers: pd.DataFrame, sources: Sequence[str], clusters: Sequence[str]) -> list[_Share]:
    measured = tables.measured(answers[["source", "cluster", "error"]])
    good = tables.good(measured)
    sent, n = measured["source"].value_counts(), good["source"].value_counts()
    k = good.groupby(["source", "cluster"]).size()

    def share(source: str, cluster: str) -> _Share:
        counts = (int(found) for found in (k.get((source, cluster), 0), n.get(source, 0), sent.get(source, 0)))
        return _Share(source, cluster, *counts)

    return [share(source, cluster) for source in sources for cluster in clusters]


def answers_from_every_cluster(
    frame: pd.DataFrame, versions: Mapping[str, str], *, sources: Sequence[str] = ()
) -> Verdict:
    """Claim: every source gets good answers from pods of every cluster; ``versions`` names the one that each has.

    A cluster that is missing somewhere fails the claim once enough requests were sent that an even share would have
    shown it (chance of a false alarm 1 % in all); with fewer it stays inconclusive. An answer of a pod that no cluster
    knows, or of another version than its cluster has, fails it too. ``sources`` that have no row at all leave it
    inconclusive. The numbers are those of the smallest share seen anywhere.
    """
    return _answers_from(judged(frame), versions, sources)


def _answers_from(answers: pd.DataFrame, versions: Mapping[str, str], sources: Iterable[str]) -> Verdict:
    if len(versions) < 2 or "" in versions:
        raise UsageError(
            f"two or more clusters are expected to answer, not {versions!r}",
            hint='{"cluster1": "v1", "cluster2": "v2"}',
        )
    claim = f"every source is answered by pods of {listed([f'{name} ({one})' for name, one in versions.items()])}"
    seen = sorted({*answers["source"].unique(), *sources})
    shares = _shares(answers, seen, list(versions))
    details = tuple(share.row for share in shares)
    if verdict := no_evidence(answers, answers, claim, seen, details) or _not_looked_up(answers, claim, details):
        return verdict
    # the requests per source after which an even share's absence is no chance
    enough = math.ceil(math.log(_MISS / len(shares)) / math.log(1 - 1 / len(versions)))
    missing = [share for share in shares if not share.k]
    proven = [share for share in missing if share.sent >= enough]
    weakest = min(shares, key=lambda share: (share.value, -share.n))
    strangers = not_expected(answers, versions)
    verdict = Verdict(
        claim=claim,
        outcome="fail" if proven or strangers else "inconclusive" if missing else "pass",
        reason=_who_is_missing(answers, shares, enough) + strangers + explained(answers),
        limit="above 0 %",
        details=details,
    )
    return weakest.measured_in(verdict, answers)


def _who_is_missing(answers: pd.DataFrame, shares: Sequence[_Share], enough: int) -> str:
    missing = [share for share in shares if not share.k]
    if not missing:
        return "All of them were seen from everywhere."
    few = any(share.sent < enough for share in missing)
    more = f" At least {enough} requests of each source are needed to tell." if few else ""
    return directions(answers, list(dict.fromkeys(share.cluster for share in shares))) + more


def directions(answers: pd.DataFrame, clusters: Sequence[str]) -> str:
    """Return how many requests of each source each cluster answered: ``cluster1 → cluster2: 0 of 60.``

    Of a cluster's own only where it is not answered by itself.
    """
    shares = _shares(answers, sorted(answers["source"].unique()), clusters)
    ways = [
        f"{one.source} → {one.cluster}: {one.k} of {one.sent}"
        for one in shares
        if one.source != one.cluster or not one.k
    ]
    between = [one for one in shares if one.source in clusters and one.source != one.cluster]
    none = " No request crossed between the clusters." if between and not any(one.k for one in between) else ""
    return f"{'; '.join(ways)}.{none}"


def not_expected(answers: pd.DataFrame, versions: Mapping[str, str]) -> str:
    """Return which answers came from a pod that no cluster knows, or from another version than its cluster has."""
    good = tables.good(answers)
    counts: dict[Any, int] = good.groupby(["cluster", "version"]).size().to_dict()
    strange = [
        f"{count} of {version} from {f'pods of {cluster}' if cluster in versions else 'pods that no cluster knows'}"
        for (cluster, version), count in counts.items()
        if cluster and versions.get(cluster) != version
    ]
    return f" Not expected, but seen: {listed(strange)}." if strange else ""


def _not_looked_up(answers: pd.DataFrame, claim: str, details: tuple[Detail, ...] = ()) -> Verdict | None:
    """Return the inconclusive verdict where nobody looked up which cluster's pods answered."""
    unknown = int((tables.good(answers)["cluster"] == "").sum())
    if not unknown:
        return None
    reason = f"Which cluster's pods gave {unknown} of the answers was not looked up."
    return Verdict(claim=claim, outcome="inconclusive", reason=reason, n=len(answers), details=details)


def split_within(
    frame: pd.DataFrame, cluster: str, share: float = 0.5, tolerance: float = 0.1, *, decides: str = ""
) -> Verdict:
    """Claim: each source gets ``share`` of its good answers, give or take ``tolerance``, from ``cluster``.

    Judged as equivalence: pass when each source's 95 % interval lies inside, fail when one lies outside. Sources are
    judged one by one, since two that each see their own side alone add up to a perfect half. ``decides`` says what
    would decide it, where that is known beforehand.
    """
    if not 0 < tolerance < 1 or not 0 <= share <= 1:
        raise UsageError(
            f"a share of {share} ± {tolerance} is none that can be judged", hint="share=0.5, tolerance=0.1"
        )
    claim = f"each source gets {100 * share:.3g} % ± {100 * tolerance:g} points of its answers from {cluster}"
    answers = judged(frame)
    sources = sorted(answers["source"].unique())
    shares = _shares(answers, sources, [cluster])
    details = tuple(found.row for found in shares)
    if verdict := no_evidence(answers, answers, claim, sources, details) or _not_looked_up(answers, claim, details):
        return verdict
    decide = between(share - tolerance, share + tolerance)
    worst = min(shares, key=lambda found: (WORST_FIRST.index(decide(found.k, found.n)), -abs(found.value - share)))
    verdict = Verdict(
        claim=claim,
        outcome=decide(worst.k, worst.n),
        reason=_where_it_lies(worst, decide, decides) + explained(answers),
        limit=f"{100 * (share - tolerance):.3g} to {100 * (share + tolerance):.3g} %",
        details=details,
    )
    return worst.measured_in(verdict, answers)


def _where_it_lies(worst: _Share, decide: Decide, decides: str) -> str:
    if not worst.n:
        return f"{worst.source} got no good answer from {worst.sent} requests."
    found = f"{worst.source} got {worst.k} of {worst.n} from {worst.cluster}: the interval lies"
    outcome = decide(worst.k, worst.n)
    if outcome == "inconclusive":
        more = decides or f"{to_decide(worst.k, worst.n, decide)} there"
        return f"{found} across a limit; {more}."
    return f"{found} {'inside' if outcome == 'pass' else 'outside'} the limits."


def all_answered(frame: pd.DataFrame, max_error_rate: float = 0.1) -> Verdict:
    """Claim: at most ``max_error_rate`` of the requests go without a good answer.

    Compared with one-sided exact bounds, 95 % each: no failure in n requests bounds the rate by 3/n.
    """
    if not 0 < max_error_rate < 1:
        raise UsageError(f"an error rate of {max_error_rate} cannot be judged", hint="above 0 and below 1, as 0.05")
    claim = f"at most {100 * max_error_rate:g} % of the requests go without a good answer"
    return _few_failed(judged(frame), claim, max_error_rate)


def _few_failed(answers: pd.DataFrame, claim: str, max_error_rate: float) -> Verdict:
    measured = tables.measured(answers[["error"]])
    n, k = len(measured), int((measured["error"] != "").sum())
    if verdict := no_evidence(answers, answers, claim):
        return verdict
    decide = at_most(max_error_rate)
    outcome = decide(k, n)
    low, high = percent_range(share_bounds(k, n), n)
    more = f"; {to_decide(k, n, decide)}" if outcome == "inconclusive" else ""
    found = f"{k} of {n} requests failed" if k else f"None of {n} requests failed, so the rate is below {high:g} %"
    rate = rate_of(answers) if outcome == "fail" else ""
    return Verdict(
        claim=claim,
        outcome=outcome,
        reason=f"{found}{rate}{more}." + explained(answers),
        n=n,
        estimate=percent(k / n, n),
        low=low,
        high=high,
        limit=f"at most {100 * max_error_rate:g} %",
        unit="%",
    )


# ---- an outage, and what comes after it

Against = tuple[Outcome, str] | None
"""What speaks against a claim that its numbers bear out: the outcome and the reason."""


def survives_outage(
    frame: pd.DataFrame,
    outage_start: datetime,
    outage_end: datetime,
    *,
    survivor: str,
    gone_at: datetime | None = None,
    max_failed_share: float = 0.05,
) -> Verdict:
    """Claim: while one side is down, at most ``max_failed_share`` of the requests fail, and the survivor answers.

    ``survivor`` is the cluster that stays. ``outage_start`` is when the other's end was requested, ``gone_at`` when it
    had gone (default: the start), ``outage_end`` when its restore was requested. An answer of anybody but the survivor
    between the last two fails the claim: then there was no outage to survive. Bounds are one-sided and exact: no
    failure in n requests bounds the share by 3/n.
    """
    if not 0 < max_failed_share < 1:
        raise UsageError(f"a failed share of {max_failed_share} cannot be judged", hint="above 0 and below 1, as 0.05")
    claim = f"{survivor} carries the service: at most {100 * max_failed_share:g} % of the requests fail"
    answers = judged(frame)
    inside = sent_between(answers, outage_start, outage_end)
    if verdict := no_evidence(answers, inside, claim):
        return verdict
    since = gone_at or outage_start
    verdict = _few_failed(inside, claim, max_failed_share)
    answered = tables.good(inside)
    who = answered["cluster"].value_counts()
    details: tuple[Detail, ...] = tuple({"cluster": str(name), "answers": int(count)} for name, count in who.items())
    against = _no_survivor(answered, since, survivor) or _unwatched(inside, since, outage_end)
    if against and (against[0] == "fail" or verdict.outcome == "pass"):
        verdict = replace(verdict, outcome=against[0], reason=f"{against[1]} {verdict.reason}")
    return replace(verdict, details=details)


def _no_survivor(answered: pd.DataFrame, since: datetime, survivor: str) -> Against:
    """Return what is wrong with who answered requests that were surely sent after the other side had gone."""
    error_ms = tables.stamp_errors_ms(answered)[0] + tables.clock_errors_ms(answered)
    later = answered[answered["time"] - pd.to_timedelta(error_ms, unit="ms") > since]
    if (later["cluster"] == "").any():
        return "inconclusive", "Which cluster's pods answered was not looked up."
    counts = later["cluster"].value_counts()
    if others := ", ".join(f"{count} from {cluster}" for cluster, count in counts.items() if cluster != survivor):
        return "fail", f"It was not down: after it had gone, answers still came ({others})."
    return None if len(later) else ("inconclusive", f"No answer of {survivor} is known from after it had gone.")


def _unwatched(inside: pd.DataFrame, since: datetime, end: datetime) -> Against:
    """Return what is wrong with how the time was watched: requests lost in it, or a hole without any."""
    sent, lost = tables.measured(inside)["time"], len(inside) - len(tables.measured(inside))
    if lost > MOST_LOST * len(inside):
        return "inconclusive", f"{lost} of {len(inside)} requests in that time came back without a result."
    ends = (pd.Series([edge], dtype=sent.dtype) for edge in (since, end))
    hole_s = pd.concat([next(ends), sent[sent > since].sort_values(), next(ends)]).diff().max().total_seconds()
    if hole_s <= max(_SHORTEST_HOLE_S, _LONGEST_HOLE * (end - since).total_seconds()):
        return None
    return "inconclusive", f"For {hole_s:.1f} s of it no request is known to have been sent."


def interrupted_at_most(
    frame: pd.DataFrame, outage_start: datetime, outage_end: datetime, *, max_gap_s: float
) -> Verdict:
    """Claim: at no time around the outage the service is unavailable for more than ``max_gap_s``.

    Each source and path is measured on its own, and each time unavailable is a range: it fails where one was surely
    longer, passes where none can have been, seen or not. The requests must begin before the outage and go on after it;
    what they leave out is unknown.
    """
    if not max_gap_s > 0:
        raise UsageError(f"a gap of {max_gap_s} s cannot be judged", hint="above 0")
    claim = f"the service is never unavailable for more than {max_gap_s:g} s"
    answers = judged(frame)
    inside = sent_between(answers, outage_start, outage_end)
    if verdict := no_evidence(answers, inside, claim):
        return verdict
    every, span = streams(frame), (outage_start.timestamp(), outage_end.timestamp())
    found = pd.concat([stream.estimates(*span) for stream in every], ignore_index=True)
    surest = found["low_s"].idxmax()
    longest = found.sort_values(["high_s", "failed"], ascending=False, kind="stable").index[0]
    (worst,) = found.loc[[surest if found["low_s"].max() > max_gap_s else longest]].to_dict("records")
    low_s, high_s = _outwards(worst)
    outcome: Outcome = "pass" if high_s <= max_gap_s else "fail" if low_s > max_gap_s else "inconclusive"
    shown = found[found["seen"]].nlargest(_MOST_DETAILS, "high_s").sort_index()
    who = f"{worst['source']} by {worst['path']}: " if len(every) > 1 else ""
    rate = rate_of(answers[answers["source"] == worst["source"]]) if outcome == "fail" else ""
    return Verdict(
        claim=claim,
        outcome=outcome,
        reason=f"{who}{_in_words(worst)}{rate}.",
        n=len(tables.measured(inside)),
        low=low_s,
        high=None if math.isinf(high_s) else high_s,
        limit=f"at most {max_gap_s:g} s",
        unit="s",
        details=tuple(map(_detail, shown.to_dict("records"))),
    )


def _outwards(estimate: Mapping[Hashable, Any]) -> tuple[float, float]:
    """Return the range in s, rounded outwards to 10 ms."""
    high_s = estimate["high_s"] if math.isinf(estimate["high_s"]) else math.ceil(100 * estimate["high_s"]) / 100
    return math.floor(100 * estimate["low_s"]) / 100, high_s


def _in_words(estimate: Mapping[Hashable, Any]) -> str:
    low_s, high_s = _outwards(estimate)
    failed = f"{estimate['failed']} requests failed" if estimate["failed"] else ""
    slow = f"{estimate['slow']} were slow" if estimate["slow"] else ""
    requests = " and ".join(filter(None, [failed, slow]))
    if math.isinf(high_s) and requests:
        return f"{requests} over {low_s:g} s, and no good answer came before or after"
    if math.isinf(high_s):
        return "The outage was not watched from before its begin to its end"
    if not requests:
        return f"None seen: no request failed; detection limit {high_s:g} s"
    return f"Unavailable for {low_s:g} to {high_s:g} s; {requests} in that time"


def _detail(estimate: Mapping[Hashable, Any]) -> Detail:
    low_s, high_s = _outwards(estimate)
    return {
        "source": estimate["source"],
        "path": estimate["path"],
        "unavailable at least s": low_s,
        "at most s": None if math.isinf(high_s) else high_s,
        "failed": estimate["failed"],
        "slow": estimate["slow"],
    }


def returns_to_every_cluster(frame: pd.DataFrame, since: datetime, versions: Mapping[str, str]) -> Verdict:
    """Claim: from ``since`` on (the side that was down is ready again) pods of every cluster answer again, everywhere.

    A source that asked before and is silent since leaves it open.
    """
    answers = judged(frame)
    afterwards = answers[answers["time"] >= since]
    verdict = _answers_from(afterwards, versions, answers["source"].unique())
    claim = verdict.claim.replace("is answered", "is answered again")
    return no_evidence(answers, afterwards, claim) or replace(verdict, claim=claim)
