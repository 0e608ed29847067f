"""PodDisruptionBudget: counts the healthy pods and says in the status how many may be disturbed."""

from __future__ import annotations

from meshbook.lab.client import PDBS, PODS, REPLICA_SETS
from meshbook.lab.controllers.loop import Controller
from meshbook.lab.controllers.objects import (
    Key,
    Object,
    controller_of,
    difference,
    is_active,
    is_ready,
    key_of,
    labels_of,
    scaled_value,
    selects,
    with_condition,
)
from meshbook.lab.controllers.rollout import size
from meshbook.lab.controllers.world import Actions, World, patch_status


def decide(world: World, key: Key) -> Actions:
    """Write the budget's counts."""
    budget = world.get(PDBS, key)
    if budget is None:
        return []
    selector = budget["spec"].get("selector")
    pods = [pod for pod in world.list(PODS, key[0]) if is_active(pod) and selects(selector, labels_of(pod))]
    expected = _expected(world, key[0], pods)
    healthy, desired = sum(is_ready(pod) for pod in pods), _desired(budget, expected)
    allowed = max(0, healthy - desired)
    before = budget.get("status") or {}
    fresh = {"type": "DisruptionAllowed", "status": "True" if allowed else "False", "message": ""}
    fresh |= {"reason": "SufficientPods" if allowed else "InsufficientPods"}
    fresh |= {"observedGeneration": budget["metadata"].get("generation", 1)}
    status = {
        "observedGeneration": budget["metadata"].get("generation", 1),
        "expectedPods": expected,
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "disruptionsAllowed": allowed,
        "conditions": with_condition(before.get("conditions") or [], fresh, world.now()),
    }
    return patch_status(PDBS, budget, difference(before, {**before, **status}))


def _expected(world: World, namespace: str, pods: list[Object]) -> int:
    """Return how many pods their ReplicaSets ask for; pods without one count themselves."""
    owners = {owner["name"] for pod in pods if (owner := controller_of(pod)) and owner["kind"] == "ReplicaSet"}
    sets = [found for name in owners if (found := world.get(REPLICA_SETS, (namespace, name)))]
    return sum(size(found) for found in sets) + sum(controller_of(pod) is None for pod in pods)


def _desired(budget: Object, expected: int) -> int:
    spec = budget["spec"]
    if spec.get("maxUnavailable") is not None:
        return max(0, expected - scaled_value(spec["maxUnavailable"], expected, up=True))
    return scaled_value(spec.get("minAvailable", 1), expected, up=True)


def _of_neighbour(world: World, obj: Object) -> list[Key]:
    return [key_of(budget) for budget in world.list(PDBS, obj["metadata"]["namespace"])]


CONTROLLER = Controller(
    name="disruption",
    decide=decide,
    concerns={PDBS: lambda _, budget: [key_of(budget)], PODS: _of_neighbour, REPLICA_SETS: _of_neighbour},
)
