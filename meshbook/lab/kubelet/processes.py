"""The processes of the lab: the only room that spawns.

Each process gets a session of its own and carries two marks in its environment: ``MESHBOOK_LAB`` names the lab's
folder, ``MESHBOOK_LAB_RUN`` this very run of it, so that a guardian of a former run never touches a later one. What is
run and why is decided elsewhere (``containers``, ``execution``, and the assembly for the load balancer).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import signal
import sys
import termios
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from meshbook.errors import LabError
from meshbook.lab.kubelet import guardian
from meshbook.lab.kubelet.pipes import ReadEnd, WriteEnd
from meshbook.lab.topology import LabTopology

LAB_MARK = "MESHBOOK_LAB"
RUN_MARK = "MESHBOOK_LAB_RUN"
CLOSE_TIMEOUT_S = 10.0
GUARDIAN_TIMEOUT_S = 10.0


class SpawnError(LabError):
    """A program could not be started."""


@dataclass(frozen=True, kw_only=True)
class Streams:
    """Which standard streams of a process are pipes to the lab. The others are empty, or go to its log."""

    stdin: bool = False
    stdout: bool = False
    stderr: Literal["no", "pipe", "as stdout"] = "no"
    tty: bool = False
    """All three are one terminal, of which we keep the other side."""


NO_STREAMS = Streams()


@dataclass(frozen=True, kw_only=True)
class Pipes:
    """Our ends of a process's pipes."""

    stdin: WriteEnd | None = None
    stdout: ReadEnd | None = None
    stderr: ReadEnd | None = None

    def close(self) -> None:
        for end in (self.stdin, self.stdout, self.stderr):
            if end is not None:
                end.close()


def base_environment() -> dict[str, str]:
    """Return all that a process of the lab sees of this machine's environment."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}


class Process:
    """A running process. ``wait`` may be awaited by many; the pipes are the starter's to read and to close."""

    def __init__(self, child: asyncio.subprocess.Process, pipes: Pipes) -> None:
        self._child = child
        self.pid = child.pid
        self.pipes = pipes

    @property
    def returncode(self) -> int | None:
        """Exit code; the negative number of the signal that ended it; None while it runs."""
        return self._child.returncode

    async def wait(self) -> int:
        return await self._child.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself; nothing happens when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._child.send_signal(number)

    def kill_group(self) -> None:
        """Kill the process and its process group; nothing happens when it has ended."""
        self.signal_group(signal.SIGKILL)

    def signal_group(self, number: int) -> None:
        """Send a signal to the process and its process group; nothing happens when it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    @property
    def is_stopped(self) -> bool:
        """Say whether the process does nothing: it has ended, or a signal has stopped it."""
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as stat:
                return stat.read().rpartition(b") ")[2][:1] in b"TtZX"
        except OSError:
            return True


class ProcessTable:
    """All processes of one run of the lab, from start to end."""

    def __init__(self, topology: LabTopology) -> None:
        self._marks = {LAB_MARK: str(topology.root), RUN_MARK: f"{os.getpid()}-{secrets.token_hex(8)}"}
        self._running: dict[asyncio.Task[None], Process] = {}
        self._guardian: asyncio.subprocess.Process | None = None
        self._lifeline: WriteEnd | None = None
        self._closed = False

    @property
    def mark(self) -> str:
        """The entry in the environment that tells this run's processes from all others."""
        return f"{RUN_MARK}={self._marks[RUN_MARK]}"

    async def start_guardian(self) -> None:
        """Start the program that ends all others should this process die, and wait until it watches."""
        argv = (sys.executable, "-I", "-S", guardian.__file__, self.mark)
        environment = {LAB_MARK: self._marks[LAB_MARK]}
        with ExitStack() as theirs:
            files, pipes = _files(Streams(stdin=True, stdout=True), None, theirs)
            self._guardian = await _start(argv, environment, Path("/"), files)
        self._lifeline = pipes.stdin
        assert pipes.stdout is not None
        async with asyncio.timeout(GUARDIAN_TIMEOUT_S):
            ready = await pipes.stdout.read()
        pipes.stdout.close()
        if not ready:
            raise SpawnError("the guardian ended at its start", argv=" ".join(argv))

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path | None = None,
        streams: Streams = NO_STREAMS,
    ) -> Process:
        """Start ``argv`` with just the environment ``env`` and this run's marks; ``SpawnError`` when it cannot be.

        What is not piped by ``streams`` is appended to ``log``, or dropped.
        """
        if self._closed:
            raise SpawnError(f"cannot start {argv[0]}: the lab is going down")
        with ExitStack() as theirs:
            files, pipes = _files(streams, log, theirs)
            try:
                process = Process(await _start(argv, {**env, **self._marks}, cwd, files), pipes)
            except BaseException:
                pipes.close()
                raise
        task = asyncio.create_task(self._follow(process))
        self._running[task] = process
        return process

    async def _follow(self, process: Process) -> None:
        try:
            await process.wait()
        finally:
            del self._running[_current_task()]

    def marked(self, mark: str) -> list[int]:
        """Return the ids of processes whose environment has the entry ``mark`` (``NAME=value``)."""
        return guardian.marked(mark)

    def kill_marked(self, mark: str) -> None:
        """Kill the processes whose environment has the entry ``mark`` (``NAME=value``)."""
        guardian.kill_marked(mark)

    async def close(self) -> None:
        """Kill everything that is left, wait for it, and let the guardian go. Nothing can be spawned afterwards."""
        self._closed = True
        for process in self._running.values():
            process.kill_group()
        if self._running:
            await asyncio.wait(list(self._running), timeout=CLOSE_TIMEOUT_S)
        guardian.kill_marked(self.mark)
        if self._lifeline is not None:
            self._lifeline.close()
        if self._guardian is not None:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._guardian.wait()


