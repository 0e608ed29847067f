"""Who answers whom, by which way and when: a matrix whose cells are proven, refuted or left open. Pure.

A cell is one source and way, one cluster that should answer, and one part of the time. A matrix passes and fails
nothing: that a cluster which was taken down gives no answer is as it should be. Of the ways that no other claim is
about, the ingress gateways one by one, there is a claim here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from meshbook import tables
from meshbook.analysis.claims import ExpectedShares
from meshbook.analysis.evidence import explained, judged
from meshbook.analysis.intervals import MISS, at_most, to_see
from meshbook.verdict import FAIL, INCONCLUSIVE, PASS, Detail, Outcome, Verdict, worst

PROVEN, REFUTED, UNDECIDED = "proven", "refuted", "undecided"
NOT_TESTED, NONE_EXPECTED = "not tested", "none expected"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the time, from ``since`` up to ``until``; without them it has no such end."""

    name: str = "before"
    since: datetime | None = None
    until: datetime | None = None
    down: str = ""
    """Cluster that is meant to give no answers meanwhile."""

    def of(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of ANSWERS that were sent in it."""
        early = rows["time"] < self.since if self.since else False
        late = rows["time"] >= self.until if self.until else False
        return rows[~(pd.Series(early, index=rows.index) | late)]


def coverage(
    frame: pd.DataFrame,
    versions: Mapping[str, str],
    expected: Mapping[str, ExpectedShares] | None = None,
    parts: Sequence[Part] = (Part(),),
) -> pd.DataFrame:
    """Return COVERAGE of a frame of ANSWERS: a cell for each source and way, cluster of ``versions``, and part.

    One good answer proves a cell. None refutes it once so many requests were sent that the cluster's ``expected`` share
    (even, where none is known) would have shown it, but for a chance of 1 % over all cells together. A source that was
    expected to ask and has not has cells as well.
    """
    answers = tables.conform(frame, tables.ANSWERS)[["time", "source", "path", "cluster", "error"]]
    asked = list(dict.fromkeys(zip(answers["source"], answers["path"], strict=True)))
    asked += [(source, "") for source in expected or {} if source not in set(answers["source"])]
    miss = MISS / max(1, len(asked) * len(versions) * len(parts))
    known = tables.measured(answers)
    known = known[(known["error"] != "") | (known["cluster"] != "")]  # of the others nobody knows who answered
    cells = (cell for part in parts for cell in _cells(part, known, asked, versions, expected or {}, miss))
    return tables.from_rows(cells, tables.COVERAGE)


def _cells(
    part: Part,
    known: pd.DataFrame,
    asked: Sequence[tuple[str, str]],
    versions: Mapping[str, str],
    expected: Mapping[str, ExpectedShares],
    miss: float,
) -> Iterator[dict[str, object]]:
    rows = part.of(known)
    sent = rows.groupby(["source", "path"]).size()
    good = tables.good(rows).groupby(["source", "path", "cluster"]).size()
    for source, path in asked:
        wanted = expected.get(source)
        # others than before are to answer, where requests go to the nearest that can
        shares = {} if wanted is None or (part.down and wanted.fails_over) else wanted.shares
        for cluster, version in versions.items():
            n, k = int(sent.get((source, path), 0)), int(good.get((source, path, cluster), 0))
            share = 0.0 if cluster == part.down else shares.get(cluster, 0.0 if shares else 1 / len(versions))
            cell = {"source": source, "path": path, "part": part.name, "cluster": cluster, "version": version}
            yield {**cell, "n": n, "good": k, "state": _state(k, n, share, miss)}


def _state(k: int, n: int, share: float, miss: float) -> str:
    if k or not n:
        return PROVEN if k else NOT_TESTED
    if not share:
        return NONE_EXPECTED
    return REFUTED if n >= to_see(share, miss) else UNDECIDED


_MOST_FAILED = 0.5
"""Share of a gateway's requests above which it does not answer: what is lost behind it fails other claims."""
_NO_WAY_OUT = "http_502"
"""What a client's own sidecar answers where it may send nothing to an address that is no service's."""


def gateways_answer(frame: pd.DataFrame, clusters: Sequence[str]) -> Verdict:
    """Claim: every ingress gateway of ``clusters`` answers, asked one by one from a pod of its own cluster.

    Each is compared with one-sided exact bounds, 95 % each. A cluster without any running gateway fails the claim.
    """
    answers = judged(frame)
    answers = answers[tables.of_gateways(answers)]
    outcomes: dict[str, Outcome] = {}
    details: list[Detail] = []
    for source, path in dict.fromkeys(zip(answers["source"], answers["path"], strict=True)):
        rows = answers[(answers["source"] == source) & (answers["path"] == path)]
        outcome, said = _gateway(tables.measured(rows))
        outcomes[f"{source}, {path}: {said}"] = outcome
        details.append({"source": source, "way": path, "found": said, "verdict": outcome})
    for cluster in (one for one in clusters if one not in set(answers["source"])):
        outcomes[f"{cluster} has no ingress gateway that runs"] = FAIL
    found: Outcome = worst(outcomes.values())  # type: ignore[assignment]
    wrong = "; ".join(text for text, outcome in outcomes.items() if outcome == found)
    every = f"{len(details)} gateways, each of which answers."
    return Verdict(
        claim="every ingress gateway answers, asked one by one inside its own cluster",
        outcome=found,
        reason=every if found == PASS else f"{wrong}.{explained(answers)}",
        n=len(tables.measured(answers)),
        limit=f"at most {100 * _MOST_FAILED:g} % of a gateway's requests fail",
        details=tuple(details),
    )


def _gateway(rows: pd.DataFrame) -> tuple[Outcome, str]:
    """Return what the requests to one gateway show, and in words."""
    failed = int((rows["error"] != "").sum())
    said = f"{len(rows) - failed} of {len(rows)} requests got a good answer"
    if len(rows) and set(rows["error"]) == {_NO_WAY_OUT}:
        return INCONCLUSIVE, f"{said}; the client's own sidecar may let none out (outboundTrafficPolicy REGISTRY_ONLY)"
    return at_most(_MOST_FAILED)(failed, len(rows)) if len(rows) else INCONCLUSIVE, said
