"""Rows of ANSWERS by words: a version, the kind of an error, or nothing for no request at all, at a steady rate."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pandas as pd

from meshbook import tables

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
START, GONE, END = (NOON + timedelta(seconds=seconds) for seconds in (10, 12, 20))
"""An outage is requested, in force, and over."""
BOTH = ["v1", "v2"]
VERSIONS = {"east": "v1", "west": "v2"}
CLUSTERS = {version: cluster for cluster, version in VERSIONS.items()}
"""Who answers is told by version; each cluster has one."""
Told = Sequence[str]
"""Answers in order: a version, the kind of an error, or nothing for no request at all."""


def answers(
    told: Told, source: str = "external client", *, rate: float = 10, error_ms: float | None = None
) -> pd.DataFrame:
    """Rows as an open loop leaves them from noon on."""
    rows = []
    for number, word in enumerate(told):
        at, good, unknown = NOON + timedelta(seconds=number / rate), word.startswith("v"), word in tables.NOT_MEASURED
        row = {
            "seq": number + 1,
            "time": None if unknown else at,
            "scheduled": at,
            "source": source,
            "path": "mesh",
            "version": word if good else "",
            "cluster": CLUSTERS.get(word, tables.UNKNOWN) if good else "",
            "error": "" if good else word,
            "detail": "" if good else "curl at 10.0.0.1 says why",
            "time_total_ms": 5.0,
            "time_error_ms": error_ms,
        }
        rows += [row] if word else []
    return tables.from_rows(rows, tables.ANSWERS)


def both(first: Told, second: Told) -> pd.DataFrame:
    return pd.concat([answers(first, "cluster1"), answers(second, "cluster2")], ignore_index=True)


def outage(
    *spans: tuple[float, Told], source: str = "external client", rate: float = 10, error_ms: float | None = None
) -> pd.DataFrame:
    """Each span of ``seconds`` repeats its pattern."""
    told: list[str] = []
    for seconds, pattern in spans:
        told += [pattern[number % len(pattern)] if pattern else "" for number in range(round(seconds * rate))]
    return answers(told, source, rate=rate, error_ms=error_ms)


HEALTHY = outage((10, BOTH), (10, ["v2"]), (10, BOTH))
