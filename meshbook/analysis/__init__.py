"""Rows to findings: when a service was unavailable, how good a claim is, what happened when, and what saved it. Pure.

- ``verdict``, ``intervals``, ``claims``, ``outage_claims``: a frame of ``tables.ANSWERS`` in, a ``Verdict`` out: pass,
  fail or inconclusive.
- ``bounds``, ``latency``, ``availability``, ``estimates``, ``calibration``: ANSWERS to the times in which requests got
  no answer, each length a range; and those compared with faults whose true begin and end are known.
- ``trial_record``, ``observations``, ``server_events``, ``client_events``, ``shares``, ``phases``: what happened when
  in one outage, as API servers and clients saw it.
- ``accesslog``, ``attribution``: which part of the mesh saved the requests, as far as proxies' access logs tell.

Nothing is measured, asked or drawn here. A new claim is a function whose name says what is claimed, with a test that
plants the fault which it must fail on.
"""

from __future__ import annotations

from meshbook.analysis.accesslog import Logs
from meshbook.analysis.attribution import Balancer, Evidence, layers
from meshbook.analysis.availability import coverage, outage_windows
from meshbook.analysis.bounds import Gap, gaps
from meshbook.analysis.calibration import Fault, calibrate
from meshbook.analysis.claims import all_answered, answers_from_both, split_within
from meshbook.analysis.estimates import Reading, readings
from meshbook.analysis.observations import Change
from meshbook.analysis.outage_claims import interrupted_at_most, measures_truly, returns_to_both, survives_outage
from meshbook.analysis.phases import phases
from meshbook.analysis.phases import readable as phases_readable
from meshbook.analysis.trial_record import BACK, GOING, Order, Story
from meshbook.analysis.verdict import Outcome, Verdict, summary

__all__ = [
    "BACK",
    "GOING",
    "Balancer",
    "Change",
    "Evidence",
    "Fault",
    "Gap",
    "Logs",
    "Order",
    "Outcome",
    "Reading",
    "Story",
    "Verdict",
    "all_answered",
    "answers_from_both",
    "calibrate",
    "coverage",
    "gaps",
    "interrupted_at_most",
    "layers",
    "measures_truly",
    "outage_windows",
    "phases",
    "phases_readable",
    "readings",
    "returns_to_both",
    "split_within",
    "summary",
    "survives_outage",
]
