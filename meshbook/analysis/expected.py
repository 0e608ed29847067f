"""Claims about who answers, compared with what a mesh is configured to do: each source has shares of its own.

Where the expected shares come from is not known here: they come with their reason, from ``mesh`` or from the user. How
many requests decide about them is reckoned before any is sent. What holds without any expectation is in ``claims``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from meshbook import tables
from meshbook.analysis.claims import (
    all_answered,
    answers_from_every_cluster,
    directions,
    not_expected,
    split_within,
)
from meshbook.analysis.intervals import between, chance, fewest
from meshbook.analysis.load import fewest_to_pass
from meshbook.verdict import FAIL, INCONCLUSIVE, PASS, WORST_FIRST, Detail, Outcome, Verdict, worst

MISS = 0.01
"""Accepted chance of not seeing a cluster that gets its expected share."""
_PASSES, _FAILS = 0.98, 0.95
"""Chances with which enough requests pass a mesh as configured, and fail one that is off by twice the tolerance.

Two stages of a run compare shares, and both of them together are to pass 95 times in 100."""
_ROUNDING = 1e-9
_MOST = 2000
"""Requests of each source that are sent without having been asked for: some two minutes of a pod of the sample."""


@dataclass(frozen=True, kw_only=True)
class ExpectedShares:
    """What share of one source's good answers each cluster should give, and why; no share where that is not known."""

    shares: Mapping[str, float]
    why: str
    fails_over: bool = False
    """Whether clusters that get no share take over once those with one cannot answer (locality failover)."""

    @property
    def clusters(self) -> list[str]:
        """Return the clusters that should answer at all."""
        return [cluster for cluster, share in self.shares.items() if share > 0]

    def share_of(self, cluster: str) -> float:
        """Return the share of ``cluster``; half of the answers where nothing is known."""
        return self.shares.get(cluster, 0.0 if self.shares else 0.5)


@dataclass(frozen=True, kw_only=True)
class SampleSize:
    """How many requests each source sends to decide about shares and failures, and what so many can tell."""

    requests: int
    """Of each source, in all."""
    enough: int
    """As many as decide; see ``sample_size``."""
    max_failed_share: float
    told: str
    """What so many can tell."""

    def rest(self, answers: pd.DataFrame) -> int:
        """Return how many more each source is to send after ``answers``.

        None where too many of one source's failed already: it is decided, and requests that hang take their time.
        """
        if any(all_answered(mine, self.max_failed_share).outcome == FAIL for _, mine in answers.groupby("source")):
            return 0
        return max(0, self.requests - int(answers["source"].value_counts().min() if len(answers) else 0))

    def not_sent(self, answers: pd.DataFrame, source: str) -> str:
        """Return which of the requests that decide ``source`` has not sent, and why; "" where it has sent enough."""
        sent = int((answers["source"] == source).sum())
        if sent >= self.enough:
            return ""
        why = "" if sent >= self.requests else ", since too many of them failed"
        return f"{self.enough} requests decide, {sent} were sent{why}"

    def __str__(self) -> str:
        more = "" if self.requests >= self.enough else f" {self.enough} requests decide both."
        return f"{self.requests} requests of each source: {self.told}.{more}"


def sample_size(
    expected: Mapping[str, ExpectedShares],
    cluster: str,
    tolerance: float,
    *,
    max_failed_share: float,
    requests: int = 0,
) -> SampleSize:
    """Return how many requests each source should send for ``split_as_expected`` and ``all_answered``.

    ``requests`` 0: as many as pass a mesh as configured 98 times in 100, over all sources, in spite of a failure;
    as fail one that is off by twice the tolerance 95 times in 100; and as show every cluster that should answer.
    Picks are taken as independent, which is the worst case: a balancer that takes turns scatters less.
    """
    shares = [wanted.share_of(cluster) for wanted in expected.values()]
    smallest = min((share for wanted in expected.values() for share in wanted.shares.values() if share), default=0.5)
    least = max(math.ceil(fewest_to_pass(max_failed_share, wrong=1) / len(shares)), to_see(smallest))

    def decide(n: int) -> bool:
        passes, fails = _power(shares, tolerance, n)
        return passes >= _PASSES and (fails >= _FAILS or never_fails)

    never_fails = _power(shares, tolerance, _MOST)[1] < _FAILS
    enough = fewest(decide, least, _MOST) or _MOST
    told = " and ".join(_told(shares, tolerance, requests or enough))
    return SampleSize(requests=requests or enough, enough=enough, max_failed_share=max_failed_share, told=told)


