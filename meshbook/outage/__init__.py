"""Take part of a cluster down and always restore it.

- ``records``: what an outage is asked for (``Intent``, ``Safeguards``), what it writes on objects, what it tells.
- ``targets``: the objects that it changes, how each kind goes down and is restored; ``modes``: which, by name.
- ``safeguards``: what must hold before, and the plan that says so, printed before anything is touched.
- ``session``: the ``with`` block, and restore what a run left down that was killed; ``rollback``: the way back, which
  does not give up; ``lease``: whether a run lives; ``watchdog``: a Job that restores when nobody comes.
- ``lab``: what only a lab's cluster has.

Measuring what users notice meanwhile is the work of ``probes`` and ``analysis``. A new way to take something down is a
class in ``modes``, a new kind of object one in ``targets``.
"""

from meshbook.outage.lab import is_lab
from meshbook.outage.modes import MODES
from meshbook.outage.records import (
    MODE,
    OF,
    REPLICAS,
    RUN,
    SCALE_TO_ZERO,
    Check,
    Intent,
    Outage,
    PendingRollback,
    Restored,
    Safeguards,
)
from meshbook.outage.safeguards import Plan, plan
from meshbook.outage.session import (
    clusters_down,
    interrupted_once,
    outage,
    pending_rollbacks,
    restore,
)

__all__ = ["MODE", "MODES", "OF", "REPLICAS", "RUN", "SCALE_TO_ZERO", "Check", "Intent", "Outage"]
__all__ += ["PendingRollback", "Plan", "Restored", "Safeguards", "clusters_down", "interrupted_once", "is_lab"]
__all__ += ["outage", "pending_rollbacks", "plan", "restore"]
