"""What is to be taken away, how, and under which conditions: said once, then planned, then done."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from meshbook.clusters import Cluster


def _new_run() -> str:
    return uuid.uuid4().hex[:8]


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
    """One outage that somebody wants."""

    cluster: Cluster
    deployment: str
    """The application: what is taken away, or whose way is cut."""
    namespace: str
    mode: str = "scale-to-zero"
    """A key of ``MODES``."""
    survivors: tuple[Cluster, ...] = ()
    """Clusters that are to carry on; a fleet may be given whole, ``cluster`` itself does not count."""
    safeguards: Safeguards = field(default_factory=Safeguards)
    run: str = field(default_factory=_new_run)
    """Whose outage it is: written on what is changed; a label's value, so letters, digits and ``-_.``."""
    timeout_s: float = 120.0
    """Bounds each way, the going and the coming back."""
    steady: Callable[[], str] | None = None
    """Says what is not as it should be, or ``""``: asked before, and again and again after, until it is content."""

    @property
    def others(self) -> tuple[Cluster, ...]:
        return tuple(other for other in self.survivors if other.name != self.cluster.name)
