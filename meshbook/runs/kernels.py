"""Kernels for notebooks, the next one's process started ahead: it does its imports while the one before is executed.

The start of a kernel and its imports are half of what a short notebook takes. A process that was started ahead waits at
its stdin until it is told its connection file, and from then on is a kernel like any other, in a session of its own.
What is executed in kernels, and how, is in ``execute``.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from meshbook.runs.interrupts import Interrupts

TEMPORARY = "TMPDIR"
"""Environment variable by which a kernel's temporary files lie where they go with the run: it is killed at its end."""

_PROGRAM = "import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
_LAUNCHER = ["-m", "ipykernel_launcher"]
_BACKEND = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
"""What ipykernel sets anyway, here before an import reads it."""


class WaitingKernel:
    """A process that has done, or is doing, the imports of ``notebook``; to be told its connection file once."""

    def __init__(self, notebook: Path, private: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, str(Path(__file__).with_name("waiting_kernel.py")), imports_of(notebook)],
            stdin=subprocess.PIPE,
            cwd=notebook.parent,
            env={**_BACKEND, **os.environ, "JPY_PARENT_PID": str(os.getpid()), TEMPORARY: private},
            start_new_session=True,
        )

    def become(self, argv: list[str], environment: Mapping[str, str], folder: str) -> bool:
        """Make the process the kernel of ``argv``; false where it has ended, or is not the interpreter asked for."""
        if argv[:3] != [sys.executable, *_LAUNCHER] or self.process.poll() is not None:
            return False
        told = {"argv": argv[2:], "env": dict(environment), "cwd": folder}
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(told).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            return False
        return True


class KernelsAhead:
    """The waiting kernels of notebooks that are executed one after the other. All that were started end with it."""

    def __init__(self, notebooks: Sequence[Path], private: str) -> None:
        self._notebooks, self._private = list(notebooks), private
        self._waiting: dict[Path, WaitingKernel] = {}

    def take(self, notebook: Path) -> WaitingKernel | None:
        """Return what waits for ``notebook`` (nothing for the first), and start what the one after it will need."""
        for after in self._notebooks[self._notebooks.index(notebook) + 1 :][:1]:
            self._waiting[after] = WaitingKernel(after, self._private)
        return self._waiting.get(notebook)

    def close(self) -> None:
        for kernel in self._waiting.values():
            kernel.process.kill()
            kernel.process.communicate()


def imports_of(notebook: Path) -> str:
    """Return the imports of a notebook as source, with a look at each name that its cells use of them.

    The looks make packages that import with their first use do it.
    """
    lines, names, uses = ["import ipykernel.kernelapp"], set[str](), set[str]()
    for node in _nodes(notebook):
        if isinstance(node, ast.Import | ast.ImportFrom):
            lines.append(ast.unparse(node))
            names |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
            uses.add(ast.unparse(node))
    return "\n".join([*lines, *sorted(uses)])


def _nodes(notebook: Path) -> Iterator[ast.AST]:
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        with contextlib.suppress(SyntaxError):  # a magic, or what the notebook itself will complain about
            yield from ast.walk(ast.parse("".join(cell["source"]))) if cell["cell_type"] == "code" else ()


def manager_class(interrupts: Interrupts, environment: Mapping[str, str], waiting: WaitingKernel | None) -> type[Any]:
    """Return a kernel manager that uses ``waiting``, adds to the environment, and says where to pass a signal on to."""
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_client.provisioning.local_provisioner import LocalProvisioner

    class Provisioner(LocalProvisioner):
        async def launch_kernel(self, cmd: list[str], **options: Any) -> Any:
            options["env"] = {**options["env"], **environment, "JPY_PARENT_PID": str(os.getpid())}
            if waiting is not None and waiting.become(cmd, options["env"], str(options.get("cwd") or Path.cwd())):
                self.process = waiting.process
                self.pid = self.pgid = waiting.process.pid
            else:
                await LocalProvisioner.launch_kernel(self, cmd, **options)
            if self.pid:
                interrupts.kernel_started(self.pgid or self.pid)
            return self.connection_info

    class Manager(AsyncKernelManager):
        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
            self.provisioner = Provisioner(parent=self, kernel_id=self.kernel_id, kernel_spec=self.kernel_spec)
            await AsyncKernelManager.start_kernel(self, **options)

    return Manager
