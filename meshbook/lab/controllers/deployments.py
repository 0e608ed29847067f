"""Deployment → ReplicaSets: rolling update, and the status that ``kubectl rollout status`` reads.

The rules are those of ``maxSurge`` and ``maxUnavailable``: never more pods than replicas and surge together, never
fewer available ones than replicas less the unavailable. Recreate is the update in which all may be unavailable and none
is surplus; pods that terminate are not waited for. A paused Deployment stays as it is. An autoscaler keeps its
Deployment within minReplicas and maxReplicas, which is all that one can do without metrics.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass

from meshbook.lab.client import DEPLOYMENTS, HPAS, REPLICA_SETS, Key, key_of
from meshbook.lab.controllers.controller import (
    Actions,
    Again,
    Cache,
    Controller,
    Create,
    Delete,
    Patch,
    difference,
    emit,
    itself,
    patch_status,
    short_hash,
)
from meshbook.lab.controllers.ownership import claim, claimants, owner_reference
from meshbook.objects import Object, annotations_of, condition, is_deleting, labels_of, timestamp

_COMPONENT = "deployment-controller"
HASH_LABEL = "pod-template-hash"
_REVISION = "deployment.kubernetes.io/revision"
COUNTS = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas")


def size(obj: Object) -> int:
    """Return how many pods a Deployment or ReplicaSet is asked to have."""
    replicas: int = obj["spec"].get("replicas", 1)
    return replicas


def count(replica_set: Object | None, name: str) -> int:
    """Return one of the numbers in a ReplicaSet's status; 0 where it is not there yet."""
    number: int = ((replica_set or {}).get("status") or {}).get(name) or 0
    return number


def revision(obj: Object) -> int:
    number = annotations_of(obj).get(_REVISION, "")
    return int(number) if re.fullmatch("[0-9]{1,9}", number) else 0  # anyone may write there


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """One Deployment with its ReplicaSets: that of its template, if there is one, and the old ones (oldest first)."""

    deployment: Object
    new: Object | None
    old: tuple[Object, ...]

    @property
    def replicas(self) -> int:
        return size(self.deployment)

    @property
    def sets(self) -> tuple[Object, ...]:
        return (*self.old, self.new) if self.new else self.old

    @property
    def max_surge(self) -> int:
        return self._limit("maxSurge", up=True)

    @property
    def max_unavailable(self) -> int:
        limit = self._limit("maxUnavailable", up=False)
        return min(self.replicas, 1 if limit == self.max_surge == 0 else limit)

    def _limit(self, name: str, *, up: bool) -> int:
        strategy = self.deployment["spec"].get("strategy") or {}
        rolling = strategy.get("rollingUpdate") or {}
        if strategy.get("type") == "Recreate":
            rolling = {"maxSurge": 0, "maxUnavailable": self.replicas}
        value = rolling.get(name, "25%")
        if isinstance(value, int):
            return value
        share = int(value.removesuffix("%")) * self.replicas
        return -(-share // 100) if up else share // 100

    def total(self, name: str) -> int:
        """Return the sum of one status number over all ReplicaSets."""
        return sum(count(found, name) for found in self.sets)

    def new_size(self) -> int:
        """Return the size that the new ReplicaSet may have now."""
        present = size(self.new) if self.new else 0
        if present >= self.replicas:
            return self.replicas
        room = self.replicas + self.max_surge - sum(size(found) for found in self.sets)
        return present + max(0, min(room, self.replicas - present))

    def old_sizes(self) -> list[int]:
        """Return the sizes that the old ReplicaSets may have now: pods that are not available go first."""
        least = self.replicas - self.max_unavailable
        starting = size(self.new) - count(self.new, "availableReplicas") if self.new else 0
        removable = sum(size(found) for found in self.sets) - least - starting
        sizes = []
        for found in self.old:
            broken = max(0, min(size(found) - count(found, "availableReplicas"), removable))
            removable -= broken
            sizes.append(size(found) - broken)
        spare = min(removable, self.total("availableReplicas") - least)
        for number, present in enumerate(sizes):
            taken = max(0, min(present, spare))
            spare -= taken
            sizes[number] -= taken
        return sizes


def decide(cache: Cache, key: Key) -> Actions:
    """Take the next step of the rollout, and say in the status how far it is."""
    deployment = cache.get(DEPLOYMENTS, key)
    if deployment is None:
        return []
    owned, adoptions = claim(deployment, REPLICA_SETS, cache.list(REPLICA_SETS, key[0]))
    if adoptions:
        return adoptions
    mark = short_hash(deployment["spec"]["template"], 10)
    owned.sort(key=lambda found: (found["metadata"].get("creationTimestamp", ""), found["metadata"]["name"]))
    new = next((found for found in owned if labels_of(found).get(HASH_LABEL) == mark), None)
    old = tuple(found for found in owned if found is not new)
    rollout = Rollout(deployment=deployment, new=new, old=old)
    stays = is_deleting(deployment) or deployment["spec"].get("paused")
    steps = [] if stays else _steps(rollout, mark)
    status, later = _status(cache, rollout)
    return [*steps, *patch_status(DEPLOYMENTS, deployment, difference(deployment.get("status") or {}, status)), *later]


def _steps(rollout: Rollout, mark: str) -> Actions:
    deployment, new = rollout.deployment, rollout.new
    shrinking = [
        action
        for found, to in zip(rollout.old, rollout.old_sizes(), strict=True)
        for action in _resize(deployment, found, to)
    ]
    number = max((revision(found) for found in rollout.old), default=0) + 1
    if new is None:
        made = _new_replica_set(rollout, mark, number)
        numbered = _numbered(deployment, number)
        return [Create(resource=REPLICA_SETS, obj=made), *numbered, *_told(deployment, made, 0, size(made))]
    number = max(revision(new), number)
    growing = [*_resize(deployment, new, rollout.new_size(), number), *_numbered(deployment, number)]
    if rollout.new_size() != size(new):
        return growing
    return [*growing, *shrinking, *[Delete(resource=REPLICA_SETS, of=found) for found in _beyond_history(rollout)]]


def _new_replica_set(rollout: Rollout, mark: str, number: int) -> Object:
    deployment = rollout.deployment
    template = copy.deepcopy(deployment["spec"]["template"])
    labels = {**((template.get("metadata") or {}).get("labels") or {}), HASH_LABEL: mark}
    template["metadata"] = {**(template.get("metadata") or {}), "labels": labels}
    selector = copy.deepcopy(deployment["spec"]["selector"])
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH_LABEL: mark}
    spec = {"replicas": rollout.new_size(), "selector": selector, "template": template}
    if deployment["spec"].get("minReadySeconds"):
        spec["minReadySeconds"] = deployment["spec"]["minReadySeconds"]
    metadata = {
        "name": f"{deployment['metadata']['name']}-{mark}",
        "namespace": deployment["metadata"]["namespace"],
        "labels": labels,
        "annotations": {_REVISION: str(number)},
        "ownerReferences": [owner_reference(deployment)],
    }
    return {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata, "spec": spec}


