"""Experiments: failure modes in one cluster or another, each tried under load, watched from everywhere and restored.

- ``plan``: what is to be done (``Target``, ``LoadProfile``, ``Step``); ``checks``: what must hold before. Nothing is
  changed.
- ``load``: what the service bears, and the rate, the length and the limits that fit it.
- ``causes``: why sources are not answered, before an outage and after it.
- ``run``: do it; the only place where ``outage``, ``probes`` and ``analysis`` meet. ``observation``: what clusters show
  meanwhile, their access logs included.
- ``results``: what came out, as tables (``Results``); ``verdicts``: what they prove. Pure.
- ``calibration``: what the measurement says of outages whose length is known.

A new failure mode is ``outage``'s, a new claim ``analysis``'s.
"""

from meshbook.experiment.calibration import LONGEST_PAUSE_S, PAUSE_SCRIPT, ProcessPause, calibrate, scratch_workload
from meshbook.experiment.causes import causes
from meshbook.experiment.checks import plans
from meshbook.experiment.load import fit_limits, fit_load
from meshbook.experiment.observation import Observer, access_logs, health_check, load_balancer
from meshbook.experiment.plan import Limits, LoadProfile, Step, Target, find_target, steps
from meshbook.experiment.results import NotDone, Results, Trial, summary, summary_to_display
from meshbook.experiment.run import run, run_trials
from meshbook.experiment.verdicts import claims

__all__ = ["LONGEST_PAUSE_S", "PAUSE_SCRIPT", "Limits", "LoadProfile", "NotDone", "Observer", "ProcessPause"]
__all__ += [
    "Results",
    "Step",
    "Target",
    "Trial",
    "access_logs",
    "calibrate",
    "causes",
    "claims",
    "find_target",
    "fit_limits",
]
__all__ += [
    "fit_load",
    "health_check",
    "load_balancer",
    "plans",
    "run",
    "run_trials",
    "scratch_workload",
]
__all__ += ["steps", "summary", "summary_to_display"]
