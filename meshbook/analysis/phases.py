"""What happened in which order: the phases of one outage and of the way back, each between two times. Pure.

Out of a ``Story`` comes a frame of ``tables.PHASES``. A phase that was not seen is a row without times that says so. No
effect is earlier than its order, so no range begins before that.
"""

from __future__ import annotations

import pandas as pd

from meshbook import tables
from meshbook.analysis import client_events, server_events
from meshbook.analysis.trial_record import BACK, GOING, Order, Row, Story, row

ORDERED, CALLED_BACK = "order accepted", "order to come back accepted"


def phases(story: Story) -> pd.DataFrame:
    """Return the way out and the way back, as API servers and as callers saw it."""
    away, back = story.away, story.back
    rows = [
        row(GOING, ORDERED, server_events.place(story.context), not_before=away.asked, not_after=away.accepted),
        *server_events.going(story),
        *client_events.going(story),
        row(BACK, CALLED_BACK, server_events.place(story.context), not_before=back.asked, not_after=back.accepted),
        *server_events.coming_back(story),
        *client_events.coming_back(story),
    ]
    orders = {GOING: away, BACK: back}
    fixed = {"mode": story.mode, "context": story.context, "repeat": story.repeat}
    told = (fixed | {"step": step} | _timed(one, orders[one["part"]]) for step, one in enumerate(rows, start=1))
    return tables.from_rows(told, tables.PHASES)


def _timed(found: Row, order: Order) -> Row:
    """Return a row with its range cut at its order, and told in seconds from that as well."""
    if "not_after" not in found:
        return found
    end = max(found["not_after"], order.asked)
    begin = min(max(found["not_before"], order.asked), end)
    low, high = ((moment - order.asked).total_seconds() for moment in (begin, end))
    return {**found, "not_before": begin, "not_after": end, "low_s": low, "high_s": high}


def readable(found: pd.DataFrame) -> pd.DataFrame:
    """Return PHASES for people: milliseconds from the order of their part, as a range."""
    found = tables.conform(found, tables.PHASES)
    spans = [
        "" if pd.isna(high) else f"{1000 * low:.0f} to {1000 * high:.0f}"
        for low, high in zip(found["low_s"], found["high_s"], strict=True)
    ]
    names = {"mode": "mode", "context": "at", "repeat": "no.", "part": "part", "phase": "phase", "place": "seen by"}
    shown = found[list(names)].rename(columns=names)
    shown["ms from the order"] = spans
    return pd.concat([shown, found[["detail"]]], axis=1)
