"""One run: its folder, its notebooks one after the other, and ``run.json``, which says how it went.

The parent owns clean-up: when a notebook that takes workloads down did not end by itself, ``restore`` is called from
here, since a kernel's own ``finally`` cannot be relied on.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from meshbook.errors import LeftToRunError, MeshbookError, NotRestoredError, UsageError
from meshbook.runs.execute import Watcher, execute
from meshbook.runs.executed_copy import ExecutedCopy, write_whole
from meshbook.runs.interrupts import Interrupts
from meshbook.runs.kernels import Kernels
from meshbook.runs.outcomes import NotebookOutcome, Stop, outcome_of, repair
from meshbook.runs.parameters import PlannedNotebook, RunPlan
from meshbook.runs.redact import Redactor
from meshbook.settings import RUN_FILE
from meshbook.verdict import PASS, State, worst

_PREFIX = "meshbook-run-"
_UNTOUCHED_S = 600.0
"""Seconds after which a folder without a lock is a killed run's: one that is just being made has none yet."""


Restore = Callable[[Mapping[str, Any]], Sequence[str]]
"""Restores what a notebook with these parameter values may have left down; returns one line for each."""


@dataclass(frozen=True, kw_only=True)
class EndedNotebook:
    """How one notebook of a run ended."""

    notebook: str
    state: State
    seconds: float
    error: str = ""
    message: str = ""


@dataclass(kw_only=True)
class Run:
    """A run as it goes on; written to ``run.json`` after each notebook."""

    folder: Path
    run_id: str
    started: datetime
    parameters: Mapping[str, Any]
    notebooks: list[EndedNotebook] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)
    not_restored: list[str] = field(default_factory=list)
    """What is down still, each with what restores it."""

    @property
    def outcome(self) -> State:
        """Worst first: interrupted, error, fail, inconclusive; pass needs every notebook's pass."""
        return worst((ended.state for ended in self.notebooks), "error")


def new_folder(out: Path, label: str, run_id: str = "") -> Path:
    """Make the folder of a new run and return it, absolute: ``out/<run id>``, by default ``20260131-094500-<label>``.

    Absolute, because notebooks are executed in their own folder.
    """
    if run_id and ("/" in run_id or run_id in (".", "..")):
        raise UsageError(f"a run's id is the name of a folder, not {run_id!r}")
    stem = run_id or f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{label}"
    for number in range(1, 100):
        folder = out.resolve() / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError as error:
            if run_id:
                raise UsageError(f"there is a run {run_id} in {out} already", hint="choose another --run-id") from error
        except OSError as error:
            raise UsageError(f"cannot make the folder {folder}: {error}") from error
        else:
            return folder
    raise UsageError(f"too many runs named {stem} in {out}")


