"""Claims about who answers and how often: functions from a frame of ANSWERS to a Verdict.

Rows that are no measurement (lost or garbled output of the probe) count neither as good nor as failed; where they are
more than ``MOST_LOST`` of all, nothing is concluded. Claims about an outage are in ``outages``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from meshbook import tables
from meshbook.analysis.intervals import (
    Decide,
    at_most,
    between,
    bounds,
    percent,
    percent_range,
    share_interval,
    to_decide,
)
from meshbook.errors import UsageError
from meshbook.verdict import WORST_FIRST, Detail, Verdict

MOST_LOST = 0.1
"""Share of rows without a result above which nothing is concluded."""

_MISS = 0.01
"""Accepted chance, over all sources and versions together, of not seeing a version that gets its even share."""

_ONE_SIDE_EACH = (
    " Each source sees one version only: locality failover, which a DestinationRule with outlierDetection turns on,"
    " does that on purpose."
)


@dataclass(frozen=True, kw_only=True)
class _Share:
    """``k`` of the ``n`` good answers that ``source`` got came from ``version``; it sent ``sent`` requests in all."""

    source: str
    version: str
    k: int
    n: int
    sent: int

    @classmethod
    def of(cls, answers: pd.DataFrame, source: str, version: str) -> _Share:
        rows = tables.measured(answers[answers["source"] == source])
        versions = tables.good(rows)["version"]
        return cls(source=source, version=version, k=int((versions == version).sum()), n=len(versions), sent=len(rows))

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
        names = ("source", "version", "answers", "n", "share %", "low %", "high %")
        return dict(zip(names, (self.source, self.version, self.k, self.n, share, low, high), strict=True))


def answers_from_both(frame: pd.DataFrame, versions: Sequence[str], *, sources: Sequence[str] = ()) -> Verdict:
    """Claim: every source gets good answers from every one of ``versions``.

    A version that is missing somewhere fails the claim once enough requests were sent that an even share would have
    shown it (chance of a false alarm 1 % in all); with fewer it stays inconclusive. ``sources`` that have no row at all
    leave it inconclusive too. The numbers are those of the smallest share seen anywhere.
    """
    claim = f"every source gets answers from {_listed(versions)}"
    names, answers = _distinct(versions), tables.conform(frame, tables.ANSWERS)
    seen = sorted({*answers["source"], *sources})
    shares = [_Share.of(answers, source, version) for source in seen for version in names]
    details = tuple(share.row for share in shares)
    if verdict := _no_evidence(answers, claim, seen, details):
        return verdict
    enough = _enough(len(names), len(shares))
    missing = [share for share in shares if not share.k]
    proven = [share for share in missing if share.sent >= enough]
    weakest = min(shares, key=lambda share: (share.value, -share.n))
    estimate, low, high = weakest.numbers
    return Verdict(
        claim=claim,
        outcome="fail" if proven else "inconclusive" if missing else "pass",
        reason=_who_is_missing(answers, proven or missing, enough) + _explained(answers, names),
        n=len(tables.good(answers)),
        estimate=estimate,
        low=low,
        high=high,
        limit="above 0 %",
        unit="%",
        details=details,
    )


def _distinct(versions: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys(versions))
    if isinstance(versions, str) or len(names) < 2 or "" in names:
        raise UsageError(f"two or more versions are expected to answer, not {versions!r}", hint='["v1", "v2"]')
    return names


def _enough(versions: int, pairs: int) -> int:
    """Return the requests per source after which an even share's absence is no chance."""
    return math.ceil(math.log(_MISS / pairs) / math.log(1 - 1 / versions))


def _who_is_missing(answers: pd.DataFrame, missing: Sequence[_Share], enough: int) -> str:
    if not missing:
        return "All of them were seen from everywhere."
    parts = []
    for share in missing:
        few = "" if share.sent >= enough else f" (at least {enough} are needed to tell)"
        what = f"no {share.version}" if share.n else "no good answer at all"
        parts.append(f"{share.source} got {what} from {share.sent} requests{few}")
    good = tables.good(answers)
    single = good.groupby("source")["version"].nunique().eq(1).all() and good["version"].nunique() > 1
    return "; ".join(dict.fromkeys(parts)) + "." + (_ONE_SIDE_EACH if single else "")


