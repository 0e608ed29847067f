"""From what containers do to what kubectl shows: a pod's ``status``, and the events between two states. Pure.

A container is told of as the API writes it, by its ``ContainerStatus``; one is never changed, but replaced by the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meshbook.objects import Object, is_deleting, timestamp

PROBLEMS = {
    "ErrImagePull": "Failed",
    "ImagePullBackOff": "BackOff",
    "CrashLoopBackOff": "BackOff",
    "CreateContainerConfigError": "Failed",
}
"""Reason of a container that waits → reason of the event."""


def waiting(reason: str, message: str = "") -> Object:
    return {"waiting": {"reason": reason} | ({"message": message} if message else {})}


def terminated(begun: Object, returncode: int, reason: str = "", message: str = "") -> Object:
    """Return the state of a container (its status while it ran: ``begun``) whose process ended with ``returncode``."""
    code, signal = exit_status(returncode)
    running = begun["state"].get("running", {})
    state = {"exitCode": code, "reason": reason or ("Error" if code else "Completed")}
    state |= {"startedAt": running.get("startedAt") or timestamp(), "finishedAt": timestamp()}
    state |= {"containerID": begun["containerID"]}
    return {"terminated": state | ({"signal": signal} if signal else {}) | ({"message": message} if message else {})}


def exit_status(returncode: int) -> tuple[int, int]:
    """Return (exit code, signal) as a container runtime reports them: death by signal n is exit code 128 + n."""
    return (128 - returncode, -returncode) if returncode < 0 else (returncode, 0)


def created(container: Object) -> Object:
    """Return the status of a container that has not run yet."""
    status = {"name": container["name"], "image": container["image"], "imageID": "", "containerID": ""}
    counts = {"ready": False, "started": False, "restartCount": 0}
    return status | counts | {"state": waiting("ContainerCreating"), "lastState": {}}


def exit_code(container: Object) -> int | None:
    """Return how a container ended; None while it has not."""
    code: int | None = container["state"].get("terminated", {}).get("exitCode")
    return code


def pod_status(
    pod: Object, init: Sequence[Object], containers: Sequence[Object], previous: Mapping[str, Any], now: str
) -> Object:
    """Return phase, conditions and containers of ``pod``, whose containers' statuses are ``init`` and ``containers``.

    Conditions that are as in ``previous`` keep their transition times.
    """
    lasting = {one["name"] for one in pod["spec"].get("initContainers") or () if one.get("restartPolicy") == "Always"}
    sidecars = [one for one in init if one["name"] in lasting]
    begun = any(one["containerID"] for one in containers)
    initialized = begun or all(one["started"] if one in sidecars else exit_code(one) == 0 for one in init)
    if init and not begun:
        containers = [one | {"state": waiting("PodInitializing")} for one in containers]
    policy = pod["spec"].get("restartPolicy", "Always")
    if policy == "Never" and any(exit_code(one) for one in init if one not in sidecars):
        phase = "Failed"
    elif not initialized or any("waiting" in one["state"] and not one["lastState"] for one in containers):
        phase = "Pending"
    else:
        phase = _phase(policy, [exit_code(one) for one in containers])
    problem: Object = {}
    if unready := [one["name"] for one in (*sidecars, *containers) if not one["ready"]]:
        problem = {"reason": "ContainersNotReady", "message": f"containers with unready status: [{' '.join(unready)}]"}
    if phase in ("Succeeded", "Failed"):
        problem = {"reason": "PodCompleted" if phase == "Succeeded" else "PodFailed"}
    leaving: Object = {"reason": "PodTerminating", "message": "the pod is being deleted"} if is_deleting(pod) else {}
    problems: dict[str, Object] = {
        "PodScheduled": {},
        "Initialized": {} if initialized else {"reason": "ContainersNotInitialized"},
        "ContainersReady": problem,
        "Ready": leaving or problem,
    }
    status = {"phase": phase, "conditions": _conditions(pod, problems, previous, now)}
    status |= {"containerStatuses": list(containers)}
    return status | ({"initContainerStatuses": list(init)} if init else {})


def _phase(policy: str, codes: Sequence[int | None]) -> str:
    """Return the phase of a pod whose containers have all been started; ``codes`` are None of those that run."""
    if policy == "Always" or None in codes or (policy == "OnFailure" and any(codes)):
        return "Running"
    return "Failed" if any(codes) else "Succeeded"


def _conditions(pod: Object, problems: Mapping[str, Object], previous: Mapping[str, Any], now: str) -> list[Object]:
    """Return the conditions: those of others as they are, and ours, which hold where there is no problem."""
    conditions = [one for one in pod.get("status", {}).get("conditions", []) if one["type"] not in problems]
    known = {one["type"]: one for one in previous.get("conditions", [])}
    for kind, problem in problems.items():
        status, before = "False" if problem else "True", known.get(kind, {})
        since = before.get("lastTransitionTime", now) if before.get("status") == status else now
        conditions.append({"type": kind, "status": status, **problem, "lastTransitionTime": since})
    return conditions


@dataclass(frozen=True, kw_only=True)
class PodEvent:
    """One event of a pod or of one of its containers."""

    reason: str
    message: str
    container: str = ""
    kind: str = "Normal"


def events(before: Object, after: Object) -> Iterator[PodEvent]:
    """Yield what happened to a container, from one status of it to the next."""
    name, state = after["name"], after["state"]
    reason = state.get("waiting", {}).get("reason", "")
    if reason in PROBLEMS and state != before["state"]:
        message = state["waiting"].get("message", "")
        yield PodEvent(reason=PROBLEMS[reason], message=message, container=name, kind="Warning")
    if "running" in state and before["ready"] and not after["ready"]:
        yield PodEvent(reason="Unhealthy", message="Readiness probe failed", container=name, kind="Warning")
    if "running" in state and "running" not in before["state"]:
        present = f'Container image "{after["image"]}" already present on machine'
        steps = {"Pulled": present, "Created": f"Created container: {name}", "Started": f"Started container {name}"}
        for reason, message in steps.items():
            yield PodEvent(reason=reason, message=message, container=name)
