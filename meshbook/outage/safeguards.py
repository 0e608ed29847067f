"""What must hold before an outage starts, and the plan that says so. Reads only.

Consent, whose workload it is, what the mode needs, a survivor that is healthy and has room, and the watchdog.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kubernetes.utils.quantity import parse_quantity

from meshbook.clusters import Cluster, DeploymentState
from meshbook.errors import ClusterError, OutageError
from meshbook.objects import Object, labels_of
from meshbook.outage import watchdog
from meshbook.outage.lab import is_lab
from meshbook.outage.modes import Mode, mode_of
from meshbook.outage.records import Check, Intent
from meshbook.outage.targets import OutageTarget
from meshbook.settings import FIELD_MANAGER

METRICS = "metrics.k8s.io/v1beta1/PodMetrics"
ALLOWED, OWNED = "it is allowed", "it is meshbook's own, or was named"
PERMITTED = "this user may change and restore it"
HEALTHY, ROOM, CPU = "a survivor is healthy", "the survivors have room (replicas)", "the survivors have room (CPU)"
_HINTS = {
    ALLOWED: "allow_outage: true, where an outage of this service may happen",
    OWNED: "name the workload on purpose (named_workloads), if it is to be touched",
    PERMITTED: "a context whose user has this role; kubectl auth can-i says which it lacks",
    HEALTHY: "bring the survivor up first, or the outage would be a real one",
    ROOM: "scale the survivor up first, or the outage may become a real one",
    watchdog.CHECK: "watchdog_s: 0, and know who runs meshbook restore if this process dies",
}
_FIELD_OF_ITS_MAKER = {"Deployment": "f:template", "Service": "f:ports"}
"""The field of a spec that belongs to who made the object, and not to who scales it."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What an outage would do. ``print`` it; ``checks`` make a table."""

    mode: str
    about: str
    context: str
    application: str
    changes: tuple[str, ...]
    restored_by: str
    """Who restores it, also when this process cannot."""
    checks: tuple[Check, ...]

    @property
    def ready_to_start(self) -> bool:
        return all(check.ok is not False for check in self.checks)

    def __str__(self) -> str:
        lines = [f"outage    {self.mode} of {self.application} at {self.context}", f"how       {self.about}"]
        lines += [f"change    {change}" for change in self.changes]
        lines += [f"restored  {self.restored_by}"]
        lines += [f"check     {check}" for check in self.checks]
        unknown = "; ".join(check.name for check in self.checks if check.ok is None)
        ready = f"ready to start; not known to hold: {unknown}" if unknown else "ready to start"
        return "\n".join([*lines, ready if self.ready_to_start else "not ready to start"])

    def require(self) -> None:
        """Raise OutageError, naming what does not hold, unless all does."""
        wrong = [check for check in self.checks if check.ok is False]
        if wrong:
            told = "; ".join(f"{check.name}? {check.saw}" for check in wrong)
            raise OutageError(
                f"{self.context}: no outage of {self.application} ({self.mode}): {told}",
                hint=wrong[0].hint or _HINTS.get(wrong[0].name, "outage.plan(…) shows all that must hold"),
            )


def plan(intent: Intent, mode: Mode | None = None) -> Plan:
    """Return the plan of an outage; nothing is changed. ``mode`` is that of the intent, where it is made already."""
    mode = mode or mode_of(intent)
    lab, after_s = is_lab(intent.cluster), intent.safeguards.watchdog_s
    complaint = intent.steady() if intent.steady else ""
    steady = Check(name="the state before is steady", ok=not complaint, saw=complaint or "as it should be")
    job = f", or by a Job after {after_s:g} s" if after_s else ""
    checks = [
        _consent(intent, lab=lab),
        _ownership(intent, mode.targets, lab=lab),
        *_permission(intent, mode.targets),
        *mode.checks(),
        *_survivors(intent, lab=lab),
        *([steady] if intent.steady else []),
        *watchdog.checks(intent, mode),
    ]
    return Plan(
        mode=intent.mode,
        about=mode.about,
        context=intent.cluster.name,
        application=f"{intent.deployment} in {intent.namespace}",
        changes=tuple(mode.changes()),
        restored_by=mode.restored_by
        or f"at the end however it comes; after a crash by meshbook restore or the next run{job}",
        checks=tuple(checks),
    )


def _consent(intent: Intent, *, lab: bool) -> Check:
    allowed = intent.safeguards.allow_outage
    saw = "this is a lab" if lab else f"allow_outage is {str(allowed).lower()}, and this is no lab"
    return Check(name=ALLOWED, ok=lab or allowed, saw=saw)


def _ownership(intent: Intent, targets: Sequence[OutageTarget], *, lab: bool) -> Check:
    """Say whether meshbook may touch this: it has made it, or the user has named it."""
    if lab:
        return Check(name=OWNED, ok=True, saw="this is a lab")
    unnamed = [target for target in targets if target.name not in intent.safeguards.named_workloads]
    foreign = [f"{target} is not" for target in unnamed if not _is_made_by_meshbook(target)]
    saw = "; ".join(foreign) or ("made by meshbook" if unnamed else "it was named")
    return Check(name=OWNED, ok=not foreign, saw=saw)


def _permission(intent: Intent, targets: Sequence[OutageTarget]) -> Iterator[Check]:
    """Say whether this user may change what is to be changed: who cannot will not restore it either."""
    for resource, namespace in sorted({(target.resource, target.namespace) for target in targets}):
        may = intent.cluster.can_i("patch", resource, namespace)
        yield Check(name=PERMITTED, ok=may, saw=f"patch {resource} in {namespace}: {'yes' if may else 'no'}")


