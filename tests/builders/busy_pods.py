"""Answers of pods that serve one request at a time, or all at once, to loops that run side by side: a small model."""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from meshbook import tables

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


def row(source: str, seq: int, sent_s: float, took_s: float, version: str, error: str = "") -> dict[str, Any]:
    return {
        "time": NOON + timedelta(seconds=sent_s),
        "scheduled": NOON + timedelta(seconds=sent_s),
        "seq": seq,
        "source": source,
        "path": "vip" if source == "external client" else "mesh",
        "version": "" if error else version,
        "instance": "" if error else f"web-{version}",
        "cluster": "" if error else f"cluster{version[1:]}",
        "error": error,
        "time_total_ms": 1000 * took_s,
        "time_error_ms": 0.0,
        "clock_error_ms": 0.0,
    }


def asked(
    service_s: Mapping[str, float],
    loops: int,
    requests: int,
    *,
    at_once: bool = False,
    still: tuple[float, float] = (0.0, 0.0),
) -> pd.DataFrame:
    """Return ANSWERS to ``loops`` of ``requests`` each, which pick one of the versions at random for each request.

    ``service_s`` is the time of one answer by version. No request is served within ``still``.
    """
    chance, free_at = random.Random(7), dict.fromkeys(service_s, 0.0)
    turns, rows = [(0.01 * loop, loop, 1) for loop in range(loops)], []
    while turns:
        sent_s, loop, seq = heapq.heappop(turns)
        version = chance.choice(sorted(service_s))
        begin_s = sent_s if at_once else max(sent_s, free_at[version])
        begin_s = still[1] if still[0] <= begin_s < still[1] else begin_s
        ended_s = free_at[version] = begin_s + service_s[version] * chance.uniform(0.9, 1.1)
        rows.append(row(f"cluster{loop % 2 + 1}", seq, sent_s, ended_s - sent_s, version))
        if seq < requests:
            heapq.heappush(turns, (ended_s + 0.002, loop, seq + 1))
    return tables.from_rows(rows, tables.ANSWERS)


def watched(
    per_s: float,
    service_s: float,
    *,
    patience_s: float = 15.0,
    frozen: tuple[float, float] = (0.0, 0.0),
    silent: tuple[float, float] = (0.0, 0.0),
    sources: tuple[str, ...] = ("external client", "cluster1", "cluster2"),
) -> list[dict[str, Any]]:
    """Return rows of ANSWERS of 30 s: three sources ask ``per_s`` times a second each, v1 is down from 10 s to 20 s.

    Each version has one pod, which serves one request after the other in ``service_s``. No pod serves while ``frozen``,
    and cluster1 gets no answer from elsewhere while ``silent``.
    """
    chance, free_at = random.Random(3), {"v1": 0.0, "v2": 0.0}
    seen, rows = dict.fromkeys(sources, 0), []
    ticks = sorted(
        ((number + chance.uniform(-0.2, 0.2)) / per_s, source)
        for number in range(int(30 * per_s))
        for source in sources
    )
    for turn, (sent_s, source) in enumerate(ticks):
        seen[source] += 1
        version = "v2" if 10 <= sent_s < 20 else f"v{turn % 2 + 1}"
        begin_s = max(sent_s, free_at[version])
        begin_s = frozen[1] if frozen[0] <= begin_s < frozen[1] else begin_s
        ended_s = begin_s + service_s * chance.uniform(0.5, 1.5)
        if ended_s - sent_s < patience_s:  # else its caller has gone, and it is passed over
            free_at[version] = ended_s
        cut = source == "cluster1" and version == "v2" and silent[0] <= sent_s < silent[1]
        took_s, error = (patience_s, "timeout") if cut else (ended_s - sent_s, "")
        took_s, error = (patience_s, "timeout") if took_s >= patience_s else (took_s, error)
        rows.append(row(source, seen[source], sent_s, took_s, version, error))
    return rows
