"""When a service was away, out of the rows of an open loop: pure functions from ANSWERS to WINDOWS, with error bars.

- ``evidence``: what a single request proves about the service, and the longest time that requests leave unproved.
- ``pace``: how long the service takes to answer while it is there.
- ``outages``: the windows, each with its edges and its length as ranges, and what of the time was watched at all.
- ``readings``: the same for one time of interest, with what no window shows.
- ``calibration``: windows held against faults whose true begin and end are known.

What is measured here is the service as a caller has it: away is when requests sent get no answer. Nothing is judged.
"""

from __future__ import annotations

from meshbook.windows.calibration import Fault, calibrate
from meshbook.windows.evidence import Gap, gaps
from meshbook.windows.outages import coverage, outage_windows
from meshbook.windows.readings import Reading, readings

__all__ = ["Fault", "Gap", "Reading", "calibrate", "coverage", "gaps", "outage_windows", "readings"]
