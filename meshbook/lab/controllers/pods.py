"""How pods come and go: a ReplicaSet has as many as it asks for, and the scheduler binds each to a node.

The scheduler knows the readiness of nodes, cordons, nodeSelectors and how many pods a node takes; no other resources,
taints or affinities.
"""

from __future__ import annotations

import copy
from collections import Counter

from meshbook.lab.client import NODES, PODS, REPLICA_SETS, ApiError, Key, key_of
from meshbook.lab.controllers.controller import (
    Actions,
    Again,
    Cache,
    Controller,
    Create,
    Delete,
    difference,
    emit,
    itself,
    patch_status,
    short_hash,
)
from meshbook.lab.controllers.ownership import claim, claimants, owner_reference
from meshbook.objects import Object, condition, is_active, is_deleting, is_finished, is_ready, labels_of

BURST = 50
"""Pods that are created before it is looked again: ReplicaSets take turns, and whoever asks for billions gets as many
as the API server's quota has, and then the reason why there are no more."""
REPLICA_SET_COMPONENT, SCHEDULER_COMPONENT = "replicaset-controller", "default-scheduler"


def replicate(cache: Cache, key: Key) -> Actions:
    """Create or delete pods until the number is right, and say in the status what is there."""
    replica_set = cache.get(REPLICA_SETS, key)
    if replica_set is None:
        return []
    pods, adoptions = claim(replica_set, PODS, cache.list(PODS, key[0]))
    if adoptions:
        return adoptions
    active = [pod for pod in pods if is_active(pod)]
    desired = replica_set["spec"].get("replicas", 1)
    actions: Actions = []
    if not is_deleting(replica_set):
        for number in range(min(desired - len(active), BURST)):
            pod = new_pod(cache, replica_set, number)
            told = f"Created pod: {pod['metadata']['name']}"
            actions += [Create(resource=PODS, obj=pod), _told(replica_set, "SuccessfulCreate", told)]
        for pod in sorted(active, key=_deletion_rank)[: max(0, len(active) - desired)]:
            told = f"Deleted pod: {pod['metadata']['name']}"
            actions += [Delete(resource=PODS, of=pod), _told(replica_set, "SuccessfulDelete", told)]
    status, later = _status(cache, replica_set, active)
    changes = difference(replica_set.get("status") or {}, status)
    return [*actions, *patch_status(REPLICA_SETS, replica_set, changes), *later]


def _told(replica_set: Object, reason: str, message: str) -> Create:
    return emit(replica_set, reason=reason, message=message, component=REPLICA_SET_COMPONENT)


def new_pod(cache: Cache, replica_set: Object, number: int) -> Object:
    """Return a pod from the template, of a name that no other pod of this ReplicaSet has had."""
    template = copy.deepcopy(replica_set["spec"]["template"])
    metadata = template.get("metadata") or {}
    kept = {name: metadata[name] for name in ("labels", "annotations", "finalizers") if metadata.get(name)}
    prefix = f"{replica_set['metadata']['name']}-"
    suffix = short_hash([replica_set["metadata"]["uid"], cache.now().isoformat(), number], 5)
    identity = {
        "name": prefix + suffix,
        "generateName": prefix,
        "namespace": replica_set["metadata"]["namespace"],
        "ownerReferences": [owner_reference(replica_set)],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {**identity, **kept}, "spec": template["spec"]}


def _deletion_rank(pod: Object) -> tuple[bool, bool, bool, list[int]]:
    """Sort key: what is least useful goes first, of equals the youngest."""
    metadata = pod["metadata"]
    assigned = bool(pod["spec"].get("nodeName"))
    running = (pod.get("status") or {}).get("phase") == "Running"
    age = f"{metadata.get('creationTimestamp', '')}/{metadata['name']}"
    return assigned, running, is_ready(pod), [-ord(letter) for letter in age]


def _status(cache: Cache, replica_set: Object, active: list[Object]) -> tuple[Object, Actions]:
    """Return the whole status, and when to look again because a ready pod becomes available."""
    spec = replica_set["spec"]
    template_labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    ages = [cache.seconds_since(condition(pod, "Ready")["lastTransitionTime"]) for pod in active if is_ready(pod)]
    least_s = spec.get("minReadySeconds", 0)
    counts = {
        "fullyLabeledReplicas": sum(labels_of(pod).items() >= template_labels.items() for pod in active),
        "readyReplicas": len(ages),
        "availableReplicas": sum(least_s == 0 or age_s >= least_s for age_s in ages),
    }
    failure = condition(replica_set, "ReplicaFailure")
    if len(active) >= spec.get("replicas", 1):
        failure = {}
    status = {
        "replicas": len(active),
        **{name: count for name, count in counts.items() if count},
        "observedGeneration": replica_set["metadata"].get("generation", 1),
        **({"conditions": [failure]} if failure else {}),
    }
    waiting = [age_s for age_s in ages if age_s < least_s]
    return status, [Again(after_s=max(0.05, least_s - max(waiting)))] if waiting else []


