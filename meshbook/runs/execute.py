"""Execute one notebook by papermill, in this process, into a redacted copy; and work out how it really ended.

papermill's own account of an ended run is right for plain cell errors only: it marks cells as completed that never ran
(a dead kernel, a deadline), and calls ``sys.exit(0)`` a success. So nothing passes here without the mark of
``notebook.leave_verdict`` in the last cell. Knows nothing of other notebooks: those are ``session``'s.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Protocol, cast

from meshbook import progress, rows
from meshbook.errors import RunError
from meshbook.language import LANGUAGES
from meshbook.notebook import is_read_in, marks_of, row_marks, without_slow_imports
from meshbook.rows import PLACE_VARIABLE, KeptRows, whole_file
from meshbook.runs.kernels import TEMPORARY, WaitingKernel, manager_class
from meshbook.runs.redact import Redactor
from meshbook.verdict import State, shown

KERNEL = "python3"
_ENGINE = "meshbook"
_START_TIMEOUT_S = 60
CELL_TIMEOUT_S = 3600.0
"""Seconds for a cell whose metadata says nothing (``meshbook.timeout_s``); its own waits end long before."""
GRACE_S = 90.0
"""Seconds that an interrupted cell may take to clean up: a rollout back to its replicas on a real cluster fits."""

ANNOUNCING = "announce"
"""Tag of a cell whose printed text is to be seen by whoever runs the notebook, as soon as it is there."""


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_BANNER_TAG = "papermill-error-cell-tag"
_SCHEME = "executed-copy://"
_SAVE_EVERY_S = 2.0
_open: dict[str, ExecutedCopy] = {}


def papermill() -> ModuleType:
    without_slow_imports()
    import papermill as library

    return library  # type: ignore[no-any-return]


class Interrupts:
    """What was asked for so far, and the kernel that a signal is passed on to.

    ``told`` is called inside the handler of each signal that does not break off at once, so that whoever sent it gets a
    word: the first, which a kernel gets, and those that come while something is being restored.
    """

    def __init__(self, grace_s: float = GRACE_S, told: Callable[[], None] = lambda: None) -> None:
        self.asked = self._deferred = False
        self._told = told
        self._grace_s = grace_s
        self._kernel: int | None = None
        self._timer: threading.Timer | None = None

    @contextlib.contextmanager
    def handled(self) -> Iterator[Interrupts]:
        """Take over the signals for the body's time. Only the main thread may enter."""
        before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            yield self
        finally:
            self.kernel_ended()
            for number, handler in before.items():
                signal.signal(number, handler)

    def kernel_started(self, process_group: int) -> None:
        self._kernel, self._deferred = process_group, False

    def kernel_ended(self) -> None:
        """From here to the next kernel no signal cuts anything short: what is down is restored."""
        self._kernel, self._deferred = None, True
        if self._timer is not None:
            self._timer.cancel()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        first, self.asked = not self.asked, True
        if self._deferred:
            self._told()
            return
        if not first or self._kernel is None:
            self._deferred = True  # broken off once is enough: what comes after it restores
            raise KeyboardInterrupt
        self._told()
        self._timer = threading.Timer(self._grace_s, signal.raise_signal, [signal.SIGINT])
        self._timer.daemon = True
        self._timer.start()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._kernel, signal.SIGINT)


