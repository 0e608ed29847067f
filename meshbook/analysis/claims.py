"""Claims about who answers, and how often nobody does: functions from a frame of ANSWERS to a Verdict.

Rows that are no measurement (lost or garbled output of the probe) count neither as good nor as failed; where they are
more than ``MOST_LOST`` of all, nothing is concluded. A share has an interval (``intervals``). Claims on an outage are
in ``outages``. A new claim is a function whose name says what is claimed, with a test that plants the fault which it
must fail on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from meshbook import tables
from meshbook.analysis.evidence import explained, judged, listed, no_evidence, rate_of
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
from meshbook.verdict import WORST_FIRST, Detail, Verdict

_MISS = 0.01
"""Accepted chance, over all sources and clusters together, of not seeing a cluster that gets its even share."""

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
    seen = list(dict.fromkeys([*answers["source"].unique(), *sources]))
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
    shares = _shares(answers, list(answers["source"].unique()), clusters)
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
    sources = list(answers["source"].unique())
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
