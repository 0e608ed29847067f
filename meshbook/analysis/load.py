"""Load told apart from outage: what a side of the service bears, how busy it was, and which failures are its load's.

A pod that answers one request at a time bears as many a second as it ends while others wait for it; one whose answers
take no longer under a step of concurrent requests bears more than was asked of it, and the number is the least.

A service that is gone answers nobody. One that has too much to do goes on answering all the while, and nobody promptly:
that is what a request without a good answer is looked at for (``overload``). One that stands still and goes on again
answers nobody in between, and a way that hangs leaves others prompt. Pure.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from meshbook import tables
from meshbook.analysis.intervals import CONFIDENCE, at_most, percent, percent_range, share_bounds, to_decide
from meshbook.errors import UsageError
from meshbook.verdict import INCONCLUSIVE, PASS, Verdict, counted

Floats = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Places = np.ndarray[Any, np.dtype[np.intp]]

_BATCHES = 8
"""Parts of a step whose rates are compared with each other: more than a machine that stands still once in it."""
_LEAST_GAPS = 2 * _BATCHES - 1
"""Times between two answers of a pod, one after the other in a step."""
_QUEUED = 1.5
"""Answers that take this many times as long as calm ones have waited for others."""
_PROMPT_TIMES, _PROMPT_FLOOR_S = 3.0, 0.06
"""An answer is prompt, and so nobody waits for a busy service, up to this many times as long as calm ones take."""
_MOST_PROMPT = 0.1
"""Share of the answers around a request that may be prompt where it is said to have waited for a busy service."""
_AROUND_S = 0.5
"""Seconds around its sending in which others must have waited as well."""
_OWN_S = 2.0
"""Seconds around its sending in which its own source must have got an answer."""
_MOST_REQUESTS = 100_000
_FEWEST = 3
"""Answers to others by which a service is known to have gone on answering."""


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What some pods bear together, in requests per second: estimate and 95 % interval."""

    per_s: float
    low_per_s: float
    high_per_s: float
    """Infinite where the step was too small to find the most that they bear."""
    n: int
    """Answers of theirs during the steps."""
    pods: int
    calm_ms: float
    """Median time of their answers to one request at a time."""
    busy_ms: float

    @property
    def is_least(self) -> bool:
        """Tell whether they bear more than was asked of them."""
        return math.isinf(self.high_per_s)

    def __str__(self) -> str:
        pods = counted(self.pods, "pod")
        times = f"n = {self.n}, {self.calm_ms:.0f} ms an answer when calm, {self.busy_ms:.0f} ms in the step"
        if self.is_least:
            return f"at least {self.low_per_s:.3g}/s ({pods}, {times})"
        return f"about {self.per_s:.3g}/s ({self.low_per_s:.3g} to {self.high_per_s:.3g}; {pods}, {times})"


def capacity(
    calm: pd.DataFrame, steps: Sequence[pd.DataFrame], clusters: Collection[str], pods: int
) -> Capacity | None:
    """Return what ``pods`` ready pods of some ``clusters`` bear; None where too few of their answers are known.

    ``calm`` and ``steps`` are ANSWERS: to one request at a time, and to concurrent ones, in one step or several: the
    time between two steps counts for nothing. Pods that answered nothing in them are taken to be like the others.
    """
    calm_ms, count = _usual_ms(calm, clusters), 0
    gaps: dict[Any, list[Floats]] = defaultdict(list)
    for answers in (_full_step(tables.measured(step)) for step in steps):
        theirs = answers[(answers["error"] == "") & answers["cluster"].isin(clusters)]
        count += len(theirs)
        for pod, ended in theirs.groupby("instance")["ended"]:
            gaps[pod].append(np.diff(np.sort(ended.to_numpy(dtype="float64"))))
    pods_gaps = [found for some in gaps.values() if len(found := np.concatenate(some)) >= _LEAST_GAPS]
    if not pods_gaps or math.isnan(calm_ms):
        return None
    busy_ms, scale = _usual_ms(pd.concat(steps), clusters), max(1.0, pods / len(pods_gaps))
    per_s, low_per_s, high_per_s = (scale * sum(ends) for ends in zip(*map(_rate, pods_gaps), strict=True))
    if busy_ms < _QUEUED * calm_ms:
        least = max(low_per_s, 1000 * pods / calm_ms)
        per_s, low_per_s, high_per_s = max(per_s, least), least, math.inf
    return Capacity(
        per_s=per_s,
        low_per_s=low_per_s,
        high_per_s=high_per_s,
        n=count,
        pods=pods,
        calm_ms=calm_ms,
        busy_ms=busy_ms,
    )


