"""Claims about who answers, and how often nobody does: functions from a frame of ANSWERS to a Verdict.

Rows that are no measurement (lost or garbled output of the probe) count neither as good nor as failed; where they are
more than ``MOST_LOST`` of all, nothing is concluded. What a mesh is configured to do is not known here: it comes with
its reason, from ``mesh`` or from the user. How the answers are shared is claimed in ``split``, claims on an outage are
in ``outages``. A new claim is a function whose name says what is claimed, with a test that plants the fault which it
must fail on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from meshbook import tables
from meshbook.analysis.evidence import explained, judged, listed, no_evidence, rate_of
from meshbook.analysis.intervals import (
    MISS,
    at_most,
    percent,
    percent_range,
    share_bounds,
    share_interval,
    to_decide,
    to_see,
)
from meshbook.errors import UsageError
from meshbook.verdict import FAIL, INCONCLUSIVE, PASS, Detail, Outcome, Verdict


@dataclass(frozen=True, kw_only=True)
class ExpectedShares:
    """What share of one source's good answers each cluster should give, and why; no share where that is not known."""

    shares: Mapping[str, float]
    why: str
    by_rule: bool = False
    """Whether somebody has set them by a rule; else each ready endpoint counts the same."""
    fails_over: bool = False
    """Whether clusters that get no share take over once those with one cannot answer (locality failover)."""

    @property
    def clusters(self) -> list[str]:
        """Return the clusters that should answer at all."""
        return [cluster for cluster, share in self.shares.items() if share > 0]

    def share_of(self, cluster: str) -> float:
        """Return the share of ``cluster``; half of the answers where nothing is known."""
        return self.shares.get(cluster, 0.0 if self.shares else 0.5)


# ---- who answers


@dataclass(frozen=True)
class Share:
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

    def measured_in(self, verdict: Verdict, n: int) -> Verdict:
        """Return ``verdict`` on ``n`` good answers with this share as what was measured."""
        estimate, low, high = self.numbers
        return replace(verdict, n=n, estimate=estimate, low=low, high=high, unit="%")


def shares_of(answers: pd.DataFrame, sources: Sequence[str], clusters: Sequence[str]) -> list[Share]:
    """Return the share of each cluster in the answers to each source."""
    measured = tables.measured(answers[["source", "cluster", "error"]])
    good = tables.good(measured)
    sent, n = measured["source"].value_counts(), good["source"].value_counts()
    k = good.groupby(["source", "cluster"]).size()

    def share(source: str, cluster: str) -> Share:
        counts = (int(found) for found in (k.get((source, cluster), 0), n.get(source, 0), sent.get(source, 0)))
        return Share(source, cluster, *counts)

    return [share(source, cluster) for source in sources for cluster in clusters]


def answers_as_expected(
    frame: pd.DataFrame, versions: Mapping[str, str], expected: Mapping[str, ExpectedShares] | None = None
) -> Verdict:
    """Claim: every source is answered by pods of every cluster, or by those alone that it is configured for.

    ``versions`` names the version that each cluster has; an answer of another one, or of a pod that no cluster knows,
    fails the claim. So does one of a cluster that a source is meant to get none from (locality failover, a weight of
    0). A cluster that is missing does once enough requests were sent that its share (even, where none is known) would
    have shown it, with a false alarm once in 100 over all sources and clusters; with fewer it stays inconclusive, as
    it does where an expected source has no row at all. The numbers are those of the smallest share that should be any.
    """
    if len(versions) < 2 or "" in versions:
        raise UsageError(
            f"two or more clusters are expected to answer, not {versions!r}",
            hint='{"cluster1": "v1", "cluster2": "v2"}',
        )
    answers = judged(frame)
    sources = list(dict.fromkeys([*answers["source"].unique(), *(expected or {})]))
    even = ExpectedShares(shares=dict.fromkeys(versions, 1 / len(versions)), why="")
    known = {source: one for source, one in (expected or {}).items() if one.shares}
    meant = {source: known.get(source, even) for source in sources}
    claim = f"every source is answered by pods of {listed([f'{name} ({one})' for name, one in versions.items()])}"
    if any(len(one.clusters) < len(versions) for one in meant.values()):
        each = "; ".join(f"{source}: {listed(one.clusters) or 'none'}" for source, one in meant.items())
        claim = f"every source gets its answers from where the mesh is configured to send it ({each})"
    shares = shares_of(answers, sources, list(versions))
    details = tuple(share.row for share in shares)
    if verdict := no_evidence(answers, answers, claim, sources, details) or not_looked_up(answers, claim, details):
        return verdict
    outcome, said = _who_is_wrong(answers, versions, shares, meant)
    why = "; ".join(dict.fromkeys(one.why for one in (expected or {}).values()))
    later = any(one.fails_over for one in meant.values())
    verdict = Verdict(
        claim=claim,
        outcome=outcome,
        reason=said
        + (f" As configured: {why}." if why else "")
        + (" That the other side takes over is for the outage of stage 3 to show." if later else "")
        + explained(answers),
        limit="above 0 %",
        details=details,
    )
    wanted = [share for share in shares if share.cluster in meant[share.source].clusters]
    return min(wanted or shares, key=lambda share: (share.value, -share.n)).measured_in(
        verdict, len(tables.good(answers))
    )