def _numbered(deployment: Object, number: int) -> Actions:
    if revision(deployment) == number:
        return []
    patch = {"metadata": {"annotations": {_REVISION: str(number)}}}
    return [Patch(resource=DEPLOYMENTS, of=deployment, patch=patch, subresource="status")]  # leaves the generation


def _resize(deployment: Object, replica_set: Object, to: int, number: int = 0) -> Actions:
    """Give a ReplicaSet its size, and the revision ``number`` if it is the one that is wanted."""
    annotations = {_REVISION: str(number)} if number and revision(replica_set) != number else {}
    if to == size(replica_set) and not annotations:
        return []
    version = replica_set["metadata"]["resourceVersion"]
    patch = {"metadata": {"resourceVersion": version, "annotations": annotations}, "spec": {"replicas": to}}
    told = _told(deployment, replica_set, size(replica_set), to)
    return [Patch(resource=REPLICA_SETS, of=replica_set, patch=patch), *told]


def _told(deployment: Object, replica_set: Object, before: int, after: int) -> Actions:
    if before == after:
        return []
    verb = "up" if after > before else "down"
    message = f"Scaled {verb} replica set {replica_set['metadata']['name']} from {before} to {after}"
    return [emit(deployment, reason="ScalingReplicaSet", message=message, component=_COMPONENT)]


def _beyond_history(rollout: Rollout) -> list[Object]:
    """Old ReplicaSets beyond ``revisionHistoryLimit``: empty ones, oldest revision first."""
    surplus = max(0, len(rollout.old) - rollout.deployment["spec"].get("revisionHistoryLimit", 10))
    empty = [found for found in rollout.old if not size(found) and not count(found, "replicas")]
    return sorted(empty, key=revision)[:surplus]


def _status(cache: Cache, rollout: Rollout) -> tuple[Object, Actions]:
    """Return the whole status, and when to look again because a deadline may have passed."""
    deployment, available = rollout.deployment, rollout.total("availableReplicas")
    asked = sum(size(found) for found in rollout.sets)
    updated = count(rollout.new, "replicas")
    numbers = (rollout.total("replicas"), updated, rollout.total("readyReplicas"), available, max(0, asked - available))
    counts = dict(zip(COUNTS, numbers, strict=True))
    progressing = _progressing(cache, rollout, counts)
    failures = [failure for found in rollout.sets if (failure := condition(found, "ReplicaFailure"))]
    conditions = []
    for fresh in [_available(rollout, available), progressing, *failures[-1:]]:
        known = condition(deployment, fresh["type"])
        updated_at = fresh.get("lastUpdateTime") or known.get("lastUpdateTime") or timestamp(cache.now())
        conditions.append(cache.stamped(deployment, {**fresh, "lastUpdateTime": updated_at}))
    status: Object = {
        "observedGeneration": deployment["metadata"].get("generation", 1),
        **{name: number for name, number in counts.items() if number},
        "conditions": conditions,
    }
    if progressing["reason"] != "ReplicaSetUpdated":
        return status, []
    left_s = _deadline_s(deployment) - cache.seconds_since(progressing["lastUpdateTime"])
    return status, [Again(after_s=max(1.0, left_s))]


