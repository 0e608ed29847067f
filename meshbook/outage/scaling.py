"""Modes that scale Deployments to 0: the application itself, or the gateway through which other clusters reach it.

The record is the replica count. An autoscaler leaves a target at 0 alone and goes on when it is back, so its bounds are
recorded to know what count may be there afterwards, and are not changed.
"""

from __future__ import annotations

from datetime import UTC, datetime

from meshbook.clusters import Cluster, Object, waiting
from meshbook.errors import ClusterError, OutageError
from meshbook.outage.intent import Intent
from meshbook.outage.records import AUTOSCALER, REPLICAS, Check, Outage, Restored, notes_on
from meshbook.outage.subjects import Subject

GATEWAY_LABELS = "istio=eastwestgateway"


class ScaledToZero:
    """The application's Deployment at 0 replicas: pods end in order and finish what they have begun."""

    about = "scale the application to 0: pods end in order (the article's way)"

    def __init__(self, intent: Intent) -> None:
        self.intent = intent
        self.subjects = self._subjects()

    def _subjects(self) -> tuple[Subject, ...]:
        intent = self.intent
        return (Subject(cluster=intent.cluster, kind="Deployment", namespace=intent.namespace, name=intent.deployment),)

    def changes(self) -> list[str]:
        return [f"{subject}: {replicas_of(subject.read())} → 0 replicas" for subject in self.subjects]

    def checks(self) -> list[Check]:
        counts = {str(subject): replicas_of(subject.read()) for subject in self.subjects}
        told = ", ".join(f"{name} has {count} replicas" for name, count in counts.items())
        empty = [f"{name} has 0 replicas already" for name, count in counts.items() if not count]
        return [Check(name="there is something to take away", ok=not empty, saw=", ".join(empty) or told)]

    def take(self, outage: Outage) -> None:
        found = [subject.read() for subject in self.subjects]
        for subject, before in zip(self.subjects, found, strict=True):
            bounds = autoscaler_of(subject, before)
            more = {REPLICAS: str(replicas_of(before)), **({AUTOSCALER: bounds} if bounds else {})}
            subject.record(before, self.intent, more)
        outage.patch_asked = datetime.now(UTC)
        for subject in self.subjects:
            subject.cluster.scale(subject.name, 0, subject.namespace)
        outage.patch_accepted = datetime.now(UTC)
        for subject, before in zip(self.subjects, found, strict=True):
            wait_for_no_pods(subject, before, self.intent.timeout_s)
        outage.gone = datetime.now(UTC)

    def bring_back(self, outage: Outage) -> None:
        mine = [subject for subject in self.subjects if subject.is_of(outage.run)]
        if not mine:
            return
        outage.back_asked = datetime.now(UTC)
        restored = [scale_back(subject, subject.read()) for subject in mine]
        outage.brought_back = datetime.now(UTC)
        for subject, done in zip(mine, restored, strict=True):
            confirm(subject, done, self.intent.timeout_s)
        outage.ready_again = datetime.now(UTC)


class EastWestAway(ScaledToZero):
    """The east-west gateways of the cluster at 0 replicas: no mesh request gets in from other clusters."""

    about = "scale the cluster's east-west gateway to 0: mesh requests from other clusters find nobody"

    def _subjects(self) -> tuple[Subject, ...]:
        cluster = self.intent.cluster
        found = [deployment for service in _gateway_services(cluster) for deployment in _behind(cluster, service)]
        if not found:
            raise OutageError(
                f"{cluster.name}: no Deployment is behind a Service labelled {GATEWAY_LABELS}",
                hint="is the east-west gateway of part 3 of the article installed?",
            )
        return tuple(Subject.of(cluster, "Deployment", deployment) for deployment in found)


def _gateway_services(cluster: Cluster) -> list[Object]:
    return cluster.list("Service", labels=GATEWAY_LABELS)


def _behind(cluster: Cluster, service: Object) -> list[Object]:
    """Return the Deployments whose pods a Service selects."""
    selector = (service["spec"].get("selector") or {}).items()
    found = cluster.list("Deployment", service["metadata"]["namespace"])
    return [one for one in found if selector <= labels_of_pods(one).items()]


def labels_of_pods(deployment: Object) -> dict[str, str]:
    return deployment["spec"]["template"]["metadata"].get("labels") or {}


def replicas_of(deployment: Object) -> int:
    return int(deployment["spec"].get("replicas", 1))


def autoscaler_of(subject: Subject, deployment: Object) -> str:
    """Return the autoscaler that owns a Deployment, as its name and bounds; empty when none is known of."""
    try:
        found = subject.cluster.list("HorizontalPodAutoscaler", subject.namespace)
    except ClusterError as error:
        if error.code not in (403, 404):
            raise
        return ""
    for one in found:
        target = one["spec"]["scaleTargetRef"]
        if (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"]):
            return f"{one['metadata']['name']} {one['spec'].get('minReplicas', 1)} {one['spec']['maxReplicas']}"
    return ""


def wait_for_no_pods(subject: Subject, deployment: Object, timeout_s: float) -> None:
    labels = waiting.selector_of(deployment)

    def look() -> tuple[bool | None, str]:
        pods = subject.cluster.list("Pod", subject.namespace, labels=labels)
        return (None if pods else True), "; ".join(map(waiting.describe_pod, pods))

    waiting.until(subject.cluster, f"pods of {subject.name} gone", look, timeout_s)


def scale_back(subject: Subject, found: Object) -> Restored:
    """Scale to what the Deployment's record says, unless somebody has scaled it up again already."""
    record, away = notes_on(found).get(REPLICAS), replicas_of(found) == 0
    if record is None:  # its pods were deleted, and no count was touched
        away, record = False, str(replicas_of(found))
    if not record.isdigit():
        raise OutageError(f"{subject}: cannot read its annotation {REPLICAS}: {record!r}", hint="scale it by hand")
    if away:
        subject.cluster.scale(subject.name, int(record), subject.namespace)
    return Restored(
        context=subject.cluster.name,
        namespace=subject.namespace,
        kind=subject.kind,
        name=subject.name,
        outcome="brought back" if away else "was already back",
        state=f"{int(record) if away else replicas_of(found)} replicas",
    )


def confirm(subject: Subject, restored: Restored, timeout_s: float) -> None:
    """Wait until the replicas are there and ready, and only then take the record off the Deployment."""
    (state,) = subject.cluster.wait_for_rollout(subject.namespace, [subject.name], timeout_s=timeout_s)
    record = notes_on(subject.read())
    if restored.outcome == "brought back" and REPLICAS in record:
        _, low, high = record.get(AUTOSCALER, f"- {record[REPLICAS]} {record[REPLICAS]}").split()
        if not min(int(low), int(record[REPLICAS])) <= state.desired <= max(int(high), int(record[REPLICAS])):
            raise OutageError(f"{subject} was scaled to {state.desired} while it came back to {record[REPLICAS]}")
    subject.forget()