def _usual_ms(answers: pd.DataFrame, clusters: Collection[str]) -> float:
    good = tables.good(answers)
    return float(good.loc[good["cluster"].isin(clusters), "time_total_ms"].astype("float64").median())


def _full_step(answers: pd.DataFrame) -> pd.DataFrame:
    """Return what ended while at least half of the step's requests were on their way, with ``ended`` in Unix time."""
    known = answers.dropna(subset=["time", "time_total_ms"])
    sent, ended = _times(known)
    moments = np.concatenate([sent, ended])
    order = np.argsort(moments, kind="stable")
    on_way = np.cumsum(np.repeat([1, -1], len(sent))[order])
    full = moments[order][on_way >= on_way.max(initial=0) / 2]
    inside = (ended >= full.min(initial=math.inf)) & (ended <= full.max(initial=-math.inf))
    found: pd.DataFrame = known.assign(ended=ended)[inside]
    return found


def _rate(gaps: Floats) -> tuple[float, float, float]:
    """Return how many answers so far apart there are in a second, and its interval by the means of batches."""
    means = np.array([batch.mean() for batch in np.array_split(gaps, _BATCHES)])
    mean = float(gaps.mean())
    from scipy.special import stdtrit  # slow to import, and not needed before this

    half = float(stdtrit(_BATCHES - 1, (1 + CONFIDENCE) / 2)) * float(means.std(ddof=1)) / math.sqrt(_BATCHES)
    least = 1 / (mean + half)
    return 1 / mean, least, 1 / (mean - half) if half < mean / 2 else 2 / mean


@dataclass(frozen=True, kw_only=True, eq=False)
class Overload:
    """Requests that went wrong because the service had too much to do, and how much it had."""

    explained: pd.Series[bool]
    """By row of the answers that were looked at: whether it went wrong for that reason."""
    offered_per_s: float
    """Requests sent per second, by all sources, from the first of them to the last one's end."""
    served_per_s: float
    """Good answers per second in that time: what it bore, since it was busy all the while."""

    @property
    def seen(self) -> bool:
        return bool(self.explained.any())

    def __str__(self) -> str:
        over = max(0.0, self.offered_per_s - self.served_per_s)
        return f"overloaded by {over:.2g}/s, capacity about {self.served_per_s:.2g}/s"


