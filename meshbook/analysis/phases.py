"""What happened in which order: the phases of one outage and of the way back, each between two times. Pure.

Out of a ``TrialRecord`` comes a frame of ``tables.PHASES``. A phase that was not seen is a row without times that says
so. No effect is earlier than its request, so no range begins before that.
"""

from __future__ import annotations

import pandas as pd

from meshbook import tables
from meshbook.analysis import client_events, server_events
from meshbook.analysis.trial_record import OUTAGE, RESTORE, ChangeRequest, Row, TrialRecord, row

REQUESTED, RESTORE_REQUESTED = "request accepted", "restore request accepted"


def phases(record: TrialRecord) -> pd.DataFrame:
    """Return the way out and the way back, as API servers and as callers saw it."""
    outage, restore = record.outage, record.restore
    where = server_events.place(record.context)
    rows = [
        row(OUTAGE, REQUESTED, where, not_before=outage.asked, not_after=outage.accepted),
        *server_events.going(record),
        *client_events.going(record),
        row(
            RESTORE,
            RESTORE_REQUESTED,
            server_events.place(record.context),
            not_before=restore.asked,
            not_after=restore.accepted,
        ),
        *server_events.coming_back(record),
        *client_events.coming_back(record),
    ]
    requests = {OUTAGE: outage, RESTORE: restore}
    fixed = {"mode": record.mode, "context": record.context, "trial": record.trial}
    told = (fixed | {"number": number} | _timed(one, requests[one["part"]]) for number, one in enumerate(rows, start=1))
    return tables.from_rows(told, tables.PHASES)


def _timed(found: Row, request: ChangeRequest) -> Row:
    """Return a row with its range cut at its order, and told in seconds from that as well."""
    if "not_after" not in found:
        return found
    end = max(found["not_after"], request.asked)
    begin = min(max(found["not_before"], request.asked), end)
    low, high = ((moment - request.asked).total_seconds() for moment in (begin, end))
    return {**found, "not_before": begin, "not_after": end, "low_s": low, "high_s": high}


def to_display(found: pd.DataFrame) -> pd.DataFrame:
    """Return PHASES for people: milliseconds from the order of their part, as a range."""
    found = tables.conform(found, tables.PHASES)
    spans = [
        "" if pd.isna(high) else f"{1000 * low:.0f} to {1000 * high:.0f}"
        for low, high in zip(found["low_s"], found["high_s"], strict=True)
    ]
    names = {"mode": "mode", "context": "at", "trial": "trial", "part": "part", "phase": "phase", "place": "seen by"}
    shown = found[list(names)].rename(columns=names)
    shown["ms from the request"] = spans
    return pd.concat([shown, found[["detail"]]], axis=1)
