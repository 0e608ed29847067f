"""A container's three probes and what follows from them: started, ready, or to be ended.

How a probe is asked stands in ``probes``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from meshbook.lab.kubelet.probes import Probe, changes, parse

Ask = Callable[[Probe], Awaitable[bool]]


@dataclass(frozen=True, kw_only=True)
class Health:
    """The probes that a container has."""

    startup: Probe | None = None
    readiness: Probe | None = None
    liveness: Probe | None = None


def of_container(container: Mapping[str, Any], pod_ip: str) -> Health:
    """Read a container's probes; ``UnsupportedProbe`` when the lab cannot ask one of them."""
    return Health(
        startup=parse(container, "startupProbe", pod_ip),
        readiness=parse(container, "readinessProbe", pod_ip),
        liveness=parse(container, "livenessProbe", pod_ip),
    )


async def follow(health: Health, ask: Ask, show: Callable[..., None], eager_s: float) -> None:
    """Ask the probes of a container that has just been started; call ``show(started=, ready=)`` as they answer.

    Returns when the container is to be ended: it did not start in time, or it is not alive any more.
    """
    if health.startup is not None and not await _starts(health.startup, ask, eager_s):
        return
    show(started=True, ready=health.readiness is None)
    async with asyncio.TaskGroup() as group:
        readiness = group.create_task(_show_readiness(health.readiness, ask, show, eager_s))
        await _until_dead(health.liveness, ask)
        readiness.cancel()


async def _starts(probe: Probe, ask: Ask, eager_s: float) -> bool:
    """Wait for the first good answer; say whether it came within the probe's patience."""
    try:
        async with asyncio.timeout(probe.initial_delay_s + probe.period_s * probe.failure_threshold):
            async for passing in changes(probe, lambda: ask(probe), eager_s=eager_s):
                if passing:
                    return True
    except TimeoutError:
        pass
    return False


async def _show_readiness(probe: Probe | None, ask: Ask, show: Callable[..., None], eager_s: float) -> None:
    if probe is not None:
        async for passing in changes(probe, lambda: ask(probe), eager_s=eager_s):
            show(ready=passing)


async def _until_dead(probe: Probe | None, ask: Ask) -> None:
    if probe is None:
        await asyncio.Event().wait()
        return
    async for passing in changes(probe, lambda: ask(probe), passing=True):
        if not passing:
            return
