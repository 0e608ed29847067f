"""Frames to figures, each of which a manager understands and an engineer can check. Nothing is read, judged or saved.

- ``answers``: who answers, and how fast (``tables.ANSWERS``).
- ``phases``: one outage from its order to the way back (``tables.PHASES`` and the answers).
- ``rungs``: how long a service was away, for each kind of failure (``tables.ROUNDS``).
- ``figures``: what they share: looks, panels, words.

Figures are made without pyplot: no state is kept, and a figure shows once, where it is the value of a cell.
"""

from meshbook.charts.answers import latency_by_version, share_by_source
from meshbook.charts.figures import WIDTH_IN
from meshbook.charts.phases import timeline
from meshbook.charts.rungs import ladder

__all__ = ["WIDTH_IN", "ladder", "latency_by_version", "share_by_source", "timeline"]
