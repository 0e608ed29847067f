"""Column names and dtypes of every DataFrame that leaves a room, and frames made to be read.

- ``columns``: what a declared table is; ``frames``: frames of one, and what does not fit refused.
- ``answers``, ``outages``, ``phases``, ``layers``, ``verdicts``: the tables by subject, each with who writes it.
- ``reading``: frames and texts for people.

A new table is declared here first. Nothing is measured, judged or drawn here.
"""

from meshbook.tables.answers import ANSWERS, CLOCKS, DROPPED, GARBLED, LOST, NOT_MEASURED, SENDS, good, measured
from meshbook.tables.columns import Column, Table
from meshbook.tables.frames import conform, empty, frame, from_rows
from meshbook.tables.layers import ACCESS, LAYERS
from meshbook.tables.outages import CALIBRATION, COVERAGE, LADDER, ROUNDS, WINDOWS
from meshbook.tables.phases import PHASES, SIGHTINGS
from meshbook.tables.reading import hide_addresses, readable, without_addresses
from meshbook.tables.verdicts import VERDICTS

__all__ = [
    "ACCESS",
    "ANSWERS",
    "CALIBRATION",
    "CLOCKS",
    "COVERAGE",
    "DROPPED",
    "GARBLED",
    "LADDER",
    "LAYERS",
    "LOST",
    "NOT_MEASURED",
    "PHASES",
    "ROUNDS",
    "SENDS",
    "SIGHTINGS",
    "VERDICTS",
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
    "readable",
    "without_addresses",
]
