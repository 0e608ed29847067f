"""Answers of pods that serve one request at a time, or all at once, to loops that run side by side: a small model."""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping

import pandas as pd
from busy_service import row

from meshbook import tables


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