class Session:
    """Executes a plan into a folder. ``keep_going`` runs later stages after one that did not pass."""

    def __init__(
        self, plan: RunPlan, folder: Path, redactor: Redactor, watcher: Watcher, restore: Restore, *, keep_going: bool
    ) -> None:
        self._plan, self._redactor, self._watcher, self._restore = plan, redactor, watcher, restore
        self._keep_going = keep_going
        parameters = {name: value for step in plan.steps for name, value in step.values().items()}
        self.run = Run(folder=folder, run_id=folder.name, started=datetime.now(UTC), parameters=parameters)

    def execute(self, interrupts: Interrupts) -> Run:
        """Run the plan's notebooks and return the record. Signals end it early; they are not raised."""
        with (
            interrupts.handled(),
            _private_folder() as private,
            contextlib.closing(Kernels([step.notebook for step in self._plan.steps], Path(private))) as self._kernels,
        ):
            self._private = Path(private)
            for step in self._plan.steps:
                self.run.notebooks.append(self._next(step, interrupts))
                self._write()
        self._write(finished=datetime.now(UTC))
        return self.run

    def _next(self, step: PlannedNotebook, interrupts: Interrupts) -> EndedNotebook:
        before = next((ended for ended in self.run.notebooks if ended.state != PASS), None)
        if interrupts.asked:  # of a run that did not reach it, whatever passed before is no pass
            message = "not started: the run was interrupted"
            return EndedNotebook(notebook=step.name, state="interrupted", seconds=0.0, message=message)
        if before and not self._keep_going:
            message = f"not started: {before.notebook} did not pass"
            return EndedNotebook(notebook=step.name, state="skipped", seconds=0.0, message=message)
        return self._one(step, interrupts)

    def _one(self, step: PlannedNotebook, interrupts: Interrupts) -> EndedNotebook:
        began = time.monotonic()
        self._watcher.notebook_starts(step.name, _count_code(step))
        copy = ExecutedCopy(self.run.folder / step.notebook.name, self._redactor, self._private)
        stop: Stop | None = Stop(name="KeyboardInterrupt", message="broken off by a second signal")
        try:
            stop = execute(step.notebook, copy, step.given, interrupts, self._watcher, self._kernels)
        except KeyboardInterrupt:
            interrupts.kernel_ended()
        outcome = self._finish(step, copy, stop, interrupted=interrupts.asked)
        seconds = round(time.monotonic() - began, 2)
        self._watcher.notebook_ended(step.name, outcome, seconds)
        if outcome.state in ("error", "interrupted", "fail") and _disrupts(copy.latest):
            self._restore_after(step, _last_words(copy.latest))
        message = self._redactor.text(outcome.message)
        return EndedNotebook(
            notebook=step.name, state=outcome.state, seconds=seconds, error=outcome.error, message=message
        )

    def _finish(
        self, step: PlannedNotebook, copy: ExecutedCopy, stop: Stop | None, *, interrupted: bool
    ) -> NotebookOutcome:
        if not copy.latest:
            reason = stop or Stop(name="RunError", message="nothing was executed")
            state: State = "interrupted" if interrupted else "error"
            return NotebookOutcome(state=state, error=reason.name, message=reason.message)
        outcome = outcome_of(copy.latest, stop, interrupted=interrupted)
        repair(copy.latest, outcome, name=step.notebook.name)
        try:
            copy.finish()
        except (MeshbookError, OSError) as error:  # a full disk is no reason not to restore what is down
            return NotebookOutcome(state="error", error=type(error).__name__, message=str(error))
        return outcome

    def _restore_after(self, step: PlannedNotebook, told: Sequence[str]) -> None:
        """Restore what the notebook has left down; ``told`` is what it says that it has restored itself."""
        try:
            lines = [*told, *self._restore(step.values())]
        except (MeshbookError, KeyboardInterrupt) as error:
            told = f"could not be restored ({type(error).__name__}: {error})"
            lines = [told if "try: " in told else f"{told}; try: meshbook restore"]
            self.run.not_restored += _commands(error)  # as they can be called: the files get them redacted
        self.run.restored += [self._redactor.text(line) for line in lines]
        self._watcher.restored(lines)

    def _write(self, finished: datetime | None = None) -> None:
        run = self.run
        record = {
            "run_id": run.run_id,
            "outcome": run.outcome,
            "started": run.started.isoformat(timespec="seconds"),
            "finished": finished.isoformat(timespec="seconds") if finished else None,
            "meshbook": version("meshbook"),
            "python": platform.python_version(),
            "parameters": run.parameters,
            "planned": [step.name for step in self._plan.steps],
            "notebooks": [asdict(ended) for ended in run.notebooks],
            "restored": run.restored,
            **({"not_restored": run.not_restored} if run.not_restored else {}),
        }
        clean = self._redactor.document(record)
        write_whole(run.folder / RUN_FILE, json.dumps(clean, ensure_ascii=False, indent=1) + "\n")


@contextlib.contextmanager
def _private_folder() -> Iterator[str]:
    """Yield a folder of this run alone, and first remove those of runs that were killed: rows in them are not redacted.

    A run holds a lock on its folder while it lives, which ends with its process however that ends.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or a living run's
            if time.time() - left.stat().st_mtime > _UNTOUCHED_S:
                with _locked(left):
                    shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True) as private, _locked(Path(private)):
        yield private


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of ``folder``, which ends with this process; OSError when another holds it."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(opened)


def _commands(error: BaseException) -> list[str]:
    if isinstance(error, LeftToRunError):
        return [f"{error.message}: {error.hint}"]
    by_hand = error.by_hand if isinstance(error, NotRestoredError) else {}
    told = error.message if isinstance(error, MeshbookError) else type(error).__name__
    return [f"{name}: {command}" for name, command in by_hand.items()] or [f"{told}: meshbook restore"]


def _last_words(notebook: Mapping[str, Any]) -> list[str]:
    """Return what the last cell that ran has written to stderr."""
    ran = [cell for cell in notebook["cells"] if cell.get("execution_count") is not None]
    outputs = ran[-1]["outputs"] if ran else []
    return "".join(one["text"] for one in outputs if one.get("name") == "stderr").splitlines()


def _disrupts(notebook: Mapping[str, Any]) -> bool:
    return bool(notebook.get("metadata", {}).get("meshbook", {}).get("disrupts"))


def _count_code(step: PlannedNotebook) -> int:
    cells = json.loads(step.notebook.read_text(encoding="utf-8"))["cells"]
    return len([cell for cell in cells if cell["cell_type"] == "code"]) + bool(step.given)
