"""Faults on demand: what can be broken in a lab, each for a time, each undone, each stamped with when it was really on.

- ``wanted``: what to ask for, and the record of what happened; plain data.
- ``asking``: ask a running lab for faults, from another process (tests, the command). Light and synchronous.
- ``effects``: what each kind of fault does to pods and API servers, inside the lab's process.
- ``board``: the faults that are on; ends them in time, and keeps the log.
- ``control``: the HTTP server on loopback, behind a token, by which ``asking`` reaches ``board``.

A new kind of fault is an entry of ``effects.EFFECTS`` and of ``wanted.KINDS``. A fault is ended by the lab itself, so
one with a duration ends in time whatever becomes of who asked for it.
"""

from __future__ import annotations

from meshbook.lab.faults.asking import Control
from meshbook.lab.faults.wanted import KINDS, Edge, Moment, Record, Wanted

__all__ = ["KINDS", "Control", "Edge", "Moment", "Record", "Wanted"]
