"""Frames to figures, each of which a manager understands and an engineer can check. Nothing is read, judged or saved.

- ``answers``: who answers, and how fast (``tables.ANSWERS``).
- ``outages``: one trial from the request to the restore (``tables.PHASES`` and the answers), and how long a service was
  unavailable in all of them (``tables.TRIALS``).
- ``figures``: what they share: styles, axes, words.

Figures are made without pyplot: no state is kept, and a figure shows once, where it is the value of a cell.
"""

from meshbook.charts.answers import latency_by_version, share_by_source
from meshbook.charts.outages import downtime_by_step, timeline

__all__ = ["downtime_by_step", "latency_by_version", "share_by_source", "timeline"]
