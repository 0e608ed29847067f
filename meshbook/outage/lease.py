"""Whether the run of an outage still lives: a Lease beside the application that it renews until all is restored.

So that nobody's outage is rolled back under his hands, and a dead one's is. No two clocks are compared: who asks looks
whether the Lease is renewed meanwhile. A run without a Lease counts as dead: it ended, it may not write Leases, or its
cluster was down before. The Lease belongs to the application's Deployment and goes with it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from collections.abc import Iterable

from meshbook import progress
from meshbook.clusters import Cluster, pause
from meshbook.errors import ClusterError, MeshbookError
from meshbook.objects import Object, annotations_of, micro_timestamp
from meshbook.outage.records import Intent, object_name

LEASE = "coordination.k8s.io/v1/Lease"
PROCESS, HOST = "meshbook.io/process", "meshbook.io/host"
"""Annotations of a Lease: who renews it, for whoever has to end an orphaned kernel."""
LABELS = {"app.kubernetes.io/managed-by": "meshbook", "app.kubernetes.io/component": "outage"}
BEATS = 4
"""Renewals within the length of a Lease: one or two may be lost."""

RunLease = tuple[str, str]
"""The namespace of the application that an outage is about, and the run's name."""


class Lease:
    """The Lease of one run, renewed from a thread of its own; where the user may not write it, there is none."""

    def __init__(self, intent: Intent, deployment: Object) -> None:
        self._cluster, self._namespace = intent.cluster, intent.namespace
        self._run, self._owner = intent.run, deployment["metadata"]
        self._name, self._length_s = _name(intent.run), intent.cluster.connection.patience.lease_s
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease of {intent.run}", daemon=True)

    def acquire(self) -> None:
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": self._owner["name"], "uid": self._owner["uid"]}
        where = {"name": self._name, "namespace": self._namespace}
        spec = {"holderIdentity": self._run, "leaseDurationSeconds": max(1, round(self._length_s))}
        found = {
            "metadata": where
            | {"labels": LABELS, "ownerReferences": [owner]}
            | {"annotations": {PROCESS: str(os.getpid()), HOST: platform.node()}},
            "spec": spec | {"renewTime": micro_timestamp()},
        }
        try:
            self._cluster.create(LEASE, found)
        except ClusterError as error:
            if error.code in (403, 404):
                return
            if error.code != 409:  # 409: it was created by a try whose answer was lost
                raise
        self._thread.start()

    def release(self) -> None:
        self._released.set()
        if self._thread.ident is None:
            return
        self._thread.join(self._length_s / BEATS)  # a beat on a dead connection is not waited for
        delete(self._cluster, [(self._namespace, self._run)])

    def _renew(self) -> None:
        while not self._released.wait(self._length_s / BEATS):
            with contextlib.suppress(MeshbookError):  # the next beat may get through
                change = {"spec": {"renewTime": micro_timestamp()}}
                self._cluster.patch(LEASE, self._name, change, namespace=self._namespace)


def living(cluster: Cluster, runs: Iterable[RunLease]) -> dict[RunLease, str]:
    """Return which of ``runs`` renew their Lease while it is watched, by whom; a dead one takes the length of it."""
    watched = {run: stamp for run in set(runs) if (stamp := last_renewal(cluster, run))}
    alive: dict[RunLease, str] = {}
    length_s = cluster.connection.patience.lease_s
    deadline = time.monotonic() + length_s
    with progress.waiting(f"{cluster.name}: whether the run of an outage lives", length_s) as tell:
        while watched and time.monotonic() < deadline:
            pause(length_s / BEATS / BEATS)
            tell("")
            for run, before in list(watched.items()):
                found = _find(cluster, run)
                if _renewed(found) != before:
                    del watched[run]
                    alive |= {run: _holder(found)} if found else {}
    return alive


def last_renewal(cluster: Cluster, run: RunLease) -> str:
    """Return when a run renewed its Lease last, by its own clock, ISO 8601; empty where there is none to be seen."""
    return _renewed(_find(cluster, run))


def _find(cluster: Cluster, run: RunLease) -> Object | None:
    namespace, name = run
    try:
        return cluster.find(LEASE, _name(name), namespace) if name and namespace else None
    except ClusterError as error:
        if error.code != 403:
            raise
        return None


def _renewed(found: Object | None) -> str:
    return str(found["spec"].get("renewTime", "")) if found else ""


def _holder(found: Object) -> str:
    notes = annotations_of(found)
    return f"process {notes[PROCESS]} at {notes.get(HOST, 'an unnamed host')}" if PROCESS in notes else ""


def delete(cluster: Cluster, runs: Iterable[RunLease]) -> None:
    """Delete the Leases of ``runs``; what cannot be deleted runs out by itself."""
    for namespace, run in runs:
        with contextlib.suppress(MeshbookError):
            cluster.delete_object(LEASE, _name(run), namespace)


def _name(run: str) -> str:
    return object_name("outage", run)
