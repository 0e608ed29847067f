"""Runs of the runbook: notebooks executed by papermill, in this process, one after the other.

- ``parameters``: which notebooks with which parameters, checked before anything starts.
- ``execute``: one notebook. ``executed_copy``: its file. ``outcomes``: how it really ended. ``interrupts``: signals.
- ``session``: all of a run, and its record.
- ``kernels``: what notebooks are executed in, started ahead.
- ``secrets``: what must not be in an executed copy. ``redact``: takes it out.

What does not live here: HTML, tables and JUnit (``report``), what a notebook itself leaves (``notebook``), starting a
lab (``cli``).
"""

from meshbook.runs.interrupts import Interrupts
from meshbook.runs.outcomes import NotebookOutcome
from meshbook.runs.parameters import RunPlan, plan_run, runbook_folder, stages
from meshbook.runs.redact import Redactor
from meshbook.runs.secrets import Secrets, gather_secrets
from meshbook.runs.session import EndedNotebook, Run, Session, new_folder

__all__ = [
    "EndedNotebook",
    "Interrupts",
    "NotebookOutcome",
    "Redactor",
    "Run",
    "RunPlan",
    "Secrets",
    "Session",
    "gather_secrets",
    "new_folder",
    "plan_run",
    "runbook_folder",
    "stages",
]
