"""Rounds of the ladder as they come out of half a minute of requests, of which some second or two may have failed.

Shared by the tests of the ladder's tables and of its claims.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from meshbook import tables
from meshbook.analysis import ChangeRequest, TrialRecord, phases
from meshbook.experiment import Round, Rung

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def answers(source: str, away: tuple[float, float] = (0, 0), ghost: bool = False) -> list[dict[str, Any]]:
    """Ten requests a second for 30 s; v1 is away from 10 s to 20 s, and within ``away`` nobody answers."""
    found = []
    for seq in range(1, 301):
        second = seq / 10
        failed = away[0] < second <= away[1]
        version = "v2" if 10.2 < second < 20.5 and not ghost else f"v{seq % 2 + 1}"
        row = {
            "time": at(second),
            "scheduled": at(second),
            "seq": seq,
            "source": source,
            "path": "vip" if source == "outside" else "mesh",
            "version": "" if failed else version,
            "instance": "" if failed else f"web-{version}",
            "error": "http_503" if failed else "",
            "time_total_ms": 10.0,
            "time_error_ms": 0.0,
            "clock_error_ms": 0.0,
        }
        found.append(row)
    return found


def done(rows: Sequence[dict[str, Any]], mode: str = "scale-to-zero", repeat: int = 1) -> Round:
    rung = Rung(mode=mode, context="cluster1", repeat=repeat)
    record = TrialRecord(
        mode=mode,
        context="cluster1",
        trial=repeat,
        outage=ChangeRequest(asked=at(10), accepted=at(10.01)),
        restore=ChangeRequest(asked=at(20), accepted=at(20.01)),
        answers=tables.from_rows(rows, tables.ANSWERS),
        changes=[],
        contexts=["cluster1", "cluster2"],
        version="v1",
    )
    return Round(
        rung=rung,
        record=record,
        phases=phases(record),
        layers=tables.empty(tables.ATTRIBUTION),
        sends=tables.empty(tables.SENDS),
        clocks=tables.empty(tables.CLOCKS),
        loop=tables.empty(tables.ANSWERS),
        gone=at(10.3),
        ready_again=at(20.6),
    )


CALM = [*answers("outside"), *answers("cluster1")]
BROKEN = [*answers("outside", (12.0, 13.5)), *answers("cluster1")]
