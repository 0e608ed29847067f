"""Sees to it that nothing outlives the lab, however the lab ends.

A program of its own (``python -I -S reaper.py MARK``), standard library only: its standard input is a pipe that nobody
but the lab process can write to. When that pipe ends, it kills every process that carries the mark in its environment,
until none is left, and goes away itself. It has a session of its own and takes no notice of signals that are meant for
the lab. ``processes`` starts it; its functions also serve the lab's own tidying up.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

SWEEPS = 200
PAUSE_S = 0.02
CALM = 3
"""Sweeps in a row that must find nothing: a process that is only just being started shows its mark a moment later."""


def marked(mark: str) -> list[int]:
    """Return the ids of all other processes whose environment has the entry ``mark`` (``NAME=value``)."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as environ:
                if mark.encode() in environ.read().split(b"\0"):
                    found.append(int(name))
    return found


def kill_marked(mark: str) -> int:
    """Kill every process that carries ``mark``; return how many there were."""
    found = marked(mark)
    for pid in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return len(found)


def main(mark: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    os.write(1, b"ready")
    while os.read(0, 4096):
        pass
    calm = 0
    for _ in range(SWEEPS):
        calm = 0 if kill_marked(mark) else calm + 1
        if calm == CALM:
            return
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main(sys.argv[1])
