"""What is known of one outage, and the shape of a phase: a row of ``tables.PHASES`` in the making. Pure.

``callers`` makes rows out of requests, ``servers`` out of what API servers showed; ``phases`` puts them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from meshbook.analysis.observations import Change

OUTAGE, RESTORE = "outage", "restore"

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ChangeRequest:
    """Something was told to happen: asked at, and known to be accepted at. This machine's clock."""

    asked: datetime
    accepted: datetime


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """All that is known of one outage."""

    mode: str
    context: str
    """The cluster that was taken away, or a part of it."""
    trial: int
    outage: ChangeRequest
    restore: ChangeRequest
    answers: pd.DataFrame
    """ANSWERS from before the outage until after it."""
    changes: Sequence[Change]
    contexts: Sequence[str]
    """All clusters that were watched."""
    version: str = ""
    """The version that is taken away everywhere; empty where each source is to show which ones it misses."""
    ended_at: datetime | None = None
    """When the outage was over for callers, where nobody had to order that: ``restore.asked`` by default."""
    margin: float = 0.2
    """How far the share of a version may be from what it was to count as the same."""

    @property
    def end(self) -> datetime:
        return self.ended_at or self.restore.asked


def row(part: str, phase: str, place: str, **more: Any) -> Row:
    """Return a phase; without ``not_before`` and ``not_after`` it was not seen, and ``detail`` says why."""
    return {"part": part, "phase": phase, "place": place, **more}
