"""Bring back what an outage left away whose process was killed, from any machine, by what is written in the cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from meshbook.clusters import Cluster, Fleet, Kubeconfig, Object
from meshbook.errors import ClusterError, OutageError
from meshbook.outage import liveness, undoing
from meshbook.outage.endpoints import ReadinessLost
from meshbook.outage.records import MODE, OF, RUN, SINCE, PendingRollback, Restored, belongs_to, is_recorded, notes_on
from meshbook.outage.scaling import ScaledToZero
from meshbook.outage.silence import Lab
from meshbook.outage.subjects import Subject
from meshbook.outage.undoing import Undoing
from meshbook.settings import context_names, kubeconfig_path

UNDOING: Mapping[str, Undoing] = {"Deployment": ScaledToZero.undoing, "Service": ReadinessLost.undoing}
"""Kinds that an outage may have changed, and how they come back."""

SYSTEM_NAMESPACE = "istio-system"
"""Where the east-west gateway is, for users who may not look into all namespaces."""


def restore(
    where: Cluster | Fleet, namespaces: str | Iterable[str] = (), *, timeout_s: float = 120, force: bool = False
) -> list[Restored]:
    """Bring back everything that interrupted outages left away; with nothing to do it returns an empty list.

    With ``namespaces`` only what is in one of them, or was changed for an outage of one of them: the east-west gateway
    of another namespace comes back with the application that it was taken away for. What a run took away that is still
    alive is left to it, and told by OutageError, unless ``force`` is set.
    """
    fleet = Fleet([where]) if isinstance(where, Cluster) else where
    wanted = _named(namespaces)
    awake = _wake(fleet)
    done = fleet.each(lambda cluster: _restore_cluster(cluster, wanted, timeout_s, force=force))
    return [*awake, *(restored for results in done.values() for restored in results)]


def pending_rollbacks(where: Cluster | Fleet, namespaces: str | Iterable[str] = ()) -> list[PendingRollback]:
    """Return what ``restore`` would bring back; nothing is changed."""
    fleet = Fleet([where]) if isinstance(where, Cluster) else where
    wanted = _named(namespaces)
    found = fleet.each(lambda cluster: [_left(subject) for subject in _recorded(cluster, wanted)])
    return [one for left in found.values() for one in left]


def clusters_down(contexts: Sequence[str] = (), kubeconfig: str | Path = "") -> list[PendingRollback]:
    """Return the clusters of a lab that an outage has silenced; they cannot be asked for anything else."""
    for cluster in _unasked(contexts, kubeconfig):
        with contextlib.suppress(OutageError):  # no lab's cluster, or of a lab that is gone
            return Lab(cluster).away()
    return []


def restore_clusters(contexts: Sequence[str] = (), kubeconfig: str | Path = "") -> list[Restored]:
    """Have a lab bring back the clusters that an outage has silenced; before ``Fleet.connect``, which asks them."""
    return _wake(_unasked(contexts, kubeconfig))


def bring_back(subject: Subject, timeout_s: float) -> Restored:
    """Bring one recorded object back, wait until it is ready, and take the record off; not from a run that lives."""
    liveness.require_dead(subject.cluster, [_run_of(subject)])
    (restored,) = undoing.bring_back([(subject, UNDOING[subject.kind])], timeout_s)
    return restored


def _unasked(contexts: Sequence[str], kubeconfig: str | Path) -> list[Cluster]:
    names = context_names(contexts)
    read = Kubeconfig(kubeconfig_path(kubeconfig))
    read.require(names)
    return [Cluster(read, name) for name in names]


def _named(namespaces: str | Iterable[str]) -> tuple[str, ...]:
    names = (namespaces,) if isinstance(namespaces, str) else tuple(namespaces)
    return tuple(name for name in names if name)


def _left(subject: Subject) -> PendingRollback:
    found = subject.read()
    notes, restored = notes_on(found), UNDOING[subject.kind].tell(subject, found)
    away = restored.outcome == "restored"
    return PendingRollback(
        context=subject.cluster.name,
        namespace=subject.namespace,
        kind=subject.kind,
        name=subject.name,
        mode=notes.get(MODE, ""),
        run=notes.get(RUN, ""),
        since=notes.get(SINCE, ""),
        lease_renewed=liveness.last_sign(subject.cluster, _run_of(subject)),
        restore=", ".join(filter(None, ["to be restored" if away else "only the record is left", restored.state])),
    )


def _run_of(subject: Subject) -> liveness.Run:
    notes = notes_on(subject.read())
    return notes.get(OF) or subject.namespace, notes.get(RUN, "")


def _restore_cluster(cluster: Cluster, namespaces: tuple[str, ...], timeout_s: float, *, force: bool) -> list[Restored]:
    """Undo everything first, then wait for all of it."""
    recorded = list(_recorded(cluster, namespaces))
    if not force:
        liveness.require_dead(cluster, map(_run_of, recorded))
    return undoing.bring_back([(subject, UNDOING[subject.kind]) for subject in recorded], timeout_s)


def _recorded(cluster: Cluster, namespaces: tuple[str, ...]) -> Iterator[Subject]:
    """Yield what carries the record of an outage."""
    for kind in UNDOING:
        for found in _everywhere(cluster, kind, namespaces):
            if is_recorded(found) and belongs_to(found, namespaces):
                yield Subject.of(cluster, kind, found)


def _everywhere(cluster: Cluster, kind: str, namespaces: tuple[str, ...]) -> Iterator[Object]:
    """Yield the objects of all namespaces; where the user may not list those, of ``namespaces`` and the mesh's own."""
    try:
        yield from cluster.list(kind)
    except ClusterError as error:
        if error.code != 403 or not namespaces:
            raise
    else:
        return
    yield from _readable(cluster, kind, namespaces)


def _readable(cluster: Cluster, kind: str, namespaces: tuple[str, ...]) -> Iterator[Object]:
    for namespace in namespaces:
        yield from cluster.list(kind, namespace)
    try:
        yield from cluster.list(kind, SYSTEM_NAMESPACE) if SYSTEM_NAMESPACE not in namespaces else ()
    except ClusterError as error:
        if error.code != 403:
            raise


def _wake(clusters: Iterable[Cluster]) -> list[Restored]:
    """Ask the lab that one of the clusters belongs to; elsewhere there is nothing to wake."""
    for cluster in clusters:
        lab = Lab(cluster)
        if lab.is_there:
            try:
                return lab.end_all()
            except OutageError:
                continue  # the extension of a lab that is gone: the cluster's own answer will tell
    return []
