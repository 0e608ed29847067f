"""One run of the sender's program, here or in a pod: what it is told, what it tells, and how a program is run here.

What the program does is in ``sender``, how its clock is compared in ``clock_sync``. Which programs run for whom, and
what their rows come to, is in ``source``.
"""

from __future__ import annotations

import json
import math
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from meshbook import tables
from meshbook.clusters import ExecStreams
from meshbook.errors import ExecError, UsageError
from meshbook.probes import sender
from meshbook.probes.clock_sync import Clock, Exchange, compare
from meshbook.probes.outcomes import Outcome, Outcomes, one_line, outcome

COMMAND = ("python3", "-I", "-S", "-u", "-c")
READY_S = 20.0
"""Seconds within which a sender must be ready."""
_FIRST_EXCHANGES = 8
_EXCHANGE_EVERY_S = 5.0
_SILENCE_S = 5
"""Seconds after which a sender that hears nothing takes its caller for gone."""
_BEAT_S = 1.0
_LEAD_S = 0.3
"""Seconds between the word to send and the first request of a session that comes late."""
_LAST_WORDS_S = 3.0
"""Seconds that the last rows may need to get here."""
_TURN_S = 0.05
"""Seconds of silence after which a program of this machine is told what there is to tell."""
_PIECE = 1 << 16
_DAY_S = 86_400.0


@dataclass(kw_only=True)
class Schedule:
    """When all sources send: request n at ``begin + (n - 1) * gap_s``, each with ``timeout_s`` to end.

    Without a gap it is a closed loop: each source keeps ``in_flight`` requests on their way, from when it is ready.
    """

    gap_s: float
    timeout_s: float
    requests: int
    in_flight: int
    """As many requests of a source as may be on their way at once."""
    begin: float = math.inf
    """Unix time of the first; infinite until every source is ready."""
    end: float = math.inf
    """No request that is scheduled later is sent."""

    def __post_init__(self) -> None:
        if self.is_closed:
            self.begin = time.time()

    @property
    def is_closed(self) -> bool:
        return not self.gap_s

    def due(self, number: int) -> float:
        return self.begin + (number - 1) * self.gap_s

    @property
    def numbers(self) -> range:
        """The requests whose time has come."""
        past = min(self.end, time.time()) - self.begin
        if self.is_closed:
            return range(1, self.requests + 1 if past >= 0 else 1)
        return range(1, min(self.requests, math.floor(past / self.gap_s) + 1 if past >= 0 else 0) + 1)

    @property
    def over(self) -> float:
        """When the last request has ended, at the latest."""
        if self.is_closed:
            return min(self.end, self.begin + READY_S + math.ceil(self.requests / self.in_flight) * self.timeout_s)
        return min(self.end, self.due(self.requests)) + self.timeout_s