def _is_made_by_meshbook(target: OutageTarget) -> bool:
    """Tell whether meshbook wrote the object, and did not merely scale it, by who manages its fields."""
    return any(
        entry.get("manager") == FIELD_MANAGER
        and _FIELD_OF_ITS_MAKER[target.kind] in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
        for entry in target.read()["metadata"].get("managedFields") or []
    )


@dataclass(frozen=True, kw_only=True)
class _Side:
    """The application in one cluster."""

    context: str
    desired: int = 0
    ready: int = 0
    most: int = 0
    """Replicas that there are, or that its autoscaler may make."""
    cpu_used: float | None = None
    """Cores in use by all its pods; None where the cluster has no metrics."""
    cpu_room: float | None = None
    """Cores that ``most`` replicas ask for; None where one does not say."""
    problem: str = ""
    """Why nothing is known of it."""

    @property
    def healthy(self) -> bool:
        return not self.problem and self.ready >= self.desired > 0

    def __str__(self) -> str:
        if self.problem:
            return f"{self.context} {self.problem}"
        more = f", up to {self.most} by its autoscaler" if self.most > self.desired else ""
        return f"{self.context} {self.ready}/{self.desired} ready{more}"


def _survivors(intent: Intent, *, lab: bool) -> list[Check]:
    """Say whether somebody carries on, with every replica ready, and has room for what is taken down (N-1)."""
    deployment = intent.cluster.get("Deployment", intent.deployment, intent.namespace)
    app = labels_of(deployment["spec"]["template"]).get("app", intent.deployment)
    down = _side(intent.cluster, [deployment], app)
    survivors = [other for other in intent.survivors if other.name != intent.cluster.name]
    others = [_survivor(other, intent.namespace, app) for other in survivors]
    healthy = [side for side in others if side.healthy]
    if not others:
        required = bool(intent.survivors) or not lab
        nobody = "no other cluster was named as survivor"
        return [
            Check(name=HEALTHY, ok=False if required else None, saw=nobody),
            *(Check(name=name, ok=None, saw=nobody) for name in (ROOM, CPU)),
        ]
    room = sum(side.most for side in healthy)
    return [
        Check(name=HEALTHY, ok=bool(healthy), saw="; ".join(map(str, others))),
        Check(name=ROOM, ok=room >= down.desired, saw=f"{room} of theirs for {down.desired} that are taken down"),
        _cpu(down, healthy),
    ]


def _cpu(down: _Side, healthy: Sequence[_Side]) -> Check:
    """Say whether what all use together fits into what the survivors' pods ask for; often nobody knows."""
    unmeasured = [side.context for side in (down, *healthy) if side.cpu_used is None]
    if unmeasured or not healthy:
        return Check(name=CPU, ok=None, saw=f"no metrics in {', '.join(unmeasured)}" if unmeasured else "no survivor")
    if any(side.cpu_room is None for side in healthy):
        return Check(name=CPU, ok=None, saw="the survivors' pods do not say how much CPU they need")
    used, room = sum(side.cpu_used or 0.0 for side in (down, *healthy)), sum(side.cpu_room or 0.0 for side in healthy)
    saw = f"{used:.2f} cores in use on all sides, {room:.2f} for the survivors"
    return Check(name=CPU, ok=used <= room, saw=saw)


def _survivor(cluster: Cluster, namespace: str, app: str) -> _Side:
    try:
        found = [
            one for one in cluster.list("Deployment", namespace) if labels_of(one["spec"]["template"]).get("app") == app
        ]
        if not found:
            return _Side(context=cluster.name, problem=f"has no Deployment of app {app} in {namespace}")
        return _side(cluster, found, app)
    except ClusterError as error:
        return _Side(context=cluster.name, problem=f"cannot be asked: {error.message}")


def _side(cluster: Cluster, deployments: Sequence[Object], app: str) -> _Side:
    states = [DeploymentState.of(cluster.name, one) for one in deployments]
    most = [max(state.desired, _autoscaler_limit(cluster, state)) for state in states]
    asked = [_cpu_requested(one) for one in deployments]
    room = [count * (cores or 0.0) for count, cores in zip(most, asked, strict=True)]
    return _Side(
        context=cluster.name,
        desired=sum(state.desired for state in states),
        ready=sum(min(state.ready, state.available) for state in states),
        most=sum(most),
        cpu_used=_cpu_used(cluster, states[0].namespace, app),
        cpu_room=None if None in asked else sum(room),
    )


def _autoscaler_limit(cluster: Cluster, deployment: DeploymentState) -> int:
    """Return how many replicas a Deployment's autoscaler may make; 0 when none is known of."""
    try:
        found = cluster.list("HorizontalPodAutoscaler", deployment.namespace)
    except ClusterError as error:
        if error.code not in (403, 404):
            raise
        return 0
    scaled = {"kind": "Deployment", "name": deployment.name}
    return max(
        (one["spec"]["maxReplicas"] for one in found if scaled.items() <= one["spec"]["scaleTargetRef"].items()),
        default=0,
    )


def _cpu_requested(deployment: Object) -> float | None:
    """Return the cores that one pod asks for; None when a container does not say."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    requests = [((one.get("resources") or {}).get("requests") or {}).get("cpu") for one in containers]
    return _cores(map(str, requests)) if all(requests) else None


def _cpu_used(cluster: Cluster, namespace: str, app: str) -> float | None:
    try:
        found = cluster.list(METRICS, namespace, labels=f"app={app}")
    except ClusterError as error:
        if error.code not in (403, 404, 503):
            raise
        return None
    usages = [container["usage"]["cpu"] for one in found for container in one.get("containers") or []]
    return _cores(usages) if usages else None


def _cores(quantities: Iterable[str]) -> float:
    return float(sum(map(parse_quantity, quantities)))
