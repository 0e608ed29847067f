"""Where requests on a schedule come from: the sender's program, started here or in a pod, and the talk with it.

A ``Source`` sends for the whole schedule, a ``SenderSession`` is one run of the program for it: one that is lost is
followed by another. What the program does is in ``sender``, how its clock is compared in ``clock_sync``; ``open_loop``
makes tables of the rows. Nothing is judged here.
"""

from __future__ import annotations

import json
import math
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from meshbook import tables
from meshbook.clusters import Cluster, ExecStreams
from meshbook.errors import ClusterError, ExecError, MeshbookError, UsageError
from meshbook.probes import sender
from meshbook.probes.clock_sync import Clock, Exchange, compare
from meshbook.probes.curl import Ended, container_of, one_line

PROBER = "app=prober"
"""Label of the pods that send on schedule."""
COMMAND = ("python3", "-I", "-S", "-u", "-c")
_FIRST_EXCHANGES = 8
_EXCHANGE_EVERY_S = 5.0
_SILENCE_S = 5
"""Seconds after which a sender that hears nothing takes its caller for gone."""
_BEAT_S = 1.0
_LEAD_S = 0.3
"""Seconds between the word to send and the first request of a session that comes late."""
_AGAIN_S = 0.5
"""Seconds after which a lost sender is started again."""
_LAST_WORDS_S = 3.0
"""Seconds that the last rows may need to get here."""
_TURN_S = 0.05
"""Seconds of silence after which a program of this machine is told what there is to tell."""
_PIECE = 1 << 16
_DAY_S = 86_400.0

Row = dict[str, object]
"""A row of ``tables.ANSWERS`` without its source and path."""


@dataclass(kw_only=True)
class Schedule:
    """When all sources send: request n at ``begin + (n - 1) * gap_s``, each with ``timeout_s`` to end."""

    gap_s: float
    timeout_s: float
    requests: int
    begin: float = math.inf
    """Unix time of the first; infinite until every source is ready."""
    end: float = math.inf
    """No request that is scheduled later is sent."""

    def due(self, number: int) -> float:
        return self.begin + (number - 1) * self.gap_s

    @property
    def numbers(self) -> range:
        """The requests whose time has come."""
        past = min(self.end, time.time()) - self.begin
        return range(1, min(self.requests, math.floor(past / self.gap_s) + 1 if past >= 0 else 0) + 1)

    @property
    def over(self) -> float:
        """When the last request has ended, at the latest."""
        return min(self.end, self.due(self.requests)) + self.timeout_s


class Told(NamedTuple):
    """What the sender told of one request: between ``sent`` and ``error_s`` later it left, by the sender's clock."""

    number: int
    sent: float
    error_s: float
    ended: Ended


@dataclass(kw_only=True)
class SenderSession:
    """One run of the sender for a stream: the talk with it (``clusters.ExecStreams``) and what it told."""

    stream: Source
    first: int | None = None
    """The number from which it sends; None until it was told."""
    exchanges: list[Exchange] = field(default_factory=list)
    ended: str = ""
    """Why it ended before its time, if it did."""
    last_words: str = ""
    """What came last that is no word of the sender, such as an error of Python's."""
    _address: str = ""
    _told: list[Told] = field(default_factory=list)
    _dropped: dict[int, str] = field(default_factory=dict)
    _asked: float | None = None
    _spoke: float = 0.0
    _stopping: bool = False

    @property
    def schedule(self) -> Schedule:
        return self.stream.schedule

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
        config = {"url": self.stream.url, "direct": self.stream.direct, "silence_s": _SILENCE_S}
        config |= {name: getattr(self.schedule, name) for name in ("gap_s", "timeout_s", "requests")}
        return f"{Path(sender.__file__).read_text('utf-8')}\nmain(json.loads({json.dumps(config)!r}))\n"

    def on_line(self, line: str, when: datetime) -> None:
        """Take a line of the sender; one that was cut is passed over, and its request becomes ``lost``."""
        try:
            words: dict[str, Any] = json.loads(line)
            if "sent" in words:
                number, sent, error_s = (words.pop(name) for name in ("number", "sent", "error_s"))
                words |= {"body": sys.intern(words["body"]), "remote_ip": self._address if words["connect_s"] else ""}
                self._told.append(Told(number, sent, error_s, Ended(**words)))
            elif "dropped" in words:
                self._dropped[words["number"]] = words["dropped"]
            elif "clock" in words and self._asked is not None:
                self.exchanges.append(Exchange(asked=self._asked, there=words["time"], heard=when.timestamp()))
                self._asked = None
            elif "ready" in words:
                self._address = words["ready"]
            elif "refused" in words:
                raise UsageError(words["refused"], hint="is the name right, and can it be looked up from there?")
        except (ValueError, TypeError, KeyError):
            self.last_words = one_line(line) or self.last_words
        if self._may_send:
            self.stream.ready.set()

    @property
    def _may_send(self) -> bool:
        return bool(self._address) and (self.stream.same_clock or len(self.exchanges) >= _FIRST_EXCHANGES)

    def stdin(self) -> str:
        """Return what the sender is to hear now; ExecError once it should have ended."""
        now = time.time()
        if now > self.schedule.over + _LAST_WORDS_S:
            raise ExecError("the sender did not end when it was told to")
        if not self._spoke:
            text = self._program
        elif self._address and not self._stopping and (words := self._words(now)) is not None:
            text = json.dumps(words) + "\n"
        else:
            return ""
        self._spoke = now
        return text

    def _words(self, now: float) -> dict[str, object] | None:
        if now >= self.schedule.end:
            self._stopping = True
            return {"last": len(self.schedule.numbers)}
        if not self.stream.same_clock and (question := self._question(now)):
            return question
        if self.first is None and self._may_send and math.isfinite(self.schedule.begin):
            late = now + _LEAD_S - self.schedule.begin
            self.first = max(1, math.ceil(late / self.schedule.gap_s) + 1)
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

    def rows(self) -> dict[int, Row]:
        """Return what has ended or was not sent, by the schedule's numbers, stamped by this machine's clock."""
        clock = self.clock or Clock(offset_s=0.0, bound_s=0.0, round_trip_s=0.0, exchanges=0)
        found: dict[int, Row] = {
            number: {"error": tables.DROPPED, "detail": why} for number, why in list(self._dropped.items())
        }
        return found | {told.number: self._row(told, clock) for told in list(self._told)}

    def _row(self, told: Told, clock: Clock) -> Row:
        sent = clock.here(told.sent) + told.error_s / 2
        return {
            **told.ended.row(),
            "time": datetime.fromtimestamp(sent, UTC),
            "late_ms": round((sent - self.schedule.due(told.number)) * 1000, 3),
            "time_error_ms": round(told.error_s * 500, 3),
            "clock_error_ms": round(clock.bound_s * 1000, 3),
        }


