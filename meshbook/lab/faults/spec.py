"""What to ask for, and the record of what happened: plain data that goes over HTTP and into the log as JSON."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from meshbook.errors import LabError
from meshbook.objects import label_selector

KINDS = {
    "freeze": "stop the processes of pods' applications (SIGSTOP): connections open, nothing answers",
    "refuse": "pods' applications cut their connections and refuse new ones, but live on",
    "kill": "kill pods' applications (SIGKILL) and hold their restart back",
    "unready": "show pods as not ready, while they go on answering",
    "link-cut": "let no mesh request into a cluster, out of it, or both: packets to east-west gateways vanish",
    "cluster-down": "a whole cluster falls silent, its API server and its pods",
}
"""What can be broken, each with a line of explanation."""

DIRECTIONS = ("in", "out", "both")
LONGEST_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class FaultSpec:
    """One fault as it is asked for. Pods are named by ``pod``, or by ``selector`` (as ``kubectl -l``)."""

    kind: str
    context: str
    """The lab's name for the cluster."""
    namespace: str = "sample"
    pod: str = ""
    selector: str = ""
    container: str = ""
    """Empty: all but proxies."""
    direction: str = "both"
    """For ``link-cut``: of the requests, as the cluster sees them."""
    for_s: float | None = None
    """Ends by itself after this; None: when somebody ends it. A kill without it holds no restart back."""
    by: str = ""
    """Who asks for it: a word for the log, and for those who tidy up."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise LabError(f"there is no fault {self.kind!r}", hint=f"one of {', '.join(KINDS)}")
        if self.direction not in DIRECTIONS:
            raise LabError(f"there is no direction {self.direction!r}", hint=f"one of {', '.join(DIRECTIONS)}")
        if self.for_s is not None and not 0 < self.for_s <= LONGEST_S:
            raise LabError(f"a fault lasts between 0 and {LONGEST_S:g} s, not {self.for_s:g} s")
        if self.kind not in ("link-cut", "cluster-down") and bool(self.pod) == bool(self.selector):
            raise LabError(f"{self.kind} needs either a pod or a selector")
        label_selector(self.selector)

    @classmethod
    def of(cls, given: Any) -> FaultSpec:
        """Read what somebody asks for; ``LabError`` when it cannot be understood in full."""
        try:
            return cls(**given)
        except TypeError as error:
            raise LabError(f"this is no fault that the lab understands: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One moment by two clocks of this machine."""

    wall: str
    """UTC, ISO 8601, to the microsecond."""
    monotonic_s: float
    """CLOCK_MONOTONIC, the same in all processes: differences are true whatever the wall clock does."""

    @classmethod
    def now(cls) -> Moment:
        wall = datetime.now(UTC).isoformat(timespec="microseconds")
        return cls(wall=wall, monotonic_s=round(time.monotonic(), 6))

    @property
    def time(self) -> datetime:
        return datetime.fromisoformat(self.wall)


@dataclass(frozen=True, kw_only=True)
class Edge:
    """Start or end of a fault: it came between these two moments, the request given and the effect seen."""

    not_before: Moment
    not_after: Moment


@dataclass(frozen=True, kw_only=True)
class FaultRecord:
    """One fault as it happened."""

    id: str
    kind: str
    context: str
    targets: tuple[str, ...]
    """What was broken, as ``context/namespace/pod/container`` or ``context``."""
    by: str
    for_s: float | None
    began: Edge
    ended: Edge | None = None
    why_ended: str = ""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> FaultRecord:
        """Read a record from its JSON, which is that of its fields."""
        edges = {
            name: given[name] and Edge(**{key: Moment(**moment) for key, moment in given[name].items()})
            for name in ("began", "ended")
        }
        return cls(**{**given, **edges, "targets": tuple(given["targets"])})

    @property
    def is_on(self) -> bool:
        return self.ended is None

    @property
    def shortest_s(self) -> float:
        """Least time that the fault was on; 0 while it is."""
        return self.ended.not_before.monotonic_s - self.began.not_after.monotonic_s if self.ended else 0.0

    @property
    def longest_s(self) -> float:
        """Most time that the fault was on; 0 while it is."""
        return self.ended.not_after.monotonic_s - self.began.not_before.monotonic_s if self.ended else 0.0

    def __str__(self) -> str:
        what = f"{self.id} {self.kind} at {', '.join(self.targets)}: began {self.began.not_after.time:%H:%M:%S.%f}"
        if self.ended is None:
            return f"{what}, still on"
        return f"{what}, ended {self.ended.not_before.time:%H:%M:%S.%f} ({self.shortest_s:.3f} s, {self.why_ended})"
