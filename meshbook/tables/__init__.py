"""Every DataFrame that leaves a package: its columns, their dtypes and meanings.

A new table is declared here first, with its subject: ``requests``, ``outages`` or ``mesh``. What does not fit a
declaration is refused (``frames``). Nothing is measured, judged or drawn here.
"""

from meshbook.tables.frames import Table, conform, empty, frame, from_rows
from meshbook.tables.mesh import ACCESS, ATTRIBUTION, COVERAGE
from meshbook.tables.outages import (
    CALIBRATION,
    DOWNTIME,
    EPISODES,
    LOAD,
    PHASES,
    SUMMARY,
    TRIAL_EPISODES,
    TRIALS,
    WINDOWS,
)
from meshbook.tables.requests import (
    ANSWERS,
    CLOCKS,
    DROPPED,
    GARBLED,
    GATEWAY,
    LOST,
    NOT_MEASURED,
    SENDS,
    TIMEOUT,
    UNKNOWN,
    by_whom,
    clock_errors_ms,
    good,
    joined,
    measured,
    of_gateways,
    stamp_errors_ms,
    to_display,
)

__all__ = [
    "ACCESS",
    "ANSWERS",
    "ATTRIBUTION",
    "CALIBRATION",
    "CLOCKS",
    "COVERAGE",
    "DOWNTIME",
    "DROPPED",
    "EPISODES",
    "GARBLED",
    "GATEWAY",
    "LOAD",
    "LOST",
    "NOT_MEASURED",
    "PHASES",
    "SENDS",
    "SUMMARY",
    "TIMEOUT",
    "TRIALS",
    "TRIAL_EPISODES",
    "UNKNOWN",
    "WINDOWS",
    "Table",
    "by_whom",
    "clock_errors_ms",
    "conform",
    "empty",
    "frame",
    "from_rows",
    "good",
    "joined",
    "measured",
    "of_gateways",
    "stamp_errors_ms",
    "to_display",
]