def to_see(share: float, miss: float = MISS) -> int:
    """Return how many requests show a cluster that gets ``share`` of them, but for a chance of ``miss``."""
    return math.ceil(math.log(miss) / math.log(1 - share)) if share < 1 else 1


def _power(shares: Collection[float], tolerance: float, n: int) -> tuple[float, float]:
    """Return the chances that a mesh as configured passes, and that one fails of which one source is off by twice."""
    passes, fails = 1.0, 1.0
    for share in shares:
        decide = between(share - tolerance, share + tolerance)
        passes *= chance(PASS, decide, share, n)
        fails = min([fails, *(chance(FAIL, decide, off, n) for off in _off(share, 2 * tolerance))])
    return passes, fails


def _told(shares: Sequence[float], tolerance: float, n: int) -> list[str]:
    """Return in words what ``n`` requests of each source can tell: of a mesh as configured, and of one that is off."""
    passes, fails = (math.floor(100 * chance + _ROUNDING) for chance in _power(shares, tolerance, n))
    off = min(2 * tolerance, max(max(share, 1 - share) for share in shares))
    passing = f"a mesh as configured passes in {passes} of 100 runs"
    return [passing, f"one of which a source is off by {100 * off:.3g} points fails in {fails} of 100"]


def _off(share: float, by: float) -> Iterator[float]:
    """Yield the shares that are off by that much, or the one that is most of all where none can be."""
    found = [off for off in (share - by, share + by) if -_ROUNDING <= off <= 1 + _ROUNDING]
    for off in found or [0.0 if share > 0.5 else 1.0]:
        yield min(max(off, 0.0), 1.0)


def split_as_expected(
    frame: pd.DataFrame,
    cluster: str,
    expected: Mapping[str, ExpectedShares],
    tolerance: float = 0.1,
    *,
    sample: SampleSize | None = None,
) -> Verdict:
    """Claim: each source gets its expected share of good answers, give or take ``tolerance``, from ``cluster``.

    Judged source by source as ``split_within``. A source whose share is not known leaves the claim open, and says why.
    One that has not sent as many requests as decide (``sample``) says how many those are.
    """
    answers = tables.conform(frame, tables.ANSWERS)
    verdicts: list[Verdict] = []
    for source in dict.fromkeys([*expected, *answers["source"].unique()]):
        wanted = expected.get(source, ExpectedShares(shares={}, why=f"no share of {source}'s is known"))
        share = wanted.share_of(cluster)
        decides = sample.not_sent(answers, source) if sample else ""
        found = split_within(answers[answers["source"] == source], cluster, share, tolerance, decides=decides)
        if not wanted.shares:
            found = replace(found, outcome=INCONCLUSIVE, reason=f"{source}: {wanted.why}.", limit="")
        else:
            few = "" if decides and found.outcome == INCONCLUSIVE else _what_few_tell(found, share, tolerance)
            found = replace(found, reason=f"{found.reason} Expected {100 * share:.3g} %: {wanted.why}.{few}")
        told: Detail = {"expected %": round(100 * share, 1) if wanted.shares else None, "because": wanted.why}
        verdicts.append(replace(found, details=tuple({**row, **told} for row in found.details)))
    first = min(verdicts, key=lambda verdict: WORST_FIRST.index(verdict.outcome))
    claims = {verdict.claim for verdict in verdicts}
    claim = f"each source gets its expected share ± {100 * tolerance:g} points of its answers from {cluster}"
    return replace(
        first,
        claim=claims.pop() if len(claims) == 1 else claim,
        n=sum(verdict.n for verdict in verdicts),
        details=tuple(row for verdict in verdicts for row in verdict.details),
    )


