"""Execute one notebook by papermill, in this process, and say why it stopped. Knows nothing of other notebooks.

papermill's own account of an ended run is right for plain cell errors only; ``outcome`` works it out anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from meshbook.runs.copies import ExecutedCopy
from meshbook.runs.interrupts import Interrupts
from meshbook.runs.papermilling import papermill

KERNEL = "python3"
START_TIMEOUT_S = 60
CELL_TIMEOUT_S = 3600.0
"""Seconds for a cell whose metadata says nothing (``meshbook.timeout_s``); its own waits end long before."""

ANNOUNCING = "announce"
"""Tag of a cell whose printed text is to be seen by whoever runs the notebook, as soon as it is there."""


class Listener(Protocol):
    """Is told how a notebook goes on, as it does."""

    def cell_starts(self, number: int, heading: str) -> None:
        """Take the number of the code cell that starts, from 1, and the heading above it."""

    def announced(self, text: str) -> None:
        """Take what a cell with the tag ``announce`` has printed."""


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Why papermill came back without reaching the notebook's end: an error of a cell, of the kernel, or its own."""

    name: str
    message: str


def execute(
    notebook: Path, copy: ExecutedCopy, parameters: Mapping[str, Any], interrupts: Interrupts, listener: Listener
) -> Stop | None:
    """Run ``notebook`` into ``copy``; return why it stopped early, None when every cell ran.

    Errors of cells, dead kernels and passed deadlines are returned. KeyboardInterrupt is raised when a second signal
    breaks the run off; what was saved until then is in ``copy``.
    """
    library = papermill()
    try:
        library.execute_notebook(
            str(notebook),
            copy.address,
            parameters=dict(parameters),
            kernel_name=KERNEL,
            progress_bar=False,
            start_timeout=START_TIMEOUT_S,
            cwd=str(notebook.parent),
            **_engine_options(interrupts, listener),
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


def _engine_options(interrupts: Interrupts, listener: Listener) -> dict[str, Any]:
    from traitlets.config import Config

    follower = _Follower(interrupts, listener)
    return {
        "kernel_manager_class": _kernel_manager(interrupts),
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
        if cell["cell_type"] == "markdown" and headings:
            self._heading = headings[-1].lstrip("# ")

    def code_starts(self, cell: Mapping[str, Any], cell_index: int) -> None:
        self._count += 1
        self._listener.cell_starts(self._count, self._heading)

    def code_ended(self, cell: Mapping[str, Any], cell_index: int, execute_reply: object) -> None:
        if ANNOUNCING in cell["metadata"].get("tags", []):
            text = "".join(str(output["text"]) for output in cell["outputs"] if output.get("name") == "stdout")
            self._listener.announced(text)


def _kernel_manager(interrupts: Interrupts) -> type[Any]:
    from jupyter_client.manager import AsyncKernelManager

    class Manager(AsyncKernelManager):
        """Tells ``interrupts`` where to pass a signal on to."""

        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
            await AsyncKernelManager.start_kernel(self, **options)
            group = getattr(self.provisioner, "pgid", None) or getattr(self.provisioner, "pid", None)
            if group:
                interrupts.kernel_started(int(group))

    return Manager
