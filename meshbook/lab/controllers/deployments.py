"""Deployment → ReplicaSets: rolling update, recreate, pause, rollback, and the status that ``kubectl rollout`` reads.

How large each ReplicaSet may be is decided in ``rollout.py``; what the status says in ``deploymentstatus.py``.
"""

from __future__ import annotations

import copy

from meshbook.lab.client import DEPLOYMENTS, PODS, REPLICA_SETS
from meshbook.lab.controllers.deploymentstatus import status_of
from meshbook.lab.controllers.loop import Controller
from meshbook.lab.controllers.objects import (
    Key,
    Object,
    age_rank,
    annotations_of,
    controller_of,
    difference,
    is_controlled_by,
    is_deleting,
    is_finished,
    key_of,
    labels_of,
    owner_reference,
    selects,
    short_hash,
)
from meshbook.lab.controllers.replicasets import claim
from meshbook.lab.controllers.rollout import HASH_LABEL, REVISION, Rollout, revision, size, split
from meshbook.lab.controllers.world import Actions, Create, Delete, Patch, World, emit, patch_status

COMPONENT = "deployment-controller"
DESIRED, MOST = "deployment.kubernetes.io/desired-replicas", "deployment.kubernetes.io/max-replicas"
NOT_INHERITED = (REVISION, DESIRED, MOST, "kubectl.kubernetes.io/last-applied-configuration")


def decide(world: World, key: Key) -> Actions:
    """Take the next step of the rollout, and say in the status how far it is."""
    deployment = world.get(DEPLOYMENTS, key)
    if deployment is None:
        return []
    owned, adoptions = claim(deployment, REPLICA_SETS, world.list(REPLICA_SETS, key[0]))
    if adoptions:
        return adoptions
    rollout = split(deployment, sorted(owned, key=age_rank), _hash(deployment))
    steps = [] if is_deleting(deployment) else _steps(world, rollout)
    status, later = status_of(rollout, world.now())
    return [*steps, *patch_status(DEPLOYMENTS, deployment, difference(deployment.get("status") or {}, status)), *later]


def _steps(world: World, rollout: Rollout) -> Actions:
    if rollout.paused:
        return _scale_paused(rollout)
    if rollout.new is None:
        return _shrink(rollout) if rollout.recreates and _old_pods_run(world, rollout) else _create(world, rollout)
    number = max(revision(rollout.new), rollout.next_revision)
    steps = [*_size(rollout, rollout.new, rollout.new_size(), number), *_numbered(rollout.deployment, number)]
    if rollout.new_size() != size(rollout.new):
        return steps
    return [*steps, *_shrink(rollout), *[Delete(resource=REPLICA_SETS, of=spent) for spent in rollout.spent]]


def _hash(deployment: Object) -> str:
    collisions = (deployment.get("status") or {}).get("collisionCount", 0)
    return short_hash([deployment["spec"]["template"], collisions], 10)


def _old_pods_run(world: World, rollout: Rollout) -> bool:
    """Whether pods of old ReplicaSets are there still, those that terminate included."""
    namespace = rollout.deployment["metadata"]["namespace"]
    pods = [pod for pod in world.list(PODS, namespace) if not is_finished(pod)]
    return any(size(found) or any(is_controlled_by(pod, found) for pod in pods) for found in rollout.old)


def _create(world: World, rollout: Rollout) -> Actions:
    made = _new_replica_set(rollout)
    deployment = rollout.deployment
    if world.get(REPLICA_SETS, key_of(made)) is not None:
        collisions = (deployment.get("status") or {}).get("collisionCount", 0) + 1
        return patch_status(DEPLOYMENTS, deployment, {"collisionCount": collisions})
    numbered = _numbered(deployment, rollout.next_revision)
    return [Create(resource=REPLICA_SETS, obj=made), *numbered, *_told(deployment, made, 0, size(made))]


