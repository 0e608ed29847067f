"""The life of one container: start, be asked for its health, end, start again; and commands that are run in it.

A container is one process of this machine with a session of its own. What is run is decided in ``execution``, whether
it is well in ``probes``.
"""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from meshbook.errors import LabError
from meshbook.lab.kubelet import logs, reaper, status
from meshbook.lab.kubelet.context import PodContext
from meshbook.lab.kubelet.execution import CannotRun, Execution, prepare
from meshbook.lab.kubelet.probes import Probe, Prober
from meshbook.lab.kubelet.processes import NO_STREAMS, Process, SpawnError, Streams
from meshbook.objects import Object, timestamp

CONTAINER_MARK = "MESHBOOK_CONTAINER"
DEFAULT_GRACE_S = 30
OUTPUT_TIMEOUT_S = 1.0
"""How long the rest of the output of a container that has ended is waited for."""


class Container:
    """One container of a pod. ``policy`` says whether it is restarted.

    ``changed`` is called with the status before and the new one whenever that is to be shown.
    """

    def __init__(
        self, spec: Object, pod: PodContext, *, policy: str, changed: Callable[[Object, Object], None]
    ) -> None:
        self.spec = spec
        self.name: str = spec["name"]
        self.status = status.created(spec)
        self.process: Process | None = None
        """The main process, while there is one."""
        self.probes_pass = False
        """While true, its probes are not asked and count as passed: who probes it is cut off as well."""
        self._pod = pod
        self._timing = pod.node.timing
        self._policy = policy
        self._changed = changed
        self._mark = f"{pod.object['metadata']['uid']}/{self.name}"
        """Names this container of this pod among all of the lab."""
        self._prober = Prober(
            http=pod.node.http,
            run=self._run_probe,
            pod_ip=pod.address,
            eager_s=self._timing.eager_probe_s,
            passing=lambda: self.probes_pass,
        )
        self._execution: Execution | None = None
        self._commands: list[Process] = []
        self._stopping = asyncio.Event()
        self._may_start = asyncio.Event()
        self._may_start.set()
        self.has_started = asyncio.Event()
        """Set when it has started, by its startup probe where it has one, and when it never will."""
        self._blameless = False
        self._withheld = False

    @property
    def is_sidecar(self) -> bool:
        """Say whether this is an init container that goes on running (a native sidecar)."""
        return bool(self.spec.get("restartPolicy") == "Always")

    @property
    def is_running(self) -> bool:
        return "running" in self.status["state"]

    @property
    def is_over(self) -> bool:
        """Say whether the container will not run again."""
        return self._stopping.is_set()

    @property
    def commands(self) -> list[Process]:
        """Return what runs in the container besides its main process."""
        self._commands = [command for command in self._commands if command.returncode is None]
        return self._commands

    @property
    def shown(self) -> Object:
        """Return the status as others are to see it."""
        return self.status | {"ready": False} if self._withheld else self.status

    def withhold(self, withheld: bool) -> None:
        """Show the container as not ready, whatever its probes say, or as it is."""
        self._withheld = withheld
        self._changed(self.status, self.status)

    def hold(self, held: bool) -> None:
        """Keep the container from being started again, or let it."""
        (self._may_start.clear if held else self._may_start.set)()

    def log_path(self, *, previous: bool = False) -> Path:
        """Return the log of the present or last run, or that of the run before."""
        return self._pod.folder / self.name / f"{self.status['restartCount'] - previous}.log"

    async def run(self) -> None:
        """Live until the restart policy says that it is over, or ``stop`` or ``kill`` was called."""
        timing, in_a_row = self._timing, 0
        while not self._stopping.is_set():
            begun = time.monotonic()
            end = await self._run_once()
            if end is None or self._policy == "Never" or (self._policy == "OnFailure" and end["exitCode"] == 0):
                return
            calm = time.monotonic() - begun >= timing.calm_s
            in_a_row = 1 if calm or self._blameless else in_a_row + 1
            self._blameless = False
            pause_s = timing.back_off_s * 2.0 ** (in_a_row - 2) if in_a_row > 1 else 0.0
            await self._back_off(end, min(pause_s, timing.longest_back_off_s))

    async def stop(self, grace_s: float) -> None:
        """Ask the process to end, kill it after ``grace_s``; return when it is gone. It is not started again."""
        self._give_up()
        if self.process is not None:
            await _end(self.process, grace_s)

    def kill(self) -> None:
        """End the process at once. It is not started again."""
        self._give_up()
        if self.process is not None:
            self.process.kill_group()

    def _give_up(self) -> None:
        for event in (self._stopping, self._may_start, self.has_started):
            event.set()

    def kill_process(self) -> None:
        """End the process at once, which is not held against it: it may be started again without a pause."""
        if self.process is not None:
            self._blameless = True
            self.process.kill_group()

    async def execute(self, argv: Sequence[str], streams: Streams) -> Process:
        """Start a command in the container; ``LabError`` when it does not run or the command cannot be started."""
        if self._execution is None or not self.is_running:
            raise LabError(f"container {self.name} is not running")
        terminal = {"TERM": "xterm"} if streams.tty else {}
        execution = replace(
            self._execution,
            argv=self._execution.command(argv),
            environment=terminal | dict(self._execution.environment),
        )
        command = await self._spawn(execution, streams)
        self._commands.append(command)
        return command

    async def _run_once(self) -> Object | None:
        """Run the process from start to end and return how it ended; None when it cannot be run at all."""
        try:
            probes = self._prober.parse(self.spec)
            self._execution = prepare(self.spec, self._pod)
            process = await self._spawn(self._execution, Streams(stdout=True, stderr="as stdout"))
        except CannotRun as error:
            await self._wait_in_vain(error)
            return None
        except SpawnError as error:
            return self._show_end(status.terminated(self.status, 128, "StartError", error.message))
        runtime_id = {"containerID": f"meshbook://{secrets.token_hex(16)}", "imageID": f"lab/{self.spec['image']}"}
        self._show(state={"running": {"startedAt": timestamp()}}, **runtime_id)
        returncode = await self._live(process, probes)
        return self._show_end(status.terminated(self.status, returncode))

    async def _live(self, process: Process, probes: dict[str, Probe]) -> int:
        self.process = process
        if self._stopping.is_set():
            process.kill_group()
        assert process.stdout is not None
        log = asyncio.create_task(logs.record(process.stdout, self.log_path()))
        watch = asyncio.create_task(self._watch(process, probes))
        try:
            return await process.wait()
        finally:
            watch.cancel()
            process.kill_group()
            self.process = None
            reaper.kill_marked(f"{CONTAINER_MARK}={self._mark}")
            await asyncio.wait([log, watch], timeout=OUTPUT_TIMEOUT_S)
            log.cancel()
            process.close_streams()

    async def _watch(self, process: Process, probes: dict[str, Probe]) -> None:
        await self._prober.follow(probes, self._show)
        await _end(process, float(self.spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_S)))

    async def _run_probe(self, argv: Sequence[str]) -> int:
        process = await self.execute(argv, NO_STREAMS)
        try:
            return await process.wait()
        finally:
            process.kill_group()

    async def _spawn(self, execution: Execution, streams: Streams) -> Process:
        environment = {**execution.environment, CONTAINER_MARK: self._mark}
        return await self._pod.node.processes.spawn(execution.argv, env=environment, cwd=execution.cwd, streams=streams)

    async def _wait_in_vain(self, error: CannotRun) -> None:
        self._show(state=status.waiting(error.reason, error.message))
        if error.reason == "ErrImagePull" and not await happens_within(self._stopping, self._timing.image_back_off_s):
            message = f'Back-off pulling image "{self.spec["image"]}": {error.message}'
            self._show(state=status.waiting("ImagePullBackOff", message))
        await self._stopping.wait()

    async def _back_off(self, end: Object, pause_s: float) -> None:
        last = {"terminated": end}
        if pause_s:
            message = f"back-off {pause_s:g}s restarting failed container={self.name}"
            self._show(state=status.waiting("CrashLoopBackOff", message), lastState=last)
        await self._may_start.wait()
        if not await happens_within(self._stopping, pause_s):
            self._show(lastState=last, restartCount=self.status["restartCount"] + 1)

    def _show_end(self, state: Object) -> Object:
        self._show(state=state, ready=False, started=False)
        end: Object = state["terminated"]
        return end

    def _show(self, **fields: Any) -> None:
        before, self.status = self.status, self.status | fields
        if fields.get("started"):
            self.has_started.set()
        self._changed(before, self.status)


async def _end(process: Process, grace_s: float) -> None:
    """Ask a process to end, kill it after ``grace_s``; return when it is gone."""
    process.signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(grace_s):
            await process.wait()
    except TimeoutError:
        process.kill_group()
        await process.wait()


async def happens_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for ``event``, but no longer than ``seconds``; say whether it came."""
    if event.is_set():
        return True
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
