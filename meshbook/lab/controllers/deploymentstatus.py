"""What a Deployment's status says: the counts, and the conditions Available, Progressing and ReplicaFailure."""

from __future__ import annotations

from datetime import datetime

from meshbook.lab.controllers.objects import Object, condition, seconds_since, timestamp, with_condition
from meshbook.lab.controllers.rollout import Rollout, count, size
from meshbook.lab.controllers.world import Actions, Again

COUNTS = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas")


def status_of(rollout: Rollout, now: datetime) -> tuple[Object, Actions]:
    """Return the whole status, and when to look again because a deadline may have passed."""
    deployment = rollout.deployment
    before = deployment.get("status") or {}
    counts = _counts(rollout)
    progressing = _progressing(rollout, counts, now)
    conditions = [found for found in before.get("conditions") or [] if found["type"] != "ReplicaFailure"]
    for fresh in [_available(rollout, counts), progressing, *_failures(rollout)]:
        known = condition(deployment, fresh["type"])
        told = {"lastUpdateTime": fresh.get("lastUpdateTime") or known.get("lastUpdateTime") or timestamp(now)}
        conditions = with_condition(conditions, {**fresh, **told}, now)
    status: Object = {
        "observedGeneration": deployment["metadata"].get("generation", 1),
        **{name: number for name, number in counts.items() if number},
        "conditions": sorted(conditions, key=lambda found: found["type"] != "Available"),
    }
    if "collisionCount" in before:
        status["collisionCount"] = before["collisionCount"]
    return status, _deadline(rollout, progressing, now)


def _counts(rollout: Rollout) -> dict[str, int]:
    available = rollout.total("availableReplicas")
    return {
        "replicas": rollout.total("replicas"),
        "updatedReplicas": count(rollout.new, "replicas"),
        "readyReplicas": rollout.total("readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, sum(size(found) for found in rollout.sets) - available),
    }


def _available(rollout: Rollout, counts: dict[str, int]) -> Object:
    if counts["availableReplicas"] >= rollout.replicas - rollout.max_unavailable:
        message = "Deployment has minimum availability."
        return {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable", "message": message}
    message = "Deployment does not have minimum availability."
    return {"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable", "message": message}


def _failures(rollout: Rollout) -> list[Object]:
    told = [condition(found, "ReplicaFailure") for found in rollout.sets]
    fields = ("type", "status", "reason", "message")
    return [{name: failure[name] for name in fields} for failure in told if failure][-1:]


def _progressing(rollout: Rollout, counts: dict[str, int], now: datetime) -> Object:
    known = condition(rollout.deployment, "Progressing")
    reason, status = _progress(rollout, counts, known, now)
    set_name = rollout.new["metadata"]["name"] if rollout.new else ""
    subject = f'ReplicaSet "{set_name}"' if set_name else f'Deployment "{rollout.deployment["metadata"]["name"]}"'
    messages = {
        "DeploymentPaused": "Deployment is paused",
        "DeploymentResumed": "Deployment is resumed",
        "NewReplicaSetAvailable": f"{subject} has successfully progressed.",
        "ProgressDeadlineExceeded": f"{subject} has timed out progressing.",
    }
    fresh: Object = {"type": "Progressing", "status": status, "reason": reason}
    fresh["message"] = messages.get(reason, f"{subject} is progressing.")
    unchanged = all(known.get(name) == fresh[name] for name in fresh) and not _moved(rollout, counts)
    fresh["lastUpdateTime"] = known["lastUpdateTime"] if unchanged else timestamp(now)
    return fresh


def _progress(rollout: Rollout, counts: dict[str, int], known: Object, now: datetime) -> tuple[str, str]:
    """Return reason and status of Progressing."""
    was = known.get("reason", "")
    if rollout.paused:
        return "DeploymentPaused", "Unknown"
    if was == "DeploymentPaused":
        return "DeploymentResumed", "Unknown"
    if _complete(rollout, counts):
        return "NewReplicaSetAvailable", "True"
    only_new = rollout.new is not None and counts["replicas"] == counts["updatedReplicas"]
    if was == "NewReplicaSetAvailable" and only_new and _names_new(rollout, known):
        return was, "True"
    limit_s = rollout.deployment["spec"].get("progressDeadlineSeconds", 600)
    late = bool(known) and seconds_since(known["lastUpdateTime"], now) >= limit_s
    if not _moved(rollout, counts) and (was == "ProgressDeadlineExceeded" or late) and was != "NewReplicaSetAvailable":
        return "ProgressDeadlineExceeded", "False"
    return "ReplicaSetUpdated", "True"


def _names_new(rollout: Rollout, known: Object) -> bool:
    """Whether the condition tells of the present ReplicaSet, not of the one before it."""
    return rollout.new is not None and f'"{rollout.new["metadata"]["name"]}"' in known.get("message", "")


def _complete(rollout: Rollout, counts: dict[str, int]) -> bool:
    if rollout.new is None:
        return False
    return all(counts[name] == rollout.replicas for name in ("replicas", "updatedReplicas", "availableReplicas"))


def _moved(rollout: Rollout, counts: dict[str, int]) -> bool:
    """Whether the counts show progress against the status as it stands."""
    before = rollout.deployment.get("status") or {}
    old = {name: before.get(name, 0) for name in COUNTS}
    fewer_old = counts["replicas"] - counts["updatedReplicas"] < old["replicas"] - old["updatedReplicas"]
    return fewer_old or any(
        counts[name] > old[name] for name in ("updatedReplicas", "readyReplicas", "availableReplicas")
    )


def _deadline(rollout: Rollout, progressing: Object, now: datetime) -> Actions:
    if progressing["reason"] not in ("ReplicaSetUpdated", "DeploymentResumed"):
        return []
    limit_s = rollout.deployment["spec"].get("progressDeadlineSeconds", 600)
    return [Again(after_s=max(1.0, limit_s - seconds_since(progressing["lastUpdateTime"], now)))]