def split_within(frame: pd.DataFrame, version: str, share: float = 0.5, tolerance: float = 0.1) -> Verdict:
    """Claim: each source gets ``share`` of its good answers, give or take ``tolerance``, from ``version``.

    Judged as equivalence: pass when each source's 95 % interval lies inside, fail when one lies outside. Sources are
    judged one by one, since two that each see their own side alone add up to a perfect half. The interval takes the
    answers as independent; round robin alternates and is steadier, so this errs towards inconclusive.
    """
    if not 0 < tolerance < 1 or not 0 <= share <= 1:
        raise UsageError(
            f"a share of {share} ± {tolerance} is none that can be judged", hint="share=0.5, tolerance=0.1"
        )
    claim = f"each source gets {100 * share:g} % ± {100 * tolerance:g} points of its answers from {version}"
    answers = tables.conform(frame, tables.ANSWERS)
    sources = sorted(set(answers["source"]))
    shares = [_Share.of(answers, source, version) for source in sources]
    details = tuple(found.row for found in shares)
    if verdict := _no_evidence(answers, claim, sources, details):
        return verdict
    decide = between(share - tolerance, share + tolerance)
    worst = min(shares, key=lambda found: (WORST_FIRST.index(decide(found.k, found.n)), -abs(found.value - share)))
    estimate, low, high = worst.numbers
    return Verdict(
        claim=claim,
        outcome=decide(worst.k, worst.n),
        reason=_where_it_lies(worst, decide) + _explained(answers),
        n=len(tables.good(answers)),
        estimate=estimate,
        low=low,
        high=high,
        limit=f"{100 * (share - tolerance):g} to {100 * (share + tolerance):g} %",
        unit="%",
        details=details,
    )


def _where_it_lies(worst: _Share, decide: Decide) -> str:
    if not worst.n:
        return f"{worst.source} got no good answer from {worst.sent} requests."
    found = f"{worst.source} got {worst.k} of {worst.n} from {worst.version}: the interval lies"
    outcome = decide(worst.k, worst.n)
    if outcome == "inconclusive":
        return f"{found} across a limit; {to_decide(worst.k, worst.n, decide)} there."
    return f"{found} {'inside' if outcome == 'pass' else 'outside'} the limits."


def all_answered(frame: pd.DataFrame, max_error_rate: float = 0.1) -> Verdict:
    """Claim: at most ``max_error_rate`` of the requests go without a good answer.

    Held against one-sided exact bounds, 95 % each: no failure in n requests bounds the rate by 3/n.
    """
    if not 0 < max_error_rate < 1:
        raise UsageError(f"an error rate of {max_error_rate} cannot be judged", hint="above 0 and below 1, as 0.05")
    claim = f"at most {100 * max_error_rate:g} % of the requests go without a good answer"
    return judge_errors(tables.conform(frame, tables.ANSWERS), claim, max_error_rate)


def judge_errors(answers: pd.DataFrame, claim: str, max_error_rate: float) -> Verdict:
    """Judge the share of failed requests among the rows given."""
    measured = tables.measured(answers)
    n, k = len(measured), int((measured["error"] != "").sum())
    if verdict := _no_evidence(answers, claim, [], ()):
        return verdict
    decide = at_most(max_error_rate)
    outcome = decide(k, n)
    low, high = percent_range(bounds(k, n), n)
    more = f"; {to_decide(k, n, decide)}" if outcome == "inconclusive" else ""
    found = f"{k} of {n} requests failed" if k else f"None of {n} requests failed, so the rate is below {high:g} %"
    return Verdict(
        claim=claim,
        outcome=outcome,
        reason=f"{found}{more}." + _explained(answers),
        n=n,
        estimate=percent(k / n, n),
        low=low,
        high=high,
        limit=f"at most {100 * max_error_rate:g} %",
        unit="%",
    )


def _no_evidence(
    answers: pd.DataFrame, claim: str, sources: Sequence[str], details: tuple[Detail, ...]
) -> Verdict | None:
    """Return the inconclusive verdict where too little is known to judge at all."""
    n, lost = len(tables.measured(answers)), len(answers) - len(tables.measured(answers))
    silent = sorted(set(sources) - set(tables.measured(answers)["source"]))
    if n and not silent and lost <= MOST_LOST * len(answers):
        return None
    if lost:
        reason = f"{lost} of {len(answers)} requests came back without a result, so nothing is concluded."
    else:
        reason = "There are no requests to judge by" + (f" from {_listed(silent)}." if silent and n else ".")
    return Verdict(claim=claim, outcome="inconclusive", reason=reason + _explained(answers), n=n, details=details)


def _explained(answers: pd.DataFrame, expected: Sequence[str] = ()) -> str:
    """Return what went wrong, counted by kind with one example, and which unexpected versions answered."""
    text = ""
    bad = answers[answers["error"] != ""]
    if not bad.empty:
        counts = ", ".join(f"{count} {kind}" for kind, count in bad["error"].value_counts().items())
        example = next((detail for detail in bad["detail"] if detail), "")
        text += f" Without a good answer: {counts}" + (f" (“{tables.hide_addresses(example)}”)." if example else ".")
    strangers = sorted(set(tables.good(answers)["version"]) - set(expected)) if expected else []
    return text + (f" Not expected, but seen: {_listed(strangers)}." if strangers else "")


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
