"""Kernels for notebooks, the next one's started ahead: it does its imports while the one before is executed.

The start of a kernel and its imports are half of what a short notebook takes. What is executed in kernels, and how, is
in ``execute``.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from meshbook.rows import PLACE_VARIABLE
from meshbook.runs.outcomes import KERNEL

_HISTORY = "--HistoryManager.hist_file=:memory:"
"""What is executed stays out of the file of the user's own history."""


class Kernels:
    """The kernels of notebooks that are executed one after the other. All that were started end with it.

    Their rows and temporary files lie in the folder ``private``: a kernel is killed at its end, and takes none away.
    """

    def __init__(self, notebooks: Sequence[Path], private: Path) -> None:
        self._notebooks, self._private = list(notebooks), private
        self._started: dict[Path, Any] = {}

    def take(self, notebook: Path) -> Any:
        """Return the manager of the kernel for ``notebook``, which runs, and start what the one after it will need."""
        from jupyter_core.utils import run_sync

        manager = self._started.get(notebook)
        if manager is None or not run_sync(manager.is_alive)():
            manager = self._start(notebook)
        for after in self._notebooks[self._notebooks.index(notebook) + 1 :][:1]:
            with contextlib.suppress(Exception):  # what is wrong shows when its turn comes, and it is started then
                self._start(after, f"exec({imports_of(after)!r}, {{}})")
        return manager

    def _start(self, notebook: Path, first: str = "") -> Any:
        from jupyter_client.manager import AsyncKernelManager
        from jupyter_core.utils import run_sync
        from traitlets.config import Config

        quiet = Config(KernelManager={"transport_encryption": "auto"})  # else each kernel warns of plain TCP
        connection = str(self._private / f"{notebook.stem}.kernel.json")  # its key goes with the run, too
        manager = AsyncKernelManager(kernel_name=KERNEL, connection_file=connection, config=quiet)
        self._started[notebook] = manager
        options = [_HISTORY, *([f"--IPKernelApp.exec_lines={first}"] if first else [])]
        places = {PLACE_VARIABLE: str(self._private / notebook.stem), "TMPDIR": str(self._private)}
        start = run_sync(manager.start_kernel)
        start(extra_arguments=options, cwd=str(notebook.parent), env={**os.environ, **places})
        return manager

    def close(self) -> None:
        from jupyter_core.utils import run_sync

        for manager in self._started.values():
            if manager.has_kernel:
                run_sync(manager.shutdown_kernel)(now=True)


def imports_of(notebook: Path) -> str:
    """Return the imports of a notebook as source, with a look at each name that its cells use of them.

    The looks make packages that import with their first use do it. What fails is left to the notebook's own cell.
    """
    lines, names, uses = list[str](), set[str](), set[str]()
    for node in _nodes(notebook):
        if isinstance(node, ast.Import | ast.ImportFrom):
            lines.append(ast.unparse(node))
            names |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
            uses.add(ast.unparse(node))
    body = textwrap.indent("\n".join(["pass", *lines, *sorted(uses)]), "    ")
    return f"try:\n{body}\nexcept Exception:\n    pass"


def _nodes(notebook: Path) -> Iterator[ast.AST]:
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        with contextlib.suppress(SyntaxError):  # a magic, or what the notebook itself will complain about
            yield from ast.walk(ast.parse("".join(cell["source"]))) if cell["cell_type"] == "code" else ()
