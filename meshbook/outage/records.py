"""What an outage is asked for, what it writes on objects, and what it tells afterwards. Data only.

The record of an outage is a set of annotations on every object that it changes; ``targets`` writes them and takes them
off again.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from meshbook import progress
from meshbook.clusters import Cluster, pause
from meshbook.errors import ClusterError
from meshbook.objects import Object, annotations_of

SCALE_TO_ZERO = "scale-to-zero"
"""The mode of the article; names and ways of all of them are ``modes.MODES``."""
RUN, SINCE, MODE, OF = (f"meshbook.io/outage-{name}" for name in ("run", "since", "mode", "of"))
"""Annotations of every object that an outage changes: whose outage, since when, how, and of which namespace."""
REPLICAS = "meshbook.io/replicas-before"
"""Annotation of a Deployment that an outage changes: its replica count before."""
LOOK_S = 0.5
"""Seconds between two looks whether an outage lasts."""
RECORD = (RUN, SINCE, MODE, OF, REPLICAS)


def object_name(*parts: str) -> str:
    """Return the name of an object that is made for a run, as Kubernetes lets one be written."""
    return "-".join(("meshbook", *parts)).lower().replace("_", "-")[:63].rstrip("-.")


def is_recorded(found: Object) -> bool:
    """Tell whether an object carries the record of an outage."""
    return RUN in annotations_of(found)


@dataclass(frozen=True, kw_only=True)
class Safeguards:
    """What the user has allowed, and who restores when this process cannot; a lab needs no word for it."""

    allow_outage: bool = False
    """The user's word that this may be done to clusters that are no lab."""
    named_workloads: tuple[str, ...] = ()
    """Workloads that may be touched although meshbook has not made them."""
    watchdog_s: float = 0.0
    """Seconds after which a Job in the cluster restores everything by itself; longer than the outage is to be. 0: no
    such Job."""


@dataclass(frozen=True, kw_only=True)
class Intent:
    """One outage that somebody wants: of what, how, and under which conditions."""

    cluster: Cluster
    deployment: str
    """The application: what is taken down, or whose way is cut."""
    namespace: str
    mode: str = SCALE_TO_ZERO
    """A key of ``MODES``."""
    survivors: tuple[Cluster, ...] = ()
    """Clusters that are to carry on; a fleet may be given whole, ``cluster`` itself does not count."""
    safeguards: Safeguards = field(default_factory=Safeguards)
    run: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    """Whose outage it is: written on what is changed; a label's value, so letters, digits and ``-_.``."""
    timeout_s: float = 120.0
    """Bounds each way, down and up again."""
    steady: Callable[[], str] | None = None
    """Says what is not as it should be, or ``""``: asked before, and again and again after, until it is content."""

    def __str__(self) -> str:
        return f"{self.cluster.name}: {self.deployment} in {self.namespace}"


@dataclass(kw_only=True)
class Outage:
    """One outage, filled in as it goes. Times are UTC, of this machine's clock."""

    intent: Intent
    replicas: int
    """The application's replica count before, and to be again."""
    down_requested: datetime | None = None
    down_accepted: datetime | None = None
    """The outage begins between the two."""
    down: datetime | None = None
    """The API said that it was down."""
    restore_requested: datetime | None = None
    restore_accepted: datetime | None = None
    ready_again: datetime | None = None
    """The API said that all of it was ready."""
    unsteady: str = ""
    """What was not as it should be when the wait for that was over; empty: all was, or nobody asked for it."""
    require_down: Callable[[], None] = lambda: None
    """Raises OutageError where somebody else has restored something of it meanwhile."""

    def hold(self, seconds: float, seen: Callable[[], str] = lambda: "") -> None:
        """Let it go on for ``seconds``; OutageError as soon as it is seen not to last. ``seen`` is told meanwhile."""
        deadline = time.monotonic() + seconds
        with progress.waiting(f"{self.intent}: down", seconds) as tell:
            while (left_s := deadline - time.monotonic()) > 0:
                tell(seen())
                pause(min(LOOK_S, left_s))
                with contextlib.suppress(ClusterError):  # the cluster may be down: nothing is to be seen in that
                    self.require_down()


@dataclass(frozen=True, kw_only=True)
class Location:
    """An object of a cluster, or a whole cluster: that has no namespace."""

    context: str
    namespace: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.context}: {self.kind} {self.name}" + (f" in {self.namespace}" if self.namespace else "")


@dataclass(frozen=True, kw_only=True)
class Restored(Location):
    """What was done to restore one object."""

    outcome: Literal["restored", "was already restored"]
    state: str = ""
    """How it is now: ``2 replicas``."""

    def __str__(self) -> str:
        return f"{super().__str__()} {self.outcome}" + (f", {self.state}" if self.state else "")


@dataclass(frozen=True, kw_only=True)
class PendingRollback(Location):
    """One object that carries the record of an outage now, of a run that was interrupted or is still going on."""

    mode: str
    run: str
    since: str
    """When the record was written, ISO 8601."""
    restore: str
    """What ``restore`` would do about it."""
    lease_renewed: str = ""
    """When its run renewed its Lease last, by that run's clock, ISO 8601; empty where there is none."""

    def __str__(self) -> str:
        whose = f", by run {self.run}" if self.run else ""
        lease = f", lease renewed at {self.lease_renewed}" if self.lease_renewed else ""
        return f"{super().__str__()}: {self.mode} since {self.since}{whose}{lease}; {self.restore}"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that must hold before an outage starts."""

    name: str
    ok: bool | None
    """None: it cannot be known, and does not stand in the way."""
    saw: str = ""
    hint: str = ""
    """What to try where it does not hold."""

    def __str__(self) -> str:
        return f"{'ok' if self.ok else 'NO' if self.ok is False else 'unknown':8} {self.name}: {self.saw}"
