"""The measurement's own error: something frozen for known times, and what was measured of that.

What can be frozen is the application, on a lab (``freezing``), or a workload of meshbook's own, anywhere (``scratch``).
Holding the windows against the truth is ``analysis.calibrate``'s work.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from meshbook import analysis, probes, tables
from meshbook.analysis import Fault
from meshbook.clusters import pause
from meshbook.errors import UsageError
from meshbook.experiment.freezing import Freezable, application, is_possible
from meshbook.experiment.holding import require_possible
from meshbook.experiment.rungs import Pace, Scene
from meshbook.experiment.scratch import scratch

SUBJECTS = {"application": application, "scratch": scratch}
"""What can be frozen, by name; each is a context manager over a Scene."""
_LULL_S = 1.0
"""Seconds after each freeze, and before the first one, so that its edges stand alone."""


def calibrate(scene: Scene, pace: Pace, lengths_s: Sequence[float], on: str = "") -> pd.DataFrame:
    """Freeze something for each of ``lengths_s``; return CALIBRATION, empty without lengths.

    ``on`` names it: ``application`` (all clusters at once, on a lab only) or ``scratch`` (a workload of meshbook's own,
    gone again afterwards). By default the application on a lab, and scratch elsewhere.
    """
    chosen = on or ("application" if is_possible(scene) else "scratch")
    if chosen not in SUBJECTS:
        raise UsageError(f"a calibration cannot freeze {on!r}", hint=f"one of {', '.join(SUBJECTS)}")
    if not lengths_s:
        return tables.empty(tables.CALIBRATION)
    if chosen == "scratch":
        require_possible(lengths_s)
    with SUBJECTS[chosen](scene) as subject:
        return measured(subject, scene, pace, lengths_s)


def measured(subject: Freezable, scene: Scene, pace: Pace, lengths_s: Sequence[float]) -> pd.DataFrame:
    """Freeze ``subject`` for each of ``lengths_s`` under requests from everywhere; return CALIBRATION."""

    def frozen(length_s: float) -> Fault:
        fault = subject.freeze(length_s)
        pause(_LULL_S)
        return fault

    pacing = {"rate_per_s": pace.rate_per_s, "timeout_s": pace.timeout_s}
    with probes.watch(scene.fleet, subject.outside, subject.inside, namespace=scene.namespace, **pacing) as watch:
        pause(_LULL_S + pace.before_s)
        faults = [frozen(length_s) for length_s in lengths_s]
        return analysis.calibrate(watch.stop(), faults)
