"""What was asked and answered: the rows of requests, how well they were sent, and the clocks that timed them.

Written by ``probes``; nearly every other room reads ANSWERS.
"""

from __future__ import annotations

import pandas as pd

from meshbook.tables.columns import declared

LOST, GARBLED, DROPPED = "lost", "garbled", "dropped"
NOT_MEASURED = frozenset({LOST, GARBLED, DROPPED})
"""Errors of the probe itself: such a row says nothing about the service, for good or ill."""

ANSWERS = declared(
    "answers",
    ("time", "datetime64[us, UTC]", "when the request was sent; missing when the probe's record of it was lost"),
    ("seq", "Int64", "number of the request within its source, from 1"),
    ("source", "string", "who asked: the context's name, or 'outside'"),
    ("path", "string", "which way: 'mesh' (service name inside the mesh) or 'vip' (from the internet)"),
    ("url", "string", "what was asked for"),
    ("version", "string", "version that answered; empty unless the answer is good"),
    ("instance", "string", "pod that answered; empty unless the answer is good"),
    ("code", "Int64", "HTTP status; missing when there was no HTTP answer"),
    ("exit_code", "Int64", "curl's exit code of this transfer; missing when the probe's record was lost"),
    ("time_connect_ms", "float64", "until the connection stood (to the proxy where there is one)"),
    ("time_starttransfer_ms", "float64", "until the first byte of the answer"),
    ("time_total_ms", "float64", "until the last byte, or until the transfer was given up"),
    ("remote_ip", "string", "address that curl was connected to"),
    (
        "error",
        "string",
        "empty for a good answer, else its kind: http_503, timeout, refused, … (lost, garbled, dropped: no result)",
    ),
    ("detail", "string", "what curl or the probe said about the error"),
    (
        "scheduled",
        "datetime64[us, UTC]",
        "when the request was to be sent; missing where each waits for the one before",
    ),
    ("late_ms", "float64", "how much later than scheduled it was sent"),
    (
        "time_error_ms",
        "float64",
        "the request was sent at most this long before or after ``time``, by its sender's clock",
    ),
    ("clock_error_ms", "float64", "that clock was at most so far off this machine's; the same for all of one source"),
)

SENDS = declared(
    "sends",
    ("source", "string", "who asked"),
    ("path", "string", "which way"),
    ("scheduled", "Int64", "requests that were to be sent"),
    ("sent", "Int64", "requests that are known to have been sent"),
    ("dropped", "Int64", "requests that were not sent, since their time had passed"),
    ("lost", "Int64", "requests of which nothing is known: the record of them did not arrive whole"),
    ("late", "Int64", "requests sent more than one beat after their time"),
    ("late_median_ms", "float64", "how late the middle one was"),
    ("late_p99_ms", "float64", "how late 99 in 100 were at most"),
    ("late_max_ms", "float64", "how late the worst was"),
)

CLOCKS = declared(
    "clocks",
    ("source", "string", "whose clock"),
    ("offset_ms", "float64", "how far it is ahead of this machine's (a clock that counts from its boot is far behind)"),
    ("bound_ms", "float64", "how wrong that can be"),
    ("round_trip_ms", "float64", "time from question to answer of the best exchange"),
    ("exchanges", "Int64", "questions answered"),
)


def measured(answers: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ANSWERS that say something about the service, good or bad."""
    return answers[~answers["error"].isin(NOT_MEASURED)]


def good(answers: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ANSWERS with a good answer."""
    return answers[answers["error"] == ""]
