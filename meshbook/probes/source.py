"""Sources of requests: who sends (this machine, the prober pod of a cluster), and what became of each one's requests.

A ``Source`` sends for the whole schedule; a sender that is lost is followed by another ``session``. ``open_loop`` and
``closed_loop`` say when they send. Nothing is judged here.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd

from meshbook import tables
from meshbook.clusters import Cluster
from meshbook.errors import ClusterError, ExecError, MeshbookError, UsageError, WaitTimeout
from meshbook.mesh import Entry, entries_of
from meshbook.probes.clock_sync import Clock
from meshbook.probes.curl import MESH, container_of, is_near
from meshbook.probes.outcomes import Outcome, Records, dates, numbered, one_line, to_frame
from meshbook.probes.records import Ask
from meshbook.probes.session import READY_S, Schedule, SenderSession, run_here

PROBER = "app=prober"
"""Label of the pods that send."""
_AGAIN_S = 0.5
"""Seconds after which a lost sender is started again."""
_NO_CLOCK = Clock(offset_s=0.0, bound_s=0.0)


@dataclass(kw_only=True)
class Source:
    """One source of requests. A sender that is lost is started again, in a cluster in whatever pod is ready then.

    Only a closed loop ends with its sender: what is left of it is nobody's to send.
    """

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
    broken: MeshbookError | None = None
    """Why the last sender could not start, or was lost."""
    _sessions: list[SenderSession] = field(default_factory=list)

    def run(self) -> None:
        """Send until the schedule is over; called in a thread of its own."""
        while time.time() < self.schedule.over:
            session = SenderSession(
                schedule=self.schedule, url=self.url, direct=self.direct, same_clock=self.same_clock
            )
            self._sessions.append(session)
            try:
                session.ended = self.talk(session)
                if not session.ended:
                    return
                self.broken = ExecError(f"{self.source}: the sender ended: {session.ended}")
            except MeshbookError as error:
                session.ended, self.broken = error.message, error
            if self.schedule.is_closed:
                return
            if time.time() < self.schedule.over:
                time.sleep(_AGAIN_S)

    def wait_until_ready(self, deadline: float) -> None:
        """Return once a sender waits for the word to send; raise what keeps it from that."""
        while not any(session.is_ready for session in list(self._sessions)):
            if self.broken is not None:
                raise self.broken
            if time.monotonic() > deadline:
                why = "; ".join(map(_why_lost, self._sessions[-1:])) or "no sender was started"
                raise WaitTimeout(f"{self.source}: no sender was ready within {READY_S:g} s", saw=why)
            time.sleep(0.01)

    @property
    def so_far(self) -> str:
        """How many of its requests have failed, of those that are known to have ended."""
        counts = [session.outcomes.counts for session in list(self._sessions)]
        known, failed = (sum(count[at] for count in counts) for at in (0, 1))
        return f"{self.source} {failed}/{known}"

    def frame(self, *, done: bool) -> pd.DataFrame:
        """Return ANSWERS of the requests that are known to have ended, or not to have been sent; once ``done``, of all.

        Moments are told by this machine's clock.
        """
        sessions, kinds = list(self._sessions), list[Outcome]()
        records = numbered(len(self.schedule.numbers))
        clock_error_ms = np.full(len(records), np.nan)
        sender = np.full(len(records), len(sessions) - 1)
        for index, session in enumerate(sessions):
            clock, known = session.clock or _NO_CLOCK, session.outcomes.records
            known = known[known["number"] <= len(records)]
            known["sent"] += known["error_us"] / 2e6 - clock.offset_s
            known["outcome"] += len(kinds)
            at = known["number"] - 1
            records[at], clock_error_ms[at] = known, clock.bound_s * 1000
            kinds += session.outcomes.kinds
            if session.first is not None:
                sender[session.first - 1 :] = index
        unknown = records["outcome"] < 0
        if done:
            records["outcome"][unknown] = len(kinds) + sender[unknown]
            kinds += [Outcome(tables.LOST, _why_lost(session)) for session in sessions]
        else:
            records, clock_error_ms = records[~unknown], clock_error_ms[~unknown]
        return self._frame(records, kinds, clock_error_ms)

    def _frame(
        self, records: Records, kinds: Sequence[Outcome], clock_error_ms: npt.NDArray[np.float64]
    ) -> pd.DataFrame:
        was_sent = ~np.isnan(records["sent"])
        due = self.schedule.due(1) + (records["number"] - 1.0) * self.schedule.gap_s
        if self.schedule.is_closed:
            due[:] = np.nan
        return to_frame(
            records,
            kinds,
            source=self.source,
            path=self.path,
            url=self.url,
            scheduled=dates(due),
            late_ms=np.round((records["sent"] - due) * 1000, 3),
            time_error_ms=np.where(was_sent, np.round(records["error_us"] / 2000, 3), np.nan),
            clock_error_ms=np.where(was_sent, np.round(clock_error_ms, 3), np.nan),
        )


def _why_lost(session: SenderSession) -> str:
    return session.ended or session.last_words or "it was not sent, or had not ended when the watch did"


def sources(
    fleet: Iterable[Cluster], outside: str | Sequence[Entry], inside: str, schedule: Schedule, namespace: str
) -> list[Source]:
    """Return who sends on ``schedule``: this machine to ``outside``, the prober pod of every cluster to ``inside``."""
    found: list[Source] = []
    for one in entries_of(outside):
        here = Source(schedule=schedule, source=one.source, path=one.path, url=_plain(one.url), talk=_talk_here)
        found.append(replace(here, direct=is_near(one.url), same_clock=True))
    for cluster in fleet if inside else ():
        talk = partial(_talk_in_pod, cluster=cluster, namespace=namespace)
        found.append(Source(schedule=schedule, source=cluster.name, path=MESH, url=_plain(inside), talk=talk))
    if not found:
        raise UsageError("nothing is to be asked", hint="outside=http://ADDRESS/hello, inside=http://…:5000/hello")
    return found


def _plain(url: str) -> str:
    if not Ask(url=url, requests=1).url.startswith("http://"):
        raise UsageError(f"the sender asks plain http only, not {url!r}", hint="http://ADDRESS/hello")
    return url


def start(each: Sequence[Source]) -> list[threading.Thread]:
    """Start to send, and return the threads that end when all is sent; raise what keeps a source from it."""
    threads = [threading.Thread(target=one.run, name=f"meshbook sender {one.source}", daemon=True) for one in each]
    for thread in threads:
        thread.start()
    try:
        deadline = time.monotonic() + READY_S
        for one in each:
            one.wait_until_ready(deadline)
    except BaseException:
        stop(each, threads)
        raise
    return threads


def stop(each: Sequence[Source], threads: Sequence[threading.Thread]) -> None:
    """Send nothing more, give up what is on its way, and wait for the senders' ends."""
    for one in each:
        one.schedule.end = 0.0
    for thread in threads:
        thread.join()


def to_answers(each: Sequence[Source], *, done: bool) -> pd.DataFrame:
    """Return ANSWERS of all sources."""
    frames = [one.frame(done=done) for one in each]
    return frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)


def _talk_here(session: SenderSession) -> str:
    """Run the sender on this machine."""
    code = run_here([sys.executable, *session.argv[1:]], session, session.longest_s)
    return "" if code == 0 else session.last_words or f"exit code {code}"


def _talk_in_pod(session: SenderSession, cluster: Cluster, namespace: str) -> str:
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
