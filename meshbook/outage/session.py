"""Take down for the length of a ``with`` block and restore, however it ends; and restore what a dead run left down.

All that restoring needs stands in the cluster. How one object is restored is for ``targets`` to say, whether its run
still lives for ``lease``.
"""

from __future__ import annotations

import contextlib
import shlex
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from meshbook import progress
from meshbook.clusters import Cluster, DeploymentState, Fleet
from meshbook.errors import (
    ClusterError,
    GatheredError,
    LeftToRunError,
    MeshbookError,
    NotRestoredError,
    OutageError,
    WaitTimeout,
)
from meshbook.objects import SYSTEM_NAMESPACE, Object, annotations_of, labels_of
from meshbook.outage import lease, watchdog
from meshbook.outage.lab import Lab
from meshbook.outage.modes import Mode, mode_of
from meshbook.outage.records import MODE, OF, RUN, SINCE, Intent, Outage, PendingRollback, Restored, is_recorded
from meshbook.outage.rollback import Rollback, Tell, insist, merged, roll_back, say
from meshbook.outage.safeguards import plan
from meshbook.outage.targets import TARGETS, OutageTarget, replicas_of

T = TypeVar("T")
_AGAIN_S = 0.01
"""Seconds after which a signal comes again that came where it could not be acted on."""


@contextmanager
def outage(intent: Intent) -> Iterator[Outage]:
    """Take down what ``intent`` says for the length of a ``with`` block, and restore it however the block ends.

    What an earlier run left down is restored first. Does not start unless everything in ``plan(intent)`` holds:
    OutageError. SIGINT and SIGTERM do not cut the restoring. An outage that its own watchdog has ended is none of the
    length that was meant: OutageError too. A state that is not
    steady again in time is told by the outage itself, ``unsteady``: what was measured is no worse for it.
    """
    mode = mode_of(intent)
    left = [(target, found) for target in mode.targets if is_recorded(found := target.read())]
    _restore_targets(intent.cluster, left, intent.timeout_s)
    plan(intent, mode).require()
    deployment = intent.cluster.get("Deployment", intent.deployment, intent.namespace)
    going_on = Outage(intent=intent, replicas=replicas_of(deployment), require_down=mode.require_down)
    own, broken_off = lease.Lease(intent, deployment), True
    with interrupted_once() as defer:
        try:
            try:
                own.acquire()
                watchdog.start(intent, mode)
                progress.step(f"{intent}: {intent.mode} is requested")
                mode.begin(going_on)
                progress.step(f"{intent}: is down")
                yield going_on
                broken_off = False
            finally:
                defer()  # a block of its own: wherever up to here a signal breaks off, the one below is entered
        finally:
            try:
                if going_on.down_requested:
                    progress.step(f"{intent}: the restore is requested")
                _restore(intent, mode, going_on)
                if going_on.restore_requested:
                    progress.step(f"{intent}: restored, {_state(intent)}")
                if going_on.restore_requested and broken_off:
                    say(f"{intent}: {intent.mode} was broken off; what was down is restored, {_state(intent)}")
            finally:
                own.release()
    after_s = intent.safeguards.watchdog_s
    if after_s and going_on.restore_requested is None:
        raise OutageError(
            f"{intent} was restored by its watchdog, {after_s:g} s after it was set, before the outage was over",
            hint="watchdog_s is to be longer than the outage with the waits around it",
        )
    going_on.unsteady = _wait_until_steady(intent)


def _state(intent: Intent) -> str:
    """Return how many replicas of the application are ready, as far as its cluster tells."""
    with contextlib.suppress(ClusterError):
        found = DeploymentState.of(
            intent.cluster.name, intent.cluster.get("Deployment", intent.deployment, intent.namespace)
        )
        return f"{found.ready}/{found.desired} ready"
    return "its cluster does not tell how many replicas are ready"


def _restore(intent: Intent, mode: Mode, going_on: Outage) -> None:
    try:
        mode.end(going_on)
    except MeshbookError as error:
        by_hand = error.by_hand if isinstance(error, NotRestoredError) else {}
        raise NotRestoredError(
            f"{intent} was not restored as it was ({going_on.replicas} replicas)",
            by_hand=by_hand,
            hint=error.hint or "meshbook restore, then: it restores all that is still recorded in the cluster",
            saw=error.message,
            **error.evidence,
        ) from error
    try:
        watchdog.end(intent, mode)
    except MeshbookError as error:
        say(f"{intent}: restored, but its watchdog could not be called off; it ends by itself: {error.message}")