def _new_replica_set(rollout: Rollout) -> Object:
    deployment, mark = rollout.deployment, {HASH_LABEL: _hash(rollout.deployment)}
    template = copy.deepcopy(deployment["spec"]["template"])
    labels = {**((template.get("metadata") or {}).get("labels") or {}), **mark}
    template["metadata"] = {**(template.get("metadata") or {}), "labels": labels}
    selector = copy.deepcopy(deployment["spec"]["selector"])
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), **mark}
    spec = {"replicas": rollout.new_size(), "selector": selector, "template": template}
    if deployment["spec"].get("minReadySeconds"):
        spec["minReadySeconds"] = deployment["spec"]["minReadySeconds"]
    metadata = {
        "name": f"{deployment['metadata']['name']}-{mark[HASH_LABEL]}",
        "namespace": deployment["metadata"]["namespace"],
        "labels": labels,
        "annotations": {**_annotations(rollout), REVISION: str(rollout.next_revision)},
        "ownerReferences": [owner_reference(deployment)],
    }
    return {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata, "spec": spec}


def _annotations(rollout: Rollout) -> dict[str, str]:
    inherited = {name: value for name, value in annotations_of(rollout.deployment).items() if name not in NOT_INHERITED}
    most = rollout.replicas + rollout.max_surge
    return {**inherited, DESIRED: str(rollout.replicas), MOST: str(most)}


def _numbered(deployment: Object, number: int) -> Actions:
    if revision(deployment) == number:
        return []
    return [Patch(resource=DEPLOYMENTS, of=deployment, patch={"metadata": {"annotations": {REVISION: str(number)}}})]


def _scale_paused(rollout: Rollout) -> Actions:
    """A paused Deployment still follows its replica count, with the pods that it has."""
    active = [found for found in rollout.sets if size(found)]
    target = active[-1] if active else rollout.new
    if target is None:
        return []
    rest = sum(size(found) for found in active if found is not target)
    return _size(rollout, target, max(0, rollout.replicas - rest))


def _shrink(rollout: Rollout) -> Actions:
    return [action for found, to in rollout.old_sizes() for action in _size(rollout, found, to)]


def _size(rollout: Rollout, replica_set: Object, to: int, number: int = 0) -> Actions:
    """Give a ReplicaSet its size, and the revision ``number`` if it is the one that is wanted."""
    wanted = _annotations(rollout) | ({REVISION: str(number)} if number else {})
    annotations = difference(annotations_of(replica_set), annotations_of(replica_set) | wanted)
    if to == size(replica_set) and not annotations:
        return []
    version = replica_set["metadata"]["resourceVersion"]
    patch = {"metadata": {"resourceVersion": version, "annotations": annotations}, "spec": {"replicas": to}}
    told = _told(rollout.deployment, replica_set, size(replica_set), to)
    return [Patch(resource=REPLICA_SETS, of=replica_set, patch=patch), *told]


def _told(deployment: Object, replica_set: Object, before: int, after: int) -> Actions:
    if before == after:
        return []
    verb = "up" if after > before else "down"
    message = f"Scaled {verb} replica set {replica_set['metadata']['name']} from {before} to {after}"
    return [emit(deployment, reason="ScalingReplicaSet", message=message, component=COMPONENT)]


def _of_replica_set(world: World, replica_set: Object) -> list[Key]:
    owner, namespace = controller_of(replica_set), replica_set["metadata"]["namespace"]
    if owner is not None:
        return [(namespace, owner["name"])]
    deployments = world.list(DEPLOYMENTS, namespace)
    return [key_of(found) for found in deployments if selects(found["spec"]["selector"], labels_of(replica_set))]


def _of_pod(world: World, pod: Object) -> list[Key]:
    """A Deployment that recreates waits for the last old pod to go."""
    recreating = [
        found
        for found in world.list(DEPLOYMENTS, pod["metadata"]["namespace"])
        if Rollout(deployment=found, new=None, old=()).recreates and selects(found["spec"]["selector"], labels_of(pod))
    ]
    return [key_of(found) for found in recreating]


CONTROLLER = Controller(
    name="deployment",
    decide=decide,
    concerns={
        DEPLOYMENTS: lambda _, deployment: [key_of(deployment)],
        REPLICA_SETS: _of_replica_set,
        PODS: _of_pod,
    },
)
