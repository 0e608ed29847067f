"""What is written on an object before it is changed, and what is told of an outage afterwards. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

PREFIX = "meshbook.io/"
RUN, SINCE, MODE, OF = (f"{PREFIX}outage-{name}" for name in ("run", "since", "mode", "of"))
"""Annotations of every object that an outage changes: whose outage, since when, how, and of which namespace."""

REPLICAS, AUTOSCALER = f"{PREFIX}replicas-before", f"{PREFIX}autoscaler-before"
"""Annotations of a Deployment that is scaled to 0: its count, and its autoscaler's name and bounds (``web 1 5``)."""

ALL = (RUN, SINCE, MODE, OF, REPLICAS, AUTOSCALER)

AWAY = f"{PREFIX}away"
"""Key that no pod carries: in a Service's selector it leaves the Service without endpoints."""


def notes_on(found: Mapping[str, Any]) -> dict[str, str]:
    return found["metadata"].get("annotations") or {}


def is_recorded(found: Mapping[str, Any]) -> bool:
    """Tell whether an object carries the record of an outage."""
    return RUN in notes_on(found) or REPLICAS in notes_on(found)


def belongs_to(found: Mapping[str, Any], namespaces: tuple[str, ...]) -> bool:
    """Tell whether a recorded object is in, or was changed for, one of ``namespaces`` (all when there are none)."""
    places = {found["metadata"].get("namespace", ""), notes_on(found).get(OF, "")}
    return not namespaces or bool(places & set(namespaces))


@dataclass(kw_only=True)
class Outage:
    """One outage, filled in as it goes. Times are UTC, of this machine's clock."""

    mode: str
    context: str
    namespace: str
    deployment: str
    """The application that is taken away, or whose way is cut."""
    replicas: int
    """Its replica count before, and to be again."""
    run: str
    changed: tuple[str, ...] = ()
    """What was touched, one line each."""
    down_requested: datetime | None = None
    down_accepted: datetime | None = None
    """The order was given, and had been accepted: the outage begins between the two."""
    down: datetime | None = None
    """The API said that it was away."""
    restore_requested: datetime | None = None
    restore_accepted: datetime | None = None
    """The order to bring it back was given, and had been accepted."""
    ready_again: datetime | None = None
    """The API said that all of it was ready."""
    steady_again: datetime | None = None
    """The steady state was proved again; None where nobody asked for that."""


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What ``restore`` did for one object."""

    context: str
    namespace: str
    kind: str
    name: str
    outcome: Literal["restored", "was already restored"]
    state: str = ""
    """How it is now, and what else is to be known: ``2 replicas``."""

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.context}: {self.kind} {self.name}{where} {self.outcome}" + (f", {self.state}" * bool(self.state))


@dataclass(frozen=True, kw_only=True)
class PendingRollback:
    """One object that carries the record of an outage now, of a run that was interrupted or is still going on."""

    context: str
    namespace: str
    kind: str
    name: str
    mode: str
    run: str
    since: str
    """When the record was written, ISO 8601."""
    restore: str
    """What ``restore`` would do about it."""
    lease_renewed: str = ""
    """When its run was last known to be alive, by that run's clock, ISO 8601; empty where there is none."""

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        whose = f", by run {self.run}" if self.run else ""
        alive = f", lease renewed at {self.lease_renewed}" if self.lease_renewed else ""
        what = f"{self.context}: {self.kind} {self.name}{where}: {self.mode} since {self.since}"
        return f"{what}{whose}{alive}; {self.restore}"


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that must hold before an outage starts."""

    name: str
    ok: bool | None
    """None: it cannot be known, and does not stand in the way."""
    saw: str = field(default="")

    def __str__(self) -> str:
        return f"{'ok' if self.ok else 'NO' if self.ok is False else 'unknown':8} {self.name}: {self.saw}"