Files = tuple[int | None, int | None, int | None]
"""Descriptors for the child's standard input, output and error; None: ``/dev/null``."""


async def _start(
    argv: Sequence[str], environment: Mapping[str, str], cwd: Path, files: Files
) -> asyncio.subprocess.Process:
    stdin, stdout, stderr = (asyncio.subprocess.DEVNULL if file is None else file for file in files)
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            env=dict(environment),
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=_own_terminal if os.isatty(stdin) else None,
        )
    except (OSError, ValueError) as error:
        detail = error.strerror if isinstance(error, OSError) else error
        raise SpawnError(f"cannot start {argv[0]}: {detail}", argv=" ".join(argv)) from error


def _own_terminal() -> None:
    """Make the terminal at standard input that of the new session: it gets the signals of keys and sizes."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _files(streams: Streams, log: Path | None, theirs: ExitStack) -> tuple[Files, Pipes]:
    """Open the child's files; those that only the child needs are closed with ``theirs``."""
    if streams.tty:
        ours, terminal = os.openpty()
        theirs.callback(os.close, terminal)
        return (terminal, terminal, terminal), Pipes(stdin=WriteEnd(os.dup(ours)), stdout=ReadEnd(ours))
    logged = None if log is None else theirs.enter_context(log.open("ab")).fileno()
    stdin, to_stdin = _to_child(theirs) if streams.stdin else (None, None)
    stdout, from_stdout = _from_child(theirs) if streams.stdout else (logged, None)
    stderr, from_stderr = _from_child(theirs) if streams.stderr == "pipe" else (logged, None)
    if streams.stderr == "as stdout":
        stderr = stdout
    return (stdin, stdout, stderr), Pipes(stdin=to_stdin, stdout=from_stdout, stderr=from_stderr)


def _to_child(theirs: ExitStack) -> tuple[int, WriteEnd]:
    child, ours = os.pipe()
    theirs.callback(os.close, child)
    return child, WriteEnd(ours)


def _from_child(theirs: ExitStack) -> tuple[int, ReadEnd]:
    ours, child = os.pipe()
    theirs.callback(os.close, child)
    return child, ReadEnd(ours)


def _current_task() -> asyncio.Task[None]:
    task: asyncio.Task[None] | None = asyncio.current_task()
    assert task is not None
    return task
