"""Take part of a cluster away and always bring it back.

- ``intent``: what is to be taken away, and under which conditions.
- ``modes``: how it can be taken away, by name; one file per kind beside it (``scaling``, ``deleting``, ``endpoints``,
  ``silence``).
- ``guards`` and ``headroom``: what must hold before; ``planning``: the plan that says so, printed before anything is
  touched.
- ``taking``: the ``with`` block; ``restoring``: bring back what a run left away that was killed; ``watchdog``: a Job
  that does so when nobody comes.
- ``records``: what is written on objects before they are changed, and what is told afterwards; ``subjects``: one such
  object. ``recorded``: what all modes have in common that write records; ``undoing``: how objects come back by them.
- ``liveness``: how a run shows that it lives, so that nobody brings back under its hands what it has taken away.

Measuring what users notice meanwhile is the work of ``probes``, ``timeline`` and ``judge``. A new way to take something
away is a class in ``modes.MODES``, a ``Recorded`` where it changes objects; a new kind of object also gets its
``Undoing`` and a line in ``restoring.UNDOING``.
"""

from __future__ import annotations

from meshbook.outage.guards import is_lab
from meshbook.outage.intent import Intent, Safeguards
from meshbook.outage.interrupts import signals_deferred, sigterm_unwinds
from meshbook.outage.modes import MODES
from meshbook.outage.planning import Plan, plan
from meshbook.outage.records import MODE, OF, REPLICAS, RUN, SINCE, Check, Outage, PendingRollback, Restored
from meshbook.outage.restoring import clusters_down, pending_rollbacks, restore, restore_clusters
from meshbook.outage.silence import Lab
from meshbook.outage.taking import outage, scaled_to_zero

__all__ = [
    "MODE",
    "MODES",
    "OF",
    "REPLICAS",
    "RUN",
    "SINCE",
    "Check",
    "Intent",
    "Lab",
    "Outage",
    "PendingRollback",
    "Plan",
    "Restored",
    "Safeguards",
    "clusters_down",
    "is_lab",
    "outage",
    "pending_rollbacks",
    "plan",
    "restore",
    "restore_clusters",
    "scaled_to_zero",
    "signals_deferred",
    "sigterm_unwinds",
]
