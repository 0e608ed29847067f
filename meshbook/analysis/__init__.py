"""Rows to findings: when a service was unavailable, how good a claim is, what happened when, and what saved it. Pure.

- ``claims``: a frame of ``tables.ANSWERS`` in, a ``Verdict`` out: pass, fail or inconclusive; ``outages`` has those
  on an outage, ``split`` that on shares, with the test that says how many requests it takes.
- ``coverage``: who answers whom, by which way and when, as a matrix; and each ingress gateway.
- ``evidence``: which rows a claim judges, and when they are too few.
- ``availability``: ANSWERS to the times in which there was no good answer, each length a range; ``bounds`` has what
  single requests prove, ``calibration`` compares the ranges with faults whose true begin and end are known.
- ``intervals``: how far a count can be trusted.
- ``load``: what a side of the service bears, and which requests went wrong for too much of it.
- ``phases``: what happened when in one trial, as clients and API servers saw it (``observations``).
- ``attribution``: which part of the mesh saved the requests, as far as proxies' access logs tell.

Nothing is measured, asked or drawn here.
"""

from __future__ import annotations

from meshbook.analysis.attribution import (
    AccessLogs,
    Evidence,
    LoadBalancer,
    attribute,
    flags_in_words,
    parse_access_log,
)
from meshbook.analysis.availability import UNAVAILABLE, Stream, downtime, episodes, streams
from meshbook.analysis.calibration import Fault, compare_with_truth, measures_truly
from meshbook.analysis.claims import ExpectedShares, all_answered, answered_promptly, answers_as_expected
from meshbook.analysis.coverage import (
    NONE_EXPECTED,
    NOT_TESTED,
    PROVEN,
    REFUTED,
    UNDECIDED,
    Part,
    coverage,
    gateways_answer,
)
from meshbook.analysis.intervals import fewest_to_pass, share_bounds, share_interval, to_see
from meshbook.analysis.load import (
    Capacity,
    Overload,
    capacity,
    overload,
    utilisation,
)
from meshbook.analysis.observations import (
    REACHABLE,
    UNREACHABLE,
    Change,
    Observation,
    Subject,
    changes,
    endpoint_names,
    pod_states,
    unready,
)
from meshbook.analysis.outages import carried_by_the_others, few_fail, interrupted_at_most
from meshbook.analysis.phases import (
    ENDPOINTS_GONE,
    OUTAGE,
    RESTORE,
    ChangeRequest,
    TrialRecord,
    phases,
    phases_to_display,
)
from meshbook.analysis.split import SplitTest, farthest_off, split_as_expected, split_test

__all__ = [
    "ENDPOINTS_GONE",
    "NONE_EXPECTED",
    "NOT_TESTED",
    "OUTAGE",
    "PROVEN",
    "REACHABLE",
    "REFUTED",
    "RESTORE",
    "UNAVAILABLE",
    "UNDECIDED",
    "UNREACHABLE",
    "AccessLogs",
    "Capacity",
    "Change",
    "ChangeRequest",
    "Evidence",
    "ExpectedShares",
    "Fault",
    "LoadBalancer",
    "Observation",
    "Overload",
    "Part",
    "SplitTest",
    "Stream",
    "Subject",
    "TrialRecord",
    "all_answered",
    "answered_promptly",
    "answers_as_expected",
    "attribute",
    "capacity",
    "carried_by_the_others",
    "changes",
    "compare_with_truth",
    "coverage",
    "downtime",
    "endpoint_names",
    "episodes",
    "farthest_off",
    "few_fail",
    "fewest_to_pass",
    "flags_in_words",
    "gateways_answer",
    "interrupted_at_most",
    "measures_truly",
    "overload",
    "parse_access_log",
    "phases",
    "phases_to_display",
    "pod_states",
    "share_bounds",
    "share_interval",
    "split_as_expected",
    "split_test",
    "streams",
    "to_see",
    "unready",
    "utilisation",
]
