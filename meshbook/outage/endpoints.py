"""The mode in which pods lose their readiness as far as others see it: they run on, and nobody is sent to them.

A pod's own Ready condition belongs to its kubelet, which writes it again within seconds; probes and labels cannot be
changed without new pods. What the API can do and undo exactly is one more key in the Service's selector that no pod
carries: the endpoints go from its EndpointSlices as they do when pods are not ready, and come back with the key.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from meshbook.clusters import Object
from meshbook.errors import OutageError, WaitTimeout
from meshbook.objects import is_active, is_ready
from meshbook.outage.recorded import Recorded
from meshbook.outage.records import AWAY, Check, Restored
from meshbook.outage.scaling import selector_of, selects
from meshbook.outage.subjects import Subject
from meshbook.outage.undoing import Undoing

SERVICE_LABEL = "kubernetes.io/service-name"
SETTLE_S = 3.0


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

    told = f"with {'no' if 0 in wanted else wanted.start} ready endpoints"
    subject.cluster.wait_until(f"Service {subject.name} {told}", look, timeout_s)


def _is_away(service: Object) -> bool:
    return AWAY in (service["spec"].get("selector") or {})


def _tell(subject: Subject, found: Object) -> Restored:
    return subject.restored(away=_is_away(found))


def _select_again(subject: Subject, found: Object) -> None:
    """Take the key out of a Service's selector."""
    after = subject.patch({"spec": {"selector": {AWAY: None}}})
    if _is_away(after):
        raise OutageError(f"{subject}: its selector keeps {AWAY}", hint="take it out by hand")


def _wait_until_back(subject: Subject, found: Object, timeout_s: float) -> None:
    """Wait until all ready pods behind a Service are ready endpoints, however many there are by now."""
    labels = ",".join(f"{key}={value}" for key, value in selector_of(found).items())

    def look() -> tuple[bool | None, str]:
        pods = subject.cluster.list("Pod", subject.namespace, labels=labels) if labels else []
        staying = [pod for pod in pods if is_active(pod)]
        ready, count = sum(map(is_ready, staying)), ready_endpoints(subject)
        told = f"{count} ready endpoints, {ready} of {len(staying)} pods ready"
        return (True if count >= ready and (ready or not staying) else None), told

    subject.cluster.wait_until(f"Service {subject.name} with its endpoints", look, timeout_s)


class ReadinessLost(Recorded):
    """The Services that lead to the application lead nowhere in this cluster."""

    about = "take the application's pods from their Service's endpoints, while they run on"

    undoing = Undoing(tell=_tell, order=_select_again, wait=_wait_until_back)

    def find_subjects(self) -> Iterator[Subject]:
        cluster, namespace = self.intent.cluster, self.intent.namespace
        deployment = cluster.get("Deployment", self.intent.deployment, namespace)
        for one in cluster.list("Service", namespace):
            if selects(one, deployment):
                yield Subject.of(cluster, "Service", one)

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
            if one["metadata"]["name"] != self.intent.deployment and any(selects(service, one) for service in services)
        ]
        saw = f"also behind it: {', '.join(others)}" if others else f"only {self.intent.deployment} is behind it"
        return Check(name="nothing else goes with it", ok=not others, saw=saw)

    def order(self, subject: Subject) -> None:
        subject.patch({"spec": {"selector": {AWAY: self.intent.run}}})

    def wait_until_gone(self, subject: Subject, before: Object) -> None:
        wait_for_endpoints(subject, range(1), self.intent.timeout_s)
