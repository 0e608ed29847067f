"""What any claim rests on: the rows that it judges, and when they are too few or too little known to conclude from.

``claims`` judges them. Nothing is passed or failed here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import datetime

import pandas as pd

from meshbook import tables
from meshbook.errors import UsageError
from meshbook.verdict import Detail, Verdict

MOST_LOST = 0.1
"""Share of rows without a result above which nothing is concluded."""
_JUDGED = [
    "time", "scheduled", "source", "path", "version", "cluster", "error", "detail", "time_error_ms", "clock_error_ms",
    "time_total_ms"
]  # fmt: skip
"""Columns that claims look at: what is filtered again and again is slim."""


def judged(frame: pd.DataFrame) -> pd.DataFrame:
    return tables.conform(frame, tables.ANSWERS)[_JUDGED]


def sent_between(answers: pd.DataFrame, start: datetime, end: datetime) -> pd.DataFrame:
    """Return the rows of requests that were sent in that time, or were to be, where they have no result."""
    if start.tzinfo is None or end.tzinfo is None:
        raise UsageError("begin and end of an outage carry a time zone", hint="datetime.now(UTC)")
    if end <= start:
        raise UsageError(f"an outage ends after its begin, not at {end} after {start}")
    return answers[answers["time"].fillna(answers["scheduled"]).between(start, end, inclusive="left")]


def no_evidence(
    answers: pd.DataFrame,
    inside: pd.DataFrame,
    claim: str,
    sources: Sequence[str] = (),
    details: tuple[Detail, ...] = (),
) -> Verdict | None:
    """Return the inconclusive verdict where too little is known to judge ``inside``, the part that is asked about."""
    known, lost = tables.measured(inside[["source", "error"]]), int(answers["error"].isin(tables.NOT_MEASURED).sum())
    silent = sorted(set(sources) - set(known["source"].unique()))
    if lost > MOST_LOST * len(answers) or (lost and known.empty):
        reason = f"{lost} of {len(answers)} requests came back without a result, so nothing is concluded."
    elif known.empty:
        reason = "No request is known to have been sent in that time, so nothing is known about it."
    elif silent:
        reason = f"There are no requests to judge by from {listed(silent)}."
    else:
        return None
    return Verdict(
        claim=claim, outcome="inconclusive", reason=reason + explained(inside), n=len(known), details=details
    )


def beat_of(answers: pd.DataFrame) -> float:
    """Return the seconds from one request of a source to its next, as scheduled; 0 where there is no schedule."""
    due = answers.dropna(subset=["scheduled"]).sort_values("scheduled").groupby(["source", "path"])["scheduled"]
    beat_s = float(due.diff().dt.total_seconds().median())
    return beat_s if beat_s > 0 else 0.0


def rate_of(answers: pd.DataFrame) -> str:
    """Return how often each source asked, since a service that is asked too often fails without any outage."""
    beat_s = beat_of(answers)
    return f" at {1 / beat_s:.2g}/s a source" if beat_s else ""


def explained(answers: pd.DataFrame) -> str:
    """Return what went wrong, counted by kind with one example."""
    bad = answers.loc[answers["error"] != "", ["error", "detail"]]
    if bad.empty:
        return ""
    counts = ", ".join(f"{count} {kind}" for kind, count in bad["error"].value_counts().items())
    example = next(iter(bad.loc[bad["detail"] != "", "detail"]), "")
    return f" Without a good answer: {counts}" + (f" (“{_hide_addresses(example)}”)." if example else ".")


def listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


_V4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\w)(?!\.\d)")
_MAYBE_V6 = re.compile(r"(?<![\w:])[0-9a-fA-F]*:[0-9a-fA-F]*:[0-9a-fA-F:]*(?!\w)")


def _hide_addresses(text: str) -> str:
    """Return ``text`` with ``<address>`` for every IP address."""
    return _MAYBE_V6.sub(_hide_v6, _V4.sub("<address>", text))


def _hide_v6(match: re.Match[str]) -> str:
    try:
        ipaddress.IPv6Address(match[0])
    except ValueError:
        return match[0]
    return "<address>"
