"""How answers are shared, compared with what a mesh is configured to do: a test that is fixed before anything is sent.

Each source has expected shares of its own. A first look takes so many requests that most meshes are decided; where it
leaves one open, as many again are sent, and there is no third. That a cluster answers at all is claimed in ``claims``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from meshbook import tables
from meshbook.analysis.claims import ExpectedShares, Share, all_answered, not_looked_up, shares_of
from meshbook.analysis.evidence import explained, judged, no_evidence
from meshbook.analysis.intervals import (
    LOOKS,
    MISS,
    WRONG,
    between,
    chance,
    fewest,
    fewest_to_pass,
    share_interval,
    to_decide,
    to_see,
)
from meshbook.errors import UsageError
from meshbook.verdict import FAIL, INCONCLUSIVE, PASS, WORST_FIRST, Verdict

_PASSES, _FAILS = 0.9985, 0.95
"""Chances with which the last look passes a mesh as configured, and fails one that is off by twice the tolerance.

Three stages of a run compare shares, and all of them together are to pass 995 times in 1000."""
_ROUNDING = 1e-9
_MOST = 1000
"""Requests of each source for one look that nobody has asked for: some minute of a pod of the sample."""


@dataclass(frozen=True, kw_only=True)
class SplitTest:
    """How the share of ``cluster`` is compared with what is expected of each source, and after how many requests."""

    expected: Mapping[str, ExpectedShares]
    cluster: str
    tolerance: float
    max_failed_share: float
    looks: tuple[int, ...]
    """By how many requests of each source it is looked at; no more are sent once a look has decided."""
    enough: int
    """As many as decide; see ``split_test``."""

    def until_decided(self, ask: Callable[..., pd.DataFrame], answers: pd.DataFrame) -> pd.DataFrame:
        """Return ``answers`` with those that ``ask(requests=…)`` gives to more of each source, look by look.

        None are asked for once too many of one source's have failed: it is decided, and requests that hang take time.
        """
        for look in self.looks:
            if any(all_answered(own, self.max_failed_share).outcome == FAIL for _, own in answers.groupby("source")):
                break
            sent = int(answers["source"].value_counts().min()) if len(answers) else 0
            if sent < look:
                answers = tables.joined(answers, ask(requests=look - sent))
            if split_as_expected(answers, self).outcome != INCONCLUSIVE:
                break
        return answers

    def __str__(self) -> str:
        first, *more = self.looks
        again = ", and as many again where they leave it open" if more else ""
        shares = [wanted.share_of(self.cluster) for wanted in self.expected.values()]
        wrong = 100 * len(self.looks) * WRONG
        just = f"off by just {100 * self.tolerance:.3g} at most {wrong:g} pass"
        told = ", ".join([*_told(shares, self.tolerance, self.looks[-1]), just])
        few = "" if self.looks[-1] >= self.enough else f" {self.enough} requests decide."
        return f"{first} requests of each source{again}: {told}.{few}"


def split_test(
    expected: Mapping[str, ExpectedShares],
    cluster: str,
    tolerance: float,
    *,
    max_failed_share: float = 0.1,
    requests: int = 0,
) -> SplitTest:
    """Return the test of ``split_as_expected``, with as many requests as decide, or one look at ``requests``.

    As many as pass a mesh as configured 998 times in 1000, over all sources; as fail one that is off by twice the
    tolerance 95 times in 100; as show every cluster that should answer, and pass ``all_answered`` in spite of a
    failure. A share that is off by just the tolerance passes once in 40 times at most, over both looks. Picks are taken
    as independent, which is the worst case: a balancer that takes turns scatters less.
    """
    if not 0 < tolerance < 1:
        raise UsageError(f"a tolerance of {tolerance} cannot be judged", hint="above 0 and below 1, as 0.25")
    shares = [wanted.share_of(cluster) for wanted in expected.values()]
    due = [share for wanted in expected.values() for share in wanted.shares.values() if share] or [0.5]
    seen = to_see(min(due), MISS / len(due))
    least = max(math.ceil(fewest_to_pass(max_failed_share, wrong=1) / len(shares)), seen)

    def decide(n: int) -> bool:
        passes, fails = _power(shares, tolerance, LOOKS * n)
        return passes >= _PASSES and (fails >= _FAILS or never_fails)

    never_fails = _power(shares, tolerance, LOOKS * _MOST)[1] < _FAILS
    first = fewest(decide, least, _MOST) or _MOST
    looks = (requests,) if requests else tuple(first * look for look in range(1, LOOKS + 1))
    return SplitTest(
        expected=expected,
        cluster=cluster,
        tolerance=tolerance,
        max_failed_share=max_failed_share,
        looks=looks,
        enough=LOOKS * first,
    )


def _power(shares: Collection[float], tolerance: float, n: int) -> tuple[float, float]:
    """Return the chances that a mesh as configured passes, and that one fails of which one source is off by twice."""
    passes, fails = 1.0, 1.0
    for share in shares:
        decide = between(share - tolerance, share + tolerance)
        passes *= chance(PASS, decide, share, n)
        fails = min([fails, *(chance(FAIL, decide, off, n) for off in _off(share, 2 * tolerance))])
    return passes, fails


def _told(shares: Sequence[float], tolerance: float, n: int) -> list[str]:
    """Return in words what ``n`` requests of each source tell: of meshes as configured, and of those that are off."""
    passes, fails = (math.floor(1000 * chance + _ROUNDING) / 10 for chance in _power(shares, tolerance, n))
    off = min(2 * tolerance, max(max(share, 1 - share) for share in shares))
    passing = f"of 100 meshes as configured {passes:g} pass"
    return [passing, f"of 100 with a source that is off by {100 * off:.3g} points {fails:g} fail"]


def _off(share: float, by: float) -> Iterator[float]:
    """Yield the shares that are off by that much, or the one that is most of all where none can be."""
    found = [off for off in (share - by, share + by) if -_ROUNDING <= off <= 1 + _ROUNDING]
    for off in found or [0.0 if share > 0.5 else 1.0]:
        yield min(max(off, 0.0), 1.0)


def split_as_expected(frame: pd.DataFrame, test: SplitTest) -> Verdict:
    """Claim: each source gets its expected share of good answers, give or take the tolerance, from the test's cluster.

    Judged as equivalence: pass when each source's interval lies inside, fail when one lies outside. Sources are judged
    one by one, since two that each see their own side alone add up to a perfect half. One whose share is not known
    leaves the claim open, and says why.
    """
    answers = judged(frame)
    verdicts = [
        _of_source(answers[answers["source"] == source], source, test)
        for source in dict.fromkeys([*test.expected, *answers["source"].unique()])
    ]
    claims = {verdict.claim for verdict in verdicts}
    each = f"each source gets its expected share ± {100 * test.tolerance:g} points of its answers from {test.cluster}"
    return replace(
        min(verdicts, key=lambda verdict: (WORST_FIRST.index(verdict.outcome), -farthest_off(verdict))),
        claim=claims.pop() if len(claims) == 1 else each,
        n=sum(verdict.n for verdict in verdicts),
        details=tuple(row for verdict in verdicts for row in verdict.details),
    )


def farthest_off(verdict: Verdict) -> float:
    """Return how many points off the share of a source may be at the most, by a verdict of ``split_as_expected``."""
    found = [[float(row[name] or 0) for name in ("low %", "high %")] for row in verdict.details]
    wanted = [row["expected %"] for row in verdict.details]
    return max(
        math.inf if share is None else max(float(share) - low, high - float(share))
        for share, (low, high) in zip(wanted, found, strict=True)
    )


def _of_source(rows: pd.DataFrame, source: str, test: SplitTest) -> Verdict:
    wanted = test.expected.get(source, ExpectedShares(shares={}, why=f"no share of {source}'s is known"))
    share, tolerance = wanted.share_of(test.cluster), test.tolerance
    claim = f"each source gets {100 * share:.3g} % ± {100 * tolerance:g} points of its answers from {test.cluster}"
    (found,) = shares_of(rows, [source], [test.cluster])
    expected = {"expected %": round(100 * share, 1) if wanted.shares else None, "because": wanted.why}
    details = ({**found.row, **expected},)
    if verdict := no_evidence(rows, rows, claim, [source], details) or not_looked_up(rows, claim, details):
        return verdict
    if not wanted.shares:
        reason = f"{source}: {wanted.why}."
        return Verdict(claim=claim, outcome=INCONCLUSIVE, reason=reason, n=found.n, details=details)
    verdict = Verdict(
        claim=claim,
        outcome=between(share - tolerance, share + tolerance)(found.k, found.n),
        reason=f"{_where_it_lies(found, share, test)}{explained(rows)} Expected {100 * share:.3g} %: {wanted.why}.",
        limit=f"{100 * (share - tolerance):.3g} to {100 * (share + tolerance):.3g} %",
        details=details,
    )
    return found.measured_in(verdict, found.n)


def _where_it_lies(found: Share, share: float, test: SplitTest) -> str:
    """Return where the interval lies, which look that was, and where that is open, what would decide it."""
    if not found.n:
        return f"{found.source} got no good answer from {found.sent} requests."
    low, high = share - test.tolerance, share + test.tolerance
    decide, look = between(low, high), sum(found.sent >= one for one in test.looks)
    at = f" Look {look} of {len(test.looks)}." if look else ""
    where = f"{found.source} got {found.k} of {found.n} from {found.cluster}: the interval lies"
    outcome = decide(found.k, found.n)
    if outcome == FAIL:
        return f"{where} outside the limits.{at}"
    if outcome == PASS:
        few = _power([share], test.tolerance, found.n)[1] < _FAILS
        told = f" So few requests: {_told([share], test.tolerance, found.n)[1]}." if few else ""
        return f"{where} inside the limits.{at}{told}"
    if found.sent < test.enough:
        return f"{where} across a limit; {test.enough} requests decide, {found.sent} were sent.{at}"
    limit = 100 * (low if share_interval(found.k, found.n)[0] < low else high)
    where = f"{where} across the limit of {limit:.3g} %, which `tolerance` sets.{at}"
    sure = "So near to it neither pass nor fail is sure: a narrower or a wider `tolerance` decides"
    return f"{where} {sure}; {to_decide(found.k, found.n, decide)}."
