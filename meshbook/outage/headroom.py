"""Can the survivors carry what is taken away? Pure: counts and quantities in, checks out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshbook.outage.records import Check

_SUFFIXES = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3}


@dataclass(frozen=True, kw_only=True)
class Side:
    """The application in one cluster."""

    context: str
    desired: int
    ready: int
    ceiling: int
    """Most replicas that its autoscaler may make; ``desired`` where it has none."""
    cpu_used: float | None = None
    """Cores in use by all its pods; None where the cluster has no metrics."""
    cpu_requested: float | None = None
    """Cores that one pod asks for; None where it asks for none."""
    problem: str = ""
    """Why nothing is known of it."""

    @property
    def healthy(self) -> bool:
        return not self.problem and self.ready >= self.desired > 0

    def __str__(self) -> str:
        more = f", up to {self.ceiling} by its autoscaler" if self.ceiling > self.desired else ""
        return (
            f"{self.context} {self.problem}"
            if self.problem
            else f"{self.context} {self.ready}/{self.desired} ready{more}"
        )


def survivors_are_healthy(others: Sequence[Side], *, required: bool) -> Check:
    """Say whether somebody is there to carry on, with every replica ready; unless ``required``, nobody need be."""
    name = "a survivor is healthy"
    if not others:
        return Check(name=name, ok=False if required else None, saw="no other cluster was named as survivor")
    return Check(name=name, ok=any(side.healthy for side in others), saw="; ".join(map(str, others)))


def replicas_suffice(taken: Side, others: Sequence[Side]) -> Check:
    """Say whether the survivors have, or may grow, as many replicas as are taken away (N-1)."""
    name = "the survivors have room (replicas)"
    if not others:
        return Check(name=name, ok=None, saw="no survivor was named")
    room = sum(max(side.ready, side.ceiling) for side in others if side.healthy)
    saw = f"{room} of theirs for {taken.desired} that are taken away"
    return Check(name=name, ok=room >= taken.desired, saw=saw)


def cpu_suffices(taken: Side, others: Sequence[Side]) -> Check:
    """Say whether what all use together fits into what the survivors' pods ask for; often nobody knows."""
    name = "the survivors have room (CPU)"
    sides = [taken, *(side for side in others if side.healthy)]
    unmeasured = [side.context for side in sides if side.cpu_used is None]
    if unmeasured or len(sides) == 1:
        return Check(name=name, ok=None, saw=f"no metrics in {', '.join(unmeasured)}" if unmeasured else "no survivor")
    if any(side.cpu_requested is None for side in sides[1:]):
        return Check(name=name, ok=None, saw="the survivors' pods do not say how much CPU they need")
    used = sum(side.cpu_used or 0.0 for side in sides)
    room = sum((side.cpu_requested or 0.0) * max(side.ready, side.ceiling) for side in sides[1:])
    return Check(name=name, ok=used <= room, saw=f"{used:.2f} cores in use on all sides, {room:.2f} for the survivors")


def cores(quantity: str) -> float:
    """Read a Kubernetes quantity of CPU: ``250m``, ``1.5``, ``12345n``."""
    number = quantity.rstrip("numk")
    return float(number) * _SUFFIXES[quantity[len(number) :]]
