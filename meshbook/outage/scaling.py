"""Modes that scale Deployments to 0: the application itself, or the gateway through which other clusters reach it.

The record is the replica count. An autoscaler leaves a target at 0 alone and goes on when it is back, so its bounds are
recorded to know what count may be there afterwards, and are not changed.
"""

from __future__ import annotations

from collections.abc import Iterable

from meshbook.clusters import Cluster, Object, describe_pod
from meshbook.errors import ClusterError, OutageError
from meshbook.objects import selector_text
from meshbook.outage.recorded import Recorded
from meshbook.outage.records import AUTOSCALER, AWAY, REPLICAS, Check, Restored, notes_on
from meshbook.outage.subjects import Subject
from meshbook.outage.undoing import Undoing

GATEWAY_LABELS = "istio=eastwestgateway"


def _behind(cluster: Cluster, service: Object) -> list[Object]:
    """Return the Deployments whose pods a Service selects."""
    return [one for one in cluster.list("Deployment", service["metadata"]["namespace"]) if selects(service, one)]


def selects(service: Object, deployment: Object) -> bool:
    """Tell whether a Service leads to a Deployment's pods, or will when it is back."""
    selector = selector_of(service)
    return bool(selector) and selector.items() <= labels_of_pods(deployment).items()


def selector_of(service: Object) -> dict[str, str]:
    """Return a Service's selector as it is when nothing is away."""
    return {key: value for key, value in (service["spec"].get("selector") or {}).items() if key != AWAY}


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


def _count_before(subject: Subject, found: Object) -> int | None:
    """Return the count that a Deployment's record holds; None where no count was touched (its pods were deleted)."""
    noted = notes_on(found).get(REPLICAS)
    if noted is not None and not noted.isdigit():
        raise OutageError(f"{subject}: cannot read its annotation {REPLICAS}: {noted!r}", hint="scale it by hand")
    return None if noted is None else int(noted)


def _tell(subject: Subject, found: Object) -> Restored:
    """Say what it is scaled to by its record, unless somebody has scaled it up again already."""
    before, now = _count_before(subject, found), replicas_of(found)
    away = before is not None and now == 0
    return subject.restored(away=away, state=f"{before if away else now} replicas")


def _scale_back(subject: Subject, found: Object) -> None:
    subject.cluster.scale(subject.name, _count_before(subject, found) or 0, subject.namespace)


def _wait_until_back(subject: Subject, found: Object, timeout_s: float) -> None:
    """Wait until the replicas are there and ready; a count that nobody can have meant is an error."""
    (state,) = subject.cluster.wait_for_rollout(subject.namespace, [subject.name], timeout_s=timeout_s)
    before = _count_before(subject, found)
    if before is None or replicas_of(found) or state.desired in _counts_meant(before, subject, found):
        return
    raise OutageError(
        f"{subject} was scaled to {state.desired} while it came back to {before}",
        hint="meshbook restore leaves the count as it is now and takes the record off",
    )


def _counts_meant(before: int, subject: Subject, found: Object) -> range:
    """Return the counts from the former one to what its autoscaler may make of it, by its bounds then and now."""
    autoscalers = [notes_on(found).get(AUTOSCALER, ""), autoscaler_of(subject, found)]
    bounds = [bound for told in autoscalers for bound in told.split()[1:]]
    counts = [before, *(int(bound) for bound in bounds if bound.isdigit())]
    return range(min(counts), max(counts) + 1)


class ScaledToZero(Recorded):
    """The application's Deployment at 0 replicas: pods end in order and finish what they have begun."""

    about = "scale the application to 0: pods end in order (the article's way)"

    undoing = Undoing(tell=_tell, order=_scale_back, wait=_wait_until_back)

    def find_subjects(self) -> Iterable[Subject]:
        one = self.intent
        return [Subject(cluster=one.cluster, kind="Deployment", namespace=one.namespace, name=one.deployment)]

    def changes(self) -> list[str]:
        return [f"{subject}: {replicas_of(subject.read())} → 0 replicas" for subject in self.subjects]

    def checks(self) -> list[Check]:
        counts = {str(subject): replicas_of(subject.read()) for subject in self.subjects}
        told = ", ".join(f"{name} has {count} replicas" for name, count in counts.items())
        empty = [f"{name} has 0 replicas already" for name, count in counts.items() if not count]
        return [Check(name="there is something to take away", ok=not empty, saw=", ".join(empty) or told)]

    def notes(self, subject: Subject, found: Object) -> dict[str, str]:
        bounds = autoscaler_of(subject, found)
        return {REPLICAS: str(replicas_of(found)), **({AUTOSCALER: bounds} if bounds else {})}

    def order(self, subject: Subject) -> None:
        subject.cluster.scale(subject.name, 0, subject.namespace)

    def wait_until_gone(self, subject: Subject, before: Object) -> None:
        labels = selector_text(before["spec"]["selector"])

        def look() -> tuple[bool | None, str]:
            pods = subject.cluster.list("Pod", subject.namespace, labels=labels)
            return (None if pods else True), "; ".join(map(describe_pod, pods))

        subject.cluster.wait_until(f"pods of {subject.name} gone", look, self.intent.timeout_s)


class EastWestDown(ScaledToZero):
    """The east-west gateways of the cluster at 0 replicas: no mesh request gets in from other clusters."""

    about = "scale the cluster's east-west gateway to 0: mesh requests from other clusters find nobody"

    def find_subjects(self) -> Iterable[Subject]:
        cluster = self.intent.cluster
        services = cluster.list("Service", labels=GATEWAY_LABELS)
        found = [deployment for service in services for deployment in _behind(cluster, service)]
        if not found:
            raise OutageError(
                f"{cluster.name}: no Deployment is behind a Service labelled {GATEWAY_LABELS}",
                hint="is the east-west gateway of part 3 of the article installed?",
            )
        return dict.fromkeys(Subject.of(cluster, "Deployment", deployment) for deployment in found)
