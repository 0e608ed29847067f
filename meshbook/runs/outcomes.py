"""How an executed notebook really ended, and a copy that says so.

papermill's own account is right for plain cell errors only: it marks cells as completed that never ran (a dead kernel,
a deadline), and calls ``sys.exit(0)`` a success. So nothing passes here without the mark of ``notebook.leave_verdict``
in the last cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from meshbook.errors import RunError
from meshbook.marks import BANNER_TAG, marks_of
from meshbook.verdict import State, shown

KERNEL = "python3"


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Why papermill came back without reaching the notebook's end: an error of a cell, of the kernel, or its own."""

    name: str
    message: str


@dataclass(frozen=True, kw_only=True)
class NotebookOutcome:
    """How a notebook ended. ``error`` and ``message`` say why, for states without a verdict."""

    state: State
    shown: str = ""
    """The word for it where that is another one: a dry run has passed nothing."""
    error: str = ""
    message: str = ""


def outcome_of(notebook: Mapping[str, Any], stop: Stop | None, *, interrupted: bool) -> NotebookOutcome:
    """Return how the executed ``notebook`` ended. ``stop`` is papermill's reason to end early, if it did."""
    marks = marks_of(notebook)
    judged = marks.outcome != "error" and (stop is None or stop.name == RunError.__name__)
    if judged:
        claims = marks.verdict["claims"] if marks.verdict else ()
        return NotebookOutcome(state=cast(State, marks.outcome), shown=shown(marks.outcome, claims))
    if interrupted:
        return NotebookOutcome(state="interrupted", error="KeyboardInterrupt", message="interrupted by a signal")
    if stop is None:
        stop = Stop(name=RunError.__name__, message="ended without a verdict in its last cell")
    elif stop.name == "KeyboardInterrupt":
        stop = Stop(name="CellTimeout", message="a cell ran past its deadline and was interrupted")
    return NotebookOutcome(state="error", error=stop.name, message=stop.message)


def repair(notebook: dict[str, Any], outcome: NotebookOutcome, *, name: str) -> None:
    """Make the copy say what happened: cell statuses, exception flag, kernel name, no paths, no misleading banner."""
    judged = outcome.state in ("pass", "fail", "inconclusive")
    if judged:
        notebook["cells"] = [cell for cell in notebook["cells"] if BANNER_TAG not in cell["metadata"].get("tags", [])]
    ran = [cell for cell in notebook["cells"] if cell.get("execution_count") is not None]
    failed = ran[-1] if ran and not judged else None
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code" and (record := cell["metadata"].get("papermill")) is not None:
            has_run = cell["execution_count"] is not None
            status = "failed" if cell is failed else "completed" if has_run else "pending"
            record.update(status=status, exception=cell is failed if has_run else None)
    metadata = notebook["metadata"]
    metadata["kernelspec"] = {"name": KERNEL, "display_name": "Python 3 (ipykernel)", "language": "python"}
    metadata.setdefault("papermill", {}).update(
        input_path=f"notebooks/{name}", output_path=name, exception=None if judged else True
    )
    account = {"state": outcome.state, "error": outcome.error, "message": outcome.message}
    metadata["meshbook"] = {**metadata.get("meshbook", {}), **account}
