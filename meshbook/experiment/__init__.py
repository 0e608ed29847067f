"""Failures from the kindest to the worst, each done several times, watched from everywhere and undone in between.

- ``rungs``: what is to be done (``Scene``, ``Pace``, ``rungs``), and its plans. Nothing is changed.
- ``calibrate``: what the measurement says of outages of a known length (``calibrating``). Frozen for that is the
  application, on a lab (``freezing``), or a workload of meshbook's own (``scratch``, stopped by ``holding``).
- ``climb``: do it (``climbing``); the only room that puts ``outage``, ``probes``, ``timeline`` and ``layers`` together.
- ``rounds``, ``ladder``, ``readable``: what came out, as tables (``rounds``; pure).
- ``claims``: what that proves, as verdicts (``judging``).
"""

from meshbook.analysis import phases_to_display as told
from meshbook.experiment.calibrating import calibrate
from meshbook.experiment.climbing import climb
from meshbook.experiment.judging import Limits, claims, claims_on
from meshbook.experiment.rounds import (
    Round,
    answers,
    headline,
    ladder,
    layers,
    loops,
    one_of_each,
    phases,
    readable,
    rounds,
)
from meshbook.experiment.rungs import Pace, Rung, Scene, by_context, plans, rungs

__all__ = [
    "Limits",
    "Pace",
    "Round",
    "Rung",
    "Scene",
    "answers",
    "by_context",
    "calibrate",
    "claims",
    "claims_on",
    "climb",
    "headline",
    "ladder",
    "layers",
    "loops",
    "one_of_each",
    "phases",
    "plans",
    "readable",
    "rounds",
    "rungs",
    "told",
]