def overload(
    answers: pd.DataFrame, start: datetime, end: datetime, clusters: Collection[str], slow_after_s: float
) -> Overload:
    """Return which requests sent from ``start`` to ``end`` failed, or were late, for the load on some ``clusters``.

    ``answers`` are ANSWERS of all sources, from before ``start`` on. Those are explained by load around which these
    clusters answered others all the while, and hardly anybody promptly.
    """
    index, answers = answers.index, tables.conform(answers, tables.ANSWERS)
    sent, ended = _times(answers)
    good = ((answers["error"] == "") & answers["cluster"].isin(clusters)).to_numpy()
    measured = (~answers["error"].isin(tables.NOT_MEASURED)).to_numpy() & ~np.isnan(ended)
    calm = (ended - sent)[good & measured & (ended < start.timestamp())]
    wrong = (answers["error"] != "").to_numpy() | is_late(answers, slow_after_s).to_numpy()
    wrong &= measured & (sent >= start.timestamp()) & (sent < end.timestamp())
    explained = np.zeros(len(answers), dtype=bool)
    if len(calm) and wrong.any():
        prompt_s = max(_PROMPT_FLOOR_S, _PROMPT_TIMES * float(np.median(calm)))
        sources, known = answers["source"].to_numpy(dtype=object), good & measured
        busy = _Busy(sources[known], sent[known], ended[known], prompt_s)
        explained[wrong] = busy.explains(sources[wrong], sent[wrong], ended[wrong])
    since, until = (sent[explained].min(), ended[explained].max()) if explained.any() else (0.0, 1.0)
    length = max(until - since, 0.001)
    return Overload(
        explained=pd.Series(explained, index=index, dtype=bool),
        offered_per_s=float((measured & (sent >= since) & (sent < until)).sum()) / length,
        served_per_s=float((good & measured & (ended >= since) & (ended < until)).sum()) / length,
    )


def _times(answers: pd.DataFrame) -> tuple[Floats, Floats]:
    """Return when requests were sent and ended, in Unix times; NaN where that is not known."""
    known = answers["time"].notna().to_numpy()
    sent = np.where(known, answers["time"].astype("int64").to_numpy() / 1e6, math.nan)
    return sent, sent + answers["time_total_ms"].to_numpy(dtype="float64", na_value=math.nan) / 1000


class _Busy:
    """The good answers of a service, and whether they show it busy around requests that went wrong."""

    def __init__(self, sources: Any, sent: Floats, ended: Floats, prompt_s: float) -> None:
        order = np.argsort(sent, kind="stable")
        self._sources, self._sent = sources[order], sent[order]
        self._prompt = np.concatenate([[0], np.cumsum((ended - sent)[order] <= prompt_s)])
        self._ended = np.sort(ended)

    def explains(self, sources: Any, sent: Floats, ended: Floats) -> Bools:
        """Return for each of these requests whether the load explains it."""
        return self._reaches(sources, sent) & self._nobody_promptly(sent, ended) & self._all_the_while(sent, ended)

    def _reaches(self, sources: Any, sent: Floats) -> Bools:
        """Tell whether its own source got answers about then: one whose way is cut gets none, however busy all are."""
        found = np.zeros(len(sent), dtype=bool)
        for source in set(sources):
            own, asked = self._sent[self._sources == source], sources == source
            found[asked] = np.subtract(*np.searchsorted(own, [sent[asked] + _OWN_S, sent[asked] - _OWN_S])) > 0
        return found

    def _nobody_promptly(self, sent: Floats, ended: Floats) -> Bools:
        """Tell whether others that were sent about then waited too: all of them stand in the same queue."""
        until = sent + np.clip((ended - sent) / 2, _AROUND_S, 2 * _AROUND_S)
        first, last = np.searchsorted(self._sent, [sent - _AROUND_S, until])
        others, prompt = last - first, self._prompt[last] - self._prompt[first]
        found: Bools = (others >= _FEWEST - 1) & (prompt / np.maximum(others, 1) <= _MOST_PROMPT)
        return found

    def _all_the_while(self, sent: Floats, ended: Floats) -> Bools:
        """Tell whether others were answered while it waited, with no break as long as half of that."""
        since, until = sent - _AROUND_S, np.maximum(ended, sent + _AROUND_S)
        first, last = np.searchsorted(self._ended, [since, until])
        found: Bools = last - first >= _FEWEST
        since, until, first, last = since[found], until[found], first[found], last[found]
        breaks = [self._ended[first] - since, until - self._ended[last - 1]]
        breaks.append(_highest(np.diff(self._ended), first, last - 1))
        found[found] = np.max(breaks, axis=0) <= (until - since) / 2
        return found


