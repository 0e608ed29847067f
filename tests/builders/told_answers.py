"""Tables of answers as a probe leaves them, told in words: a version, or the kind of an error.

Shared by the tests of the judges. Times are fixed: an outage is ordered at START, in force at GONE, over at END.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pandas as pd

from meshbook import tables

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
START, GONE, END = (NOON + timedelta(seconds=seconds) for seconds in (10, 12, 20))
Told = Sequence[str]
"""Answers in order: a version, or the kind of an error."""


def answers(told: Told, source: str = "outside", pace_s: float = 0.1) -> pd.DataFrame:
    rows = []
    for number, word in enumerate(told):
        good = word.startswith("v")
        lost = word in tables.NOT_MEASURED
        rows.append(
            {
                "seq": number + 1,
                "time": None if lost else NOON + timedelta(seconds=number * pace_s),
                "source": source,
                "version": word if good else "",
                "error": "" if good else word,
                "detail": "" if good else "curl at 10.0.0.1 says why",
            }
        )
    return tables.from_rows(rows, tables.ANSWERS)


def both(first: Told, second: Told) -> pd.DataFrame:
    return pd.concat([answers(first, "cluster1"), answers(second, "cluster2")], ignore_index=True)


def outage(*spans: tuple[float, Told]) -> pd.DataFrame:
    """Ten answers a second for 30 s; each span of ``seconds`` repeats its pattern."""
    told: list[str] = []
    for seconds, pattern in spans:
        count = round(seconds * 10)
        told += [pattern[number % len(pattern)] for number in range(count)]
    return answers(told)


ALTERNATING = ["v1", "v2"]
HEALTHY = outage((10, ALTERNATING), (10, ["v2"]), (10, ALTERNATING))
