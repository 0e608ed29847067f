"""Probes of containers: what is asked, and what follows from the answers: started, ready, or to be ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import aiohttp

from meshbook.errors import LabError
from meshbook.lab.kubelet.execution import CannotRun
from meshbook.objects import Object

_KINDS = ("startupProbe", "readinessProbe", "livenessProbe")
RunCommand = Callable[[Sequence[str]], Awaitable[int]]
"""Runs a command in the container and returns its exit code; the command is killed when that is cancelled."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One probe of one container; times in seconds. ``ask`` returns whether the answer was good, or raises."""

    ask: Callable[[], Awaitable[bool]]
    initial_delay_s: float = 0
    period_s: float = 10
    timeout_s: float = 1
    success_threshold: int = 1
    failure_threshold: int = 3


@dataclass(frozen=True, kw_only=True)
class Prober:
    """Asks the probes of one container."""

    http: aiohttp.ClientSession
    run: RunCommand
    pod_ip: str
    eager_s: float
    """A container that was never ready is asked this often, if the probe's own period is not shorter."""
    passing: Callable[[], bool] = lambda: False
    """While true, nothing is asked and every probe counts as passed."""

    def parse(self, container: Object) -> dict[str, Probe]:
        """Return the probes that a container has, by kind. Raises CannotRun where the lab cannot ask one."""
        return {kind: self._parsed(container[kind], container, kind) for kind in _KINDS if container.get(kind)}

    def _parsed(self, spec: Object, container: Object, kind: str) -> Probe:
        return Probe(
            ask=self._question(spec, container, kind),
            initial_delay_s=float(spec.get("initialDelaySeconds", 0)),
            period_s=float(spec.get("periodSeconds") or 10),
            timeout_s=float(spec.get("timeoutSeconds") or 1),
            success_threshold=int(spec.get("successThreshold") or 1),
            failure_threshold=int(spec.get("failureThreshold") or 3),
        )

    def _question(self, spec: Object, container: Object, kind: str) -> Callable[[], Awaitable[bool]]:
        if get := spec.get("httpGet"):
            host, port = get.get("host") or self.pod_ip, _port(get["port"], container, kind)
            url = f"{get.get('scheme', 'HTTP').lower()}://{host}:{port}/{get.get('path', '/').lstrip('/')}"
            headers = {header["name"]: header["value"] for header in get.get("httpHeaders", [])}
            return partial(_answers, self.http, url, headers)
        if socket := spec.get("tcpSocket"):
            return partial(_connects, socket.get("host") or self.pod_ip, _port(socket["port"], container, kind))
        if "exec" in spec:
            return partial(_succeeds, self.run, tuple(spec["exec"].get("command", ())))
        raise CannotRun(f"container {container['name']}: the lab does {kind} by httpGet, tcpSocket and exec only")

    async def follow(self, probes: Mapping[str, Probe], show: Callable[..., None]) -> None:
        """Ask the probes (by kind) of a container that has just started; call ``show(started=, ready=)`` at changes.

        Returns when the container is to be ended: it did not start in time, or it is not alive any more.
        """
        startup, readiness, liveness = map(probes.get, _KINDS)
        if startup is not None and not await self._starts(startup):
            return
        show(started=True, ready=readiness is None)
        async with asyncio.TaskGroup() as group:
            showing = group.create_task(self._show_readiness(readiness, show))
            if liveness is None:
                await asyncio.Event().wait()
            else:
                await anext(self._changes(liveness, passing=True))
            showing.cancel()

    async def _starts(self, probe: Probe) -> bool:
        """Wait for the first good answer; say whether it came within the probe's patience."""
        try:
            async with asyncio.timeout(probe.initial_delay_s + probe.period_s * probe.failure_threshold):
                return await anext(self._changes(probe))
        except TimeoutError:
            return False

    async def _show_readiness(self, probe: Probe | None, show: Callable[..., None]) -> None:
        if probe is not None:
            async for passing in self._changes(probe):
                show(ready=passing)

    async def _changes(self, probe: Probe, *, passing: bool = False) -> AsyncIterator[bool]:
        """Ask again and again; yield whether the probe passes, whenever enough answers in a row say that it changed."""
        contrary, ever = 0, passing
        await asyncio.sleep(probe.initial_delay_s)
        while True:
            contrary = 0 if await self._once(probe) is passing else contrary + 1
            if contrary >= (probe.failure_threshold if passing else probe.success_threshold):
                passing, contrary, ever = not passing, 0, True
                yield passing
            await asyncio.sleep(probe.period_s if ever else min(probe.period_s, self.eager_s))

    async def _once(self, probe: Probe) -> bool:
        """Ask once; say whether the answer was good. No answer in time is a bad one."""
        if self.passing():
            return True
        try:
            async with asyncio.timeout(probe.timeout_s):
                return await probe.ask()
        except (TimeoutError, OSError, aiohttp.ClientError, LabError):
            return False


def _port(port: int | str, container: Object, kind: str) -> int:
    if isinstance(port, int) or port.isdigit():
        return int(port)
    for named in container.get("ports", []):
        if named.get("name") == port:
            return int(named["containerPort"])
    raise CannotRun(f'container {container["name"]}: {kind} asks port "{port}", which it does not declare')


async def _answers(http: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> bool:
    headers = {"User-Agent": "kube-probe/1.36", "Connection": "close", **headers}
    async with http.get(url, headers=headers, allow_redirects=False, ssl=False) as response:
        return 200 <= response.status < 400


async def _connects(host: str, port: int) -> bool:
    _, writer = await asyncio.open_connection(host, port)
    writer.close()
    await writer.wait_closed()
    return True


async def _succeeds(run: RunCommand, argv: Sequence[str]) -> bool:
    return await run(argv) == 0
