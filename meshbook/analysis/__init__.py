"""Rows to findings: when a service was unavailable, how good a claim is, what happened when, and what saved it. Pure.

- ``claims``: a frame of ``tables.ANSWERS`` in, a ``Verdict`` out: pass, fail or inconclusive; ``expected`` compares
  with what a mesh is configured to do.
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

from meshbook.analysis.attribution import AccessLogs, Evidence, LoadBalancer, attribute, parse_access_log
from meshbook.analysis.availability import Stream, downtime, outage_windows, streams
from meshbook.analysis.calibration import Fault, compare_with_truth, measures_truly
from meshbook.analysis.claims import (
    all_answered,
    answers_from_every_cluster,
    interrupted_at_most,
    returns_to_every_cluster,
    split_within,
    survives_outage,
)
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
from meshbook.analysis.expected import ExpectedShares, SampleSize, answers_as_expected, sample_size, split_as_expected
from meshbook.analysis.intervals import share_bounds, share_difference, share_interval, unchanged_from
from meshbook.analysis.load import (
    Capacity,
    Overload,
    answered_promptly,
    capacity,
    fewest_to_pass,
    is_late,
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
    pod_states,
    ready_endpoints,
)
from meshbook.analysis.phases import (
    ENDPOINTS_GONE,
    OUTAGE,
    RESTORE,
    SHARE_UNCHANGED,
    ChangeRequest,
    TrialRecord,
    phases,
    phases_to_display,
)

__all__ = [
    "ENDPOINTS_GONE",
    "NONE_EXPECTED",
    "NOT_TESTED",
    "OUTAGE",
    "PROVEN",
    "REACHABLE",
    "REFUTED",
    "RESTORE",
    "SHARE_UNCHANGED",
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
    "SampleSize",
    "Stream",
    "Subject",
    "TrialRecord",
    "all_answered",
    "answered_promptly",
    "answers_as_expected",
    "answers_from_every_cluster",
    "attribute",
    "capacity",
    "changes",
    "compare_with_truth",
    "coverage",
    "downtime",
    "fewest_to_pass",
    "gateways_answer",
    "interrupted_at_most",
    "is_late",
    "measures_truly",
    "outage_windows",
    "overload",
    "parse_access_log",
    "phases",
    "phases_to_display",
    "pod_states",
    "ready_endpoints",
    "returns_to_every_cluster",
    "sample_size",
    "share_bounds",
    "share_difference",
    "share_interval",
    "split_as_expected",
    "split_within",
    "streams",
    "survives_outage",
    "unchanged_from",
    "utilisation",
]
