"""Claims about who answers, compared with what a mesh is configured to do: each source has shares of its own.

Where the expected shares come from is not known here: they come with their reason, from ``mesh`` or from the user. What
holds without any expectation is in ``claims``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from meshbook import tables
from meshbook.analysis.claims import answers_from_both, split_within
from meshbook.verdict import FAIL, INCONCLUSIVE, PASS, WORST_FIRST, Detail, Outcome, Verdict, worst

_MISS = 0.01
"""Accepted chance of not seeing a version that gets its expected share."""


@dataclass(frozen=True, kw_only=True)
class ExpectedShares:
    """What share of one source's good answers each version should give, and why; no share where that is not known."""

    shares: Mapping[str, float]
    why: str

    @property
    def versions(self) -> list[str]:
        """Return the versions that should answer at all."""
        return [version for version, share in self.shares.items() if share > 0]


def split_as_expected(
    frame: pd.DataFrame, version: str, expected: Mapping[str, ExpectedShares], tolerance: float = 0.1
) -> Verdict:
    """Claim: each source gets its expected share of good answers, give or take ``tolerance``, from ``version``.

    Judged source by source as ``split_within``. A source whose share is not known leaves the claim open, and says why.
    """
    answers = tables.conform(frame, tables.ANSWERS)
    verdicts: list[Verdict] = []
    for source in sorted({*expected, *answers["source"].unique()}):
        wanted = expected.get(source, ExpectedShares(shares={}, why=f"no share of {source}'s is known"))
        share = wanted.shares.get(version, 0.0 if wanted.shares else 0.5)
        found = split_within(answers[answers["source"] == source], version, share, tolerance)
        if not wanted.shares:
            found = replace(found, outcome=INCONCLUSIVE, reason=f"{source}: {wanted.why}.", limit="")
        else:
            found = replace(found, reason=f"{found.reason} Expected {100 * share:.3g} %: {wanted.why}.")
        told: Detail = {"expected %": round(100 * share, 1) if wanted.shares else None, "because": wanted.why}
        verdicts.append(replace(found, details=tuple({**row, **told} for row in found.details)))
    first = min(verdicts, key=lambda verdict: WORST_FIRST.index(verdict.outcome))
    claims = {verdict.claim for verdict in verdicts}
    claim = f"each source gets its expected share ± {100 * tolerance:g} points of its answers from {version}"
    return replace(
        first,
        claim=claims.pop() if len(claims) == 1 else claim,
        n=sum(verdict.n for verdict in verdicts),
        details=tuple(row for verdict in verdicts for row in verdict.details),
    )


def answers_as_expected(
    frame: pd.DataFrame, versions: Sequence[str], expected: Mapping[str, ExpectedShares]
) -> Verdict:
    """Claim: every source gets answers from every one of ``versions``, or from those alone that it is configured for.

    Where a source is meant to get none from one of them (locality failover, a weight of 0), an answer of that one fails
    the claim. A missing one of the others does once enough requests were sent that its share would have shown it.
    """
    even = 0.999 / len(versions)
    if not any(wanted.shares and min(wanted.shares.values()) < even for wanted in expected.values()):
        return answers_from_both(frame, versions, sources=sorted(expected))
    answers = tables.conform(frame, tables.ANSWERS)
    parts = [(*_of_source(answers, source, wanted), source, wanted) for source, wanted in sorted(expected.items())]
    outcome: Outcome = worst(part[0] for part in parts)  # type: ignore[assignment]
    said = " ".join(text for found, text, *_ in parts if found == outcome)
    why = "; ".join(dict.fromkeys(wanted.why for *_, wanted in parts))
    claim, later = f"every source gets answers from {' and '.join(versions)}", ""
    if any(len(wanted.versions) < len(versions) for *_, wanted in parts):
        meant = "; ".join(f"{source}: {' and '.join(wanted.versions) or 'none'}" for _, _, source, wanted in parts)
        claim = f"every source gets its answers from where the mesh is configured to send it ({meant})"
        later = " That the other side takes over is shown in stage 3."
    return Verdict(
        claim=claim,
        outcome=outcome,
        reason=f"{said} As configured: {why}.{later}",
        n=len(tables.good(answers)),
    )


def _of_source(answers: pd.DataFrame, source: str, wanted: ExpectedShares) -> tuple[Outcome, str]:
    rows = tables.measured(answers[answers["source"] == source])
    counts = tables.good(rows)["version"].value_counts()
    others = [f"{count} from {version}" for version, count in counts.items() if version not in wanted.versions]
    if not wanted.shares:
        return INCONCLUSIVE, f"{source}: {wanted.why}."
    if others:
        return FAIL, f"{source} got {', '.join(others)}, which it is not configured for."
    missing = [version for version in wanted.versions if not counts.get(version, 0)]
    if missing:
        least = min(wanted.shares[version] for version in missing)
        enough = math.ceil(math.log(_MISS) / math.log(1 - least)) if least < 1 else 1
        outcome: Outcome = FAIL if len(rows) >= enough else INCONCLUSIVE
        return outcome, f"{source} got nothing from {' and '.join(missing)} in {len(rows)} requests."
    return PASS, f"{source} got {', '.join(f'{count} from {version}' for version, count in counts.items())}."
