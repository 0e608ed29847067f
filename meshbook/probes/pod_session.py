"""A stream of requests from a pod, while it runs: one exec whose script sends on schedule, and the talk with it.

What is run there, and how it is told and read, is ``pod_protocol``, how its clock is compared ``clock_sync``.
Nothing is judged here.
"""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from meshbook import tables
from meshbook.clusters import Cluster
from meshbook.errors import ExecError, MeshbookError
from meshbook.probes.clock_sync import Clock, Exchange, compare
from meshbook.probes.curl import MESH, container_of
from meshbook.probes.pod_protocol import PodReport
from meshbook.probes.schedule import Row, Schedule, stamped

_FIRST_EXCHANGES = 8
_EXCHANGE_EVERY_S = 5.0
_LEAD_S = 0.3
"""Seconds between the word to send and the first request."""
_AGAIN_S = 0.5
"""Seconds after which a lost exec is tried again."""
_SETTLE_S = 0.3
"""Seconds for the last records to be read inside the pod."""
_LAST_WORDS_S = 3.0
"""Seconds that the last rows may need to get here."""


@dataclass(kw_only=True)
class ExecSession:
    """One exec of a pod's stream: the talk with the script (``clusters.ExecStreams``) and what it told."""

    schedule: Schedule
    report: PodReport
    ready: threading.Event
    """Set once the pod's clock is known."""
    first: int | None = None
    """The number that its first request has in the schedule, warm-up included (then below 1)."""
    exchanges: list[Exchange] = field(default_factory=list)
    ended: str = ""
    _asked: float | None = None
    _listening: bool = False
    _stopping: bool = False

    def on_line(self, line: str, when: datetime) -> None:
        if line.startswith("H "):
            self._listening = True
        elif line.startswith("C ") and self._asked is not None:
            there = self.report.stamp(line.split(" ")[1])
            tick_s = self.report.tick_s
            self.exchanges.append(Exchange(asked=self._asked, there=there, heard=when.timestamp(), tick_s=tick_s))
            self._asked = None
            if len(self.exchanges) == _FIRST_EXCHANGES:
                self.ready.set()
        else:
            self.report.take(line)

    def stdin(self) -> str:
        """Return what the script is to hear now; ExecError once it should have ended."""
        now = time.time()
        if now > self.schedule.over + _LAST_WORDS_S:
            raise ExecError("the pod did not end its stream when it was told to")
        if not self._listening or self._stopping:
            return ""
        if now > self.schedule.over + _SETTLE_S:
            self._stopping = True
            return "stop\n"
        if len(self.exchanges) < _FIRST_EXCHANGES or self.first is not None:
            return self._question(now)
        return self._go() if math.isfinite(self.schedule.begin) else ""

    def _question(self, now: float) -> str:
        if self._asked is not None:
            return ""
        if len(self.exchanges) >= _FIRST_EXCHANGES and now < self.exchanges[-1].asked + _EXCHANGE_EVERY_S:
            return ""
        self._asked = time.time()
        return f"clock {len(self.exchanges)}\n"

    def _go(self) -> str:
        warm_up, gap_s = self.report.lanes.warm_up, self.schedule.gap_s
        passed = time.time() + _LEAD_S - self.schedule.begin
        self.first = max(1 - warm_up, math.ceil(passed / gap_s) + 1)
        begin = self.schedule.due(self.first) + compare(self.exchanges).offset_s
        return f"go {round(begin * 1000)} 1\n"

    def rows(self) -> dict[int, Row]:
        """Return what has ended, by the schedule's numbers, stamped by this machine's clock."""
        if self.first is None:
            return {}
        clock, shift = compare(self.exchanges), self.first - 1
        note = {"error": tables.DROPPED, "detail": "its lane in the pod was too late to send it"}
        found: dict[int, Row] = {number + shift: dict(note) for number in self.report.dropped}
        for number, row in self.report.ended():
            bounds = cast("tuple[float, float] | None", row.pop("time", None))
            if bounds is not None:
                here = (clock.here(bounds[0]), clock.here(bounds[1]))
                row = stamped(self.schedule, number + shift, row, here, clock.bound_s)
            found[number + shift] = row
        return found


class PodStream:
    """Requests from a pod of one cluster. A lost exec is taken up again, in whatever pod is ready then."""

    path = MESH

    def __init__(
        self, schedule: Schedule, url: str, cluster: Cluster, *, namespace: str = "sample", selector: str = "app=sleep"
    ) -> None:
        self.schedule, self.url, self.cluster, self.source = schedule, url, cluster, cluster.name
        self.namespace, self.selector = namespace, selector
        self.sessions: list[ExecSession] = []
        self.ready = threading.Event()
        self.broken: MeshbookError | None = None

    @property
    def lead_s(self) -> float:
        """Seconds that the pod needs before its first request can leave on time."""
        return PodReport.of(self.schedule, self.url).lanes.lead_s

    @property
    def clock(self) -> Clock | None:
        known = [session.exchanges for session in list(self.sessions) if session.exchanges]
        return compare(known[-1]) if known else None

    def run(self) -> None:
        while time.time() < self.schedule.over:
            session = ExecSession(
                schedule=self.schedule, report=PodReport.of(self.schedule, self.url), ready=self.ready
            )
            self.sessions.append(session)
            try:
                self._talk(session)
            except MeshbookError as error:
                session.ended = error.message
                self.broken = error
            if time.time() < self.schedule.over:
                time.sleep(_AGAIN_S)

    def _talk(self, session: ExecSession) -> None:
        pod = self.cluster.ready_pod(self.selector, self.namespace)
        longest_s = self.schedule.over - time.time() if math.isfinite(self.schedule.over) else 86_400.0
        where = {"namespace": self.namespace, "container": container_of(self.cluster.get("Pod", pod, self.namespace))}
        result = self.cluster.exec_interactive(pod, session.report.argv(), session, **where, timeout_s=longest_s + 60)
        session.ended = result.stderr.strip()[-200:]

    def rows(self) -> dict[int, Row]:
        found: dict[int, Row] = {}
        for session in list(self.sessions):
            found |= session.rows()
        return found

    def why_lost(self, number: int) -> str:
        """Return what the session that should have sent request ``number`` said of its end."""
        sessions = [session for session in list(self.sessions) if session.first is not None and session.first <= number]
        if not (sessions or self.sessions):
            return "nothing was started in the pod"
        session = (sessions or self.sessions)[-1]
        return session.ended or session.report.last_words
