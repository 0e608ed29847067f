"""The processes of the lab: the only module that spawns, and the pipes to what it spawned.

Each process gets a session of its own and carries two marks in its environment: ``MESHBOOK_LAB`` names the lab's
folder, ``MESHBOOK_LAB_RUN`` this very run of it, so that the reaper of a former run never touches a later one. What is
run and why is decided elsewhere (``containers``, ``execution``, the assembly for the load balancer).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import secrets
import signal
import sys
import termios
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from meshbook.errors import LabError
from meshbook.lab.kubelet import reaper
from meshbook.lab.topology import LabTopology

LAB_MARK = "MESHBOOK_LAB"
RUN_MARK = "MESHBOOK_LAB_RUN"
_CLOSE_TIMEOUT_S = 10.0
REAPER_TIMEOUT_S = 10.0
CHUNK = 65536


class SpawnError(LabError):
    """A program could not be started."""


class Pipe:
    """Our end of a pipe or terminal: never blocks the loop, gives what is there at once, closed by who started it.

    asyncio's own would keep ``wait`` from returning while a child of the process holds the other end.
    """

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor

    async def read(self) -> bytes:
        """Return what is there as soon as there is some; nothing at the end."""
        loop = asyncio.get_running_loop()
        while self._descriptor >= 0:
            try:
                return os.read(self._descriptor, CHUNK)
            except BlockingIOError:
                await self._ready(loop.add_reader, loop.remove_reader)
            except OSError as error:
                if error.errno != errno.EIO:  # so a terminal says that nobody has its other side any more
                    raise
                break
        return b""

    async def write(self, data: bytes) -> None:
        """Write all of ``data``; what nobody reads any more is dropped."""
        loop = asyncio.get_running_loop()
        rest = memoryview(data)
        while rest and self._descriptor >= 0:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                await self._ready(loop.add_writer, loop.remove_writer)
            except OSError:
                self.close()

    async def _ready(self, add: Callable[..., Any], remove: Callable[[int], bool]) -> None:
        descriptor, ready = self._descriptor, asyncio.Event()
        add(descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            remove(descriptor)

    def resize(self, columns: int, rows: int) -> None:
        """Give a terminal its size; what is no terminal has none."""
        with contextlib.suppress(termios.error, ValueError):
            termios.tcsetwinsize(self._descriptor, (rows, columns))

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)


@dataclass(frozen=True, kw_only=True)
class Streams:
    """Which standard streams of a process are pipes to the lab. The others are empty, or go to its log."""

    stdin: bool = False
    stdout: bool = False
    stderr: Literal["no", "pipe", "as stdout"] = "no"
    tty: bool = False
    """All three are one terminal, of which we keep the other side."""


NO_STREAMS = Streams()


def base_environment() -> dict[str, str]:
    """Return all that a process of the lab sees of this machine's environment."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}


class Process:
    """A running process. ``wait`` may be awaited by many; our ends of its streams are the starter's to close."""

    def __init__(self, child: asyncio.subprocess.Process, ours: Sequence[Pipe | None]) -> None:
        self._child = child
        self.pid = child.pid
        self.stdin, self.stdout, self.stderr = ours

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

    def signal_group(self, number: int) -> None:
        """Send a signal to the process and its process group; nothing happens when it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def kill_group(self) -> None:
        self.signal_group(signal.SIGKILL)

    def close_streams(self) -> None:
        _close((self.stdin, self.stdout, self.stderr))

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
        self._started: list[Process] = []
        self._reaper: Process | None = None
        self._closed = False

    @property
    def mark(self) -> str:
        """The entry in the environment that tells this run's processes from all others."""
        return f"{RUN_MARK}={self._marks[RUN_MARK]}"

    async def start_reaper(self) -> int:
        """Start the program that ends all others should this process die; return its id once it watches."""
        argv = (sys.executable, "-I", "-S", reaper.__file__, self.mark)
        environment = {LAB_MARK: self._marks[LAB_MARK]}
        self._reaper = await _start(argv, environment, Path("/"), Streams(stdin=True, stdout=True), None)
        assert self._reaper.stdout is not None
        async with asyncio.timeout(REAPER_TIMEOUT_S):
            if not await self._reaper.stdout.read():
                raise SpawnError("the reaper ended at its start", argv=" ".join(argv))
        return self._reaper.pid

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
        process = await _start(argv, {**env, **self._marks}, cwd, streams, log)
        self._started = [other for other in self._started if other.returncode is None]
        self._started.append(process)
        return process

    async def close(self) -> None:
        """Kill everything that is left, wait for it, and let the reaper go. Nothing can be spawned afterwards."""
        self._closed = True
        for process in self._started:
            process.kill_group()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await asyncio.gather(*(process.wait() for process in self._started))
        reaper.kill_marked(self.mark)
        if self._reaper is not None:
            self._reaper.close_streams()
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._reaper.wait()


async def _start(
    argv: Sequence[str], environment: Mapping[str, str], cwd: Path, streams: Streams, log: Path | None
) -> Process:
    with ExitStack() as theirs:
        (stdin, stdout, stderr), ours = _files(streams, log, theirs)
        try:
            child = await asyncio.create_subprocess_exec(
                *argv,
                env=dict(environment),
                cwd=cwd,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                preexec_fn=_own_terminal if streams.tty else None,
            )
        except BaseException as error:
            _close(ours)
            if not isinstance(error, OSError | ValueError):
                raise
            detail = error.strerror if isinstance(error, OSError) else error
            raise SpawnError(f"cannot start {argv[0]}: {detail}", argv=" ".join(argv)) from error
    return Process(child, ours)


def _close(ends: Iterable[Pipe | None]) -> None:
    for end in ends:
        if end is not None:
            end.close()


def _own_terminal() -> None:
    """Make the terminal at standard input that of the new session: it gets the signals of keys and sizes."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _files(
    streams: Streams, log: Path | None, theirs: ExitStack
) -> tuple[tuple[int, int, int], tuple[Pipe | None, Pipe | None, Pipe | None]]:
    """Open the child's standard streams and our ends; those that only the child needs are closed with ``theirs``."""

    def pipe(*, inwards: bool) -> tuple[int, Pipe]:
        read, write = os.pipe()
        child, ours = (read, write) if inwards else (write, read)
        theirs.callback(os.close, child)
        return child, Pipe(ours)

    if streams.tty:
        ours, terminal = os.openpty()
        theirs.callback(os.close, terminal)
        return (terminal, terminal, terminal), (Pipe(os.dup(ours)), Pipe(ours), None)
    none = asyncio.subprocess.DEVNULL
    rest = none if log is None else theirs.enter_context(log.open("ab")).fileno()
    stdin, to_stdin = pipe(inwards=True) if streams.stdin else (none, None)
    stdout, from_stdout = pipe(inwards=False) if streams.stdout else (rest, None)
    stderr, from_stderr = pipe(inwards=False) if streams.stderr == "pipe" else (rest, None)
    if streams.stderr == "as stdout":
        stderr = stdout
    return (stdin, stdout, stderr), (to_stdin, from_stdout, from_stderr)
