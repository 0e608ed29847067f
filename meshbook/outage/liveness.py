"""Whether the run that took something away still lives: a Lease in the cluster that it renews until all is back.

So that nobody's outage is undone under his hands, and a dead one's is. No two clocks are compared where it matters: who
asks looks whether the Lease is renewed meanwhile. A run without a Lease counts as dead: it ended, it may not write
Leases, or its cluster had fallen silent before.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from meshbook.clusters import Cluster, Object, pause
from meshbook.errors import ClusterError, OutageError
from meshbook.outage.intent import Intent

LEASE = "coordination.k8s.io/v1/Lease"
RENEW_S = 2.0
LEASE_S = 8
"""Seconds without a renewal after which a run counts as dead: four beats, for one or two may be lost."""
LONG_AGO_S = 600.0
"""A renewal that is older by this machine's clock needs no second look: no two clocks differ by so much."""
_LOOK_S = 0.5

Run = tuple[str, str]
"""The namespace of the application that an outage is about, and the run's name."""


@contextmanager
def shown(intent: Intent) -> Iterator[None]:
    """Show for the length of a ``with`` block that the run lives; where the user may not, nothing is shown."""
    ended = threading.Event()
    cluster, name = intent.cluster, _name(intent.run)
    if not _begin(intent):
        yield
        return
    thread = threading.Thread(target=_renew, args=(intent, ended), name=f"lease of {intent.run}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(RENEW_S)  # a beat on a dead connection is not waited for
        with contextlib.suppress(ClusterError):  # it runs out by itself
            cluster.delete_object(LEASE, name, intent.namespace)


def require_dead(cluster: Cluster, runs: Iterable[Run]) -> None:
    """Raise OutageError when one of ``runs`` lives; takes ``LEASE_S`` where one died a short while ago."""
    first = {run: stamp for run in set(runs) if (stamp := _renewed(cluster, run))}
    suspects = {run: stamp for run, stamp in first.items() if not _is_long_ago(stamp)}
    deadline = time.monotonic() + LEASE_S
    while suspects and time.monotonic() < deadline:
        pause(_LOOK_S)
        now = {run: _renewed(cluster, run) for run in suspects}
        for run, stamp in now.items():
            if stamp and stamp != suspects[run]:
                raise _alive(cluster, run)
        suspects = {run: stamp for run, stamp in suspects.items() if now[run]}
    for namespace, name in first:
        with contextlib.suppress(ClusterError):
            cluster.delete_object(LEASE, _name(name), namespace)


def last_sign(cluster: Cluster, run: Run) -> str:
    """Return when a run renewed its Lease last, by its own clock, ISO 8601; empty where there is none."""
    return _renewed(cluster, run)


def _alive(cluster: Cluster, run: Run) -> OutageError:
    namespace, name = run
    return OutageError(
        f"{cluster.name}: the outage in {namespace} belongs to run {name}, which is alive: nothing was restored",
        hint="wait until it has ended; meshbook restore --force ends its outage under its hands",
    )


def _begin(intent: Intent) -> bool:
    spec = {"holderIdentity": intent.run, "leaseDurationSeconds": LEASE_S, "renewTime": _now()}
    labels = {"app.kubernetes.io/managed-by": "meshbook"}
    metadata = {"name": _name(intent.run), "namespace": intent.namespace, "labels": labels}
    try:
        intent.cluster.create(LEASE, {"metadata": metadata, "spec": spec})
    except ClusterError as error:
        if error.code not in (403, 404, 409):
            raise
        return error.code == 409
    return True


def _renew(intent: Intent, ended: threading.Event) -> None:
    while not ended.wait(RENEW_S):
        change: Object = {"spec": {"renewTime": _now()}}
        with contextlib.suppress(ClusterError):  # the next beat may get through
            intent.cluster.patch(LEASE, _name(intent.run), change, namespace=intent.namespace)


def _renewed(cluster: Cluster, run: Run) -> str:
    namespace, name = run
    try:
        found = cluster.find(LEASE, _name(name), namespace) if name and namespace else None
    except ClusterError as error:
        if error.code != 403:
            raise
        return ""
    return str(found["spec"].get("renewTime", "")) if found else ""


def _is_long_ago(stamp: str) -> bool:
    with contextlib.suppress(ValueError):
        return (datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds() > LONG_AGO_S
    return True


def _name(run: str) -> str:
    return f"meshbook-outage-{run}".lower()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
