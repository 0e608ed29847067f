"""ReplicaSet → Pods: as many as it asks for, counted in its status."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from datetime import datetime

from meshbook.lab.client import EVENTS, PODS, REPLICA_SETS, ApiError, Resource, event
from meshbook.lab.controllers.loop import Controller
from meshbook.lab.controllers.objects import (
    Key,
    Object,
    age_rank,
    condition,
    contains,
    controller_of,
    difference,
    is_active,
    is_controlled_by,
    is_deleting,
    is_ready,
    key_of,
    labels_of,
    owner_reference,
    seconds_since,
    selects,
    with_condition,
)
from meshbook.lab.controllers.world import Actions, Again, Create, Delete, Patch, World, emit, patch_status

COMPONENT = "replicaset-controller"


def claim(owner: Object, resource: Resource, candidates: Iterable[Object]) -> tuple[list[Object], Actions]:
    """Return what ``owner`` controls, and the patches that adopt orphans and let go what no longer matches."""
    owned: list[Object] = []
    actions: Actions = []
    for obj in candidates:
        matches = selects(owner["spec"]["selector"], labels_of(obj))
        if is_controlled_by(obj, owner):
            if matches or is_deleting(obj):
                owned.append(obj)
            else:
                actions.append(_own(resource, obj, [*_others(obj, owner)]))
        elif matches and controller_of(obj) is None and not is_deleting(obj) and not is_deleting(owner):
            actions.append(_own(resource, obj, [*_others(obj, owner), owner_reference(owner)]))
    return owned, actions


def _others(obj: Object, owner: Object) -> list[Object]:
    references = obj["metadata"].get("ownerReferences") or []
    return [reference for reference in references if reference["uid"] != owner["metadata"]["uid"]]


def _own(resource: Resource, obj: Object, references: list[Object]) -> Patch:
    version = obj["metadata"]["resourceVersion"]
    return Patch(
        resource=resource, of=obj, patch={"metadata": {"ownerReferences": references, "resourceVersion": version}}
    )


def decide(world: World, key: Key) -> Actions:
    """Create or delete pods until the number is right, and say in the status what is there."""
    replica_set = world.get(REPLICA_SETS, key)
    if replica_set is None:
        return []
    pods, adoptions = claim(replica_set, PODS, world.list(PODS, key[0]))
    if adoptions:
        return adoptions
    active = [pod for pod in pods if is_active(pod)]
    wanted = replica_set["spec"].get("replicas", 1)
    actions: Actions = []
    if not is_deleting(replica_set):
        actions += [_birth(replica_set) for _ in range(wanted - len(active))]
        for pod in sorted(active, key=_deletion_rank)[: max(0, len(active) - wanted)]:
            gone = _told(replica_set, "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")
            actions += [Delete(resource=PODS, of=pod), Create(resource=EVENTS, obj=gone)]
    status = _status(replica_set, active, world.now())
    changes = difference(replica_set.get("status") or {}, status)
    return [
        *actions,
        *patch_status(REPLICA_SETS, replica_set, changes),
        *_when_available(replica_set, active, world.now()),
    ]


def _birth(replica_set: Object) -> Create:
    told = _told(replica_set, "SuccessfulCreate", "Created pod: {name}")
    return Create(resource=PODS, obj=new_pod(replica_set), told=told)


def _told(replica_set: Object, reason: str, message: str) -> Object:
    return event(replica_set, reason=reason, message=message, component=COMPONENT)


def refused(world: World, key: Key, error: ApiError) -> Actions:
    """Tell that pods cannot be created: in the status and as an Event."""
    replica_set = world.get(REPLICA_SETS, key)
    if replica_set is None or condition(replica_set, "ReplicaFailure").get("message") == error.message:
        return []
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": error.message}
    conditions = with_condition((replica_set.get("status") or {}).get("conditions") or [], failure, world.now())
    message = f"Error creating: {error.message}"
    told = emit(replica_set, reason="FailedCreate", message=message, component=COMPONENT, kind="Warning")
    return [told, *patch_status(REPLICA_SETS, replica_set, {"conditions": conditions})]


def new_pod(replica_set: Object) -> Object:
    """Return a pod from the template; the API server completes its name."""
    template = copy.deepcopy(replica_set["spec"]["template"])
    metadata = template.get("metadata") or {}
    kept = {name: metadata[name] for name in ("labels", "annotations", "finalizers") if metadata.get(name)}
    identity = {
        "generateName": f"{replica_set['metadata']['name']}-",
        "namespace": replica_set["metadata"]["namespace"],
        "ownerReferences": [owner_reference(replica_set)],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {**identity, **kept}, "spec": template["spec"]}


def is_available(pod: Object, min_ready_s: int, now: datetime) -> bool:
    if not is_ready(pod):
        return False
    return min_ready_s == 0 or seconds_since(condition(pod, "Ready")["lastTransitionTime"], now) >= min_ready_s


def _deletion_rank(pod: Object) -> tuple[bool, bool, bool, list[int]]:
    """Sort key: what is least useful goes first, of equals the youngest."""
    assigned = bool(pod["spec"].get("nodeName"))
    running = (pod.get("status") or {}).get("phase") == "Running"
    created, name = age_rank(pod)
    return assigned, running, is_ready(pod), [-ord(letter) for letter in f"{created}/{name}"]


def _status(replica_set: Object, active: list[Object], now: datetime) -> Object:
    spec, before = replica_set["spec"], replica_set.get("status") or {}
    template_labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    min_ready_s = spec.get("minReadySeconds", 0)
    counts = {
        "fullyLabeledReplicas": sum(contains(labels_of(pod), template_labels) for pod in active),
        "readyReplicas": sum(is_ready(pod) for pod in active),
        "availableReplicas": sum(is_available(pod, min_ready_s, now) for pod in active),
    }
    satisfied = len(active) >= spec.get("replicas", 1)
    kept = [found for found in before.get("conditions") or [] if found["type"] != "ReplicaFailure" or not satisfied]
    return {
        "replicas": len(active),
        **{name: count for name, count in counts.items() if count},
        "observedGeneration": replica_set["metadata"].get("generation", 1),
        **({"conditions": kept} if kept else {}),
    }


def _when_available(replica_set: Object, active: list[Object], now: datetime) -> Actions:
    min_ready_s = replica_set["spec"].get("minReadySeconds", 0)
    waiting = [pod for pod in active if is_ready(pod) and not is_available(pod, min_ready_s, now)]
    ages = [seconds_since(condition(pod, "Ready")["lastTransitionTime"], now) for pod in waiting]
    return [Again(after_s=max(0.05, min_ready_s - max(ages)))] if ages else []


def _of_pod(world: World, pod: Object) -> list[Key]:
    owner = controller_of(pod)
    if owner is None:
        sets = world.list(REPLICA_SETS, pod["metadata"]["namespace"])
        return [key_of(found) for found in sets if selects(found["spec"]["selector"], labels_of(pod))]
    return [(pod["metadata"]["namespace"], owner["name"])] if owner["kind"] == "ReplicaSet" else []


CONTROLLER = Controller(
    name="replicaset",
    decide=decide,
    concerns={REPLICA_SETS: lambda _, replica_set: [key_of(replica_set)], PODS: _of_pod},
    on_refusal=refused,
)
