"""HorizontalPodAutoscaler: keeps its target within minReplicas and maxReplicas. There are no metrics in the lab.

It says so as a cluster without a metrics server does: ``ScalingActive`` is false, reason ``FailedGetResourceMetric``.
A target that is scaled to 0 is left alone.
"""

from __future__ import annotations

from meshbook.lab.client import DEPLOYMENTS, HPAS, REPLICA_SETS, Resource
from meshbook.lab.controllers.loop import Controller
from meshbook.lab.controllers.objects import Key, Object, difference, key_of, with_condition
from meshbook.lab.controllers.world import Actions, Patch, World, patch_status

TARGETS: dict[str, Resource] = {"Deployment": DEPLOYMENTS, "ReplicaSet": REPLICA_SETS}

GOT_SCALE = ("SucceededGetScale", "the HPA controller was able to get the target's current scale")
NO_SCALE = ("FailedGetScale", "the HPA controller was unable to get the target's current scale: target not found")
NO_METRICS = (
    "FailedGetResourceMetric",
    "the HPA was unable to compute the replica count: failed to get resource metric: no metrics API in this cluster",
)
DISABLED = ("ScalingDisabled", "scaling is disabled since the replica count of the target is zero")
TOO_FEW = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
TOO_MANY = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
WITHIN = ("DesiredWithinRange", "the desired count is within the acceptable range")


def decide(world: World, key: Key) -> Actions:
    """Bring the target within its bounds, and say what is known."""
    hpa = world.get(HPAS, key)
    if hpa is None:
        return []
    reference = hpa["spec"]["scaleTargetRef"]
    resource = TARGETS.get(reference["kind"])
    target = world.get(resource, (key[0], reference["name"])) if resource else None
    if resource is None or target is None:
        return _tell(world, hpa, None, [("AbleToScale", False, NO_SCALE)])
    present = target["spec"].get("replicas", 1)
    if present == 0:
        return _tell(world, hpa, (0, 0), [("AbleToScale", True, GOT_SCALE), ("ScalingActive", False, DISABLED)])
    desired = min(max(present, hpa["spec"].get("minReplicas", 1)), hpa["spec"]["maxReplicas"])
    limit = WITHIN if desired == present else TOO_FEW if desired > present else TOO_MANY
    conditions = [
        ("AbleToScale", True, GOT_SCALE),
        ("ScalingActive", False, NO_METRICS),
        ("ScalingLimited", desired != present, limit),
    ]
    scaled = Patch(resource=resource, of=target, patch={"spec": {"replicas": desired}}, subresource="scale")
    return [*([scaled] if desired != present else []), *_tell(world, hpa, (present, desired), conditions)]


def _tell(
    world: World, hpa: Object, counts: tuple[int, int] | None, told: list[tuple[str, bool, tuple[str, str]]]
) -> Actions:
    before = hpa.get("status") or {}
    conditions = [found for found in before.get("conditions") or [] if found["type"] in [name for name, _, _ in told]]
    for name, holds, (reason, message) in told:
        fresh = {"type": name, "status": str(holds), "reason": reason, "message": message}
        conditions = with_condition(conditions, fresh, world.now())
    current, desired = counts or (before.get("currentReplicas", 0), before.get("desiredReplicas", 0))
    status = {"conditions": conditions, "currentReplicas": current, "desiredReplicas": desired}
    return patch_status(HPAS, hpa, difference(before, {**before, **status}))


def _of_target(world: World, target: Object) -> list[Key]:
    """All HPAs beside a target that name it."""
    hpas = world.list(HPAS, target["metadata"]["namespace"])
    return [key_of(hpa) for hpa in hpas if hpa["spec"]["scaleTargetRef"]["name"] == target["metadata"]["name"]]


CONTROLLER = Controller(
    name="autoscaler",
    decide=decide,
    concerns={HPAS: lambda _, hpa: [key_of(hpa)], DEPLOYMENTS: _of_target, REPLICA_SETS: _of_target},
)
