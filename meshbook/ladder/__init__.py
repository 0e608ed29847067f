"""Failures from the kindest to the worst, each done several times, watched from everywhere and undone in between.

- ``rungs``: what is to be done (``Scene``, ``Pace``, ``Consent``, ``rungs``), and its plans. Nothing is changed.
- ``climb``: do it (``climbing``); the only room that puts ``outage``, ``probes``, ``timeline`` and ``layers`` together.
- ``rounds``, ``ladder``, ``readable``: what came out, as tables (``rounds``; pure).
- ``claims``: what that proves, as verdicts (``judging``).
"""

from meshbook.ladder.climbing import climb
from meshbook.ladder.judging import Limits, claims
from meshbook.ladder.rounds import Round, headline, ladder, readable, rounds
from meshbook.ladder.rungs import Consent, Pace, Rung, Scene, by_context, plans, rungs

__all__ = [
    "Consent",
    "Limits",
    "Pace",
    "Round",
    "Rung",
    "Scene",
    "by_context",
    "claims",
    "climb",
    "headline",
    "ladder",
    "plans",
    "readable",
    "rounds",
    "rungs",
]
