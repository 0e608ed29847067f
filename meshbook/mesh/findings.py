"""A finding: what was seen of the way from one cluster's clients to another cluster's pods, and what would mend it.

Made by every other module here, put in order by ``causes``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from meshbook.errors import ClusterError
from meshbook.mesh.snapshot import NotSeen

State = Literal["cause", "as configured", "noted", "not looked at", "fine"]
"""``cause``: this alone keeps answers away. ``as configured``: somebody wanted it so, and it changes who answers."""
CAUSE: Final = "cause"
AS_CONFIGURED: Final = "as configured"
NOTED: Final = "noted"
FINE: Final = "fine"
NOT_LOOKED_AT: Final = "not looked at"


@dataclass(frozen=True, kw_only=True)
class Direction:
    """Clients of ``source`` ask, pods of ``destination`` should answer; both are contexts."""

    source: str
    destination: str

    def __str__(self) -> str:
        return f"{self.source} → {self.destination}"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one look at one direction found."""

    direction: Direction
    look: str
    """What was looked at."""
    state: State
    seen: str
    mend: str = ""
    """The command that mends it; of what was not looked at, what would be needed."""

    def __str__(self) -> str:
        return f"{self.direction}: {self.seen}" + (f" Mend: {self.mend}" if self.mend else "")


@dataclass(frozen=True, kw_only=True)
class Look:
    """Makes the findings of one look at one direction."""

    direction: Direction
    name: str

    def finding(self, state: State, seen: str, mend: str = "") -> Finding:
        return Finding(direction=self.direction, look=self.name, state=state, seen=seen, mend=mend)

    def cause(self, seen: str, mend: str) -> Finding:
        return self.finding(CAUSE, seen, mend)

    def configured(self, seen: str, mend: str = "") -> Finding:
        return self.finding(AS_CONFIGURED, seen, mend)

    def noted(self, seen: str, mend: str = "") -> Finding:
        return self.finding(NOTED, seen, mend)

    def fine(self, seen: str) -> Finding:
        return self.finding(FINE, seen)

    def not_looked_at(self, need: str) -> Finding:
        return self.finding(NOT_LOOKED_AT, "not looked at", need)

    def guarded(self, look: Callable[[Look], Iterable[Finding]]) -> list[Finding]:
        """Return what ``look`` finds; what it cannot see, or a cluster that does not answer, ends it and is said."""
        found: list[Finding] = []
        try:
            for one in look(self):
                found.append(one)
        except NotSeen as error:
            found.append(self.not_looked_at(error.need))
        except ClusterError as error:
            found.append(self.not_looked_at(f"an answer ({error.message})"))
        return found
