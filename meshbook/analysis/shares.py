"""From when on is a share of the answers as it was before? An equivalence test, pure.

Not "no difference was found" but "the difference is small": the 90 % interval (Newcombe's) of the difference of two
shares must lie within ± ``margin``. That is two one-sided tests at 5 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

_Z = NormalDist().inv_cdf(0.95)


@dataclass(frozen=True, kw_only=True)
class Share:
    """``k`` of ``n`` answers."""

    k: int
    n: int

    def interval(self) -> tuple[float, float]:
        """Return the Wilson interval, each end with 5 % beyond it."""
        if not self.n:
            return 0.0, 1.0
        share, spread = self.k / self.n, _Z * _Z / self.n
        middle, width = share + spread / 2, _Z * math.sqrt(share * (1 - share) / self.n + spread / (4 * self.n))
        return (middle - width) / (1 + spread), (middle + width) / (1 + spread)

    def __str__(self) -> str:
        return f"{self.k} of {self.n}"


def difference(before: Share, after: Share) -> tuple[float, float]:
    """Return the interval of (share after, less share before)."""
    if not before.n or not after.n:
        return -1.0, 1.0
    (low0, high0), (low1, high1) = before.interval(), after.interval()
    was, now = before.k / before.n, after.k / after.n
    low = now - was - math.hypot(now - low1, high0 - was)
    return low, now - was + math.hypot(high1 - now, was - low0)


def is_as_before(before: Share, after: Share, margin: float) -> bool:
    """Say whether the share is proved to be as before, up to ``margin``."""
    low, high = difference(before, after)
    return -margin < low and high < margin


def back_from(before: Share, hits: Sequence[bool], margin: float) -> tuple[int, Share] | None:
    """Return the first place from which on ``hits``, to their end, are as before, and their share; None for nowhere.

    Places are tried one after the other, so that the earliest is the claim with the most evidence behind it.
    """
    k = sum(hits)
    for place, hit in enumerate(hits):
        after = Share(k=k, n=len(hits) - place)
        if is_as_before(before, after, margin):
            return place, after
        k -= hit
    return None
