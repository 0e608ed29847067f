"""The mode in which pods lose their readiness as far as others see it: they run on, and nobody is sent to them.

A pod's own Ready condition belongs to its kubelet, which writes it again within seconds; probes and labels cannot be
changed without new pods. What the API can do and undo exactly is one more key in the Service's selector that no pod
carries: the endpoints go from its EndpointSlices as they do when pods are not ready, and come back with the key.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

from meshbook.clusters import Object, waiting
from meshbook.errors import OutageError, WaitTimeout
from meshbook.outage.intent import Intent
from meshbook.outage.records import AWAY, Check, Outage, Restored
from meshbook.outage.scaling import labels_of_pods
from meshbook.outage.subjects import Subject

SERVICE_LABEL = "kubernetes.io/service-name"
SETTLE_S = 3.0


class ReadinessLost:
    """The Services that lead to the application lead nowhere in this cluster."""

    about = "take the application's pods from their Service's endpoints, while they run on"

    def __init__(self, intent: Intent) -> None:
        self.intent = intent
        cluster, namespace = intent.cluster, intent.namespace
        labels = labels_of_pods(cluster.get("Deployment", intent.deployment, namespace))
        found = [one for one in cluster.list("Service", namespace) if _selects(one, labels)]
        self.subjects = tuple(Subject.of(cluster, "Service", one) for one in found)
        self._before: dict[str, int] = {}

    def changes(self) -> list[str]:
        return [f"{subject}: selector gets {AWAY}={self.intent.run}, so no endpoints" for subject in self.subjects]

    def checks(self) -> list[Check]:
        counts = {subject.name: self._settled(subject) for subject in self.subjects}
        told = ", ".join(f"Service {name} has {count} ready endpoints" for name, count in counts.items())
        return [
            Check(
                name="there is something to take away",
                ok=any(counts.values()),
                saw=told or f"no Service selects {self.intent.deployment}",
            ),
            self._touches_nobody_else(),
        ]

    @staticmethod
    def _settled(subject: Subject) -> int:
        """Return how many endpoints are ready; right after a rollout they follow the pods by a moment."""
        with contextlib.suppress(WaitTimeout):
            wait_for_endpoints(subject, range(1, 10**6), SETTLE_S)
        return ready_endpoints(subject)

    def _touches_nobody_else(self) -> Check:
        services = [subject.read() for subject in self.subjects]
        others = [
            str(one["metadata"]["name"])
            for one in self.intent.cluster.list("Deployment", self.intent.namespace)
            if one["metadata"]["name"] != self.intent.deployment
            and any(_selects(service, labels_of_pods(one)) for service in services)
        ]
        saw = f"also behind it: {', '.join(others)}" if others else f"only {self.intent.deployment} is behind it"
        return Check(name="nothing else goes with it", ok=not others, saw=saw)

    def take(self, outage: Outage) -> None:
        self._before = {subject.name: ready_endpoints(subject) for subject in self.subjects}
        for subject in self.subjects:
            subject.record(subject.read(), self.intent)
        outage.patch_asked = datetime.now(UTC)
        for subject in self.subjects:
            subject.patch({"spec": {"selector": {AWAY: self.intent.run}}})
        outage.patch_accepted = datetime.now(UTC)
        for subject in self.subjects:
            wait_for_endpoints(subject, range(1), self.intent.timeout_s)
        outage.gone = datetime.now(UTC)

    def bring_back(self, outage: Outage) -> None:
        mine = [subject for subject in self.subjects if subject.is_of(outage.run)]
        if not mine:
            return
        outage.back_asked = datetime.now(UTC)
        for subject in mine:
            select_again(subject, subject.read())
        outage.brought_back = datetime.now(UTC)
        for subject in mine:
            wait_for_endpoints(subject, range(self._before.get(subject.name, 1), 10**6), self.intent.timeout_s)
            subject.forget()
        outage.ready_again = datetime.now(UTC)


def _selects(service: Object, labels: dict[str, str]) -> bool:
    selector = {key: value for key, value in (service["spec"].get("selector") or {}).items() if key != AWAY}
    return bool(selector) and selector.items() <= labels.items()


def ready_endpoints(subject: Subject) -> int:
    """Return how many endpoints of a Service are ready in its own cluster."""
    labels = f"{SERVICE_LABEL}={subject.name}"
    found = subject.cluster.list("EndpointSlice", subject.namespace, labels=labels)
    endpoints = [one for piece in found for one in piece.get("endpoints") or []]
    return sum((one.get("conditions") or {}).get("ready", True) is not False for one in endpoints)


def wait_for_endpoints(subject: Subject, wanted: range, timeout_s: float) -> None:
    """Wait until the number of ready endpoints is one of ``wanted``."""

    def look() -> tuple[bool | None, str]:
        count = ready_endpoints(subject)
        return (True if count in wanted else None), f"{count} ready endpoints"

    told = "without ready endpoints" if 0 in wanted else f"with {wanted.start} ready endpoints"
    waiting.until(subject.cluster, f"Service {subject.name} {told}", look, timeout_s)


def select_again(subject: Subject, found: Object) -> Restored:
    """Take the key out of a Service's selector, unless somebody has done so already."""
    away = AWAY in (found["spec"].get("selector") or {})
    if away:
        after = subject.patch({"spec": {"selector": {AWAY: None}}})
        if AWAY in after["spec"]["selector"]:
            raise OutageError(f"{subject}: its selector keeps {AWAY}", hint="take it out by hand")
    return Restored(
        context=subject.cluster.name,
        namespace=subject.namespace,
        kind=subject.kind,
        name=subject.name,
        outcome="brought back" if away else "was already back",
    )
