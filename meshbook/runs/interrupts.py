"""Signals during a run: the first is passed on to the kernel, the second breaks off, and none cuts a restoring."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

GRACE_S = 90.0
"""Seconds that an interrupted cell may take to clean up: a rollout back to its replicas on a real cluster fits."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """What was asked for so far, and the kernel that a signal is passed on to.

    ``told`` is called inside the handler of each signal that does not break off at once, so that whoever sent it gets a
    word: the first, which a kernel gets, and those that come while something is being restored.
    """

    def __init__(self, grace_s: float = GRACE_S, told: Callable[[], None] = lambda: None) -> None:
        self.asked = self._deferred = False
        self._told = told
        self._grace_s = grace_s
        self._kernel: int | None = None
        self._timer: threading.Timer | None = None

    @contextlib.contextmanager
    def handled(self) -> Iterator[Interrupts]:
        """Take over the signals for the body's time. Only the main thread may enter."""
        before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        try:
            yield self
        finally:
            self.kernel_ended()
            for number, handler in before.items():
                signal.signal(number, handler)

    def kernel_started(self, process_group: int) -> None:
        self._kernel, self._deferred = process_group, False

    def kernel_ended(self) -> None:
        """From here to the next kernel no signal cuts anything short: what is down is restored."""
        self._kernel, self._deferred = None, True
        if self._timer is not None:
            self._timer.cancel()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _leave_terminal()
        first, self.asked = not self.asked, True
        if self._deferred:
            self._told()
            return
        if not first or self._kernel is None:
            self._deferred = True  # broken off once is enough: what comes after it restores
            raise KeyboardInterrupt
        self._told()
        self._timer = threading.Timer(self._grace_s, signal.raise_signal, [signal.SIGINT])
        self._timer.daemon = True
        self._timer.start()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._kernel, signal.SIGINT)


def _leave_terminal() -> None:
    """Lead nowhere what a terminal that is gone does not take any more: no word to it may stop what restores."""
    for stream in (1, 2):
        try:
            os.write(stream, b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
