"""Probes of containers: what to ask (parsed from the spec), how to ask it, and what a row of answers means.

The meaning (``Streak``) is pure; ``ask`` does the asking and ``changes`` does it in time. Which probe has which
consequence stands in ``health``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from meshbook.errors import LabError


class UnsupportedProbe(LabError):
    """The lab does not know how to ask this."""


@dataclass(frozen=True, kw_only=True)
class HttpGet:
    url: str
    headers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class TcpSocket:
    host: str
    port: int


@dataclass(frozen=True, kw_only=True)
class Command:
    argv: tuple[str, ...]


Question = HttpGet | TcpSocket | Command


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One probe of one container; times in seconds."""

    question: Question
    initial_delay_s: float
    period_s: float
    timeout_s: float
    success_threshold: int
    failure_threshold: int


@dataclass(frozen=True, kw_only=True)
class Streak:
    """What the answers so far amount to."""

    passing: bool
    successes: int = 0
    failures: int = 0

    def after(self, passed: bool, probe: Probe) -> Streak:
        """Return what they amount to with one more."""
        if passed:
            successes = self.successes + 1
            return Streak(passing=self.passing or successes >= probe.success_threshold, successes=successes)
        failures = self.failures + 1
        return Streak(passing=self.passing and failures < probe.failure_threshold, failures=failures)


def parse(container: Mapping[str, Any], kind: str, pod_ip: str) -> Probe | None:
    """Return a container's ``readinessProbe``, ``livenessProbe`` or ``startupProbe``, or None when it has none."""
    spec = container.get(kind)
    if not spec:
        return None
    return Probe(
        question=_question(spec, container, pod_ip, kind),
        initial_delay_s=float(spec.get("initialDelaySeconds", 0)),
        period_s=float(spec.get("periodSeconds") or 10),
        timeout_s=float(spec.get("timeoutSeconds") or 1),
        success_threshold=int(spec.get("successThreshold") or 1),
        failure_threshold=int(spec.get("failureThreshold") or 3),
    )


def _question(spec: Mapping[str, Any], container: Mapping[str, Any], pod_ip: str, kind: str) -> Question:
    if "httpGet" in spec:
        get = spec["httpGet"]
        scheme = get.get("scheme", "HTTP").lower()
        port = _port(get["port"], container, kind)
        path = "/" + get.get("path", "/").lstrip("/")
        headers = {header["name"]: header["value"] for header in get.get("httpHeaders", [])}
        return HttpGet(url=f"{scheme}://{get.get('host') or pod_ip}:{port}{path}", headers=headers)
    if "tcpSocket" in spec:
        socket = spec["tcpSocket"]
        return TcpSocket(host=socket.get("host") or pod_ip, port=_port(socket["port"], container, kind))
    if "exec" in spec:
        return Command(argv=tuple(spec["exec"].get("command", ())))
    raise UnsupportedProbe(f"container {container['name']}: the lab does {kind} by httpGet, tcpSocket and exec only")


def _port(port: int | str, container: Mapping[str, Any], kind: str) -> int:
    if isinstance(port, int) or port.isdigit():
        return int(port)
    for named in container.get("ports", []):
        if named.get("name") == port:
            return int(named["containerPort"])
    raise UnsupportedProbe(f'container {container["name"]}: {kind} asks port "{port}", which it does not declare')


RunCommand = Callable[[Sequence[str]], Awaitable[int]]
"""Runs a command in the container and returns its exit code; the command is killed when that is cancelled."""


async def ask(probe: Probe, http: aiohttp.ClientSession, run: RunCommand) -> bool:
    """Ask once; say whether the answer was good. No answer in time is a bad one."""
    try:
        async with asyncio.timeout(probe.timeout_s):
            match probe.question:
                case HttpGet() as get:
                    return await _get(get, http)
                case TcpSocket() as socket:
                    return await _connect(socket)
                case Command() as command:
                    return await run(command.argv) == 0
    except (TimeoutError, OSError, aiohttp.ClientError, LabError):
        return False


async def _get(get: HttpGet, http: aiohttp.ClientSession) -> bool:
    headers = {"User-Agent": "kube-probe/1.32", "Connection": "close", **get.headers}
    async with http.get(get.url, headers=headers, allow_redirects=False, ssl=False) as response:
        return 200 <= response.status < 400


async def _connect(socket: TcpSocket) -> bool:
    _, writer = await asyncio.open_connection(socket.host, socket.port)
    writer.close()
    await writer.wait_closed()
    return True


async def changes(
    probe: Probe, once: Callable[[], Awaitable[bool]], *, passing: bool = False, eager_s: float | None = None
) -> AsyncIterator[bool]:
    """Ask again and again; yield what the answers amount to whenever that changes from ``passing``.

    With ``eager_s``, a probe that has never passed is asked that often, if its own period is not shorter.
    """
    streak = Streak(passing=passing)
    ever = passing
    await asyncio.sleep(probe.initial_delay_s)
    while True:
        before = streak.passing
        streak = streak.after(await once(), probe)
        ever = ever or streak.passing
        if streak.passing != before:
            yield streak.passing
        await asyncio.sleep(probe.period_s if ever or eager_s is None else min(probe.period_s, eager_s))
