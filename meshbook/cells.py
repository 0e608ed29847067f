"""Which cells of the running notebook wrote what, and in which order: whether a verdict's inputs are of this execution.

In JupyterLab a cell can be interrupted, and an earlier one run again, while names keep what they held before. ``watch``
follows a kernel's cells from then on; ``stale`` says of a cell's source why it must not be judged by. What a cell reads
and writes is what Python makes of its source: names, not what happens inside of objects. Knows nothing of verdicts.
"""

from __future__ import annotations

import ast
import dis
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import CodeType
from typing import Any


@dataclass(kw_only=True, eq=False)
class _Run:
    """One execution of one cell."""

    cell: str
    source: str
    inputs: Mapping[str, _Run | None]
    """What wrote each name that it read, as far as that was seen."""
    complete: bool = False

    @property
    def title(self) -> str:
        first = next((line for line in self.source.splitlines() if line.strip() and not line.startswith("%%")), "")
        return first if len(first) <= 60 else f"{first[:59]}…"


@dataclass(kw_only=True)
class Cells:
    """The cells that ran so far. A cell is known by its id, where the front end sends one, else by its source."""

    _writers: dict[str, _Run] = field(default_factory=dict)
    _latest: dict[str, _Run] = field(default_factory=dict)
    _running: _Run | None = None

    def begins(self, source: str, cell_id: str | None = None) -> None:
        """Note that a cell starts."""
        cell = cell_id or source
        reads, writes = names_of(source)
        self._running = _Run(cell=cell, source=source, inputs={name: self._writer(name, cell) for name in reads})
        self._latest[cell] = self._running
        self._writers |= dict.fromkeys(writes, self._running)

    def _writer(self, name: str, cell: str) -> _Run | None:
        """Return what wrote ``name``, passing over runs of ``cell`` itself that were broken off."""
        run = self._writers.get(name)
        while run and run.cell == cell and not run.complete:
            run = run.inputs.get(name)
        return run

    def ended(self, complete: bool) -> None:
        """Note that the cell that started last has ended, and whether it got to its end."""
        if self._running:
            self._running.complete = complete

    def stale(self) -> str:
        """Return why what the running cell reads must not be judged by; empty where it is all of one execution."""
        found = sorted(self._running.inputs.items()) if self._running else []
        return next(
            filter(None, (self._left(name, run) or self._stale(name, run, set()) for name, run in found if run)), ""
        )

    def _left(self, name: str, run: _Run) -> str:
        """Return whether the cell of ``run`` has run since, changed so that it writes ``name`` no more."""
        latest = self._latest[run.cell]
        if latest in (run, self._running):
            return ""
        return f"{name} is left from before: its cell does not write it any more ({latest.title})"

    def _stale(self, name: str, run: _Run, seen: set[int]) -> str:
        if id(run) in seen:
            return ""
        seen.add(id(run))
        if not run.complete:
            return f"{name} is left from before: the cell that measures it ({run.title}) did not run to its end"
        for needed, source in run.inputs.items():
            again = self._latest[source.cell] if source else self._writers.get(needed)
            if again and again is not source and again.cell != run.cell:
                return f"{name} is left from before: {needed} has changed since, in the cell {again.title}"
            if source and (why := self._stale(needed, source, seen)):
                return why
        return ""


def names_of(source: str) -> tuple[set[str], set[str]]:
    """Return the names that a cell reads from others, and those that it writes."""
    from IPython.core.inputtransformer2 import TransformerManager

    python = TransformerManager().transform_cell(_MAGIC_AROUND.sub(r"\1", source))  # type: ignore[no-untyped-call]
    try:
        code = compile(python, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except SyntaxError:  # what the kernel itself will complain about
        return set(), set()
    reads, writes = set[str](), set[str]()
    for name, writing in _in_order(code):
        if writing:
            writes.add(name)
        elif name not in writes:
            reads.add(name)
    return reads, writes


_MAGIC_AROUND = re.compile(r"^(?:%%(?:time|capture)\b.*\n|([ \t]*)%time[ \t]+)", re.MULTILINE)
"""A magic that runs Python as the notebook's own; all others are calls without names."""


def _in_order(code: CodeType, *, outermost: bool = True) -> Iterator[tuple[str, bool]]:
    """Yield each global name of a cell and whether it is written, in the order in which Python gets to it.

    Functions, lambdas and comprehensions are code of their own, in which a name that is not global is theirs alone.
    """
    for step in dis.get_instructions(code):
        if isinstance(step.argval, CodeType):
            yield from _in_order(step.argval, outermost=False)
        elif step.opname in ("LOAD_NAME", "LOAD_GLOBAL"):
            yield step.argval, False
        elif outermost and step.opname in ("STORE_NAME", "DELETE_NAME"):
            yield step.argval, True


def watch(shell: Any) -> Cells:
    """Follow the cells of an IPython ``shell`` from the next one on; a second call returns what the first began."""
    found: Cells | None = getattr(shell, _KEPT, None)
    if found is not None:
        return found
    cells = Cells()
    shell.events.register("pre_run_cell", lambda info: cells.begins(str(info.raw_cell), getattr(info, "cell_id", None)))
    shell.events.register("post_run_cell", lambda result: cells.ended(bool(result.success)))
    setattr(shell, _KEPT, cells)
    return cells


_KEPT = "meshbook_cells"
