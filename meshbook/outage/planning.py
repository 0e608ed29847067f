"""The plan of an outage: what would be changed, what must hold first, and whether it does. Reads only."""

from __future__ import annotations

from dataclasses import dataclass

from meshbook.errors import OutageError
from meshbook.outage import guards, watchdog
from meshbook.outage.intent import Intent
from meshbook.outage.modes import MODES, Mode, mode_of
from meshbook.outage.records import Check


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an outage would do. ``print`` it; ``checks`` make a table."""

    mode: str
    about: str
    context: str
    application: str
    changes: tuple[str, ...]
    undone: str
    """Who brings it back when this process cannot."""
    checks: tuple[Check, ...]

    @property
    def ready_to_start(self) -> bool:
        return all(check.ok is not False for check in self.checks)

    def __str__(self) -> str:
        lines = [f"outage  {self.mode} of {self.application} at {self.context}", f"how     {self.about}"]
        lines += [f"change  {change}" for change in self.changes]
        lines += [f"undone  {self.undone}"]
        lines += [f"check   {check}" for check in self.checks]
        return "\n".join([*lines, "ready to start" if self.ready_to_start else "not ready to start"])

    def require(self) -> None:
        """Raise OutageError, naming what does not hold, unless the outage may start."""
        wrong = [check for check in self.checks if check.ok is False]
        if wrong:
            raise OutageError(
                f"{self.context}: {self.application} is not taken away ({self.mode}): " + _reasons(wrong),
                hint=_HINTS.get(wrong[0].name, "outage.plan(…) shows all that must hold"),
            )


_HINTS = {
    "it is allowed": "allow_outage: true, where an outage of this service may happen",
    "it is meshbook's own, or was named": "name the workload on purpose (named_workloads), if it is to be touched",
    watchdog.CHECK: "kubectl apply -k manifests/watchdog -n NAMESPACE, by somebody who may; or watchdog_s: 0",
    "a survivor is healthy": "bring the survivor up first, or the outage would be a real one",
    "the survivors have room (replicas)": "scale the survivor up first, or the outage may become a real one",
}


def plan(intent: Intent) -> Plan:
    """Return the plan of an outage; nothing is changed."""
    return plan_of(intent, mode_of(intent))


def plan_of(intent: Intent, mode: Mode) -> Plan:
    lab = guards.is_lab(intent.cluster)
    checks = [
        guards.consent(intent, lab=lab),
        guards.ownership(intent, mode.subjects, lab=lab),
        *mode.checks(),
        *guards.survivors(intent, lab=lab),
        *_steady(intent),
        *watchdog.checks(intent, mode),
    ]
    return Plan(
        mode=intent.mode,
        about=str(getattr(MODES[intent.mode], "about", "")),
        context=intent.cluster.name,
        application=f"{intent.deployment} in {intent.namespace}",
        changes=tuple(mode.changes()),
        undone=str(getattr(MODES[intent.mode], "undone", "")) or _undone(intent),
        checks=tuple(checks),
    )


def _undone(intent: Intent) -> str:
    watched = f", or by a Job after {intent.safeguards.watchdog_s:g} s" if intent.safeguards.watchdog_s else ""
    return f"at the end however it comes; after a crash by meshbook restore or the next run{watched}"


def _steady(intent: Intent) -> list[Check]:
    if intent.steady is None:
        return []
    complaint = intent.steady()
    return [Check(name="the state before is steady", ok=not complaint, saw=complaint or "as it should be")]


def _reasons(wrong: list[Check]) -> str:
    return "; ".join(f"{check.name}? {check.saw}" for check in wrong)
