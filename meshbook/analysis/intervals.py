"""How far a count can be trusted: intervals of a share, decisions, and how many requests decide.

All of them take requests as independent. Round robin is not: it alternates, so its counts scatter less than assumed
here, and a verdict errs towards ``inconclusive``, never towards ``pass``.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from meshbook.errors import UsageError
from meshbook.verdict import PASS, Outcome

CONFIDENCE = 0.95
LOOKS = 2
"""As often as a share is looked at, at the most: once more where the first look leaves it open."""
WRONG = (1 - CONFIDENCE) / 2 / LOOKS
"""Chance, at most, with which a bound of a share is wrong at one look: over all of them it is so once in 40 times."""
MISS = 0.01
"""Accepted chance of not seeing a cluster that gets its expected share."""
SURE = 0.9
"""Chance with which as many requests decide as are said to do so."""
_MOST_REQUESTS = 100_000
_LASTING = 8
_ROUNDING = 1e-9
"""A bound may be off by so much: one of one is bounded by 5 %, and not by more."""

Decide = Callable[[int, int], Outcome]
"""From k of n to an outcome."""


@lru_cache(maxsize=10_000)
def share_bounds(k: int, n: int, wrong: float = 1 - CONFIDENCE) -> tuple[float, float]:
    """Return the exact (Clopper-Pearson) lower and upper bound of a share, each of them ``wrong`` that often at most.

    One-sided: 0 of n bounds it by 3/n.
    """
    from scipy.special import betaincinv  # slow to import, and not needed before a verdict

    low = betaincinv(k, n - k + 1, wrong) if k else 0.0
    high = betaincinv(k + 1, n - k, 1 - wrong) if k < n else 1.0
    return float(low), float(high)


def share_interval(k: int, n: int) -> tuple[float, float]:
    """Return the exact interval of a share: both bounds, each of them ``WRONG`` that often at most."""
    return share_bounds(k, n, WRONG)


def to_see(share: float, miss: float = MISS) -> int:
    """Return how many requests show a cluster that gets ``share`` of them, but for a chance of ``miss``."""
    return math.ceil(math.log(miss) / math.log(1 - share)) if share < 1 else 1


@lru_cache
def at_most(limit: float) -> Decide:
    """Return the decision whether a share is at most ``limit``, by one-sided exact bounds; UsageError if it is none."""
    if not 0 < limit < 1:
        raise UsageError(f"a share of {limit} cannot be judged", hint="above 0 and below 1, as 0.05")

    def decide(k: int, n: int) -> Outcome:
        low, high = share_bounds(k, n)
        return "pass" if high <= limit else "fail" if low > limit + _ROUNDING else "inconclusive"

    return decide


@lru_cache
def between(lowest: float, highest: float) -> Decide:
    """Return the decision whether a share lies between two limits, as an equivalence test does."""

    def decide(k: int, n: int) -> Outcome:
        low, high = share_interval(k, n)
        if lowest - _ROUNDING <= low and high <= highest + _ROUNDING:
            return "pass"
        return "fail" if high < lowest or low > highest else "inconclusive"

    return decide


def chance(wanted: Outcome, decide: Decide, share: float, n: int) -> float:
    """Return the chance that ``n`` requests, each a hit with chance ``share``, decide for ``wanted``."""
    from scipy.special import bdtr  # slow to import, and not needed before a question of numbers

    reach = 5 * math.sqrt(n * share * (1 - share)) + 1
    low, high = max(0, math.floor(n * share - reach)), min(n, math.ceil(n * share + reach))
    below = np.concatenate([[bdtr(low - 1, n, share) if low else 0.0], bdtr(np.arange(low, high + 1), n, share)])
    return float(sum(p for k, p in enumerate(np.diff(below), low) if decide(k, n) == wanted))


def fewest(enough: Callable[[int], bool], least: int = 1, most: int = _MOST_REQUESTS) -> int | None:
    """Return the fewest requests, from ``least`` to ``most``, from which on they are ``enough``; None for none.

    Counts are whole numbers, so that one request more may be less good than none: a few more must be enough as well.
    """

    def lasting(n: int) -> bool:
        return all(enough(n + more) for more in range(_LASTING))

    upper = least
    while not lasting(upper):
        if upper >= most:
            return None
        least, upper = upper + 1, min(2 * upper, most)
    return least + bisect_left(range(least, upper), True, key=lasting)


def fewest_to_pass(limit: float, wrong: int = 0) -> int:
    """Return how many requests prove, when ``wrong`` of them go wrong, that at most ``limit`` of all do."""
    return fewest(lambda n: at_most(limit)(wrong, n) == PASS, wrong + 1) or _MOST_REQUESTS


@lru_cache
def to_decide(k: int, n: int, decide: Decide) -> str:
    """Return in words how many requests would surely decide if the share stayed as it is, to two digits."""
    share = k / n if n else 0.0
    wanted = decide(round(share * _MOST_REQUESTS), _MOST_REQUESTS)
    size = fewest(lambda size: chance(wanted, decide, share, size) >= SURE, max(n, 5))
    if size is None or wanted == "inconclusive":
        return "the value is so near the limit that no reasonable number of requests would decide"
    unit = 10 ** max(0, int(math.log10(size)) - 1)
    return f"about {math.ceil(size / unit) * unit} requests would decide, nine times in ten"


def percent(share: float, n: int) -> float:
    """Return ``share`` in percent, no finer than ``n`` requests can tell."""
    return round(100 * share, 1 if n >= 1000 else 0)


def percent_range(ends: tuple[float, float], n: int) -> tuple[float, float]:
    """Return an interval in percent, rounded outwards to what ``n`` requests can tell."""
    step = 10 if n >= 1000 else 1
    low, high = ends
    return math.floor(100 * step * low + 1e-9) / step, math.ceil(100 * step * high - 1e-9) / step
