"""Restore what outages took down, by what is written in the cluster alone: at the end of a run, or after its death.

How one object is restored is for ``targets`` to say, whether its run still lives for ``lease``.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from meshbook.clusters import Cluster, Fleet, Kubeconfig
from meshbook.errors import ClusterError, MeshbookError, OutageError
from meshbook.objects import SYSTEM_NAMESPACE, Object, annotations_of, labels_of
from meshbook.outage import lease
from meshbook.outage.lab import Lab
from meshbook.outage.records import MODE, OF, RUN, SINCE, Outcome, PendingRollback, Restored, is_recorded
from meshbook.outage.targets import KINDS, Target
from meshbook.settings import context_names, kubeconfig_path

LAST_LOOK_S = 1.0
"""Seconds that an object gets at least, when those before it have used the time up."""


def restore(
    where: Cluster | Fleet, namespaces: str | Iterable[str] = (), *, timeout_s: float = 120, force: bool = False
) -> list[Restored]:
    """Restore everything that interrupted outages left down; with nothing to do it returns an empty list.

    With ``namespaces`` only what is in one of them, or was changed for an outage of one of them: the east-west gateway
    of another namespace is restored with the application that it was taken down for. What belongs to a run that still
    lives is left to it, and told by OutageError, unless ``force`` is set.
    """
    fleet = Fleet([where]) if isinstance(where, Cluster) else where
    names = _names(namespaces)

    def restore_in(cluster: Cluster) -> list[Restored]:
        targets = list(_recorded(cluster, names))
        return restore_targets(cluster, targets, timeout_s, force=force, leases=_leases(cluster, names))

    clusters = _restore_clusters(fleet)
    return [*clusters, *(one for restored in fleet.each(restore_in).values() for one in restored)]


def pending_rollbacks(where: Cluster | Fleet, namespaces: str | Iterable[str] = ()) -> list[PendingRollback]:
    """Return what ``restore`` would restore; nothing is changed."""
    fleet = Fleet([where]) if isinstance(where, Cluster) else where
    names = _names(namespaces)
    found = fleet.each(lambda cluster: [_pending(target) for target in _recorded(cluster, names)])
    return [one for pending in found.values() for one in pending]


def clusters_down(contexts: Sequence[str] = (), kubeconfig: str | Path = "") -> list[PendingRollback]:
    """Return the clusters of a lab that outages have taken down; they cannot be asked for anything else."""
    for cluster in _unasked(contexts, kubeconfig):
        with contextlib.suppress(OutageError):  # no lab's cluster, or of a lab that is gone
            return Lab(cluster).clusters_down()
    return []


def restore_clusters(contexts: Sequence[str] = (), kubeconfig: str | Path = "") -> list[Restored]:
    """Have a lab restore the clusters that outages have taken down; before ``Fleet.connect``, which asks them."""
    return _restore_clusters(_unasked(contexts, kubeconfig))


def restore_targets(
    cluster: Cluster,
    targets: Sequence[Target],
    timeout_s: float,
    *,
    force: bool = False,
    leases: Iterable[lease.Run] = (),
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


def roll_back(
    targets: Iterable[Target], timeout_s: float, requested: Callable[[], None] = lambda: None
) -> list[Restored]:
    """Request every recorded object back, then wait for each and clear its record; ``requested`` is called in between.

    One that fails keeps none of the others down; what failed is raised at the end.
    """
    failures: dict[str, MeshbookError] = {}
    waiting = []
    for target in targets:
        try:
            waiting.append((target, *_request_restore(target)))
        except MeshbookError as error:
            failures[str(target)] = error
    requested()
    deadline, done = time.monotonic() + timeout_s, []
    for target, found, restored in waiting:
        try:
            target.wait_until_restored(found, max(LAST_LOOK_S, deadline - time.monotonic()))
            target.clear_record(annotations_of(found).get(RUN))
            done.append(restored)
        except MeshbookError as error:
            failures[str(target)] = error
    if not failures:
        return done
    first, *more = failures.values()
    if not more:
        raise first
    told = {target: str(error).removeprefix(f"{target}: ") for target, error in failures.items()}
    count = f"{len(failures)} of {len(failures) + len(done)} objects were not restored"
    raise OutageError(count, **told, hint="mend what is said of each, then meshbook restore") from first


def _request_restore(target: Target) -> tuple[Object, Restored]:
    found = target.find()
    if found is None:
        raise OutageError(
            f"{target} was deleted meanwhile, and what it was like went with it", hint="apply its manifest again"
        )
    down = target.is_down(found)
    if down:
        target.request_restore(found)
    outcome: Outcome = "restored" if down else "was already restored"
    return found, Restored(**target.where, outcome=outcome, state=target.state(found))


def _names(namespaces: str | Iterable[str]) -> tuple[str, ...]:
    names = (namespaces,) if isinstance(namespaces, str) else namespaces
    return tuple(name for name in names if name)


def _run_of(found: Object, namespace: str) -> lease.Run:
    notes = annotations_of(found)
    return notes.get(OF) or namespace, notes.get(RUN, "")


def _pending(target: Target) -> PendingRollback:
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


def _recorded(cluster: Cluster, namespaces: tuple[str, ...]) -> Iterator[Target]:
    """Yield what carries the record of an outage in, or of, one of ``namespaces`` (all when there are none)."""
    for kind, target in KINDS.items():
        for found in _everywhere(cluster, kind, namespaces):
            places = {found["metadata"]["namespace"], annotations_of(found).get(OF, "")}
            if is_recorded(found) and (not namespaces or places & set(namespaces)):
                yield target.of(cluster, found)


def _everywhere(cluster: Cluster, kind: str, namespaces: tuple[str, ...]) -> list[Object]:
    """Return the objects of all namespaces; where the user may not list those, of ``namespaces`` and the mesh's own."""
    try:
        return cluster.list(kind)
    except ClusterError as error:
        if error.code != 403 or not namespaces:
            raise
    found = [one for namespace in namespaces for one in cluster.list(kind, namespace)]
    with contextlib.suppress(ClusterError):  # not even the mesh's own namespace need be readable
        found += cluster.list(kind, SYSTEM_NAMESPACE) if SYSTEM_NAMESPACE not in namespaces else []
    return found


def _leases(cluster: Cluster, namespaces: tuple[str, ...]) -> list[lease.Run]:
    """Return the runs that have a Lease in one of ``namespaces``, as far as the user may see that."""
    try:
        found = _everywhere(cluster, lease.LEASE, namespaces)
    except ClusterError as error:
        if error.code not in (403, 404):
            raise
        return []
    mine = [one for one in found if lease.LABELS.items() <= labels_of(one).items()]
    return [lease.run_of(one) for one in mine if not namespaces or one["metadata"]["namespace"] in namespaces]


def _unasked(contexts: Sequence[str], kubeconfig: str | Path) -> list[Cluster]:
    names = context_names(contexts)
    read = Kubeconfig(kubeconfig_path(kubeconfig))
    read.require(names)
    return [Cluster(read, name) for name in names]


def _restore_clusters(clusters: Iterable[Cluster]) -> list[Restored]:
    """Ask the lab that one of the clusters belongs to; elsewhere there is nothing to restore so."""
    for cluster in clusters:
        with contextlib.suppress(OutageError):  # no lab's cluster, or of a lab that is gone
            return Lab(cluster).restore_clusters()
    return []
