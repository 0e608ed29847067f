"""What can be frozen for a calibration, and how: the shape of it, and the application itself on a lab.

Only a lab can freeze the application, in all clusters at once, and says to the millisecond when it did. Elsewhere that
would be a real outage, and ``scratch`` takes its place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from meshbook.analysis import Fault
from meshbook.clusters import pause
from meshbook.errors import OutageError, UsageError
from meshbook.experiment.rungs import Scene
from meshbook.outage import Lab

_OWNER = "calibration"
_SLACK_S = 20.0
_POLL_S = 0.05

Span = tuple[datetime, datetime]
"""The first and the last moment that something may have been."""


@dataclass(frozen=True, kw_only=True)
class Freezable:
    """Something that can be frozen, and the addresses at which it is asked meanwhile."""

    outside: str
    inside: str
    freeze: Callable[[float], Fault]
    """Freeze it for so many seconds, and return when that was in truth."""


def fault_between(name: str, start: Span, end: Span) -> Fault:
    """Return the fault that began and ended within these spans."""
    middles = [first + (last - first) / 2 for first, last in (start, end)]
    widest_s = max((last - first).total_seconds() for first, last in (start, end))
    return Fault(name=name, start=middles[0], end=middles[1], error_ms=500 * widest_s)


def is_possible(scene: Scene) -> bool:
    """Tell whether the application can be frozen here."""
    return all(Lab(cluster).is_there for cluster in scene.fleet)


@contextmanager
def application(scene: Scene) -> Iterator[Freezable]:
    """Give the application itself, frozen in all clusters at once; UsageError where no lab can do that."""
    if not is_possible(scene):
        raise UsageError("only a lab can freeze the application for a calibration", hint="calibrate_on: scratch")
    yield Freezable(outside=scene.outside, inside=scene.inside, freeze=lambda length_s: _frozen(scene, length_s))


def _frozen(scene: Scene, length_s: float) -> Fault:
    """Freeze all at once, wait until it is over, and return when it was: in truth between the stamps of all."""
    wanted = {"kind": "freeze", "namespace": scene.namespace, "selector": f"app={scene.service}", "by": _OWNER}

    def freeze(cluster: Any) -> Mapping[str, Any]:
        lab = Lab(cluster)
        record = lab.ask("POST", "/faults", {**wanted, "context": lab.cluster, "for_s": length_s})
        return _ended(lab, str(record["id"]), length_s)

    records = list(scene.fleet.each(freeze).values())
    edges = [_around([record[edge] for record in records]) for edge in ("began", "ended")]
    return fault_between(f"frozen for {length_s:g} s", *edges)


def _ended(lab: Lab, fault: str, length_s: float) -> Mapping[str, Any]:
    deadline = time.monotonic() + length_s + _SLACK_S
    while True:
        record: Mapping[str, Any] = lab.ask("GET", f"/faults/{fault}")
        if record.get("ended"):
            return record
        if time.monotonic() > deadline:
            raise OutageError(f"the lab's fault {fault} has not ended", hint="meshbook lab fault end")
        pause(_POLL_S)


def _around(edges: Sequence[Mapping[str, Any]]) -> Span:
    """Return the first and the last of all moments that an edge may be."""
    first = min(datetime.fromisoformat(edge["not_before"]["wall"]) for edge in edges)
    return first, max(datetime.fromisoformat(edge["not_after"]["wall"]) for edge in edges)