def refused(cache: Cache, key: Key, error: ApiError) -> Actions:
    """Tell that pods cannot be created: in the status and as an Event."""
    replica_set = cache.get(REPLICA_SETS, key)
    if replica_set is None or condition(replica_set, "ReplicaFailure").get("message") == error.message:
        return []
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": error.message}
    pods, _ = claim(replica_set, PODS, cache.list(PODS, key[0]))
    status, _ = _status(cache, replica_set, [pod for pod in pods if is_active(pod)])
    message = f"Error creating: {error.message}"
    told = emit(replica_set, reason="FailedCreate", message=message, component=REPLICA_SET_COMPONENT, kind="Warning")
    conditions = cache.with_condition(replica_set, failure)
    changes = difference(replica_set.get("status") or {}, {**status, "conditions": conditions})
    return [told, *patch_status(REPLICA_SETS, replica_set, changes)]


REPLICA_SET = Controller(
    name="replicaset",
    decide=replicate,
    watches={REPLICA_SETS: itself, PODS: lambda cache, pod: claimants(cache, REPLICA_SETS, pod)},
    on_refusal=refused,
)


def schedule(cache: Cache, key: Key) -> Actions:
    """Bind a waiting pod, or say in its status why that is not possible."""
    pod = cache.get(PODS, key)
    if pod is None or not _is_waiting(pod):
        return []
    load = Counter(one["spec"].get("nodeName") for one in cache.list(PODS) if not is_finished(one))
    objections = {node["metadata"]["name"]: _objection(pod, node, load) for node in cache.list(NODES)}
    fitting = [name for name, objection in objections.items() if not objection]
    if not fitting:
        return _unschedulable(cache, pod, list(objections.values()))
    name = min(fitting, key=lambda name: (load[name], name))
    metadata = pod["metadata"]
    identity = {name: metadata[name] for name in ("name", "namespace", "uid")}
    target = {"apiVersion": "v1", "kind": "Node", "name": name}
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": identity, "target": target}
    message = f"Successfully assigned {'/'.join(key)} to {name}"
    return [
        Create(resource=PODS, obj=binding, parent=metadata["name"], subresource="binding"),
        emit(pod, reason="Scheduled", message=message, component=SCHEDULER_COMPONENT),
    ]


def _is_waiting(pod: Object) -> bool:
    spec = pod["spec"]
    ours = spec.get("schedulerName", SCHEDULER_COMPONENT) == SCHEDULER_COMPONENT
    return ours and not spec.get("nodeName") and not spec.get("schedulingGates") and is_active(pod)


def _objection(pod: Object, node: Object, load: Counter[str]) -> str:
    """Say in a scheduler's words why a pod cannot go to a node; nothing when it can."""
    if (node.get("spec") or {}).get("unschedulable"):
        return "node(s) were unschedulable"
    if not is_ready(node):
        return "node(s) had untolerated taint(s)"
    if not labels_of(node).items() >= (pod["spec"].get("nodeSelector") or {}).items():
        return "node(s) didn't match Pod's node affinity/selector"
    room = ((node.get("status") or {}).get("allocatable") or {}).get("pods", "")
    return "Too many pods" if room.isdecimal() and load[node["metadata"]["name"]] >= int(room) else ""


def _unschedulable(cache: Cache, pod: Object, objections: list[str]) -> Actions:
    reasons = ", ".join(f"{count} {objection}" for objection, count in sorted(Counter(objections).items()))
    message = f"0/{len(objections)} nodes are available: {reasons}."
    if not objections:
        message = "no nodes available to schedule pods"
    if condition(pod, "PodScheduled").get("message") == message:
        return []
    fresh = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    told = emit(pod, reason="FailedScheduling", message=message, component=SCHEDULER_COMPONENT, kind="Warning")
    return [*patch_status(PODS, pod, {"conditions": cache.with_condition(pod, fresh)}), told]


def _waiting(cache: Cache, _: Object) -> list[Key]:
    return [key_of(pod) for pod in cache.list(PODS) if _is_waiting(pod)]


def _touched(cache: Cache, pod: Object) -> list[Key]:
    """The pod itself, and those that may have waited for its place."""
    leaves = pod["spec"].get("nodeName") and not is_active(pod)
    return [key_of(pod), *(_waiting(cache, pod) if leaves else ())]


SCHEDULER = Controller(name="scheduler", decide=schedule, watches={PODS: _touched, NODES: _waiting})
