"""Bounded waits: look again until a condition holds, and at the deadline say what was seen last and why it may be so.

What the waits are for is in ``cluster``; nothing is changed here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

from meshbook.clusters.api import Api
from meshbook.clusters.records import DeploymentState, Object
from meshbook.clusters.together import pause
from meshbook.errors import ClusterError, WaitTimeout

T = TypeVar("T")

_OVER = {"Succeeded", "Failed"}
_STOPPED = {"Completed", "ContainerCreating", "PodInitializing", ""}


ABSENT_S = 10.0
"""Seconds after which nobody waits for a Deployment that is not there: it does not come by itself."""


def until(api: Api, what: str, look: Callable[[], tuple[T | None, str]], timeout_s: float, hint: str = "") -> T:
    """Look until ``look`` returns something other than None beside its word on what it saw; WaitTimeout otherwise.

    An API server that is away for a moment does not end the wait, a refusal (4xx) does.
    """
    deadline, wait_s = time.monotonic() + timeout_s, api.patience.poll_s
    while True:
        try:
            found, seen = look()
        except ClusterError as error:
            if 400 <= error.code < 500 and error.code != 429:
                raise
            found, seen = None, str(error)
        if found is not None:
            return found
        left = deadline - time.monotonic()
        if left <= 0:
            raise WaitTimeout(f"{api.name}: {what} not within {round(timeout_s, 3):g} s", saw=seen, hint=hint)
        pause(min(wait_s, left))
        wait_s = min(1.5 * wait_s, api.patience.slowest_poll_s)


def for_object(
    api: Api, kind: str, name: str, namespace: str, holds: Callable[[Object], bool], timeout_s: float
) -> Object:
    """Wait until the object is there and ``holds`` of it; return it."""

    def look() -> tuple[Object | None, str]:
        found = api.find(kind, name, namespace)
        if found is None:
            return None, "it does not exist"
        return (found if holds(found) else None), state_of(found)

    where = f" in {namespace}" if namespace else ""
    return until(api, f"{kind.rpartition('/')[2]} {name}{where} is not as waited for,", look, timeout_s)


def for_kinds(api: Api, kinds: Iterable[str], timeout_s: float) -> None:
    """Wait until the cluster serves all ``kinds``."""

    def look() -> tuple[bool | None, str]:
        try:
            return bool([api.resource(kind) for kind in kinds]), ""
        except ClusterError as error:
            if error.code != 404:
                raise
            return None, error.message

    until(api, f"{', '.join(kinds)} served", look, timeout_s)


def gone(api: Api, kind: str, name: str, namespace: str, uid: str, timeout_s: float) -> None:
    """Wait until the object with this ``uid`` is gone; a new one of the same name counts as gone."""

    def look() -> tuple[bool | None, str]:
        found = api.find(kind, name, namespace)
        if found is None or found["metadata"].get("uid") != uid:
            return True, ""
        finalizers = found["metadata"].get("finalizers") or (found.get("spec") or {}).get("finalizers") or []
        held = f", held by {', '.join(finalizers)}" if finalizers else ""
        return None, state_of(found) + held

    where = f" in {namespace}" if namespace else ""
    until(api, f"{kind.rpartition('/')[2]} {name}{where} gone", look, timeout_s)


def rollout(api: Api, namespace: str, names: Collection[str], timeout_s: float) -> list[DeploymentState]:
    """Wait until the Deployments (all, or those in ``names``) are rolled out; return their states."""
    missing_hint = "apply the manifests first (stages 1 and 2 of the runbook do), and check the namespace's name"
    started = time.monotonic()

    def look() -> tuple[list[DeploymentState] | None, str]:
        deployments = [found for found in api.list("Deployment", namespace) if _wanted(found, names)]
        states = [DeploymentState.of(api.name, found) for found in deployments]
        absent = set(names) - {state.name for state in states}
        if absent or not states:
            seen = f"no Deployment {', '.join(sorted(absent))}".rstrip()
            if time.monotonic() - started > ABSENT_S:
                raise WaitTimeout(f"{api.name}: rollout in {namespace} not begun within {ABSENT_S:g} s", saw=seen)
            return None, seen
        unsettled = [found for found, state in zip(deployments, states, strict=True) if not state.settled]
        if not unsettled:
            return states, ""
        return None, "; ".join(str(state) for state in states if not state.settled)

    try:
        return until(api, f"rollout in {namespace}", look, timeout_s)
    except WaitTimeout as error:
        blamed = "\n    ".join(_obstacles(api, namespace, names))
        hint = "" if blamed else missing_hint
        raise WaitTimeout(error.message, **error.evidence, pods=blamed, hint=hint) from error


def _wanted(found: Object, names: Collection[str]) -> bool:
    return not names or found["metadata"]["name"] in names


def _obstacles(api: Api, namespace: str, names: Collection[str]) -> Iterable[str]:
    """Yield what stands in the way of unsettled Deployments: refused replicas, and the states of their pods."""
    for found in api.list("Deployment", namespace):
        if not _wanted(found, names) or DeploymentState.of(api.name, found).settled:
            continue
        for condition in (found.get("status") or {}).get("conditions") or []:
            if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
                yield f"{found['metadata']['name']}: {condition.get('message', '')}"
        yield from map(describe_pod, api.list("Pod", namespace, labels=selector_of(found)))


def selector_of(deployment: Object) -> str:
    """Return a Deployment's own pods as a label selector."""
    selector = deployment["spec"]["selector"]
    equal = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    return ",".join([*equal, *map(_requirement, selector.get("matchExpressions") or [])])


def _requirement(expression: Object) -> str:
    key, operator = expression["key"], expression["operator"]
    if operator in ("Exists", "DoesNotExist"):
        return f"!{key}" if operator == "DoesNotExist" else str(key)
    return f"{key} {operator.lower()} ({','.join(expression['values'])})"


def is_staying(pod: Object) -> bool:
    """Tell whether a pod is to stay: not on its way out, and not at the end of its work."""
    return not pod["metadata"].get("deletionTimestamp") and (pod.get("status") or {}).get("phase") not in _OVER


def is_ready(pod: Object) -> bool:
    """Tell whether a pod is ready and not on its way out."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


def describe_pod(pod: Object) -> str:
    """Return a pod's phase and what its containers wait for, in one line."""
    status = pod.get("status") or {}
    phase = "Terminating" if pod["metadata"].get("deletionTimestamp") else status.get("phase", "no phase")
    parts = [f"pod {pod['metadata']['name']} {phase}"]
    for container in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
        state = container.get("state") or {}
        detail = state.get("waiting") or state.get("terminated") or {}
        if detail.get("reason", "") not in _STOPPED:
            parts.append(f"container {container['name']} {detail['reason']}: {detail.get('message', '')}".rstrip(": "))
        elif "running" in state and not container.get("ready"):
            parts.append(f"container {container['name']} runs but is not ready")
    failed = [found for found in status.get("conditions") or [] if found["status"] == "False" and found.get("message")]
    parts += [f"{found['type']}: {found['message']}" for found in failed if found["type"] == "PodScheduled"]
    return ", ".join(parts)


def state_of(found: Object) -> str:
    """Return the telling part of an object's status, in one line."""
    status = found.get("status") or {}
    conditions = status.get("conditions") or []
    parts = ["being deleted"] if found["metadata"].get("deletionTimestamp") else []
    parts += [f"phase {status['phase']}"] if "phase" in status else []
    parts += [f"{c['type']}={c['status']} {c.get('message', '')}".strip() for c in conditions]
    return "; ".join(parts) or f"status {status}"
