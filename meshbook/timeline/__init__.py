"""What happened when, in one outage: seen in the API servers and by callers, on the clock of this machine.

- ``Observer``: watches a Service in every cluster while something happens to it (``observing``: the threads).
- ``phases``: a ``Story`` (orders, answers, changes) to a frame of ``tables.PHASES``; ``servers`` and ``callers`` make
  its rows, ``shares`` tests whether a share is as before. All pure.
- ``sightings``: what was seen, and between which two moments it changed. Pure.

Taking something away is ``outage``'s work, sending requests that of ``probes``; a new phase goes to who sees it.
"""

from meshbook.timeline.observing import Observer
from meshbook.timeline.phases import phases, readable
from meshbook.timeline.sightings import Change
from meshbook.timeline.story import BACK, GOING, Order, Story

__all__ = ["BACK", "GOING", "Change", "Observer", "Order", "Story", "phases", "readable"]
