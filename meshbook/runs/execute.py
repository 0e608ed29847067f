"""Execute one notebook by papermill, in this process, into a redacted copy, and tell whoever listens how it goes on.

How it ended is worked out in ``outcomes``. Knows nothing of other notebooks: those are ``session``'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from meshbook import progress
from meshbook.language import of_reader
from meshbook.marks import is_read_in
from meshbook.runs.executed_copy import ExecutedCopy, papermill
from meshbook.runs.interrupts import Interrupts
from meshbook.runs.kernels import Kernels
from meshbook.runs.outcomes import KERNEL, NotebookOutcome, Stop

_ENGINE = "meshbook"
_START_TIMEOUT_S = 60
CELL_TIMEOUT_S = 3600.0
"""Seconds for a cell whose metadata says nothing (``meshbook.timeout_s``); its own waits end long before."""
ANNOUNCING = "announce"
"""Tag of a cell whose printed text is to be seen by whoever runs the notebook, as soon as it is there."""


def _engine() -> type[Any]:
    """Return papermill's engine, with an ear for what a cell tells while it runs."""
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import Engine

    class Client(PapermillNotebookClient):  # type: ignore[misc]
        follower: _Follower

        def process_message(self, msg: Mapping[str, Any], *where: Any) -> Any:
            self.follower.message(msg)
            return super().process_message(msg, *where)

    class Listening(Engine):  # type: ignore[misc]
        @classmethod
        def execute_managed_notebook(
            cls, nb_man: Any, kernel_name: str, *, follower: _Follower, manager: Any, **_: Any
        ) -> None:
            options = _client_options(follower)
            client = Client(nb_man, kernel_name=kernel_name, km=manager, **options)
            client.follower = follower
            client.execute(cleanup_kc=True)

    return Listening


class Watcher(Protocol):
    """Is told what happens, as it happens. Of a notebook's own words what must not be shown is taken out."""

    def notebook_starts(self, name: str, cells: int) -> None: ...
    def cell_starts(self, number: int, heading: str) -> None: ...
    def progress(self, text: str) -> None: ...
    def announced(self, text: str) -> None: ...
    def notebook_ended(self, name: str, outcome: NotebookOutcome, seconds: float) -> None: ...
    def restored(self, lines: Sequence[str]) -> None: ...


def execute(
    notebook: Path,
    copy: ExecutedCopy,
    parameters: Mapping[str, Any],
    interrupts: Interrupts,
    watcher: Watcher,
    kernels: Kernels,
) -> Stop | None:
    """Run ``notebook`` into ``copy``; return why it stopped early, None when every cell ran.

    Errors of cells, dead kernels and passed deadlines are returned. KeyboardInterrupt is raised when a second signal
    breaks the run off; what was saved until then is in ``copy``.
    """
    library = papermill()
    library.engines.papermill_engines.register(_ENGINE, _engine())
    try:
        manager = kernels.take(notebook)
        interrupts.kernel_started(manager.provisioner.pgid)
        library.execute_notebook(
            str(notebook),
            copy.address,
            parameters=dict(parameters),
            kernel_name=KERNEL,
            progress_bar=False,
            engine_name=_ENGINE,
            cwd=str(notebook.parent),
            follower=_Follower(interrupts, copy, watcher),
            manager=manager,
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


def _client_options(follower: _Follower) -> dict[str, Any]:
    return {
        "shutdown_kernel": "immediate",  # a graceful one stalls for seconds now and then, and cells clean up themselves
        "startup_timeout": _START_TIMEOUT_S,
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
    """Follows the cells of one notebook, and tells the watcher; called by nbclient with keyword arguments."""

    def __init__(self, interrupts: Interrupts, copy: ExecutedCopy, watcher: Watcher) -> None:
        self._interrupts, self._copy, self._watcher = interrupts, copy, watcher
        self._count, self._heading = 0, ""

    def message(self, message: Mapping[str, Any]) -> None:
        if text := progress.text_of(message):
            self._watcher.progress(self._copy.clean(text))

    def cell_starts(self, cell: Mapping[str, Any], cell_index: int) -> None:
        if self._interrupts.asked:
            raise Interrupted("a signal came between two cells")
        headings = [line for line in str(cell["source"]).splitlines() if line.startswith("#")]
        if cell["cell_type"] == "markdown" and headings and is_read_in(of_reader(), cell):
            self._heading = headings[-1].lstrip("# ")

    def code_starts(self, cell: Mapping[str, Any], cell_index: int) -> None:
        self._count += 1
        self._watcher.cell_starts(self._count, self._heading)

    def code_ended(self, cell: Mapping[str, Any], cell_index: int, execute_reply: object) -> None:
        if ANNOUNCING in cell["metadata"].get("tags", []):
            text = "".join(str(output["text"]) for output in cell["outputs"] if output.get("name") == "stdout")
            self._watcher.announced(self._copy.clean(text))
