"""A target process and the outages that a benchmark gives it, each stamped with its true begin and end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from meshbook.analysis import Fault

Edge = tuple[float, float]
"""Unix times between which something happened."""

_STATE_S = 1.0


class Injector:
    """Starts one target and takes it down; a context manager."""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(Path(__file__).with_name("target.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = f"http://127.0.0.1:{int(self._heard())}/hello"
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def frozen(self, seconds: float) -> Fault:
        """Freeze the process for ``seconds``."""
        return self._fault(
            "frozen", seconds, lambda: self._signal(signal.SIGSTOP), lambda: self._signal(signal.SIGCONT)
        )

    def refused(self, seconds: float) -> Fault:
        """Close the listener for ``seconds``."""
        return self._fault("refused", seconds, lambda: self._tell("refuse"), lambda: self._tell("admit"))

    def _fault(self, kind: str, seconds: float, take: object, give: object) -> Fault:
        assert callable(take)
        assert callable(give)
        start: Edge = take()
        time.sleep(max(0.0, start[1] + seconds - time.time()))
        end: Edge = give()
        error_s = max(start[1] - start[0], end[1] - end[0]) / 2
        moments = [datetime.fromtimestamp(sum(edge) / 2, UTC) for edge in (start, end)]
        return Fault(name=f"{kind} {seconds:g} s", start=moments[0], end=moments[1], error_ms=error_s * 1000)

    def _signal(self, number: signal.Signals) -> Edge:
        before = time.time()
        os.kill(self.process.pid, number)
        stopped = number == signal.SIGSTOP
        deadline = before + _STATE_S
        while (self._state() == "T") != stopped and time.time() < deadline:
            time.sleep(0.0002)
        return before, time.time()

    def _state(self) -> str:
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def _tell(self, word: str) -> Edge:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        before, after = map(float, self._heard().split())
        return before, after

    def _heard(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()
