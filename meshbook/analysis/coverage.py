"""Who answers whom, by which way and when: a matrix whose cells are proven, refuted or left open. Pure.

A cell is one source and way, one cluster that should answer, and one part of the time. Whether a matrix is good news is
for the claims to say: that a cluster which was taken down gives no answer is as it should be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from meshbook import tables
from meshbook.analysis.expected import MISS, ExpectedShares, to_see

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
    asked = sorted(set(zip(answers["source"], answers["path"], strict=True)))
    asked += [(source, "") for source in sorted(set(expected or {}) - set(answers["source"]))]
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
        shares = expected[source].shares if source in expected else {}
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
