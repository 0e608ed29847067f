"""Frames to figures, each of which a manager understands and an engineer can check. Nothing is read, judged or saved.

- ``answers``: who answers, and how fast (``tables.ANSWERS``).
- ``phases``: one outage from its order to the way back (``tables.PHASES`` and the answers).
- ``downtime``: how long a service was away, for each kind of failure (``tables.TRIALS``).
- ``figures``: what they share: looks, panels, words.

Figures are made without pyplot: no state is kept, and a figure shows once, where it is the value of a cell.
"""

from meshbook.charts.answers import latency_by_version, share_by_source
from meshbook.charts.downtime import downtime_by_step
from meshbook.charts.figures import WIDTH_IN
from meshbook.charts.phases import timeline

__all__ = ["WIDTH_IN", "downtime_by_step", "latency_by_version", "share_by_source", "timeline"]