def _highest(values: Floats, first: Places, last: Places) -> Floats:
    """Return the highest of ``values[first:last]`` for each pair; none of these parts is empty."""
    found, lengths, width = np.empty(len(first)), last - first, 1
    while width <= lengths.max(initial=0):  # ``values`` are the highest of each ``width`` in a row
        fits = (lengths >= width) & (lengths < 2 * width)
        found[fits] = np.maximum(values[first[fits]], values[last[fits] - width])
        values, width = np.maximum(values[:-width], values[width:]), 2 * width
    return found


def is_late(answers: pd.DataFrame, slow_after_s: float) -> pd.Series[bool]:
    """Tell of each row of ANSWERS whether its answer was good, and took longer than ``slow_after_s``."""
    return (answers["error"] == "") & (answers["time_total_ms"].astype("float64") > 1000 * slow_after_s)


def fewest_to_pass(limit: float, wrong: int = 0) -> int:
    """Return how many requests prove, when ``wrong`` of them go wrong, that at most ``limit`` of all do."""
    decide = at_most(limit)
    return 1 + bisect_left(range(1, _MOST_REQUESTS), True, key=lambda n: n > wrong and decide(wrong, n) == PASS)


def answered_promptly(answers: pd.DataFrame, slow_after_s: float, max_late_share: float) -> Verdict:
    """Claim: at most ``max_late_share`` of the good answers take longer than ``slow_after_s``.

    Slow is not failed: those without a good answer are not counted. Bounds are one-sided and exact.
    """
    if not 0 < max_late_share < 1:
        raise UsageError(f"a late share of {max_late_share} cannot be judged", hint="above 0 and below 1, as 0.05")
    good = tables.good(tables.conform(answers, tables.ANSWERS))
    n, k = len(good), int(is_late(good, slow_after_s).sum())
    decide = at_most(max_late_share)
    outcome = decide(k, n)
    low, high = percent_range(share_bounds(k, n), n)
    slowest_s = float(good["time_total_ms"].max()) / 1000 if n else 0.0
    more = f"; {to_decide(k, n, decide)}" if outcome == INCONCLUSIVE and n else ""
    return Verdict(
        claim=f"at most {100 * max_late_share:g} % of the answers are late (after {slow_after_s:g} s)",
        outcome=outcome,
        reason=f"{k} of {n} good answers came late, the last one after {slowest_s:.1f} s{more}.",
        n=n,
        estimate=percent(k / n, n) if n else None,
        low=low,
        high=high,
        limit=f"at most {100 * max_late_share:g} %",
        unit="%",
    )


def utilisation(
    answers: pd.DataFrame,
    parts: Mapping[str, tuple[datetime, datetime]],
    clusters: Collection[str],
    bears: float | None,
) -> pd.DataFrame:
    """Return LOAD without its trial: for each of ``parts`` (begin and end) how busy some ``clusters`` were."""
    rows = _utilisation(tables.conform(answers, tables.ANSWERS), parts, clusters, bears)
    return pd.DataFrame(list(rows))


def _utilisation(
    answers: pd.DataFrame,
    parts: Mapping[str, tuple[datetime, datetime]],
    clusters: Collection[str],
    bears: float | None,
) -> Iterator[dict[str, object]]:
    sent, ended = _times(answers)
    good = ((answers["error"] == "") & answers["cluster"].isin(clusters)).to_numpy()
    for part, span in parts.items():
        since, until = (moment.timestamp() for moment in span)
        length = max(until - since, 0.001)
        theirs = good & (ended >= since) & (ended < until)
        took_ms = 1000 * (ended - sent)[theirs]
        served = float(theirs.sum()) / length
        yield {
            "part": part,
            "offered_per_s": round(float(((sent >= since) & (sent < until)).sum()) / length, 2),
            "served_per_s": round(served, 2),
            "median_ms": round(float(np.median(took_ms)), 1) if len(took_ms) else None,
            "p90_ms": round(float(np.quantile(took_ms, 0.9)), 1) if len(took_ms) else None,
            "utilisation": round(served / bears, 2) if bears else None,
        }
