"""Outages: how long a service was unavailable, each length a range, and what happened when.

Made by ``analysis`` and ``experiment``.
"""

from __future__ import annotations

from meshbook.tables.frames import Dtype, Table, declared
from meshbook.tables.requests import WAY

CALIBRATION = declared(
    "calibration",
    ("fault", "string", "what was done to the service"),
    *WAY,
    ("true_ms", "float64", "how long the service was unavailable in truth"),
    ("seen", "boolean", "whether a window shows it"),
    ("low_ms", "float64", "measured: unavailable for at least this long"),
    ("high_ms", "float64", "measured: at most this long; missing: its begin or its end was not seen"),
    ("within", "boolean", "whether the true length, begin and end all lie in the measured ranges"),
    ("off_ms", "float64", "how far the worst of them lies outside; 0 when within"),
    ("width_ms", "float64", "width of the measured range of the length"),
)

DOWNTIME = declared(
    "downtime",
    *WAY,
    ("sent", "Int64", "requests with a result, sent in the time in question"),
    ("failed", "Int64", "those of them without a good answer"),
    ("windows", "Int64", "separate times without any good answer; 0: none seen"),
    ("low_ms", "float64", "the longest time without any good answer was at least this long"),
    ("high_ms", "float64", "and at most this long, seen or not: with no window, the detection limit"),
    ("degraded_low_ms", "float64", "from the first failure to the end of the last one, at least; missing: none"),
    ("degraded_high_ms", "float64", "the same, at most; good answers may lie in between"),
)

_EPISODE: tuple[tuple[str, Dtype, str], ...] = (
    ("source", "string", "who noticed"),
    ("path", "string", "which way"),
    ("number", "Int64", "number of the episode within its source and path, from 1"),
    ("kind", "string", "'unavailable': no good answer at all; 'degraded': a share of the requests failed"),
    ("last_good", "datetime64[us, UTC]", "all was well until then at least; missing: never seen before"),
    ("first_good", "datetime64[us, UTC]", "all was well again by then; missing: never seen again"),
    ("low_ms", "float64", "it went on for at least this long"),
    ("high_ms", "float64", "and at most this long; missing: its begin or its end was not seen"),
    ("failed", "Int64", "requests without a good answer in that time"),
    ("sent", "Int64", "requests sent in that time"),
    ("windows", "Int64", "times without any good answer in it"),
    ("longest_low_ms", "float64", "the longest of these was at least this long"),
    ("longest_high_ms", "float64", "and at most this long"),
)
EPISODES = declared("episodes", *_EPISODE)

_TRIAL: tuple[tuple[str, Dtype, str], ...] = (
    ("mode", "string", "failure mode"),
    ("context", "string", "cluster that it was done in"),
    ("trial", "Int64", "which time it was done, from 1"),
)

_LATE: tuple[str, Dtype, str] = ("late", "Int64", "good answers that took longer than a caller calls prompt")

TRIALS = Table(name="trials", columns=(*declared("", *_TRIAL).columns, *DOWNTIME.columns, *declared("", _LATE).columns))

TRIAL_EPISODES = declared("trial episodes", *_TRIAL, *_EPISODE)

SUMMARY = declared(
    "summary",
    *_TRIAL[:2],
    ("source", "string", "who asked"),
    ("n", "Int64", "how many trials there were"),
    ("seen", "Int64", "in how many of them a time without any good answer was seen by this source"),
    ("median_low_ms", "float64", "of each trial's longest time without one, the middle one is at least this"),
    ("median_high_ms", "float64", "and at most this; missing: the end of an outage was not seen"),
    ("low_ms", "float64", "the shortest of them is at least this"),
    ("high_ms", "float64", "the longest of them is at most this; missing: the end of an outage was not seen"),
    ("degraded_low_ms", "float64", "median of the times from the first to the last failure, at least; missing: none"),
    ("degraded_high_ms", "float64", "the same, at most"),
    ("failed", "Int64", "requests without a good answer, in all of them together"),
    _LATE,
    ("sent", "Int64", "requests sent during all of them together"),
)

LOAD = declared(
    "load",
    *_TRIAL,
    ("part", "string", "'before' the outage, 'during' or 'after' it"),
    ("offered_per_s", "float64", "requests sent per second, by all sources together"),
    ("served_per_s", "float64", "good answers per second of the side that survives"),
    ("median_ms", "float64", "how long the middle one of these took; missing: none"),
    ("p90_ms", "float64", "how long nine in ten of them took at most"),
    ("utilisation", "float64", "served_per_s as a share of what that side was measured to bear; missing: not measured"),
)

PHASES = declared(
    "phases",
    *_TRIAL,
    ("number", "Int64", "number of the row, from 1"),
    ("part", "string", "'outage' or 'restore'"),
    ("phase", "string", "what happened"),
    ("place", "string", "who saw it: an API server, or a source of requests"),
    ("not_before", "datetime64[us, UTC]", "it happened at this moment at the earliest; missing: it was not seen"),
    ("not_after", "datetime64[us, UTC]", "it happened at this moment at the latest"),
    ("low_s", "float64", "seconds from the request of its part at the least"),
    ("high_s", "float64", "seconds from the request of its part at the most"),
    ("detail", "string", "who or how many, or why there is no time"),
)
