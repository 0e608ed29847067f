"""Pods that serve one request at a time, an outage of one side, and what else goes wrong, as plain arithmetic. Pure.

Each version has one pod and a queue, in which its readiness is asked as well. What callers are told are rows of
ANSWERS; ``decisions`` and tests judge them. How exact ranges are is ``service_model``'s question.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from meshbook import probes, tables
from meshbook.analysis import Change

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
DOWN, LEFT = "v1", "v2"
NEVER = (0.0, 0.0)
Span = tuple[float, float]
Row = dict[str, Any]
_PROBE_S, _PROBE_TIMEOUT_S, _MISSES = 2.0, 1.0, 2
"""A pod's readiness: asked so often, for so long, and lost after so many times, as the sample's manifest has it."""
_TICK_S = 0.003
"""Sources send on one schedule, so far apart at the most."""


def moment(second: float) -> datetime:
    return NOON + timedelta(seconds=second)


def row(source: str, seq: int, sent_s: float, took_s: float, version: str, error: str = "") -> Row:
    """Return a row of ANSWERS; without an answer the version counts for nothing."""
    return {
        "time": moment(sent_s),
        "scheduled": moment(sent_s),
        "seq": seq,
        "source": source,
        "path": "vip" if source == probes.OUTSIDE else "mesh",
        "version": "" if error else version,
        "instance": "" if error else f"web-{version}",
        "cluster": "" if error else f"cluster{version[1:]}",
        "error": error,
        "time_total_ms": 1000 * took_s,
        "time_error_ms": 0.0,
        "clock_error_ms": 0.0,
    }


@dataclass(kw_only=True)
class _Pod:
    free_at: float = 0.0
    misses: int = 0
    ready: bool = True


@dataclass(frozen=True, kw_only=True)
class Failover:
    """Three sources ask ``per_s`` times a second each, for ``seconds``; v1 is down meanwhile. Spans are in seconds."""

    per_s: float
    answer_s: float
    seconds: float = 30.0
    down: Span = (10.0, 20.0)
    patience_s: float = 15.0
    sources: tuple[str, ...] = (probes.OUTSIDE, "cluster1", "cluster2")
    slowed: Span = NEVER
    """Others take the CPU: each answer takes ``times`` as long."""
    times: float = 1.0
    loses_readiness: bool = False
    """Whether pods whose queue is too long for their probe get nothing until they have caught up, and 503 is said."""
    refuses_after_s: float = 1000.0
    """A pod refuses whoever would wait for longer, and 503 is said at once."""
    frozen: Span = NEVER
    """No pod serves."""
    silent: Span = NEVER
    """cluster1 gets no answer from elsewhere."""
    still: Span = NEVER
    """The whole machine stands still, callers too; half of what is on its way is lost."""
    share: float = 0.5
    """Of the requests, that a proxy fails or holds."""
    failing: Span = NEVER
    """They get 503 at once, whatever pods do."""
    held: Span = NEVER
    """They go to a pod when they have waited for ``held_s``."""
    held_s: float = 0.0

    def watched(self, seed: int = 3) -> tuple[list[Row], list[Change]]:
        """Return rows of ANSWERS, in the order of their sending, and what the API server of cluster2 showed."""
        return _Run(self, random.Random(seed)).played()


def _in(span: Span, second: float) -> bool:
    return span[0] <= second < span[1]


@dataclass
class _Run:
    given: Failover
    chance: random.Random
    pods: dict[str, _Pod] = field(default_factory=lambda: {DOWN: _Pod(), LEFT: _Pod()})
    rows: list[Row] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    def played(self) -> tuple[list[Row], list[Change]]:
        given, seen = self.given, dict.fromkeys(self.given.sources, 0)
        turn = itertools.count()
        events: list[tuple[float, int, str, Any]] = [(at, next(turn), "ask", who) for at, who in self._ticks()]
        probed = (number * _PROBE_S + 0.1 for number in range(int(given.seconds / _PROBE_S)))
        events += [(at, next(turn), "probe", LEFT) for at in probed if given.loses_readiness]
        heapq.heapify(events)
        while events:
            now, _, what, one = heapq.heappop(events)
            if what == "ask":
                seen[one] += 1
                request = (one, seen[one], now)
                wait_s = given.held_s if _in(given.held, now) and self.chance.random() < given.share else 0.0
                heapq.heappush(events, (now + wait_s, next(turn), "arrive", request))
            elif what == "arrive":
                self.rows.append(self._answered(now, *one))
            else:
                self._probed(now, one)
        return sorted(self.rows, key=lambda row: (row["scheduled"], row["source"])), self.changes

    def _ticks(self) -> Iterator[tuple[float, str]]:
        """Yield who sends when, in the machine's own time: while it stands still, nobody does."""
        given, still_s = self.given, self.given.still[1] - self.given.still[0]
        for number in range(int(given.seconds * given.per_s)):
            for source in given.sources:
                at = number / given.per_s + self.chance.uniform(0, _TICK_S)
                if _in(given.still, at):
                    dropped = {
                        "time": None,
                        "time_total_ms": None,
                        "detail": "the sender was too busy to send it in time",
                    }
                    self.rows.append(row(source, 0, at, 0.0, "", tables.DROPPED) | dropped)
                else:
                    yield at - still_s * (at >= given.still[1] > 0), source

    def _wall(self, own: float) -> float:
        return own + (self.given.still[1] - self.given.still[0]) * (own >= self.given.still[0])

    def _answered(self, now: float, source: str, seq: int, sent: float) -> Row:
        given = self.given
        ready = [name for name, pod in self.pods.items() if pod.ready and not (name == DOWN and _in(given.down, now))]
        version = self.chance.choice(ready or [LEFT])
        ended, error = now + 0.002, "http_503"
        pod = self.pods[version]
        if source == "cluster1" and version == LEFT and _in(given.silent, sent):
            ended, error = sent + given.patience_s, "timeout"
        elif ready and pod.free_at - now < given.refuses_after_s and not self._fails(now):
            ended, error = self._served(pod, now, sent)
        if sent < given.still[0] <= ended and self.chance.random() < 0.5:
            error = "http_503"
        return row(source, seq, self._wall(sent), self._wall(ended) - self._wall(sent), version, error)

    def _fails(self, now: float) -> bool:
        return _in(self.given.failing, now) and self.chance.random() < self.given.share

    def _served(self, pod: _Pod, now: float, sent: float) -> tuple[float, str]:
        given = self.given
        begin = max(now, pod.free_at)
        begin = given.frozen[1] if _in(given.frozen, begin) else begin
        times = given.times if _in(given.slowed, begin) else 1.0
        ended = begin + times * given.answer_s * self.chance.uniform(0.5, 1.5)
        if ended - sent >= given.patience_s:  # its caller has gone, and it is passed over
            return sent + given.patience_s, "timeout"
        pod.free_at = ended
        return ended, ""

    def _probed(self, now: float, version: str) -> None:
        pod = self.pods[version]
        pod.misses = pod.misses + 1 if pod.free_at - now > _PROBE_TIMEOUT_S else 0
        ready = pod.misses < _MISSES
        if ready != pod.ready:
            pod.ready = ready
            before, after = ((f"web-{version}",), ())[:: 1 if pod.misses else -1]
            times = {"not_before": moment(self._wall(now) - 0.2), "not_after": moment(self._wall(now))}
            self.changes.append(Change(context="cluster2", subject="endpoints", before=before, after=after, **times))
