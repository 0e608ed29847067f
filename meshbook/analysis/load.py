"""Load told apart from outage: what a side of the service bears, as a short step of concurrent requests shows. Pure.

A pod that answers one request at a time bears as many a second as it ends while others wait for it; one whose answers
take no longer under the step bears more than was asked of it, and then the number is the least that it bears.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t as student

from meshbook import tables
from meshbook.analysis.intervals import CONFIDENCE

_BATCHES = 8
"""Parts of a step whose rates are compared with each other: more than a machine that stands still once in it."""
_LEAST_ANSWERS = 2 * _BATCHES
_QUEUED = 1.5
"""Answers that take this many times as long as calm ones have waited for others."""


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What some pods bear together, in requests per second: estimate and 95 % interval."""

    per_s: float
    low_per_s: float
    high_per_s: float
    """Infinite where the step was too small to find the most that they bear."""
    n: int
    """Answers of theirs during the step."""
    pods: int
    calm_ms: float
    """Median time of their answers to one request at a time."""
    busy_ms: float

    @property
    def is_least(self) -> bool:
        """Tell whether they bear more than was asked of them."""
        return math.isinf(self.high_per_s)

    def __str__(self) -> str:
        pods = f"{self.pods} pod{'s' if self.pods != 1 else ''}"
        times = f"n = {self.n}, {self.calm_ms:.0f} ms an answer when calm, {self.busy_ms:.0f} ms in the step"
        if self.is_least:
            return f"at least {self.low_per_s:.3g}/s ({pods}, {times})"
        return f"about {self.per_s:.3g}/s ({self.low_per_s:.3g} to {self.high_per_s:.3g}; {pods}, {times})"


def capacity(calm: pd.DataFrame, busy: pd.DataFrame, versions: Collection[str], pods: int) -> Capacity | None:
    """Return what ``pods`` ready pods of some ``versions`` bear; None where too few of their answers are known.

    ``calm`` and ``busy`` are ANSWERS: to one request at a time, and to a step of concurrent ones. Pods that answered
    nothing in the step are taken to be like the others.
    """
    calm_ms, answers = _usual_ms(calm, versions), _full_step(tables.measured(busy))
    theirs = answers[(answers["error"] == "") & answers["version"].isin(versions)]
    parts = [ends for _, ends in theirs.groupby("instance")["ended"] if len(ends) >= _LEAST_ANSWERS]
    if not parts or math.isnan(calm_ms):
        return None
    busy_ms, scale = _usual_ms(busy, versions), max(1.0, pods / len(parts))
    per_s, low_per_s, high_per_s = (scale * sum(ends) for ends in zip(*map(_rate, parts), strict=True))
    if busy_ms < _QUEUED * calm_ms:
        least = max(low_per_s, 1000 * pods / calm_ms)
        per_s, low_per_s, high_per_s = max(per_s, least), least, math.inf
    return Capacity(
        per_s=per_s,
        low_per_s=low_per_s,
        high_per_s=high_per_s,
        n=len(theirs),
        pods=pods,
        calm_ms=calm_ms,
        busy_ms=busy_ms,
    )


def _usual_ms(answers: pd.DataFrame, versions: Collection[str]) -> float:
    good = tables.good(answers)
    return float(good.loc[good["version"].isin(versions), "time_total_ms"].astype("float64").median())


def _full_step(answers: pd.DataFrame) -> pd.DataFrame:
    """Return what ended while at least half of the step's requests were on their way, with ``ended`` in Unix time."""
    known = answers.dropna(subset=["time", "time_total_ms"])
    sent = known["time"].astype("int64").to_numpy() / 1e6
    ended = sent + known["time_total_ms"].to_numpy(dtype="float64") / 1000
    moments = np.concatenate([sent, ended])
    order = np.argsort(moments, kind="stable")
    on_way = np.cumsum(np.repeat([1, -1], len(sent))[order])
    full = moments[order][on_way >= on_way.max(initial=0) / 2]
    inside = (ended >= full.min(initial=math.inf)) & (ended <= full.max(initial=-math.inf))
    found: pd.DataFrame = known.assign(ended=ended)[inside]
    return found


def _rate(ends: pd.Series[float]) -> tuple[float, float, float]:
    """Return how many of these moments there are in a second, and its interval by the means of batches."""
    gaps = np.diff(np.sort(ends.to_numpy(dtype="float64")))
    means = np.array([batch.mean() for batch in np.array_split(gaps, _BATCHES)])
    mean = float(gaps.mean())
    half = float(student.ppf((1 + CONFIDENCE) / 2, _BATCHES - 1)) * float(means.std(ddof=1)) / math.sqrt(_BATCHES)
    least = 1 / (mean + half)
    return 1 / mean, least, 1 / (mean - half) if half < mean / 2 else 2 / mean