def _wait_until_steady(intent: Intent) -> str:
    """Ask again and again whether all is as it should be, until it is; return what is not when the time is over."""
    steady = intent.steady
    if steady is None:
        return ""

    def look() -> tuple[bool | None, str]:
        complaint = steady()
        return (None if complaint else True), complaint

    try:
        intent.cluster.wait_until("steady again", look, intent.timeout_s)
    except WaitTimeout as error:
        return f"{error.message}: {error.evidence.get('saw', '')}"
    return ""


def restore(
    fleet: Fleet, namespace: str = "", *, timeout_s: float = 120, force: bool = False, tell: Tell | None = None
) -> list[Restored]:
    """Restore everything that interrupted outages left down; with nothing to do it returns an empty list.

    With ``namespace`` only what is in it, or was changed for an outage of it: the east-west gateway in the mesh's own
    is restored with the application that it was taken down for. What belongs to a run that still lives is left to it,
    and told by LeftToRunError, unless ``force`` is set. A cluster that refuses or does not answer is asked
    again, for ``timeout_s`` and some minutes at least; ``tell`` gets a line each time (default: stderr).
    """

    def look(cluster: Cluster, _: float) -> tuple[list[tuple[OutageTarget, Object]], list[lease.RunLease]]:
        return list(_recorded(cluster, namespace)), _leases(cluster, namespace)

    def restore_in(cluster: Cluster) -> list[Restored]:
        try:
            recorded, runs = insist(f"{cluster.name}: what is down there", cluster, look, timeout_s, tell)
        except ClusterError as error:
            by_hand = {cluster.name: f"meshbook restore --contexts {shlex.quote(cluster.context)}"}
            message = f"{cluster.name}: it is not known what is down there: {error.message}"
            raise NotRestoredError(message, by_hand=by_hand, hint=error.hint) from error
        return _restore_targets(cluster, recorded, timeout_s, force=force, leases=runs, tell=tell)

    clusters = _ask_lab(fleet, lambda lab: lab.restore_clusters(force))
    try:
        return [*clusters, *(one for restored in fleet.each(restore_in).values() for one in restored)]
    except GatheredError as error:
        left = [one for one in error.errors.values() if isinstance(one, NotRestoredError)]
        if held := [one for one in error.errors.values() if isinstance(one, LeftToRunError)] if not left else []:
            message = "; ".join(one.message for one in error.errors.values())
            raise LeftToRunError(message, hint=held[0].hint) from error
        if not left:
            raise
        raise merged(left, others=[one for one in error.errors.values() if one not in left]) from error


def pending_rollbacks(fleet: Fleet, namespace: str = "", *, force: bool = False) -> list[PendingRollback]:
    """Return what is down, and whether ``restore`` would restore it or leave it to its run; nothing is changed."""

    def look(cluster: Cluster) -> list[PendingRollback]:
        recorded = list(_recorded(cluster, namespace))
        alive = {} if force else lease.living(cluster, {_run_of(found) for _, found in recorded})
        return [_pending(target, found, alive) for target, found in recorded]

    return [one for pending in fleet.each(look).values() for one in pending]


def clusters_down(contexts: Sequence[str] = (), kubeconfig: str | Path = "") -> list[PendingRollback]:
    """Return the clusters of a lab that outages have taken down; they cannot be asked for anything else."""
    return _ask_lab(Fleet.named(contexts, kubeconfig), Lab.clusters_down)


def _ask_lab(clusters: Iterable[Cluster], ask: Callable[[Lab], list[T]]) -> list[T]:
    """Ask the lab that one of the clusters belongs to; elsewhere no whole cluster can be down by an outage."""
    labs = [lab for cluster in clusters if (lab := Lab(cluster)).is_there]
    return ask(labs[0]) if labs else []


def _restore_targets(
    cluster: Cluster,
    recorded: Sequence[tuple[OutageTarget, Object]],
    timeout_s: float,
    *,
    force: bool = False,
    leases: Iterable[lease.RunLease] = (),
    tell: Tell | None = None,
) -> list[Restored]:
    """Restore recorded objects of one cluster, unless the run of one lives; Leases of dead runs are deleted."""
    own = {_run_of(found) for _, found in recorded}
    runs = {*own, *leases}
    alive: dict[lease.RunLease, str] = {}
    if runs and not force:
        question = f"{cluster.name}: whether the run of an outage lives"
        alive = insist(question, cluster, lambda one, _: lease.living(one, runs), timeout_s, tell)
    for namespace, run in own & alive.keys():
        who = alive[namespace, run]
        raise LeftToRunError(
            f"{cluster.name}: the outage in {namespace} belongs to run {run}, which is alive"
            f"{who and f' ({who})'}: nothing was restored",
            hint=f"that run restores it itself: wait until it has ended{who and f', or end {who}'}; "
            "meshbook restore --force ends its outage under its hands",
        )
    lease.delete(cluster, runs - alive.keys())
    ways = [Rollback(target=target, run=annotations_of(found)[RUN], found=found) for target, found in recorded]
    return roll_back(ways, timeout_s, tell=tell)


