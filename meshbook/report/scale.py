"""A claim's interval and its limit on one scale, and how much of the limit it uses up. Reads the claim's own texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from meshbook.verdict import PASS

_NUMBER = r"(-?\d+(?:\.\d+)?)"
_AT_MOST, _BETWEEN = re.compile(rf"at most {_NUMBER}"), re.compile(rf"{_NUMBER} to {_NUMBER}")


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Places between 0 and 100 on a line that begins at 0; ``limits`` has both ends of a range, or the one there is."""

    low: float
    high: float
    estimate: float | None
    limits: tuple[float, ...]


def limits_of(claim: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the numbers that the interval was compared with: one upper limit, two ends of a range, or none."""
    found = _BETWEEN.fullmatch(_bare(claim)) or _AT_MOST.fullmatch(_bare(claim))
    return tuple(map(float, found.groups())) if found else ()


def _bare(claim: Mapping[str, Any]) -> str:
    return str(claim["limit"]).removesuffix(str(claim["unit"])).strip()


def scale_of(claim: Mapping[str, Any]) -> Scale | None:
    """Return a claim's numbers as places on its line: to a bit beyond an only limit, else 0 to 100 for percent."""
    low, high, estimate, limits = claim["low"], claim["high"], claim["estimate"], limits_of(claim)
    if low is None or high is None or low < 0:
        return None
    whole = claim["unit"] == "%" and len(limits) != 1
    end = 100.0 if whole else 1.15 * max(high, *limits, 0.0) or 1.0

    def place(value: float) -> float:
        return min(100 * value / end, 100.0)

    middle = None if estimate is None else place(estimate)
    return Scale(low=place(low), high=place(high), estimate=middle, limits=tuple(map(place, limits)))


def used(claim: Mapping[str, Any]) -> float | None:
    """Return which part of what its limit allows a claim's interval takes, 1 at the limit; None without one."""
    limits = limits_of(claim)
    if claim["low"] is None or claim["high"] is None or not limits or limits[-1] <= 0:
        return None
    if len(limits) == 1:
        return float(claim["high"]) / limits[0]
    middle, half = sum(limits) / 2, (limits[1] - limits[0]) / 2
    return max(abs(claim["low"] - middle), abs(claim["high"] - middle)) / half if half else None


def worst_number(claims: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the claim whose interval comes nearest to its limit, or goes furthest beyond it.

    Of those that did not pass, where there are any: what passed explains nothing then.
    """
    claims = list(claims)
    claims = [claim for claim in claims if claim["outcome"] != PASS] or claims
    found = [(share, claim) for claim in claims if (share := used(claim)) is not None]
    return max(found, key=lambda one: one[0])[1] if found else None
