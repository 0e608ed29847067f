"""Waiting until an effect is there: what stamps a fault's true start and end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from meshbook.errors import LabError
from meshbook.lab.kubelet.processes import Process

SEEN_TIMEOUT_S = 5.0
"""How long an effect may take to be seen."""
POLL_S = 0.001


async def seen(what: str, holds: Callable[[], object]) -> None:
    """Wait until an effect is there; ``LabError`` when it does not come."""
    deadline = time.monotonic() + SEEN_TIMEOUT_S
    while not holds():
        if time.monotonic() > deadline:
            raise LabError(f"it was waited for that {what}, for {SEEN_TIMEOUT_S:g} s in vain")
        await asyncio.sleep(POLL_S)


async def answering(process: Process, address: str, port: int, *, wanted: bool) -> None:
    """Wait until connections are accepted, or refused; a process that has ended is waited for no more."""
    deadline = time.monotonic() + SEEN_TIMEOUT_S
    while process.returncode is None and await _accepts(address, port) is not wanted:
        if time.monotonic() > deadline:
            raise LabError(f"{address}:{port} does not {'accept' if wanted else 'refuse'} connections")
        await asyncio.sleep(POLL_S)


async def _accepts(address: str, port: int) -> bool:
    try:
        async with asyncio.timeout(SEEN_TIMEOUT_S):
            _, writer = await asyncio.open_connection(address, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
