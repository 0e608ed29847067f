"""Rows to findings: when a service was unavailable, how good a claim is, what happened when, and what saved it. Pure.

- ``intervals``, ``claims``, ``outage_claims``: a frame of ``tables.ANSWERS`` in, a ``Verdict`` out: pass, fail or
  inconclusive.
- ``bounds``, ``latency``, ``availability``, ``estimates``, ``calibration``: ANSWERS to the times in which requests got
  no answer, each length a range; and those compared with faults whose true begin and end are known.
- ``trial_record``, ``observations``, ``server_events``, ``client_events``, ``shares``, ``phases``: what happened when
  in one outage, as API servers and clients saw it.
- ``accesslog``, ``attribution``: which part of the mesh saved the requests, as far as proxies' access logs tell.

Nothing is measured, asked or drawn here. A new claim is a function whose name says what is claimed, with a test that
plants the fault which it must fail on.
"""

from __future__ import annotations

from meshbook.analysis.accesslog import AccessLogs, parse_access_log
from meshbook.analysis.attribution import Evidence, LoadBalancer, attribute
from meshbook.analysis.availability import coverage, outage_windows
from meshbook.analysis.calibration import Fault, calibrate
from meshbook.analysis.claims import all_answered, answers_from_both, split_within
from meshbook.analysis.client_events import SHARE_UNCHANGED
from meshbook.analysis.estimates import Estimate, downtime, estimates
from meshbook.analysis.intervals import share_interval
from meshbook.analysis.observations import (
    REACHABLE,
    UNREACHABLE,
    Change,
    Observation,
    Subject,
    changes,
    changes_frame,
    pod_states,
    ready_endpoints,
    replica_counts,
)
from meshbook.analysis.outage_claims import interrupted_at_most, measures_truly, returns_to_both, survives_outage
from meshbook.analysis.phases import phases
from meshbook.analysis.phases import to_display as phases_to_display
from meshbook.analysis.server_events import ENDPOINTS_GONE
from meshbook.analysis.trial_record import OUTAGE, RESTORE, ChangeRequest, TrialRecord
from meshbook.verdict import Outcome, Verdict

__all__ = [
    "ENDPOINTS_GONE",
    "OUTAGE",
    "REACHABLE",
    "RESTORE",
    "SHARE_UNCHANGED",
    "UNREACHABLE",
    "AccessLogs",
    "Change",
    "ChangeRequest",
    "Estimate",
    "Evidence",
    "Fault",
    "LoadBalancer",
    "Observation",
    "Outcome",
    "Subject",
    "TrialRecord",
    "Verdict",
    "all_answered",
    "answers_from_both",
    "attribute",
    "calibrate",
    "changes",
    "changes_frame",
    "coverage",
    "downtime",
    "estimates",
    "interrupted_at_most",
    "measures_truly",
    "outage_windows",
    "parse_access_log",
    "phases",
    "phases_to_display",
    "pod_states",
    "ready_endpoints",
    "replica_counts",
    "returns_to_both",
    "share_interval",
    "split_within",
    "survives_outage",
]
