"""Claims as functions: a frame of ``tables.ANSWERS`` in, a ``Verdict`` out: pass, fail or inconclusive.

- ``claims``: who answers, in which shares, and how often nobody does.
- ``outages``: what users notice while one side is away, whether all is back, and whether the measuring itself is true.
- ``intervals``: the statistics behind both. ``verdict``: the record, its looks and its table.

Pure: nothing is measured or drawn here. A new claim is a function whose name says what is claimed, with a test that
plants the fault which it must fail on.
"""

from __future__ import annotations

from meshbook.judge.claims import all_answered, answers_from_both, split_within
from meshbook.judge.outages import interrupted_at_most, measures_truly, returns_to_both, survives_outage
from meshbook.judge.verdict import Outcome, Verdict, summary

__all__ = [
    "Outcome",
    "Verdict",
    "all_answered",
    "answers_from_both",
    "interrupted_at_most",
    "measures_truly",
    "returns_to_both",
    "split_within",
    "summary",
    "survives_outage",
]