def _what_few_tell(found: Verdict, share: float, tolerance: float) -> str:
    """Return what a source's requests could not have told, where they were too few."""
    chances = _power([share], tolerance, found.n)
    which = 0 if found.outcome == INCONCLUSIVE else 1
    if not found.n or found.outcome == FAIL or chances[which] >= _FAILS:
        return ""
    return f" So few requests: {_told([share], tolerance, found.n)[which]}."


def answers_as_expected(
    frame: pd.DataFrame, versions: Mapping[str, str], expected: Mapping[str, ExpectedShares]
) -> Verdict:
    """Claim: every source is answered by pods of every cluster, or by those alone that it is configured for.

    ``versions`` names the version that each cluster has; an answer of another one, or of a pod that no cluster knows,
    fails the claim. So does one of a cluster that a source is meant to get none from (locality failover, a weight of
    0). A cluster that is missing does once enough requests were sent that its share would have shown it.
    """
    even = 0.999 / len(versions)
    if not any(wanted.shares and min(wanted.shares.values()) < even for wanted in expected.values()):
        return answers_from_every_cluster(frame, versions, sources=list(expected))
    answers = tables.conform(frame, tables.ANSWERS)
    parts = [(*_of_source(answers, source, wanted), source, wanted) for source, wanted in expected.items()]
    strangers = not_expected(answers, versions)
    outcome: Outcome = FAIL if strangers else worst(part[0] for part in parts)  # type: ignore[assignment]
    said = " ".join(text for found, text, *_ in parts if found == outcome or strangers) + strangers
    said = said if outcome == PASS else f"{directions(answers, list(versions))} {said}"
    why = "; ".join(dict.fromkeys(wanted.why for *_, wanted in parts))
    who, later = " and ".join(f"{cluster} ({version})" for cluster, version in versions.items()), ""
    claim = f"every source is answered by pods of {who}"
    if any(len(wanted.clusters) < len(versions) for *_, wanted in parts):
        meant = "; ".join(f"{source}: {' and '.join(wanted.clusters) or 'none'}" for _, _, source, wanted in parts)
        claim = f"every source gets its answers from where the mesh is configured to send it ({meant})"
    if any(wanted.fails_over for *_, wanted in parts):
        later = " That the other side takes over is for the outage of stage 3 to show."
    return Verdict(
        claim=claim,
        outcome=outcome,
        reason=f"{said} As configured: {why}.{later}",
        n=len(tables.good(answers)),
    )


def _of_source(answers: pd.DataFrame, source: str, wanted: ExpectedShares) -> tuple[Outcome, str]:
    rows = tables.measured(answers[answers["source"] == source])
    counts = tables.good(rows)["cluster"].value_counts()
    others = [f"{count} from {cluster}" for cluster, count in counts.items() if cluster not in wanted.clusters]
    if not wanted.shares:
        return INCONCLUSIVE, f"{source}: {wanted.why}."
    if counts.get("", 0):
        return INCONCLUSIVE, f"Which cluster's pods answered {source} was not looked up."
    if others:
        return FAIL, f"{source} got {', '.join(others)}, which it is not configured for."
    missing = [cluster for cluster in wanted.clusters if not counts.get(cluster, 0)]
    if missing:
        enough = to_see(min(wanted.shares[cluster] for cluster in missing))
        outcome: Outcome = FAIL if len(rows) >= enough else INCONCLUSIVE
        return outcome, f"{source} got nothing from {' and '.join(missing)} in {len(rows)} requests."
    return PASS, f"{source} got {', '.join(f'{count} from {cluster}' for cluster, count in counts.items())}."
