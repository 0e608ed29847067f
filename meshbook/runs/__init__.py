"""Runs of the runbook: notebooks executed by papermill, in this process, one after the other.

- ``parameters``: which notebooks with which parameters, checked before anything starts.
- ``execute``: one notebook, signals included, and how it really ended. ``session``: all of a run, and its record.
- ``redact``: what must not be in an executed copy.

What does not live here: HTML, tables and JUnit (``report``), what a notebook itself leaves (``notebook``), starting a
lab (``cli``).
"""

from meshbook.runs.execute import Interrupts, Outcome
from meshbook.runs.parameters import Plan, plan, runbook_folder
from meshbook.runs.redact import Redactor, Secrets, gather
from meshbook.runs.session import Ended, Run, Session, new_folder

__all__ = [
    "Ended",
    "Interrupts",
    "Outcome",
    "Plan",
    "Redactor",
    "Run",
    "Secrets",
    "Session",
    "gather",
    "new_folder",
    "plan",
    "runbook_folder",
]
