"""The life of one container: start, be asked for its health, end, start again; and commands that are run in it.

A container is one process of this machine with a session of its own. What is run is decided in ``execution``, whether
it is run again in ``lifecycle``, whether it is well in ``health``.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp

from meshbook.errors import LabError
from meshbook.lab.kubelet import health, lifecycle, logs, probes
from meshbook.lab.kubelet.execution import CannotRun, Execution
from meshbook.lab.kubelet.lifecycle import Timing
from meshbook.lab.kubelet.processes import NO_STREAMS, Process, ProcessTable, SpawnError, Streams
from meshbook.lab.kubelet.status import ContainerView, Running, Terminated, Waiting, timestamp

CONTAINER_MARK = "MESHBOOK_CONTAINER"
OUTPUT_TIMEOUT_S = 1.0
"""How long the rest of the output of a container that has ended is waited for."""

Object = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a pod lends to one of its containers."""

    processes: ProcessTable
    http: aiohttp.ClientSession
    timing: Timing
    policy: str
    """The pod's ``restartPolicy``."""
    pod_ip: str
    logs: Path
    """Folder of this container's logs, one file for each run."""
    mark: str
    """Names this container of this pod among all of the lab."""
    changed: Callable[[], None]
    """Called whenever the container's view is new."""
    moved: Callable[[ContainerView, ContainerView], None]
    """Called with the view before and the new one."""