class ExecutedCopy:
    """One executed notebook's file, and the files with its rows. ``address`` is the output path for papermill.

    The kernel writes into the folder ``private``; only redacted rows of it come to lie beside the copy.
    """

    def __init__(self, path: Path, redactor: Redactor, private: Path) -> None:
        self.path = path
        self.address = _SCHEME + path.name
        self.private = private
        self._redactor = redactor
        self._saved_at = 0.0
        self._rows: dict[tuple[str, str], KeptRows] = {}
        self.latest: dict[str, Any] = {}
        """The notebook as last saved, as JSON data with whole texts; empty until the first save."""
        _register()
        _open[self.address] = self

    def save(self, text: str) -> None:
        self.latest = _format().reads(text, as_version=4)
        if time.monotonic() - self._saved_at >= _SAVE_EVERY_S:
            self._write()

    def finish(self) -> None:
        """Write ``latest`` as the last word; RunError, and no file, when the redaction missed something."""
        _open.pop(self.address, None)
        try:
            self._write()
        except RunError:
            for path in self.path.parent.glob(f"{self.path.stem}.*"):
                path.unlink()
            raise

    def _write(self) -> None:
        clean = self._redactor.document(self.latest)
        self._redactor.require_clean(clean, name=self.path.name)
        shown = row_marks(clean)
        for name, mark in zip(shown, row_marks(self.latest).values(), strict=True):
            shown[name].update(self._redacted_rows(KeptRows(**mark), name).to_dict())
        write_whole(self.path, _format().writes(_format().from_dict(clean)) + "\n")
        self._saved_at = time.monotonic()

    def _redacted_rows(self, kept: KeptRows, name: str) -> KeptRows:
        """Bring rows from ``private`` to lie beside the copy, without what must not be shown; once for each content."""
        content = name, kept.sha256
        if content not in self._rows and rows.is_beside(kept, self.private):
            table = self._redactor.table(rows.read(kept, self.private))
            self._redactor.require_clean_table(table, name=kept.file)
            self._rows[content] = rows.write(table, self.path.parent, self.path.stem, name)
        return self._rows.get(content, kept)


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` so that a reader sees the old file or the new one, never a part."""
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


class _Handler:
    """What papermill calls for a path: see papermill.iorw."""

    @staticmethod
    def write(text: str, path: str) -> None:
        _open[path].save(text)

    @staticmethod
    def pretty_path(path: str) -> str:
        return path


def _register() -> None:
    library = papermill()
    registry = library.iorw.papermill_io
    if not any(scheme == _SCHEME for scheme, _ in registry._handlers):
        registry.register(_SCHEME, _Handler)
        library.engines.papermill_engines.register(_ENGINE, _engine())


def _engine() -> type[Any]:
    """Return papermill's engine, with an ear for what a cell tells while it runs."""
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import Engine

    class Client(PapermillNotebookClient):  # type: ignore[misc]
        listener: Listener

        def process_message(self, msg: Mapping[str, Any], *where: Any) -> Any:
            if text := progress.text_of(msg):
                self.listener.progress(text)
            return super().process_message(msg, *where)

    class Listening(Engine):  # type: ignore[misc]
        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, *, listener: Listener, **options: Any) -> None:
            unknown = {"log_output", "input_path", "execution_timeout", "start_timeout"}
            options = {name: value for name, value in options.items() if name not in unknown}
            client = Client(nb_man, kernel_name=kernel_name, startup_timeout=_START_TIMEOUT_S, **options)
            client.listener = listener
            client.execute()

    return Listening


def _format() -> ModuleType:
    papermill()
    import nbformat

    return nbformat


class Listener(Protocol):
    """Is told how a notebook goes on, as it does."""

    def cell_starts(self, number: int, heading: str) -> None:
        """Take the number of the code cell that starts, from 1, and the heading above it."""

    def progress(self, text: str) -> None:
        """Take a line on where the running cell is, and what it waits for."""

    def announced(self, text: str) -> None:
        """Take what a cell with the tag ``announce`` has printed."""


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Why papermill came back without reaching the notebook's end: an error of a cell, of the kernel, or its own."""

    name: str
    message: str


def execute(
    notebook: Path,
    copy: ExecutedCopy,
    parameters: Mapping[str, Any],
    interrupts: Interrupts,
    listener: Listener,
    waiting: WaitingKernel | None = None,
) -> Stop | None:
    """Run ``notebook`` into ``copy``; return why it stopped early, None when every cell ran.

    Errors of cells, dead kernels and passed deadlines are returned. KeyboardInterrupt is raised when a second signal
    breaks the run off; what was saved until then is in ``copy``.
    """
    library = papermill()
    environment = {PLACE_VARIABLE: str(copy.private / copy.path.stem), TEMPORARY: str(copy.private)}
    try:
        library.execute_notebook(
            str(notebook),
            copy.address,
            parameters=dict(parameters),
            kernel_name=KERNEL,
            progress_bar=False,
            engine_name=_ENGINE,
            cwd=str(notebook.parent),
            kernel_manager_class=manager_class(interrupts, environment, waiting),
            listener=listener,
            **_engine_options(_Follower(interrupts, listener)),
        )
    except library.PapermillExecutionError as error:
        return Stop(name=error.ename, message=error.evalue)
    except Exception as error:  # noqa: BLE001 -- a dead kernel, a deadline, no such kernel: each ends this notebook only
        return Stop(name=type(error).__name__, message=str(error).strip().partition("\n")[0])
    finally:
        interrupts.kernel_ended()
    return None


class Interrupted(Exception):
    """A signal came while no cell was running, and no further one is started."""


def _engine_options(follower: _Follower) -> dict[str, Any]:
    from traitlets.config import Config

    return {
        "config": Config(KernelManager={"transport_encryption": "auto"}),  # else each kernel warns of plain TCP
        "shutdown_kernel": "immediate",  # a graceful one stalls for seconds now and then, and cells clean up themselves
        "coalesce_streams": True,
        "timeout_func": _timeout_s,
        "interrupt_on_timeout": True,  # of all ends by deadline the only one in which a cell's finally runs
        "on_cell_start": follower.cell_starts,
        "on_cell_execute": follower.code_starts,
        "on_cell_executed": follower.code_ended,
    }


def _timeout_s(cell: Mapping[str, Any]) -> float:
    return float(cell["metadata"].get("meshbook", {}).get("timeout_s", CELL_TIMEOUT_S))


class _Follower:
    """Follows the cells of one notebook as they start; called by nbclient with keyword arguments."""

    def __init__(self, interrupts: Interrupts, listener: Listener) -> None:
        self._interrupts, self._listener = interrupts, listener
        self._count, self._heading = 0, ""

    def cell_starts(self, cell: Mapping[str, Any], cell_index: int) -> None:
        if self._interrupts.asked:
            raise Interrupted("a signal came between two cells")
        headings = [line for line in str(cell["source"]).splitlines() if line.startswith("#")]
        if cell["cell_type"] == "markdown" and headings and is_read_in(LANGUAGES[0], cell):
            self._heading = headings[-1].lstrip("# ")

    def code_starts(self, cell: Mapping[str, Any], cell_index: int) -> None:
        self._count += 1
        self._listener.cell_starts(self._count, self._heading)

    def code_ended(self, cell: Mapping[str, Any], cell_index: int, execute_reply: object) -> None:
        if ANNOUNCING in cell["metadata"].get("tags", []):
            text = "".join(str(output["text"]) for output in cell["outputs"] if output.get("name") == "stdout")
            self._listener.announced(text)


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
        return NotebookOutcome(
            state="error", error=RunError.__name__, message="ended without a verdict in its last cell"
        )
    if stop.name == "KeyboardInterrupt":
        return NotebookOutcome(
            state="error", error="CellTimeout", message="a cell ran past its deadline and was interrupted"
        )
    return NotebookOutcome(state="error", error=stop.name, message=stop.message)


def _code(notebook: Mapping[str, Any]) -> list[Any]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]


def repair(notebook: dict[str, Any], outcome: NotebookOutcome, *, name: str) -> None:
    """Make the copy say what happened: cell statuses, exception flag, kernel name, no paths, no misleading banner."""
    judged = outcome.state in ("pass", "fail", "inconclusive")
    if judged:
        notebook["cells"] = [cell for cell in notebook["cells"] if _BANNER_TAG not in cell["metadata"].get("tags", [])]
    ran = [cell for cell in _code(notebook) if cell.get("execution_count") is not None]
    for cell in notebook["cells"]:
        _repair_cell(cell, failed=not judged and bool(ran) and cell is ran[-1])
    metadata = notebook["metadata"]
    metadata["kernelspec"] = {"name": KERNEL, "display_name": "Python 3 (ipykernel)", "language": "python"}
    metadata.setdefault("papermill", {}).update(
        input_path=f"notebooks/{name}", output_path=name, exception=None if judged else True
    )
    account = {"state": outcome.state, "error": outcome.error, "message": outcome.message}
    metadata["meshbook"] = {**metadata.get("meshbook", {}), **account}


def _repair_cell(cell: dict[str, Any], *, failed: bool) -> None:
    record = cell["metadata"].get("papermill")
    if record is None or cell["cell_type"] != "code":
        return
    if cell.get("execution_count") is None:
        record.update(status="pending", exception=None)
    else:
        record.update(status="failed" if failed else "completed", exception=failed)