@dataclass(kw_only=True)
class Source:
    """One source of requests. A sender that is lost is started again, in a cluster in whatever pod is ready then."""

    schedule: Schedule
    source: str
    path: str
    url: str
    talk: Callable[[SenderSession], str]
    """Runs a session to its end, and returns why it ended before its time, if it did."""
    direct: bool = False
    """Whether to go past the proxy that the sender's environment names."""
    same_clock: bool = False
    """Whether the sender's clock is this machine's."""
    ready: threading.Event = field(default_factory=threading.Event)
    """Set once a sender waits for the word to send and its clock is known."""
    broken: MeshbookError | None = None
    """Why the last sender could not start, or was lost."""
    _sessions: list[SenderSession] = field(default_factory=list)

    def run(self) -> None:
        """Send until the schedule is over; called in a thread of its own."""
        while time.time() < self.schedule.over:
            session = SenderSession(stream=self)
            self._sessions.append(session)
            try:
                session.ended = self.talk(session)
                if not session.ended:
                    return
                self.broken = ExecError(f"{self.source}: the sender ended: {session.ended}")
            except MeshbookError as error:
                session.ended, self.broken = error.message, error
            if time.time() < self.schedule.over:
                time.sleep(_AGAIN_S)

    @property
    def clock(self) -> Clock | None:
        """How far the source's clock is off; None where it is this machine's."""
        return next((session.clock for session in reversed(list(self._sessions)) if session.clock), None)

    def rows(self) -> dict[int, Row]:
        """Return the requests known to have ended, or not to have been sent, by their number."""
        found: dict[int, Row] = {}
        for session in list(self._sessions):
            found |= session.rows()
        return found

    def why_lost(self, number: int) -> str:
        """Return what the session that should have sent request ``number`` said of its end."""
        sessions = list(self._sessions)
        sent = [session for session in sessions if session.first is not None and session.first <= number]
        for session in (sent or sessions)[-1:]:
            return session.ended or session.last_words or "it was not sent, or had not ended when the watch did"
        return "no sender was started"


def talk_here(session: SenderSession) -> str:
    """Run the sender on this machine."""
    code = run_here([sys.executable, *session.argv[1:]], session, session.longest_s)
    return "" if code == 0 else session.last_words or f"exit code {code}"


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
            process.kill()


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


def talk_in_pod(session: SenderSession, cluster: Cluster, namespace: str) -> str:
    """Run the sender in a ready prober pod of a cluster."""
    try:
        pod = cluster.ready_pod(PROBER, namespace)
    except ClusterError as error:
        if error.code:
            raise
        hint = "01_connectivity deploys it (manifests/connectivity/prober.yaml)"
        raise ClusterError(error.message, hint=hint, pods=error.evidence.get("pods")) from error
    where = {"namespace": namespace, "container": container_of(cluster.get("Pod", pod, namespace))}
    result = cluster.exec_interactive(pod, session.argv, session, **where, timeout_s=session.longest_s)
    return (
        ""
        if result.exit_code == 0
        else one_line(result.stderr[-200:]) or session.last_words or f"exit code {result.exit_code}"
    )
