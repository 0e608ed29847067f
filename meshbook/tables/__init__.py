"""Column names and dtypes of every DataFrame that leaves a room, and frames made to be read.

- ``columns``: what a declared table is; ``frames``: frames of one, and what does not fit refused.
- ``answers``, ``outages``, ``phases``, ``layers``: the tables by subject, each with who writes it.
- ``reading``: frames and texts for people.

A new table is declared here first. Nothing is measured, judged or drawn here.
"""

from meshbook.tables.answers import ANSWERS, CLOCKS, DROPPED, GARBLED, LOST, NOT_MEASURED, SENDS, good, measured
from meshbook.tables.columns import Column, Table
from meshbook.tables.frames import conform, empty, frame, from_rows
from meshbook.tables.layers import ACCESS, ATTRIBUTION
from meshbook.tables.outages import CALIBRATION, COVERAGE, DOWNTIME, SUMMARY, TRIALS, WINDOWS
from meshbook.tables.phases import CHANGES, PHASES
from meshbook.tables.reading import hide_addresses, to_display, without_addresses

__all__ = [
    "ACCESS",
    "ANSWERS",
    "ATTRIBUTION",
    "CALIBRATION",
    "CHANGES",
    "CLOCKS",
    "COVERAGE",
    "DOWNTIME",
    "DROPPED",
    "GARBLED",
    "LOST",
    "NOT_MEASURED",
    "PHASES",
    "SENDS",
    "SUMMARY",
    "TRIALS",
    "WINDOWS",
    "Column",
    "Table",
    "conform",
    "empty",
    "frame",
    "from_rows",
    "good",
    "hide_addresses",
    "measured",
    "to_display",
    "without_addresses",
]
