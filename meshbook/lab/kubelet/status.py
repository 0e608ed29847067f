"""From what containers do to what ``kubectl get pod`` shows. Pure: states in, a pod's ``status`` out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from meshbook.lab.kubelet.lifecycle import is_terminating

Object = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Waiting:
    reason: str
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Running:
    started_at: str


@dataclass(frozen=True, kw_only=True)
class Terminated:
    exit_code: int
    signal: int = 0
    reason: str = "Completed"
    message: str = ""
    started_at: str
    finished_at: str
    container_id: str = ""


State = Waiting | Running | Terminated

CREATING = Waiting(reason="ContainerCreating")
INITIALIZING = Waiting(reason="PodInitializing")


@dataclass(frozen=True, kw_only=True)
class ContainerView:
    """One container at one moment."""

    name: str
    image: str
    state: State = CREATING
    last: Terminated | None = None
    restarts: int = 0
    ready: bool = False
    started: bool = False
    container_id: str = ""
    """Of the present or last run; empty before the first."""


@dataclass(frozen=True, kw_only=True)
class PodView:
    """One pod at one moment, as its kubelet sees it."""

    pod_ip: str
    host_ip: str
    started_at: str
    init: Sequence[ContainerView] = ()
    containers: Sequence[ContainerView] = ()


def timestamp(moment: datetime | None = None) -> str:
    """Return a moment (default: now) as the API writes it."""
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod_status(pod: Mapping[str, Any], view: PodView, previous: Mapping[str, Any], now: str) -> Object:
    """Return the whole status of ``pod``; conditions that are as in ``previous`` keep their transition times."""
    status: Object = {
        "phase": phase(pod["spec"].get("restartPolicy", "Always"), view),
        "conditions": _conditions(pod, view, previous, now),
        "hostIP": view.host_ip,
        "podIP": view.pod_ip,
        "podIPs": [{"ip": view.pod_ip}],
        "startTime": view.started_at,
        "containerStatuses": [_container_status(container) for container in view.containers],
    }
    if view.init:
        status["initContainerStatuses"] = [_container_status(container) for container in view.init]
    return status


def phase(policy: str, view: PodView) -> str:
    """Return Pending, Running, Succeeded or Failed."""
    if any(_failed(container, policy) for container in view.init):
        return "Failed"
    if not initialized(view) or any(_never_ran(container) for container in view.containers):
        return "Pending"
    ended = [container.state for container in view.containers if isinstance(container.state, Terminated)]
    if policy == "Always" or len(ended) < len(view.containers):
        return "Running"
    failed = any(state.exit_code for state in ended)
    if failed and policy == "OnFailure":
        return "Running"
    return "Failed" if failed else "Succeeded"


def initialized(view: PodView) -> bool:
    """Say whether every init container has done its work."""
    return all(isinstance(item.state, Terminated) and item.state.exit_code == 0 for item in view.init)


def _failed(container: ContainerView, policy: str) -> bool:
    return policy == "Never" and isinstance(container.state, Terminated) and container.state.exit_code != 0


def _never_ran(container: ContainerView) -> bool:
    return isinstance(container.state, Waiting) and container.last is None


_ENDS = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}
"""Why a pod that has run to its end is not ready."""


def _conditions(pod: Mapping[str, Any], view: PodView, previous: Mapping[str, Any], now: str) -> list[Object]:
    unready = [container.name for container in view.containers if not container.ready]
    problem: Object = {}
    if reason := _ENDS.get(phase(pod["spec"].get("restartPolicy", "Always"), view)):
        problem = {"reason": reason}
    elif unready:
        problem = {"reason": "ContainersNotReady", "message": f"containers with unready status: [{' '.join(unready)}]"}
    leaving: Object = {"reason": "PodTerminating", "message": "the pod is being deleted"} if is_terminating(pod) else {}
    blocked: Object = {} if initialized(view) else {"reason": "ContainersNotInitialized"}
    wanted = [
        _condition("PodScheduled", {}),
        _condition("Initialized", blocked),
        _condition("ContainersReady", problem),
        _condition("Ready", leaving or problem),
    ]
    own = {item["type"] for item in wanted}
    foreign = [item for item in pod.get("status", {}).get("conditions", []) if item["type"] not in own]
    known = {item["type"]: item for item in previous.get("conditions", [])}
    return [*foreign, *_with_times(wanted, known, now)]


def _condition(kind: str, problem: Object) -> Object:
    return {"type": kind, "status": "False" if problem else "True", **problem}


def _with_times(wanted: Iterable[Object], known: Mapping[str, Object], now: str) -> list[Object]:
    """Add ``lastTransitionTime``: the known one where the status is the same."""
    timed = []
    for condition in wanted:
        before = known.get(condition["type"], {})
        same = before.get("status") == condition["status"]
        timed.append({**condition, "lastTransitionTime": before.get("lastTransitionTime", now) if same else now})
    return timed


def _container_status(container: ContainerView) -> Object:
    return {
        "name": container.name,
        "image": container.image,
        "imageID": f"meshbook.lab/{container.image}" if container.container_id else "",
        "containerID": container.container_id,
        "ready": container.ready,
        "started": container.started,
        "restartCount": container.restarts,
        "state": _state(container.state),
        "lastState": _state(container.last),
    }


def _state(state: State | None) -> Object:
    match state:
        case Waiting():
            message = {"message": state.message} if state.message else {}
            return {"waiting": {"reason": state.reason, **message}}
        case Running():
            return {"running": {"startedAt": state.started_at}}
        case Terminated():
            return {"terminated": _terminated(state)}
        case None:
            return {}


def _terminated(state: Terminated) -> Object:
    extra = {"signal": state.signal, "message": state.message}
    fields: Object = {
        "exitCode": state.exit_code,
        "reason": state.reason,
        "startedAt": state.started_at,
        "finishedAt": state.finished_at,
        "containerID": state.container_id,
    }
    return fields | {name: value for name, value in extra.items() if value}