class Container:
    """One container of one pod. ``prepare`` returns what to run, or raises ``CannotRun``."""

    def __init__(self, spec: Object, place: Place, prepare: Callable[[], Execution]) -> None:
        self.spec = spec
        self.view = ContainerView(name=spec["name"], image=spec["image"])
        self._place = place
        self._prepare = prepare
        self._execution: Execution | None = None
        self._process: Process | None = None
        self._commands: set[Process] = set()
        self._stopping = asyncio.Event()
        self._may_start = asyncio.Event()
        self._may_start.set()
        self._blameless = False
        self.probes_pass = False
        """While true, its probes are not asked and count as passed: who probes it is cut off as well."""
        self.withheld = False
        """While true, it is shown as not ready, whatever its probes say. See ``show_again``."""

    @property
    def is_running(self) -> bool:
        return isinstance(self.view.state, Running)

    @property
    def process(self) -> Process | None:
        """Return the main process, while there is one."""
        return self._process

    @property
    def commands(self) -> list[Process]:
        """Return what runs in the container besides its main process."""
        self._commands = {command for command in self._commands if command.returncode is None}
        return list(self._commands)

    @property
    def shown(self) -> ContainerView:
        """Return the view as others are to see it."""
        return replace(self.view, ready=False) if self.withheld else self.view

    def show_again(self) -> None:
        """Have the view reported, after ``withheld`` was changed."""
        self._place.changed()

    def hold(self, held: bool) -> None:
        """Keep the container from being started again, or let it."""
        (self._may_start.clear if held else self._may_start.set)()

    def log_path(self, *, previous: bool = False) -> Path:
        """Return the log of the present or last run, or that of the run before."""
        return self._place.logs / f"{self.view.restarts - (1 if previous else 0)}.log"

    async def run(self) -> None:
        """Live until the restart policy says that it is over, or ``stop`` or ``kill`` was called."""
        in_a_row = 0
        while not self._stopping.is_set():
            begun = time.monotonic()
            end = await self._run_once()
            if end is None or not lifecycle.restarts_after(self._place.policy, end.exit_code):
                return
            calm = time.monotonic() - begun >= self._place.timing.calm_s
            in_a_row = 1 if calm or self._blameless else in_a_row + 1
            self._blameless = False
            await self._back_off(end, lifecycle.pause_before(in_a_row, self._place.timing))

    async def stop(self, grace_s: float) -> None:
        """Ask the process to end, kill it after ``grace_s``; return when it is gone. It is not started again."""
        self._stopping.set()
        self._may_start.set()
        if self._process is not None:
            await _end(self._process, grace_s)

    def kill(self) -> None:
        """End the process at once. It is not started again."""
        self._stopping.set()
        self._may_start.set()
        if self._process is not None:
            self._process.kill_group()

    def kill_process(self) -> None:
        """End the process at once, which is not held against it: it may be started again without a pause."""
        if self._process is not None:
            self._blameless = True
            self._process.kill_group()

    @property
    def is_over(self) -> bool:
        """Say whether the container will not run again."""
        return self._stopping.is_set()

    async def execute(self, argv: Sequence[str], streams: Streams) -> Process:
        """Start a command in the container; ``LabError`` when it does not run or the command cannot be started."""
        if self._execution is None or not self.is_running:
            raise LabError(f"container {self.view.name} is not running")
        execution = replace(self._execution, argv=tuple(argv))
        if streams.tty:
            execution = replace(execution, environment={"TERM": "xterm", **execution.environment})
        command = await self._spawn(execution, streams)
        self._commands.add(command)
        return command

    async def _run_once(self) -> Terminated | None:
        """Run the process from start to end; None when it cannot be run at all."""
        started = timestamp()
        try:
            wellness = health.of_container(self.spec, self._place.pod_ip)
            self._execution = self._prepare()
            process = await self._spawn(self._execution, Streams(stdout=True, stderr="as stdout"))
        except (CannotRun, probes.UnsupportedProbe) as error:
            await self._wait_in_vain(error)
            return None
        except SpawnError as error:
            return self._show_end(started, 128, reason="StartError", message=error.message)
        identity = f"meshbook://{secrets.token_hex(16)}"
        self._show(state=Running(started_at=started), container_id=identity)
        return self._show_end(started, await self._live(process, wellness))

    async def _live(self, process: Process, wellness: health.Health) -> int:
        self._process = process
        if self._stopping.is_set():
            process.kill_group()
        assert process.pipes.stdout is not None
        log = asyncio.create_task(logs.record(process.pipes.stdout, self.log_path()))
        watch = asyncio.create_task(self._watch(process, wellness))
        try:
            returncode = await process.wait()
        finally:
            watch.cancel()
            process.kill_group()
            self._process = None
            self._place.processes.kill_marked(f"{CONTAINER_MARK}={self._place.mark}")
            await asyncio.wait([log, watch], timeout=OUTPUT_TIMEOUT_S)
            log.cancel()
            process.pipes.close()
        return returncode

    async def _watch(self, process: Process, wellness: health.Health) -> None:
        await health.follow(wellness, self._ask, self._show, self._place.timing.eager_probe_s)
        await _end(process, float(self.spec.get("terminationGracePeriodSeconds", lifecycle.DEFAULT_GRACE_S)))

    async def _ask(self, probe: probes.Probe) -> bool:
        return self.probes_pass or await probes.ask(probe, self._place.http, self._run_probe)

    async def _run_probe(self, argv: Sequence[str]) -> int:
        process = await self.execute(argv, NO_STREAMS)
        try:
            return await process.wait()
        finally:
            process.kill_group()

    async def _spawn(self, execution: Execution, streams: Streams) -> Process:
        environment = {**execution.environment, CONTAINER_MARK: self._place.mark}
        return await self._place.processes.spawn(execution.argv, env=environment, cwd=execution.cwd, streams=streams)

    async def _wait_in_vain(self, error: CannotRun | probes.UnsupportedProbe) -> None:
        reason = error.reason if isinstance(error, CannotRun) else "CreateContainerConfigError"
        self._show(state=Waiting(reason=reason, message=error.message))
        if reason == "ErrImagePull" and not await self._stopped_within(self._place.timing.image_back_off_s):
            message = f'Back-off pulling image "{self.view.image}": {error.message}'
            self._show(state=Waiting(reason="ImagePullBackOff", message=message))
        await self._stopping.wait()

    async def _back_off(self, end: Terminated, pause_s: float) -> None:
        if pause_s:
            message = f"back-off {pause_s:g}s restarting failed container={self.view.name}"
            self._show(state=Waiting(reason="CrashLoopBackOff", message=message), last=end)
        await self._may_start.wait()
        if not await self._stopped_within(pause_s):
            self._show(last=end, restarts=self.view.restarts + 1)

    async def _stopped_within(self, seconds: float) -> bool:
        if self._stopping.is_set():
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True

    def _show_end(self, started: str, returncode: int, reason: str = "", message: str = "") -> Terminated:
        code, number = lifecycle.exit_status(returncode)
        end = Terminated(
            exit_code=code,
            signal=number,
            reason=reason or ("Error" if code else "Completed"),
            message=message,
            started_at=started,
            finished_at=timestamp(),
            container_id=self.view.container_id,
        )
        self._show(state=end, ready=False, started=False)
        return end

    def _show(self, **fields: Any) -> None:
        before, self.view = self.view, replace(self.view, **fields)
        self._place.changed()
        self._place.moved(before, self.view)


async def _end(process: Process, grace_s: float) -> None:
    """Ask a process to end, kill it after ``grace_s``; return when it is gone."""
    process.signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(grace_s):
            await process.wait()
    except TimeoutError:
        process.kill_group()
        await process.wait()