def _who_is_wrong(
    answers: pd.DataFrame, versions: Mapping[str, str], shares: Sequence[Share], meant: Mapping[str, ExpectedShares]
) -> tuple[Outcome, str]:
    """Return the outcome of ``answers_as_expected``, and which cluster is missing or answers where it should not."""
    wanted = [share for share in shares if share.cluster in meant[share.source].clusters]
    astray = [share for share in shares if share.k and share not in wanted]
    missing = [share for share in wanted if not share.k]
    enough = [to_see(meant[share.source].share_of(share.cluster), MISS / len(wanted)) for share in missing]
    few = [least for share, least in zip(missing, enough, strict=True) if share.sent < least]
    strangers = not_expected(answers, versions)
    if not (missing or astray or strangers):
        return PASS, "Each cluster was seen wherever it should answer."
    said = directions(answers, list(versions)) if missing or astray else ""
    said += "".join(f" {one.source} got {one.k} from {one.cluster}, which it is not configured for." for one in astray)
    if few:
        said += f" At least {max(few)} requests of each source are needed to tell."
    failed = strangers or astray or len(few) < len(missing)
    return FAIL if failed else INCONCLUSIVE, (said + strangers).strip()


def directions(answers: pd.DataFrame, clusters: Sequence[str]) -> str:
    """Return how many requests of each source each cluster answered: ``cluster1 → cluster2: 0 of 60.``

    Of a cluster's own only where it is not answered by itself.
    """
    shares = shares_of(answers, list(answers["source"].unique()), clusters)
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


def not_looked_up(answers: pd.DataFrame, claim: str, details: tuple[Detail, ...] = ()) -> Verdict | None:
    """Return the inconclusive verdict where nobody looked up which cluster's pods answered."""
    unknown = int((tables.good(answers)["cluster"] == "").sum())
    if not unknown:
        return None
    reason = f"Which cluster's pods gave {unknown} of the answers was not looked up."
    return Verdict(claim=claim, outcome="inconclusive", reason=reason, n=len(answers), details=details)


# ---- how often nobody does, or late


def share_at_most(claim: str, k: int, n: int, limit: float) -> Verdict:
    """Return the verdict whether at most ``limit`` of all are such as ``k`` of ``n``: exact bounds, 95 % each.

    Its reason is how many requests would decide, where they do not.
    """
    decide = at_most(limit)
    outcome = decide(k, n)
    low, high = percent_range(share_bounds(k, n), n)
    return Verdict(
        claim=claim,
        outcome=outcome,
        reason=f"; {to_decide(k, n, decide)}" if outcome == INCONCLUSIVE and n else "",
        n=n,
        estimate=percent(k / n, n) if n else None,
        low=low,
        high=high,
        limit=f"at most {100 * limit:g} %",
        unit="%",
    )


def all_answered(frame: pd.DataFrame, max_error_rate: float = 0.1) -> Verdict:
    """Claim: at most ``max_error_rate`` of the requests go without a good answer.

    No failure in n requests bounds the rate by 3/n.
    """
    answers = judged(frame)
    measured = tables.measured(answers[["error"]])
    n, k = len(measured), int((measured["error"] != "").sum())
    claim = f"at most {100 * max_error_rate:g} % of the requests go without a good answer"
    found = share_at_most(claim, k, n, max_error_rate)
    if verdict := no_evidence(answers, answers, claim):
        return verdict
    said = f"{k} of {n} requests failed" if k else f"None of {n} requests failed, so the rate is below {found.high:g} %"
    rate = rate_of(answers) if found.outcome == FAIL else ""
    return replace(found, reason=f"{said}{rate}{found.reason}.{explained(answers)}")


def answered_promptly(answers: pd.DataFrame, slow_after_s: float, max_late_share: float) -> Verdict:
    """Claim: at most ``max_late_share`` of the good answers take longer than ``slow_after_s``.

    Slow is not failed: those without a good answer are not counted.
    """
    good = tables.good(tables.conform(answers, tables.ANSWERS))
    n, k = len(good), int(tables.late(good, slow_after_s).sum())
    claim = f"at most {100 * max_late_share:g} % of the answers are late (after {slow_after_s:g} s)"
    found = share_at_most(claim, k, n, max_late_share)
    slowest_s = float(good["time_total_ms"].max()) / 1000 if n else 0.0
    said = f"{k} of {n} good answers came late, the last one after {slowest_s:.1f} s"
    return replace(found, reason=f"{said}{found.reason}.")
