"""Job → Pods, one after the other until one succeeds, too many have failed, or the time is over.

Jobs of one pod at a time only; the API server refuses others. How a Job ends is shown in two steps, as on a real
cluster: what it will be (``SuccessCriteriaMet``, ``FailureTarget``), and, once no pod of it is left, what it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from meshbook.lab.client import JOBS, PODS, ApiError
from meshbook.lab.controllers.loop import Controller
from meshbook.lab.controllers.objects import (
    Key,
    Object,
    condition,
    controller_of,
    difference,
    is_active,
    is_controlled_by,
    is_deleting,
    is_finished,
    is_ready,
    key_of,
    seconds_since,
    timestamp,
    with_condition,
)
from meshbook.lab.controllers.replicasets import new_pod
from meshbook.lab.controllers.world import Actions, Again, Create, Delete, World, emit, patch_status
from meshbook.lab.events import event

COMPONENT = "job-controller"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
"""Pause after the first pod that failed; it doubles with each further one."""
SOON_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a Job is going to end: the condition that says so, and the one when it has."""

    early: str
    final: str
    reason: str
    message: str


COMPLETE = Verdict(
    early="SuccessCriteriaMet",
    final="Complete",
    reason="CompletionsReached",
    message="Reached expected number of succeeded pods",
)
TOO_MANY_FAILED = Verdict(
    early="FailureTarget",
    final="Failed",
    reason="BackoffLimitExceeded",
    message="Job has reached the specified backoff limit",
)
TOO_LATE = Verdict(
    early="FailureTarget",
    final="Failed",
    reason="DeadlineExceeded",
    message="Job was active longer than specified deadline",
)


class Tally:
    """The pods of one Job."""

    def __init__(self, job: Object, pods: list[Object]) -> None:
        before = job.get("status") or {}
        self.active = [pod for pod in pods if is_active(pod)]
        self.terminating = [pod for pod in pods if is_deleting(pod) and not is_finished(pod)]
        self.succeeded = sum(pod["status"].get("phase") == "Succeeded" for pod in pods if is_finished(pod))
        self.failures = [pod for pod in pods if is_finished(pod) and pod["status"]["phase"] == "Failed"]
        self.failed = max(len(self.failures), before.get("failed", 0))
        """Those that somebody has deleted count on."""

    @property
    def is_quiet(self) -> bool:
        return not self.active and not self.terminating

    @property
    def restarts(self) -> int:
        statuses = [one for pod in self.active for one in (pod.get("status") or {}).get("containerStatuses") or ()]
        return sum(one.get("restartCount", 0) for one in statuses)


def decide(world: World, key: Key) -> Actions:
    """Make the next pod, or end the Job; say in its status how it stands."""
    job, now = world.get(JOBS, key), world.now()
    if job is None or is_deleting(job):
        return []
    if ended := _end_of(job):
        return _expire(job, ended, now)
    tally = Tally(job, [pod for pod in world.list(PODS, key[0]) if is_controlled_by(pod, job)])
    verdict = _verdict(job, tally, now)
    if verdict is None:
        return [*_status(job, tally, now), *_next_pod(job, tally, now), *_until_deadline(job, now)]
    if not tally.is_quiet:
        return [*_status(job, tally, now, verdict), *[Delete(resource=PODS, of=pod) for pod in tally.active]]
    return [*_status(job, tally, now, verdict), _told(job, verdict)]


def _end_of(job: Object) -> Object:
    """Return the condition that says that the Job is over, or an empty dict."""
    ends = (condition(job, name) for name in ("Complete", "Failed"))
    return next((found for found in ends if found.get("status") == "True"), {})


def _expire(job: Object, ended: Object, now: datetime) -> Actions:
    """Delete a Job that is over when it has been there long enough."""
    kept_s = job["spec"].get("ttlSecondsAfterFinished")
    if kept_s is None:
        return []
    left_s = kept_s - seconds_since(ended["lastTransitionTime"], now)
    return [Again(after_s=left_s)] if left_s > 0 else [Delete(resource=JOBS, of=job, propagation="Background")]