def _run_of(found: Object) -> lease.RunLease:
    notes = annotations_of(found)
    return notes.get(OF) or found["metadata"]["namespace"], notes.get(RUN, "")


def _pending(target: OutageTarget, found: Object, alive: Mapping[lease.RunLease, str]) -> PendingRollback:
    notes, run = annotations_of(found), _run_of(found)
    what = "to be restored" if target.is_down(found) else "only the record is left"
    if run in alive:
        who = f" ({alive[run]})" if alive[run] else ""
        what = f"left to its run, which is alive{who}, unless with --force"
    return PendingRollback(
        **target.where,
        mode=notes.get(MODE, ""),
        run=notes.get(RUN, ""),
        since=notes.get(SINCE, ""),
        lease_renewed=lease.last_renewal(target.cluster, run),
        restore=", ".join(filter(None, [what, target.state(found)])),
    )


def _recorded(cluster: Cluster, namespace: str) -> Iterator[tuple[OutageTarget, Object]]:
    """Yield what carries the record of an outage in, or of, ``namespace`` (of any when it is empty)."""
    for kind, target in TARGETS.items():
        try:
            there = _in_reach(cluster, kind, namespace)
        except ClusterError as error:
            if error.code != 403 or cluster.can_i("list", target.resource, namespace):
                raise  # which may pass
            raise OutageError(error.message, hint=f"a role to list {target.resource}; or name the namespace") from error
        for found in there:
            places = (found["metadata"]["namespace"], annotations_of(found).get(OF))
            if is_recorded(found) and (not namespace or namespace in places):
                yield target.of(cluster, found), found


def _in_reach(cluster: Cluster, kind: str, namespace: str) -> list[Object]:
    """Return the objects of ``namespace`` and of the mesh's own, where that may be read; of all when it is empty."""
    found = cluster.list(kind, namespace)
    try:
        return found + (cluster.list(kind, SYSTEM_NAMESPACE) if namespace not in ("", SYSTEM_NAMESPACE) else [])
    except ClusterError as error:
        if error.code != 403:
            raise
        return found


def _leases(cluster: Cluster, namespace: str) -> list[lease.RunLease]:
    """Return the runs that have a Lease in ``namespace``, as far as the user may see that."""
    try:
        found = cluster.list(lease.LEASE, namespace)
    except ClusterError as error:
        if error.code not in (403, 404):
            raise
        return []
    return [
        (one["metadata"]["namespace"], str(one["spec"].get("holderIdentity", "")))
        for one in found
        if lease.LABELS.items() <= labels_of(one).items()
    ]


@contextmanager
def interrupted_once() -> Iterator[Callable[[], None]]:
    """Let SIGINT or SIGTERM break the block off once, and not at all after the function that it yields was called.

    A handler of the program's own is asked for that; by default SIGTERM is ``SystemExit``. One that comes later, be it
    in the midst of the unwinding, cuts nothing, and counts as Ctrl-C when the block is done.
    """
    deferring, received = False, list[int]()
    again = threading.Thread()

    def defer() -> None:
        nonlocal deferring
        deferring = True

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal deferring, again
        if deferring:
            received.append(number)
            return
        if frame is not None and frame.f_code.co_filename == contextlib.__file__:
            # on the way into the block or out of it: what is raised there is raised in neither, and restores nothing.
            # It comes again to the thread that waits in the block: raised in the timer's own, it would end no wait
            again = threading.Timer(_AGAIN_S, signal.pthread_kill, [threading.main_thread().ident, number])
            again.start()
            return
        deferring, own = True, handlers[number]
        if not callable(own):
            raise SystemExit(128 + number)
        own(number, frame)
        deferring = False  # the program goes on

    mine = threading.current_thread() is threading.main_thread()  # signals do not reach other threads
    handlers: dict[int, Any] = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM) if mine}
    taken = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}
    try:
        for number in taken:
            signal.signal(number, on_signal)
        yield defer
    finally:
        if again.ident:
            again.join()
        for number, handler in taken.items():
            signal.signal(number, handler)
    if received:
        raise KeyboardInterrupt