def _deadline_s(deployment: Object) -> float:
    return float(deployment["spec"].get("progressDeadlineSeconds", 600))


def _available(rollout: Rollout, available: int) -> Object:
    if available >= rollout.replicas - rollout.max_unavailable:
        message = "Deployment has minimum availability."
        return {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable", "message": message}
    message = "Deployment does not have minimum availability."
    return {"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable", "message": message}


def _progressing(cache: Cache, rollout: Rollout, counts: dict[str, int]) -> Object:
    """Return the condition that says whether the rollout is done, on its way, or stuck."""
    known = condition(rollout.deployment, "Progressing")
    obj, kind = (rollout.new, "ReplicaSet") if rollout.new else (rollout.deployment, "Deployment")
    subject = f'{kind} "{obj["metadata"]["name"]}"'
    was = known.get("reason", "") if known.get("message", "").startswith(subject) else ""
    moved = _moved(rollout, counts)
    complete = all(counts[name] == rollout.replicas for name in ("replicas", "updatedReplicas", "availableReplicas"))
    settled = was == "NewReplicaSetAvailable" and counts["replicas"] == counts["updatedReplicas"]
    if rollout.new and (complete or settled):
        reason, status, said = "NewReplicaSetAvailable", "True", "has successfully progressed."
    elif not moved and (was == "ProgressDeadlineExceeded" or (was == "ReplicaSetUpdated" and _is_late(cache, rollout))):
        reason, status, said = "ProgressDeadlineExceeded", "False", "has timed out progressing."
    else:
        reason, status, said = "ReplicaSetUpdated", "True", "is progressing."
    unchanged = was == reason and not moved
    since = known["lastUpdateTime"] if unchanged else timestamp(cache.now())
    fresh = {"type": "Progressing", "status": status, "reason": reason, "message": f"{subject} {said}"}
    return {**fresh, "lastUpdateTime": since}


def _is_late(cache: Cache, rollout: Rollout) -> bool:
    since = condition(rollout.deployment, "Progressing")["lastUpdateTime"]
    return cache.seconds_since(since) >= _deadline_s(rollout.deployment)


def _moved(rollout: Rollout, counts: dict[str, int]) -> bool:
    """Whether the counts show progress against the status as it stands."""
    before = {name: (rollout.deployment.get("status") or {}).get(name, 0) for name in COUNTS}
    fewer_old = counts["replicas"] - counts["updatedReplicas"] < before["replicas"] - before["updatedReplicas"]
    grown = ("updatedReplicas", "readyReplicas", "availableReplicas")
    return fewer_old or any(counts[name] > before[name] for name in grown)


DEPLOYMENT = Controller(
    name="deployment",
    decide=decide,
    watches={
        DEPLOYMENTS: itself,
        REPLICA_SETS: lambda cache, replica_set: claimants(cache, DEPLOYMENTS, replica_set),
    },
)


def autoscale(cache: Cache, key: Key) -> Actions:
    """Bring an autoscaler's Deployment within its bounds; one that is scaled to 0 is left alone."""
    hpa = cache.get(HPAS, key)
    target = hpa and cache.get(DEPLOYMENTS, (key[0], hpa["spec"]["scaleTargetRef"]["name"]))
    if not hpa or not target:
        return []
    present = size(target)
    desired = min(max(present, hpa["spec"].get("minReplicas", 1)), hpa["spec"]["maxReplicas"]) if present else 0
    status = {"currentReplicas": present, "desiredReplicas": desired}
    told = patch_status(HPAS, hpa, difference(hpa.get("status") or {}, {**(hpa.get("status") or {}), **status}))
    if desired == present:
        return told
    return [Patch(resource=DEPLOYMENTS, of=target, patch={"spec": {"replicas": desired}}, subresource="scale"), *told]


def _of_target(cache: Cache, target: Object) -> list[Key]:
    hpas = cache.list(HPAS, target["metadata"]["namespace"])
    return [key_of(hpa) for hpa in hpas if hpa["spec"]["scaleTargetRef"]["name"] == target["metadata"]["name"]]


AUTOSCALER = Controller(name="autoscaler", decide=autoscale, watches={HPAS: itself, DEPLOYMENTS: _of_target})
