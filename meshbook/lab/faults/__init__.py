"""Faults on demand: what can be broken in a lab, each for a time, each undone, each stamped with when it was really on.

- ``spec``: what to ask for, and the record of what happened; plain data.
- ``client``: ask a running lab for faults, from another process (tests, the command). Synchronous.
- ``effects``: what each kind of fault does to pods and API servers, inside the lab's process.
- ``manager``: the faults that are on: ends them in time, keeps the log, and takes requests over HTTP.

A new kind of fault is an entry of ``spec.KINDS`` and a class of ``effects``. A fault is ended by the lab itself, so one
with a duration ends in time whatever becomes of who asked for it.
"""

from meshbook.lab.faults.client import FaultClient
from meshbook.lab.faults.effects import ClusterContext
from meshbook.lab.faults.manager import FaultManager, FaultServer
from meshbook.lab.faults.spec import KINDS, Edge, FaultRecord, FaultSpec, Moment

__all__ = [
    "KINDS",
    "ClusterContext",
    "Edge",
    "FaultClient",
    "FaultManager",
    "FaultRecord",
    "FaultServer",
    "FaultSpec",
    "Moment",
]
