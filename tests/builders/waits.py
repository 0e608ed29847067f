"""Bounded waits: what is looked at until it is there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

EVERY_S = 0.01


def until(look: Callable[[], Any], within_s: float = 15.0) -> Any:
    """Return what ``look`` gives once that is true."""
    deadline = time.monotonic() + within_s
    while not (seen := look()):
        assert time.monotonic() < deadline, f"waited {within_s:g} s in vain; seen last: {seen!r}"
        time.sleep(EVERY_S)
    return seen


async def until_async(look: Callable[[], Any], within_s: float = 5.0) -> Any:
    """Return what ``look`` gives once that is true, while the event loop goes on."""
    deadline = time.monotonic() + within_s
    while not (seen := look()):
        assert time.monotonic() < deadline, f"waited {within_s:g} s in vain; seen last: {seen!r}"
        await asyncio.sleep(EVERY_S)
    return seen
