"""Signals during an outage: SIGTERM unwinds as Ctrl-C does, and nothing cuts the way back."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

TERMINATED = 128 + signal.SIGTERM


@contextmanager
def sigterm_unwinds() -> Iterator[None]:
    """Let SIGTERM leave the block by ``SystemExit``, unless the program has plans of its own for it."""
    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if mine:
        signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(TERMINATED)


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Let no SIGINT or SIGTERM cut the block; one that came meanwhile counts as Ctrl-C when it is done."""
    heard: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # signals do not reach other threads
        yield
        return

    def note(number: int, _: object) -> None:
        heard.append(number)

    former = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler or signal.SIG_DFL)
    if heard:
        raise KeyboardInterrupt
