"""How long a service was away, each length a range: single windows, what could be seen at all, all outages together.

WINDOWS, COVERAGE and CALIBRATION are made by ``windows`` out of ANSWERS; TRIALS and SUMMARY by ``ladder`` out of those.
"""

from __future__ import annotations

from meshbook.tables.columns import Column, Table, declared

WINDOWS = declared(
    "windows",
    ("source", "string", "who noticed"),
    ("path", "string", "which way"),
    ("number", "Int64", "number of the window within its source and path, from 1"),
    ("kind", "string", "'failed' when a request got no good answer, 'slow' when all got one, but late"),
    ("last_good", "datetime64[us, UTC]", "the service was there until then at least; missing: never seen before"),
    ("first_bad", "datetime64[us, UTC]", "it was away from then on at the latest"),
    ("last_bad", "datetime64[us, UTC]", "it was away until then at least"),
    ("first_good", "datetime64[us, UTC]", "it was there again from then on at the latest; missing: never seen again"),
    ("low_ms", "float64", "it was away for at least this long"),
    ("high_ms", "float64", "it was away for at most this long; missing: its begin or its end was not seen"),
    ("sent", "Int64", "requests sent between last_good and first_good"),
    ("failed", "Int64", "those of them without a good answer"),
    ("slow", "Int64", "those of them with a good answer, but a late one"),
    ("longest_gap_ms", "float64", "longest time between two good answers that arrived around it"),
)

COVERAGE = declared(
    "coverage",
    ("source", "string", "who asked"),
    ("path", "string", "which way"),
    ("since", "datetime64[us, UTC]", "first request that was answered well"),
    ("until", "datetime64[us, UTC]", "last one"),
    ("sent", "Int64", "requests with a result"),
    ("failed", "Int64", "those of them without a good answer"),
    ("unknown", "Int64", "requests without a result: lost, garbled or dropped"),
    ("windows", "Int64", "outage windows seen"),
    ("detection_limit_ms", "float64", "an outage that no window shows was shorter than this"),
    ("longest_gap_ms", "float64", "longest time between two good answers that arrived"),
    ("prompt_ms", "float64", "answers that took longer count as slow"),
    ("clock_error_ms", "float64", "how far the sender's clock may be off this machine's"),
)

CALIBRATION = declared(
    "calibration",
    ("fault", "string", "what was done to the service"),
    ("source", "string", "who measured"),
    ("path", "string", "which way"),
    ("true_ms", "float64", "how long the service was away in truth"),
    ("seen", "boolean", "whether a window shows it"),
    ("low_ms", "float64", "measured: away for at least this long"),
    ("high_ms", "float64", "measured: away for at most this long; missing: its begin or its end was not seen"),
    ("within", "boolean", "whether the true length, begin and end all lie in the measured ranges"),
    ("off_ms", "float64", "how far the worst of them lies outside; 0 when within"),
    ("width_ms", "float64", "width of the measured range of the length"),
)

DOWNTIME = declared(
    "downtime",
    ("source", "string", "who asked"),
    ("path", "string", "which way"),
    ("sent", "Int64", "requests with a result, sent in the time in question"),
    ("failed", "Int64", "those of them without a good answer"),
    ("windows", "Int64", "separate times without any good answer; 0: none seen"),
    ("low_ms", "float64", "unavailable (no good answer at all) for at least this long, all windows together"),
    ("high_ms", "float64", "unavailable for at most this long; with no window, the detection limit"),
    ("degraded_low_ms", "float64", "from the first failure to the end of the last one, at least; missing: none"),
    ("degraded_high_ms", "float64", "the same, at most; good answers may lie in between"),
    ("longest_gap_ms", "float64", "longest time between two good answers that arrived"),
)

TRIALS = Table(
    name="trials",
    columns=(
        Column(name="mode", dtype="string", meaning="failure mode"),
        Column(name="context", dtype="string", meaning="cluster that it was done in"),
        Column(name="trial", dtype="Int64", meaning="which time it was done, from 1"),
        *DOWNTIME.columns,
    ),
)

SUMMARY = declared(
    "summary",
    ("mode", "string", "kind of failure"),
    ("context", "string", "cluster that was taken away, or a part of it"),
    ("source", "string", "who asked"),
    ("n", "Int64", "how many times it was done"),
    ("seen", "Int64", "in how many of them the service was away for this source"),
    ("median_low_ms", "float64", "the middle time away is at least this"),
    ("median_high_ms", "float64", "and at most this; missing: the end of an outage was not seen"),
    ("low_ms", "float64", "the shortest time away is at least this"),
    ("high_ms", "float64", "the longest time away is at most this; missing: the end of an outage was not seen"),
    ("degraded_low_ms", "float64", "median of the times from the first to the last failure, at least; missing: none"),
    ("degraded_high_ms", "float64", "the same, at most"),
    ("failed", "Int64", "requests without a good answer, in all of them together"),
    ("sent", "Int64", "requests sent during all of them together"),
)
