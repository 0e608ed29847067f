"""Take down for the length of a ``with`` block and restore, however it ends; and restore what a dead run left down.

All that restoring needs stands in the cluster. How one object is restored is for ``targets`` to say, whether its run
still lives for ``lease``.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeVar

from meshbook.clusters import Cluster, Fleet, Kubeconfig
from meshbook.errors import ClusterError, MeshbookError, NotRestoredError, OutageError, WaitTimeout
from meshbook.objects import SYSTEM_NAMESPACE, Object, annotations_of, labels_of
from meshbook.outage import lease, watchdog
from meshbook.outage.lab import Lab
from meshbook.outage.modes import Mode, mode_of
from meshbook.outage.records import MODE, OF, RUN, SINCE, Intent, Outage, PendingRollback, Restored, is_recorded
from meshbook.outage.safeguards import plan
from meshbook.outage.targets import TARGETS, OutageTarget, replicas_of, roll_back
from meshbook.settings import context_names, kubeconfig_path

T = TypeVar("T")


@contextmanager
def outage(intent: Intent) -> Iterator[Outage]:
    """Take down what ``intent`` says for the length of a ``with`` block, and restore it however the block ends.

    What an earlier run left down is restored first. Does not start unless everything in ``plan(intent)`` holds:
    OutageError. SIGINT and SIGTERM do not cut the restoring. An outage that its own watchdog has ended is none of the
    length that was meant: OutageError too. A state that is not
    steady again in time is told by the outage itself, ``unsteady``: what was measured is no worse for it.
    """
    mode = mode_of(intent)
    left = [target for target in mode.targets if is_recorded(target.read())]
    _restore_targets(intent.cluster, left, intent.timeout_s)
    plan(intent, mode).require()
    deployment = intent.cluster.get("Deployment", intent.deployment, intent.namespace)
    going_on = Outage(intent=intent, replicas=replicas_of(deployment), require_down=mode.require_down)
    own = lease.Lease(intent, deployment)
    with sigterm_unwinds():
        try:
            own.acquire()
            watchdog.start(intent, mode)
            mode.begin(going_on)
            yield going_on
        finally:
            with signals_deferred():
                try:
                    _restore(intent, mode, going_on)
                finally:
                    own.release()
    after_s = intent.safeguards.watchdog_s
    if after_s and going_on.restore_requested is None:
        raise OutageError(
            f"{intent} was restored by its watchdog, {after_s:g} s after it was set, before the outage was over",
            hint="watchdog_s is to be longer than the outage with the waits around it",
        )
    going_on.unsteady = _wait_until_steady(intent)


def _restore(intent: Intent, mode: Mode, going_on: Outage) -> None:
    try:
        mode.end(going_on)
        watchdog.end(intent, mode)
    except MeshbookError as error:
        raise NotRestoredError(
            f"{intent} was not restored as it was ({going_on.replicas} replicas)",
            hint="meshbook restore, then: it restores all that is still recorded in the cluster",
            saw=error,
        ) from error


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


def restore(fleet: Fleet, namespace: str = "", *, timeout_s: float = 120, force: bool = False) -> list[Restored]:
    """Restore everything that interrupted outages left down; with nothing to do it returns an empty list.

    With ``namespace`` only what is in it, or was changed for an outage of it: the east-west gateway of another
    namespace is restored with the application that it was taken down for. What belongs to a run that still lives is
    left to it, and told by OutageError, unless ``force`` is set.
    """

    def restore_in(cluster: Cluster) -> list[Restored]:
        targets, runs = list(_recorded(cluster, namespace)), _leases(cluster, namespace)
        return _restore_targets(cluster, targets, timeout_s, force=force, leases=runs)

    clusters = _ask_lab(fleet, Lab.restore_clusters)
    return [*clusters, *(one for restored in fleet.each(restore_in).values() for one in restored)]


def pending_rollbacks(fleet: Fleet, namespace: str = "") -> list[PendingRollback]:
    """Return what ``restore`` would restore; nothing is changed."""
    found = fleet.each(lambda cluster: [_pending(target) for target in _recorded(cluster, namespace)])
    return [one for pending in found.values() for one in pending]


def clusters_down(contexts: Sequence[str] = (), kubeconfig: str | Path = "") -> list[PendingRollback]:
    """Return the clusters of a lab that outages have taken down; they cannot be asked for anything else."""
    return _ask_lab(_unasked(contexts, kubeconfig), Lab.clusters_down)


def restore_clusters(contexts: Sequence[str] = (), kubeconfig: str | Path = "") -> list[Restored]:
    """Have a lab restore the clusters that outages have taken down; before ``Fleet.connect``, which asks them."""
    return _ask_lab(_unasked(contexts, kubeconfig), Lab.restore_clusters)


def _unasked(contexts: Sequence[str], kubeconfig: str | Path) -> list[Cluster]:
    names = context_names(contexts)
    read = Kubeconfig(kubeconfig_path(kubeconfig))
    read.require(names)
    return [Cluster(read, name) for name in names]


def _ask_lab(clusters: Iterable[Cluster], ask: Callable[[Lab], list[T]]) -> list[T]:
    """Ask the lab that one of the clusters belongs to; elsewhere no whole cluster can be down by an outage."""
    for cluster in clusters:
        with contextlib.suppress(OutageError):  # no lab's cluster, or of a lab that is gone
            return ask(Lab(cluster))
    return []


def _restore_targets(
    cluster: Cluster,
    targets: Sequence[OutageTarget],
    timeout_s: float,
    *,
    force: bool = False,
    leases: Iterable[lease.RunLease] = (),
) -> list[Restored]:
    """Restore recorded objects of one cluster, unless the run of one lives; Leases of dead runs are deleted."""
    recorded = {_run_of(target.read(), target.namespace) for target in targets}
    runs = {*recorded, *leases}
    living = set() if force else lease.living(cluster, runs)
    for namespace, run in recorded & living:
        raise OutageError(
            f"{cluster.name}: the outage in {namespace} belongs to run {run}, which is alive: nothing was restored",
            hint="wait until it has ended; meshbook restore --force ends its outage under its hands",
        )
    lease.delete(cluster, runs - living)
    return roll_back(targets, timeout_s)


def _run_of(found: Object, namespace: str) -> lease.RunLease:
    notes = annotations_of(found)
    return notes.get(OF) or namespace, notes.get(RUN, "")


def _pending(target: OutageTarget) -> PendingRollback:
    found = target.read()
    notes, what = annotations_of(found), "to be restored" if target.is_down(found) else "only the record is left"
    return PendingRollback(
        **target.where,
        mode=notes.get(MODE, ""),
        run=notes.get(RUN, ""),
        since=notes.get(SINCE, ""),
        lease_renewed=lease.last_renewal(target.cluster, _run_of(found, target.namespace)),
        restore=", ".join(filter(None, [what, target.state(found)])),
    )


def _recorded(cluster: Cluster, namespace: str) -> Iterator[OutageTarget]:
    """Yield what carries the record of an outage in, or of, ``namespace`` (of any when it is empty)."""
    for kind, target in TARGETS.items():
        for found in _everywhere(cluster, kind, namespace):
            places = (found["metadata"]["namespace"], annotations_of(found).get(OF))
            if is_recorded(found) and (not namespace or namespace in places):
                yield target.of(cluster, found)


def _everywhere(cluster: Cluster, kind: str, namespace: str) -> list[Object]:
    """Return the objects of all namespaces; where the user may not list those, of ``namespace`` and the mesh's own."""
    try:
        return cluster.list(kind)
    except ClusterError as error:
        if error.code != 403 or not namespace:
            raise
    found = cluster.list(kind, namespace)
    with contextlib.suppress(ClusterError):  # not even the mesh's own namespace need be readable
        found += cluster.list(kind, SYSTEM_NAMESPACE) if namespace != SYSTEM_NAMESPACE else []
    return found


def _leases(cluster: Cluster, namespace: str) -> list[lease.RunLease]:
    """Return the runs that have a Lease in ``namespace``, as far as the user may see that."""
    try:
        found = _everywhere(cluster, lease.LEASE, namespace)
    except ClusterError as error:
        if error.code not in (403, 404):
            raise
        return []
    return [
        (one["metadata"]["namespace"], str(one["spec"].get("holderIdentity", "")))
        for one in found
        if lease.LABELS.items() <= labels_of(one).items() and namespace in ("", one["metadata"]["namespace"])
    ]


@contextmanager
def sigterm_unwinds() -> Iterator[None]:
    """Let SIGTERM leave the block by ``SystemExit``, unless the program has plans of its own for it."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if mine:
        signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Let no SIGINT or SIGTERM cut the block; one that came meanwhile counts as Ctrl-C when it is done."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # signals do not reach other threads
        yield
        return
    handlers = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
    if received:
        raise KeyboardInterrupt
