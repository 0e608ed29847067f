"""Claims about an outage: who carried the service, how many requests failed in it, and for how long none was answered.

Functions from a frame of ANSWERS to a Verdict. Each source is judged on its own and the worst one decides, since two
that are well do not help a third. What holds without an outage is in ``claims``, how long a time without answers was in
``availability``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from meshbook import tables
from meshbook.analysis.availability import longest_of, streams
from meshbook.analysis.claims import not_expected, share_at_most
from meshbook.analysis.evidence import MOST_LOST, beat_of, explained, judged, no_evidence, rate_of, sent_between
from meshbook.analysis.intervals import CONFIDENCE, at_most, percent, to_see
from meshbook.errors import UsageError
from meshbook.verdict import FAIL, INCONCLUSIVE, PASS, WORST_FIRST, Detail, Outcome, Verdict

BURST_S = 5.0
"""Seconds in which failures that stand together are one burst."""
_LONGEST_HOLE = 0.1
"""Share of an outage for which nobody may have asked, all in one piece, where it is said to be survived."""
_SHORTEST_HOLE_S = 1.0
_MOST_DETAILS = 100
"""Times unavailable that a verdict tells one by one, the longest: a page with more is not read."""
_ALL = "all sources together"


# ---- who carried it


def carried_by_the_others(
    frame: pd.DataFrame,
    outage_start: datetime,
    outage_end: datetime,
    versions: Mapping[str, str],
    *,
    down: str,
    gone_at: datetime,
) -> Verdict:
    """Claim: while cluster ``down`` is, the others answer every source, and nobody else does.

    ``versions`` names the version of each cluster. ``outage_start`` is when the outage was requested, ``gone_at`` when
    it was in force, ``outage_end`` when the restore was requested. An answer of ``down`` between
    the last two fails the claim: then there was no outage to survive. So does one of a pod that no cluster knows or of
    another version than its cluster's, at any time of the outage; and a source that sent enough requests for an even
    share of answers to show, and got none. Numbers and details are of what was sent once it was in force.
    """
    claim = "every source is answered by the survivor alone"
    answers = judged(frame)
    inside = sent_between(answers, outage_start, outage_end)
    sources = list(answers["source"].unique())
    # a request that waited until the restore was not answered before
    answered = tables.good(inside[~(tables.ended(inside) >= outage_end)])
    error_ms = tables.stamp_errors_ms(inside)[0] + tables.clock_errors_ms(inside)
    later = tables.measured(inside[inside["time"] - pd.to_timedelta(error_ms, unit="ms") > gone_at])
    good = answered.loc[answered.index.intersection(later.index)]
    counts: dict[Any, int] = good.groupby(["source", "cluster"], sort=False).size().to_dict()
    details: tuple[Detail, ...] = tuple(
        {"source": source, "cluster": cluster, "answers": count} for (source, cluster), count in counts.items()
    )
    if verdict := no_evidence(answers, inside, claim, sources, details):
        return verdict
    outcome, reason = _carried(answered, later, sources, versions, down) or _unwatched(inside, gone_at, outage_end)
    n, k = len(good), int((good["cluster"] != down).sum())
    return Verdict(
        claim=claim,
        outcome=outcome,
        reason=reason + explained(inside),
        n=n,
        estimate=percent(k / n, n) if n else None,
        limit="100 % from then on",
        unit="%",
        details=details,
    )


def _carried(
    answered: pd.DataFrame, later: pd.DataFrame, sources: Collection[str], versions: Mapping[str, str], down: str
) -> tuple[Outcome, str] | None:
    """Return what is wrong with who ``answered`` at any time of the outage, and ``later``, once it was in force."""
    if (answered["cluster"] == "").any():
        return INCONCLUSIVE, "Which cluster's pods answered was not looked up."
    if strangers := not_expected(answered, versions):
        return FAIL, strangers.strip()
    good = answered.loc[answered.index.intersection(later.index)]
    if count := int((good["cluster"] == down).sum()):
        return FAIL, f"It was not down: after it had gone, answers still came ({count} from {down})."
    sent, got = later["source"].value_counts(), good["source"].value_counts()
    missing = [(source, int(sent.get(source, 0))) for source in sources if not got.get(source, 0)]
    if missing:
        outcome: Outcome = FAIL if any(n >= to_see(0.5) for _, n in missing) else INCONCLUSIVE
        return outcome, "; ".join(
            f"{source} got no answer in {n} requests after it had gone" for source, n in missing
        ) + "."
    return None


def _unwatched(inside: pd.DataFrame, since: datetime, end: datetime) -> tuple[Outcome, str]:
    """Return *pass*, unless too little is known: requests lost in that time, or a hole without any."""
    lost = len(inside) - len(tables.measured(inside))
    if lost > MOST_LOST * len(inside):
        return INCONCLUSIVE, f"{lost} of {len(inside)} requests in that time came back without a result."
    if hole := _hole(inside, since, end, _LONGEST_HOLE * (end - since).total_seconds()):
        return INCONCLUSIVE, hole.strip()
    return PASS, "Each source got answers, and from nobody else."


def _hole(inside: pd.DataFrame, since: datetime, end: datetime, longest_s: float = 0.0) -> str:
    """Say for how long nobody asked, and why; empty where that was not for longer than ``longest_s``."""
    sent = tables.measured(inside)["time"].dropna()
    ends = (pd.Series([edge], dtype=sent.dtype) for edge in (since, end))
    hole_s = pd.concat([next(ends), sent[sent > since].sort_values(), next(ends)]).diff().max().total_seconds()
    # where sources ask seldom, as long as two of their requests are apart is no hole
    if hole_s <= max(_SHORTEST_HOLE_S, longest_s, 2 * beat_of(inside)):
        return ""
    why = next((f": {said}" for said in inside.loc[inside["error"] == tables.DROPPED, "detail"] if said), "")
    return f" For {hole_s:.1f} s of it no request is known to have been sent{why}."


# ---- how many failed


@dataclass(frozen=True, kw_only=True)
class _Burst:
    """The ``BURST_S`` in which failures stand closest together, of one source or of all of them."""

    source: str
    since: float
    failed: int
    sent: int
    chance: float
    """At most so often a service that loses ``max_failed_share`` of the requests, each by itself, shows one like it."""
    own_chance: float
    """The same of one that loses as many as were lost in all, wherever that is less."""

    def __str__(self) -> str:
        when = datetime.fromtimestamp(self.since, UTC)
        return f"{self.source}: {self.failed} of {self.sent} failed in {BURST_S:g} s from {when:%H:%M:%S} on"


def few_fail(
    frame: pd.DataFrame, outage_start: datetime, outage_end: datetime, *, max_failed_share: float = 0.05
) -> Verdict:
    """Claim: at most ``max_failed_share`` of each source's requests fail, in no 5 s more than that brings about.

    The share of each source over the whole time is compared with one-sided exact bounds (Clopper and Pearson), 95 %
    each: no failure in n requests bounds it by 3/n. A pass takes every source's. Sources pool only to fail: where all
    together are above the limit, one of them is.

    A share says nothing about bursts: the longer the watch, the less one weighs. So the 5 s that begin with a failure
    are looked at, of each source and of all together, for more failures than independent ones at the limit would show
    by chance in one watch of twenty (a scan statistic: Naus 1982; Glaz, Naus and Wallenstein, *Scan Statistics*, 2001,
    here bounded by the sum over all beginnings). That fails, however long the watch. Where they are only more than
    the whole time lets expect, and surely above the limit, the claim is left open. At 3/s from each of three sources,
    5 s at 50 % fail in 99 of 100 watches where all sources see them; where only one does, in 7 or 8 of 10, and one in a
    hundred passes. A fifth failing for 5 s passes in one of twenty. ``bench/decisions.py`` has the rates.
    """
    limit = f"{100 * max_failed_share:g} %"
    claim = f"at most {limit} of each source's requests fail, and no burst of {BURST_S:g} s has more"
    answers = judged(frame)
    inside = sent_between(answers, outage_start, outage_end)
    if verdict := no_evidence(answers, inside, claim, list(answers["source"].unique())):
        return verdict
    measured = tables.measured(inside)
    counts = {str(name): _counts(rows) for name, rows in measured.groupby("source", sort=False)}
    found = {name: share_at_most(claim, *count, max_failed_share) for name, count in counts.items()}
    worst = min(
        found,
        key=lambda name: (
            WORST_FIRST.index(found[name].outcome),
            -(found[name].high or 0),
            -counts[name][0] / counts[name][1],
        ),
    )
    (k, n), total, verdict = counts[worst], _counts(measured), found[worst]
    bursts = {burst.source: burst for burst in _bursts(measured, max_failed_share)}
    outcome: Outcome = FAIL if at_most(max_failed_share)(*total) == FAIL else verdict.outcome
    more = f"{verdict.reason} there" if outcome == INCONCLUSIVE else ""
    none = f"None failed; {worst}: 0 of {n}, below {verdict.high:g} %"
    reason = f"{worst}: {k} of {n} requests failed" if k else none
    surest = min(bursts.values(), key=lambda burst: burst.chance, default=None)
    if surest and surest.chance <= 1 - CONFIDENCE:
        outcome, more = FAIL, f". A burst, more than {limit} bring about: {surest}"
    elif outcome == PASS and (doubt := [one for one in bursts.values() if _stands_out(one, max_failed_share)]):
        outcome, more = INCONCLUSIVE, f"; but close together, above {limit} for a while: {doubt[0]}"
    rate = rate_of(inside[inside["source"] == worst]) if outcome == FAIL else ""
    together = f", all together {total[0]} of {total[1]}" if total[0] > k else ""
    return replace(
        verdict,
        outcome=outcome,
        reason=f"{reason}{together}{rate}{more}." + explained(inside),
        n=total[1],
        details=tuple(_failed_detail(name, *counts[name], bursts.get(name), found[name]) for name in found),
    )


def _counts(rows: pd.DataFrame) -> tuple[int, int]:
    return int((rows["error"] != "").sum()), len(rows)


def _failed_detail(source: str, k: int, n: int, burst: _Burst | None, found: Verdict) -> Detail:
    return {
        "source": source,
        "failed": k,
        "sent": n,
        "share %": found.estimate,
        "low %": found.low,
        "high %": found.high,
        f"most in {BURST_S:g} s": f"{burst.failed} of {burst.sent}" if burst else "none",
        "share alone": found.outcome,
    }


def _bursts(measured: pd.DataFrame, limit: float) -> Iterator[_Burst]:
    """Yield the most improbable burst of each source, and of all together, where there is any failure."""
    measured = measured.assign(time=measured["time"].fillna(measured["scheduled"]))
    begins = 2 * len(measured)  # each request is looked at as one of its source, and as one of all
    for name, rows in [*measured.groupby("source", sort=False), (_ALL, measured)]:
        rows = rows.sort_values("time", kind="stable")
        sent, failed = tables.unix_s(rows["time"]), (rows["error"] != "").to_numpy(dtype=bool)
        first = np.flatnonzero(failed)
        if not len(first):
            continue
        stop = np.searchsorted(sent, sent[first] + BURST_S, "left")
        total = np.append(0, np.cumsum(failed))
        k, n = total[stop] - total[first], stop - first
        chance = begins * limit * _at_least(k - 1, n - 1, limit)
        at = int(np.argmin(chance))
        own = min(limit, len(first) / len(rows))
        yield _Burst(
            source=str(name),
            since=float(sent[first[at]]),
            failed=int(k[at]),
            sent=int(n[at]),
            chance=float(chance[at]),
            own_chance=float(begins * own * _at_least(k[at] - 1, n[at] - 1, own)),
        )


def _stands_out(burst: _Burst, limit: float) -> bool:
    """Tell whether it has surely more than ``limit``, and more than the whole time would let expect."""
    return burst.own_chance <= 1 - CONFIDENCE and at_most(limit)(burst.failed, burst.sent) == FAIL


def _at_least(k: Any, n: Any, share: float) -> Any:
    """Return the chances of ``k`` or more of ``n``."""
    from scipy.special import betainc  # slow to import, and not needed before a failure

    return np.where(k > 0, betainc(np.maximum(k, 1), n - k + 1, share), 1.0)


# ---- for how long nobody was answered


def interrupted_at_most(
    frame: pd.DataFrame, outage_start: datetime, outage_end: datetime, *, max_gap_s: float
) -> Verdict:
    """Claim: at no time around the outage the service is unavailable (no good answer at all) for over ``max_gap_s``.

    Each source and path is measured on its own, and the longest time unavailable is a range: it fails where one was
    surely longer, passes where none can have been, seen or not. The requests must begin before the outage and go on
    after it; what they leave out is unknown.
    """
    if not max_gap_s > 0:
        raise UsageError(f"a gap of {max_gap_s} s cannot be judged", hint="above 0")
    claim = f"the service is never unavailable for more than {max_gap_s:g} s"
    answers = judged(frame)
    inside = sent_between(answers, outage_start, outage_end)
    if verdict := no_evidence(answers, inside, claim):
        return verdict
    every, span = streams(frame), (outage_start.timestamp(), outage_end.timestamp())
    found = {f"{one.source} by {one.path}": one.estimates(*span) for one in every}
    ends = {name: longest_of(some) for name, some in found.items()}
    surely, at_most_s = (max(end[side] for end in ends.values()) for side in (0, 1))
    outcome: Outcome = PASS if at_most_s <= max_gap_s else FAIL if surely > max_gap_s else INCONCLUSIVE
    worst = max(ends, key=lambda name: ends[name] if outcome == FAIL else ends[name][::-1])
    low_s, high_s = _outwards(*ends[worst])
    all_seen = pd.concat([some[some["seen"]] for some in found.values()], ignore_index=True)
    who = f"{worst}: " if len(every) > 1 else ""
    source = answers[answers["source"] == found[worst]["source"].iloc[0]]
    more = f"{rate_of(source)}." if outcome == FAIL else "."
    if outcome == INCONCLUSIVE:
        more += _hole(sent_between(source, outage_start, outage_end), outage_start, outage_end)
    return Verdict(
        claim=claim,
        outcome=outcome,
        reason=f"{who}{_in_words(found[worst], low_s, high_s)}{more}",
        n=len(tables.measured(inside)),
        low=low_s,
        high=None if math.isinf(high_s) else high_s,
        limit=f"at most {max_gap_s:g} s",
        unit="s",
        details=tuple(map(_detail, all_seen.nlargest(_MOST_DETAILS, "high_s").sort_index().to_dict("records"))),
    )


def _outwards(low_s: float, high_s: float) -> tuple[float, float]:
    """Return the range in s, rounded outwards to 10 ms."""
    return math.floor(100 * low_s) / 100, high_s if math.isinf(high_s) else math.ceil(100 * high_s) / 100


def _in_words(found: pd.DataFrame, low_s: float, high_s: float) -> str:
    seen = found[found["seen"]]
    failed, slow = int(seen["failed"].sum()), int(seen["slow"].sum())
    were_slow = f"{slow} {'was' if slow == 1 else 'were'} slow"
    requests = " and ".join(filter(None, [f"{failed} requests failed" * bool(failed), were_slow * bool(slow)]))
    if math.isinf(high_s) and requests:
        return f"{requests} over {low_s:g} s, and no good answer came before or after"
    if math.isinf(high_s):
        return "The outage was not watched from before its begin to its end"
    if not (failed or low_s):  # slow answers prove nothing, unless they waited together
        return f"None seen: no request failed{f', {were_slow}' if slow else ''}; detection limit {high_s:g} s"
    times = f", the longest of {len(seen)} times" if len(seen) > 1 else ""
    return f"Unavailable for {low_s:g} to {high_s:g} s{times}; {requests} in all"


def _detail(estimate: Mapping[Hashable, Any]) -> Detail:
    low_s, high_s = _outwards(estimate["low_s"], estimate["high_s"])
    return {
        "source": estimate["source"],
        "path": estimate["path"],
        "unavailable at least s": low_s,
        "at most s": None if math.isinf(high_s) else high_s,
        "failed": estimate["failed"],
        "slow": estimate["slow"],
    }
