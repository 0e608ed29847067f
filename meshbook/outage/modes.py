"""The ladder of failures by name, from the kindest to the worst."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from meshbook.errors import UsageError
from meshbook.outage.deleting import PodsDeleted
from meshbook.outage.endpoints import ReadinessLost
from meshbook.outage.intent import Intent
from meshbook.outage.records import Check, Outage
from meshbook.outage.scaling import EastWestDown, ScaledToZero
from meshbook.outage.silence import ClusterDown
from meshbook.outage.subjects import Subject


class Mode(Protocol):
    """One way to take something away. Made for an intent; reads only, until ``take``."""

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """What carries the record."""

    def changes(self) -> list[str]:
        """Return what ``take`` will change, one line each."""

    def checks(self) -> list[Check]:
        """Return what must hold for this mode, besides what must hold for all."""

    def take(self, outage: Outage) -> None:
        """Record, change, wait until it is away; fills in the times."""

    def bring_back(self, outage: Outage) -> None:
        """Undo what the records of this run tell of, wait until it is ready, take the records off."""


MODES: Mapping[str, Callable[[Intent], Mode]] = {
    "scale-to-zero": ScaledToZero,
    "pods-deleted": PodsDeleted,
    "readiness-lost": ReadinessLost,
    "east-west-down": EastWestDown,
    "cluster-down": ClusterDown,
}


def mode_of(intent: Intent) -> Mode:
    """Return the mode that an intent names, made for it."""
    if intent.mode not in MODES:
        raise UsageError(f"there is no mode {intent.mode!r}", hint=f"one of {', '.join(MODES)}")
    return MODES[intent.mode](intent)