def _verdict(job: Object, tally: Tally, now: datetime) -> Verdict | None:
    spec, early = job["spec"], condition(job, "FailureTarget")
    if early:
        return TOO_LATE if early["reason"] == TOO_LATE.reason else TOO_MANY_FAILED
    if tally.succeeded >= spec["completions"]:
        return COMPLETE
    limit = spec["backoffLimit"]
    if tally.failed > limit or tally.restarts >= max(limit, 1):
        return TOO_MANY_FAILED
    left_s = _left_s(job, now)
    return TOO_LATE if left_s is not None and left_s <= 0 else None


def _left_s(job: Object, now: datetime) -> float | None:
    """Return the seconds until a Job's deadline; None when it has none."""
    deadline_s = job["spec"].get("activeDeadlineSeconds")
    if deadline_s is None:
        return None
    started = (job.get("status") or {}).get("startTime")
    return float(deadline_s - (seconds_since(started, now) if started else 0.0))


def _until_deadline(job: Object, now: datetime) -> Actions:
    left_s = _left_s(job, now)
    return [] if left_s is None else [Again(after_s=max(SOON_S, left_s))]


def _next_pod(job: Object, tally: Tally, now: datetime) -> Actions:
    if tally.active:
        return []
    pause_s = min(FIRST_PAUSE_S * 2.0 ** (tally.failed - 1), LONGEST_PAUSE_S) if tally.failed else 0.0
    ends = [_finished_at(pod) for pod in tally.failures]
    wait_s = pause_s - seconds_since(max(ends), now) if ends else 0.0
    if wait_s > 0:
        return [Again(after_s=wait_s)]
    told = event(job, reason="SuccessfulCreate", message="Created pod: {name}", component=COMPONENT)
    return [Create(resource=PODS, obj=new_pod(job), told=told)]


def _finished_at(pod: Object) -> str:
    states = [one.get("state", {}).get("terminated", {}) for one in pod["status"].get("containerStatuses") or ()]
    ends: list[str] = [state["finishedAt"] for state in states if state.get("finishedAt")]
    return max(ends, default=pod["metadata"]["creationTimestamp"])


def _status(job: Object, tally: Tally, now: datetime, verdict: Verdict | None = None) -> Actions:
    before = job.get("status") or {}
    counts = {"active": len(tally.active), "succeeded": tally.succeeded, "failed": tally.failed}
    status: Object = {
        "startTime": before.get("startTime") or timestamp(now),
        "ready": sum(map(is_ready, tally.active)),
        "terminating": len(tally.terminating),
        **{name: count for name, count in counts.items() if count},
    }
    if conditions := _conditions(before, verdict, now, over=tally.is_quiet):
        status["conditions"] = conditions
    if verdict is COMPLETE and tally.is_quiet:
        status["completionTime"] = timestamp(now)
    return patch_status(JOBS, job, difference(before, status))


def _conditions(before: Object, verdict: Verdict | None, now: datetime, *, over: bool) -> list[Object]:
    conditions: list[Object] = before.get("conditions") or []
    if verdict is None:
        return conditions
    for name in (verdict.early, *([verdict.final] if over else [])):
        fresh = {"type": name, "status": "True", "reason": verdict.reason, "message": verdict.message}
        conditions = with_condition(conditions, fresh, now)
    return conditions


def _told(job: Object, verdict: Verdict) -> Create:
    if verdict is COMPLETE:
        return emit(job, reason="Completed", message="Job completed", component=COMPONENT)
    return emit(job, reason=verdict.reason, message=verdict.message, component=COMPONENT, kind="Warning")


def refused(world: World, key: Key, error: ApiError) -> Actions:
    """Tell that a pod cannot be created."""
    job = world.get(JOBS, key)
    if job is None:
        return []
    message = f"Error creating: {error.message}"
    return [emit(job, reason="FailedCreate", message=message, component=COMPONENT, kind="Warning")]


def _of_pod(_: World, pod: Object) -> list[Key]:
    owner = controller_of(pod)
    return [(pod["metadata"]["namespace"], owner["name"])] if owner and owner["kind"] == "Job" else []


CONTROLLER = Controller(
    name="job",
    decide=decide,
    concerns={JOBS: lambda _, job: [key_of(job)], PODS: _of_pod},
    on_refusal=refused,
)
