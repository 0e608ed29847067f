"""Ends of pipes that the lab keeps: read and written without buffers and without blocking the loop.

Closing is the owner's business: a process may be gone while its children still hold the other end.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import termios
from collections.abc import Callable
from typing import Any

CHUNK = 65536


class ReadEnd:
    """What a process writes."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor

    async def read(self, limit: int = CHUNK) -> bytes:
        """Return what is there, at most ``limit`` bytes, as soon as there is some; nothing at the end."""
        loop = asyncio.get_running_loop()
        while self._descriptor >= 0:
            try:
                return os.read(self._descriptor, limit)
            except BlockingIOError:
                await _ready(self._descriptor, loop.add_reader, loop.remove_reader)
            except OSError as error:
                if error.errno != errno.EIO:  # so a terminal says that nobody has its other side any more
                    raise
                break
        return b""

    def close(self) -> None:
        self._descriptor = _close(self._descriptor)


class WriteEnd:
    """What a process reads."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor

    async def write(self, data: bytes) -> None:
        """Write all of ``data``; what nobody reads any more is dropped."""
        loop = asyncio.get_running_loop()
        rest = memoryview(data)
        while rest and self._descriptor >= 0:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                await _ready(self._descriptor, loop.add_writer, loop.remove_writer)
            except OSError:
                self.close()

    def resize(self, columns: int, rows: int) -> None:
        """Give a terminal its size; what is no terminal has none."""
        with contextlib.suppress(termios.error, ValueError):
            termios.tcsetwinsize(self._descriptor, (rows, columns))

    def close(self) -> None:
        self._descriptor = _close(self._descriptor)


async def _ready(descriptor: int, add: Callable[..., Any], remove: Callable[[int], bool]) -> None:
    ready = asyncio.Event()
    add(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        remove(descriptor)


def _close(descriptor: int) -> int:
    if descriptor >= 0:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    return -1
