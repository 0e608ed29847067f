"""How far another clock is ahead of this machine's: questions and answers, and what each of them proves. Pure.

A question leaves here at ``asked``, the other side reads its clock as ``there``, the answer is here at ``heard``. So
the other clock showed ``there`` at some moment between the two; the exchange with the shortest way proves most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DRIFT = 1e-4
"""Seconds by which two clocks may drift apart in a second: twice what cheap quartz and a clock being set allow."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One question and its answer, in seconds; ``there`` was read off the other clock."""

    asked: float
    there: float
    heard: float

    @property
    def low(self) -> float:
        return self.there - self.heard

    @property
    def high(self) -> float:
        return self.there - self.asked


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Another clock is ``offset_s`` ahead of this machine's, wrong by at most ``bound_s``."""

    offset_s: float
    bound_s: float


def compare(exchanges: Sequence[Exchange]) -> Clock:
    """Return what ``exchanges`` (at least one) prove together, drift between them included.

    Each bounds the offset from both sides; what all of them allow is the answer. Where they
    contradict each other by more than drift explains, a clock was set meanwhile, and the bound covers both.
    """
    best = min(exchanges, key=lambda each: each.high - each.low)
    drift = [DRIFT * abs(each.asked - best.asked) for each in exchanges]
    low = max(each.low - slack for each, slack in zip(exchanges, drift, strict=True))
    high = min(each.high + slack for each, slack in zip(exchanges, drift, strict=True))
    return Clock(offset_s=(low + high) / 2, bound_s=abs(high - low) / 2 + max(drift))