@dataclass(kw_only=True)
class SenderSession:
    """One run of the sender: the talk with it (``clusters.ExecStreams``) and what it told."""

    schedule: Schedule
    url: str
    direct: bool
    same_clock: bool
    first: int | None = None
    """The number from which it sends; None until it was told."""
    exchanges: list[Exchange] = field(default_factory=list)
    ended: str = ""
    """Why it ended before its time, if it did."""
    last_words: str = ""
    """What came last that is no word of the sender, such as an error of Python's."""
    outcomes: Outcomes = field(default_factory=Outcomes)
    _address: str = ""
    _asked: float | None = None
    _spoke: float = 0.0
    _stopping: bool = False

    @property
    def argv(self) -> list[str]:
        """What starts the sender; its program comes in at its stdin, since it is too long for the URL of an exec."""
        start = f"import signal, sys; signal.alarm({2 * _SILENCE_S}); exec(sys.stdin.read({len(self._program)}))"
        return [*COMMAND, start]

    @property
    def longest_s(self) -> float:
        """Longest time that all of it may take."""
        over = self.schedule.over
        return 60.0 + (over - time.time() if math.isfinite(over) else _DAY_S)

    @cached_property
    def _program(self) -> str:
        config = {"url": self.url, "direct": self.direct, "silence_s": _SILENCE_S}
        config |= {name: getattr(self.schedule, name) for name in ("gap_s", "timeout_s", "requests", "in_flight")}
        return f"{Path(sender.__file__).read_text('utf-8')}\nmain(json.loads({json.dumps(config)!r}))\n"

    def on_line(self, line: str, when: datetime) -> None:
        """Take a line of the sender; one that was cut is passed over, and its request becomes ``lost``."""
        try:
            words: dict[str, Any] = json.loads(line)
            if "rows" in words:
                for row in words["rows"]:
                    self._take(*row)
            elif "dropped" in words:
                self.outcomes.add(words["dropped"], Outcome(tables.DROPPED, words["why"]))
            elif "clock" in words and self._asked is not None:
                self.exchanges.append(Exchange(asked=self._asked, there=words["time"], heard=when.timestamp()))
                self._asked = None
            elif "ready" in words:
                self._address = words["ready"]
            elif "refused" in words:
                raise UsageError(words["refused"], hint="is the name right, and can it be looked up from there?")
        except (ValueError, TypeError, KeyError):
            self.last_words = one_line(line) or self.last_words

    def _take(self, number: int, *told: Any) -> None:
        """Take the row of a request that has ended."""
        *moments, code, exit_code, body, said = told
        connected = moments[2] >= 0
        self.outcomes.add(number, outcome(code, exit_code, body, said, self._address if connected else ""), moments)

    @property
    def is_ready(self) -> bool:
        """Whether it waits for the word to send, and its clock is known."""
        return bool(self._address) and (self.same_clock or len(self.exchanges) >= _FIRST_EXCHANGES)

    def stdin(self) -> str:
        """Return what the sender is to hear now; ExecError once it should have ended."""
        now = time.time()
        if now > self.schedule.over + _LAST_WORDS_S:
            raise ExecError("the sender did not end when it was told to")
        if not self._spoke:
            text = self._program
        elif self._address and (words := self._words(now)) is not None:
            text = json.dumps(words) + "\n"
        else:
            return ""
        self._spoke = now
        return text

    def _words(self, now: float) -> dict[str, object] | None:
        if now >= self.schedule.end and not self._stopping:
            self._stopping = True
            return {"last": len(self.schedule.numbers)}
        if not self._stopping and not self.same_clock and (question := self._question(now)):
            return question
        if self.first is None and not self._stopping and self.is_ready and math.isfinite(self.schedule.begin):
            late = 0.0 if self.schedule.is_closed else (now + _LEAD_S - self.schedule.begin) / self.schedule.gap_s
            self.first = max(1, math.ceil(late) + 1)
            return {"first": self.first, "begin": self.schedule.begin + (self.clock.offset_s if self.clock else 0.0)}
        return {} if now > self._spoke + _BEAT_S else None

    def _question(self, now: float) -> dict[str, object]:
        enough = len(self.exchanges) >= _FIRST_EXCHANGES
        if self._asked is not None or (enough and now < self.exchanges[-1].asked + _EXCHANGE_EVERY_S):
            return {}
        self._asked = time.time()
        return {"clock": len(self.exchanges)}

    @property
    def clock(self) -> Clock | None:
        """How far its clock is off; None where it is this machine's, or not known yet."""
        return compare(self.exchanges) if self.exchanges else None


def run_here(argv: Sequence[str], streams: ExecStreams, timeout_s: float) -> int:
    """Run a program of this machine as ``Cluster.exec_interactive`` does one of a pod; return its exit code."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen(argv, bufsize=0, start_new_session=True, **pipes) as process:
        try:
            _converse(process, streams, time.monotonic() + timeout_s)
            return process.wait(_LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            return -1
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with all that it started


def _converse(process: subprocess.Popen[bytes], streams: ExecStreams, deadline: float) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            if text := streams.stdin():
                with suppress(BrokenPipeError):  # its last words are still to be read
                    process.stdin.write(text.encode())
            if selector.select(_TURN_S):
                piece = process.stdout.read(_PIECE)
                if not piece:
                    return
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    streams.on_line(line.decode("utf-8", "replace"), datetime.now(UTC))
