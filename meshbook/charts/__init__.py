"""Frames to figures, each of which a manager understands and an engineer can check. Nothing is read, judged or saved.

- ``answers``: who answers, and how fast (``tables.ANSWERS``).
- ``outages``: one trial from the request to the restore (``tables.PHASES`` and the answers), and how long a service was
  unavailable in all of them (``tables.TRIALS``).
- ``matrix``: who answers whom, by which way and when (``tables.COVERAGE``), in HTML.
- ``figures``: what they share: styles, fonts, axes, words.

Figures are made without pyplot: no state is kept, and a figure shows once, where it is the value of a cell. matplotlib
is imported with the first chart, since it is slow to import and a notebook has work to begin with.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meshbook.charts.answers import latency_by_cluster, share_by_source
    from meshbook.charts.matrix import coverage
    from meshbook.charts.outages import downtime_by_step, timeline

__all__ = ["coverage", "downtime_by_step", "latency_by_cluster", "share_by_source", "timeline"]

_HOMES = {"coverage": "matrix", "latency_by_cluster": "answers", "share_by_source": "answers"}
_HOMES |= {"downtime_by_step": "outages", "timeline": "outages"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"meshbook.charts.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'meshbook.charts' has no attribute {name!r}")
