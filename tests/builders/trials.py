"""Trials as they come out of half a minute of requests, of which some second or two may have failed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from meshbook import tables
from meshbook.analysis import Change, ChangeRequest, ExpectedShares, TrialRecord, phases, split_test
from meshbook.experiment import Trial
from meshbook.outage import MODES
from meshbook.verdict import Verdict

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def answers(source: str, failing: tuple[float, float] = (0, 0), ghost: bool = False) -> list[dict[str, Any]]:
    """Ten requests a second for 30 s; v1 is down from 10 s to 20 s, and within ``failing`` nobody answers."""
    found = []
    for seq in range(1, 301):
        second = seq / 10
        failed = failing[0] < second <= failing[1]
        version = "v2" if 10.2 < second < 20.5 and not ghost else f"v{seq % 2 + 1}"
        row = {
            "time": at(second),
            "scheduled": at(second),
            "seq": seq,
            "source": source,
            "path": "vip" if source == "external client" else "mesh",
            "version": "" if failed else version,
            "instance": "" if failed else f"web-{version}",
            "cluster": "" if failed else f"cluster{version[1:]}",
            "error": "http_503" if failed else "",
            "time_total_ms": 10.0,
            "time_error_ms": 0.0,
            "clock_error_ms": 0.0,
        }
        found.append(row)
    return found


EVEN = ExpectedShares(
    shares={"cluster1": 0.5, "cluster2": 0.5}, why="each ready endpoint counts the same (1 in cluster1, 1 in cluster2)"
)


def afterwards(source: str, cluster1: int = 40, of: int = 80) -> list[dict[str, Any]]:
    """Requests once all is restored, of which so many are answered by cluster1."""
    names = ["cluster1"] * cluster1 + ["cluster2"] * (of - cluster1)
    return [
        {"time": at(31), "seq": n, "source": source, "cluster": name, "version": f"v{name[-1]}", "error": ""}
        for n, name in enumerate(names, start=1)
    ]


def trial(
    rows: Sequence[dict[str, Any]],
    mode: str = "scale-to-zero",
    number: int = 1,
    after: Sequence[dict[str, Any]] | None = None,
    changes: Sequence[Change] = (),
) -> Trial:
    sources = dict.fromkeys(row["source"] for row in rows)
    expected = dict.fromkeys(sources, EVEN)
    after = [row for source in sources for row in afterwards(source)] if after is None else after
    record = TrialRecord(
        mode=mode,
        context="cluster1",
        trial=number,
        outage=ChangeRequest(asked=at(10), accepted=at(10.01)),
        restore=ChangeRequest(asked=at(20), accepted=at(20.01)),
        answers=tables.from_rows(rows, tables.ANSWERS),
        changes=changes,
        contexts=["cluster1", "cluster2"],
        stopped="cluster1" if MODES[mode].stops else "",
    )
    return Trial(
        record=record,
        phases=phases(record),
        attribution=tables.empty(tables.ATTRIBUTION),
        loop=tables.empty(tables.ANSWERS),
        afterwards=tables.from_rows(after, tables.ANSWERS),
        versions={"cluster1": "v1", "cluster2": "v2"},
        test=split_test(expected, "cluster1", 0.25, max_failed_share=0.05),
        down=at(10.3),
        ready_again=at(20.6),
    )


CALM = [*answers("external client"), *answers("cluster1")]
BROKEN = [*answers("external client", (12.0, 13.5)), *answers("cluster1")]


def outcomes(found: Sequence[Verdict]) -> dict[str, str]:
    """Return outcome by claim; a claim about one source's longest gap by ``seen by SOURCE``."""
    return {gap_of(verdict) or verdict.claim: verdict.outcome for verdict in found}


def gap_of(verdict: Verdict) -> str:
    return verdict.claim.partition("(")[2].rstrip(")") if "(seen by" in verdict.claim else ""
