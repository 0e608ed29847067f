"""Runs of the runbook: notebooks executed by papermill, in this process, one after the other.

What lives here: checking parameters before anything starts (``planning``, ``parameters``, ``selection``), executing
(``session`` → ``execution``), signals (``interrupts``), how a notebook really ended (``outcome``), and what must not be
in an executed copy (``secrets``, ``redaction``, ``copies``). What does not: HTML, tables and JUnit (``report``), what a
notebook itself leaves (``page``), starting a lab (``cli``).
"""

from meshbook.runs.interrupts import Interrupts
from meshbook.runs.outcome import Outcome
from meshbook.runs.planning import Plan, plan
from meshbook.runs.redaction import Redactor
from meshbook.runs.secrets import Secrets, gather
from meshbook.runs.selection import runbook_folder
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
