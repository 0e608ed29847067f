"""Load told apart from outage: what a side of the service bears, how busy it was, and which failures are its load's.

A pod that answers one request at a time bears as many a second as it ends while others wait for it; one whose answers
take no longer under a step of concurrent requests bears more than was asked of it, and the number is the least.

A service that is gone answers nobody. One that has too much to do goes on answering all the while, and nobody promptly:
that is what a request without a good answer is looked at for (``overload``). One that stands still and goes on again
answers nobody in between, and a way that hangs leaves others prompt. Pure.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from meshbook import tables
from meshbook.analysis.bounds import Flags, Floats, Places
from meshbook.analysis.intervals import CONFIDENCE
from meshbook.verdict import counted

_BATCHES = 8
"""Parts of a step whose rates are compared with each other: more than a machine that stands still once in it."""
_LEAST_GAPS = 9
"""Times between two answers of a pod, one after the other in a step: a part has about two at the least."""
_QUEUED = 1.5
"""Answers that take this many times as long as calm ones have waited for others."""
_PROMPT_TIMES, _PROMPT_FLOOR_S = 3.0, 0.06
"""An answer is prompt, and so nobody waits for a busy service, up to this many times as long as calm ones take."""
_MOST_PROMPT = 0.15
"""Share of the answers around a request that may be prompt where it is said to have waited for a busy service."""
_AROUND_S, _AROUND = 0.5, 4
"""Seconds before and after its sending in which others must have waited as well: at least, and until so many were
sent."""
_OWN = 4
"""Times as long before and after it, its own source must have got an answer."""
_TOLD_S = 1.0
"""Seconds until every proxy knows that a pod is ready again."""
_FEWEST = 2
"""Good answers by which it is known how long they took."""


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
    batches = min(_BATCHES, (len(gaps) + 1) // 2)
    means = np.array([batch.mean() for batch in np.array_split(gaps, batches)])
    mean = float(gaps.mean())
    from scipy.special import stdtrit  # slow to import, and not needed before this

    half = float(stdtrit(batches - 1, (1 + CONFIDENCE) / 2)) * float(means.std(ddof=1)) / math.sqrt(batches)
    least = 1 / (mean + half)
    return 1 / mean, least, 1 / (mean - half) if half < mean / 2 else 2 / mean


@dataclass(frozen=True, kw_only=True, eq=False)
class Overload:
    """Requests that went wrong because the service had too much to do, and how much it had."""

    explained: pd.Series[bool]
    """By row of the answers that were looked at: whether it went wrong for that reason."""
    offered_per_s: float
    """Requests sent per second, by all sources, around the middle one of them."""
    served_per_s: float
    """Good answers per second about then: what it bore, since it was busy."""

    def __str__(self) -> str:
        over = max(0.0, self.offered_per_s - self.served_per_s)
        return f"overloaded by {over:.2g}/s, capacity about {self.served_per_s:.2g}/s"


def overload(
    answers: pd.DataFrame,
    start: datetime,
    end: datetime,
    slow_after_s: float,
    unready: Sequence[tuple[datetime, datetime]] = (),
) -> Overload:
    """Return which requests sent from ``start`` to ``end`` failed, or were late, for the load on the service.

    ``answers`` are ANSWERS of all sources, from before ``start`` on: what each cluster's answers took then is calm.
    Those are explained around which others were answered all the while, and hardly anybody promptly: others by the same
    cluster, or by any where nobody answered. So are failed ones that were sent while nobody was ready (``unready``:
    from, until) if hardly anybody was answered promptly before.
    """
    index, answers = answers.index, tables.conform(answers, tables.ANSWERS)
    sent, ended = _times(answers)
    since, until = start.timestamp(), end.timestamp()
    measured = (~answers["error"].isin(tables.NOT_MEASURED)).to_numpy() & ~np.isnan(ended)
    good, inside = measured & (answers["error"] == "").to_numpy(), measured & (sent >= since) & (sent < until)
    wrong = inside & (~good | tables.late(answers, slow_after_s).to_numpy())
    explained, offered_per_s, served_per_s = np.zeros(len(answers), dtype=bool), 0.0, 0.0
    if wrong.any():
        took = pd.Series(ended - sent)
        calm_s = took.where(good & (ended < since)).groupby(answers["cluster"]).transform("median").to_numpy()
        waited = ended - sent > np.maximum(_PROMPT_FLOOR_S, _PROMPT_TIMES * calm_s)  # never where none is calm
        around_s = max(_AROUND_S, _AROUND * (until - since) / int(inside.sum()))
        sources, by = (answers[name].to_numpy(dtype=object) for name in ("source", "cluster"))
        for cluster in set(by[wrong]):
            asked, known = wrong & (by == cluster), good & (by == (cluster or by))
            busy = _Busy(sources[known], sent[known], ended[known], waited[known], around_s)
            explained[asked] = busy.explains(sources[asked], sent[asked], ended[asked])
            for lost, back in () if cluster else unready:
                since_s, until_s = np.array([lost.timestamp()]), back.timestamp() + _TOLD_S
                if busy.nobody_promptly(since_s - _OWN * around_s, since_s).all():
                    explained |= asked & (sent >= since_s) & (sent < until_s)
    if explained.any():
        then = sent[explained] - around_s, sent[explained] + around_s
        offered_per_s, served_per_s = (
            float(np.median(_between(np.sort(moments), *then))) / (2 * around_s)
            for moments in (sent[measured], ended[good])
        )
    return Overload(
        explained=pd.Series(explained, index=index, dtype=bool),
        offered_per_s=offered_per_s,
        served_per_s=served_per_s,
    )


def _times(answers: pd.DataFrame) -> tuple[Floats, Floats]:
    """Return when requests were sent and ended, in Unix times; NaN where that is not known."""
    sent = tables.unix_s(answers["time"])
    return sent, sent + answers["time_total_ms"].to_numpy(dtype="float64", na_value=math.nan) / 1000


class _Busy:
    """The good answers of a service, and whether they show it busy around requests that went wrong."""

    def __init__(self, sources: Any, sent: Floats, ended: Floats, waited: Flags, around_s: float) -> None:
        order = np.argsort(sent, kind="stable")
        self._sources, self._sent, self._ended = sources[order], sent[order], np.sort(ended)
        self._waited, self._around_s = self._sent[waited[order]], around_s

    def explains(self, sources: Any, sent: Floats, ended: Floats) -> Flags:
        """Return for each of these requests whether the load explains it."""
        since, until = sent - self._around_s, np.maximum(ended, sent + self._around_s)
        found: Flags = self.nobody_promptly(since, sent + self._around_s) & self._reaches(sources, sent)
        # others were answered all the while, with no break as long as half of it
        for half in ((since, (since + until) / 2), ((since + until) / 2, until)):
            found &= _between(self._ended, *half) > 0
        return found

    def nobody_promptly(self, since: Floats, until: Floats) -> Flags:
        """Tell whether good answers to what was sent then nearly all waited: all of them stand in the same queue."""
        waited, all_of_them = _between(self._waited, since, until), _between(self._sent, since, until)
        return (all_of_them >= _FEWEST) & (waited >= (1 - _MOST_PROMPT) * all_of_them)

    def _reaches(self, sources: Any, sent: Floats) -> Flags:
        """Tell whether its own source got answers about then: one whose way is cut gets none, however busy all are."""
        found = np.zeros(len(sent), dtype=bool)
        for source in set(sources):
            asked, own_s = sources == source, _OWN * self._around_s
            found[asked] = _between(self._sent[self._sources == source], sent[asked] - own_s, sent[asked] + own_s) > 0
        return found


def _between(moments: Floats, since: Floats, until: Floats) -> Places:
    """Return how many of ``moments``, which are in order, lie within each pair."""
    return np.searchsorted(moments, until) - np.searchsorted(moments, since)


def utilisation(
    answers: pd.DataFrame,
    parts: Mapping[str, tuple[datetime, datetime]],
    clusters: Collection[str],
    bears: float | None,
) -> pd.DataFrame:
    """Return LOAD without its trial: for each of ``parts`` (begin and end) how busy some ``clusters`` were."""
    answers, rows = tables.conform(answers, tables.ANSWERS), []
    sent, ended = _times(answers)
    good = ((answers["error"] == "") & answers["cluster"].isin(clusters)).to_numpy()
    for part, span in parts.items():
        since, until = (moment.timestamp() for moment in span)
        length = max(until - since, 0.001)
        theirs = good & (ended >= since) & (ended < until)
        took_ms = 1000 * (ended - sent)[theirs]
        served = float(theirs.sum()) / length
        median_ms, p90_ms = np.quantile(took_ms, [0.5, 0.9]).round(1).tolist() if len(took_ms) else (None, None)
        row = {"part": part, "offered_per_s": float(((sent >= since) & (sent < until)).sum()) / length}
        row |= {"served_per_s": served, "utilisation": served / bears if bears else None}
        rows.append(row | {"median_ms": median_ms, "p90_ms": p90_ms})
    return pd.DataFrame(rows).round({"offered_per_s": 2, "served_per_s": 2, "utilisation": 2})
