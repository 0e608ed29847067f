"""Rollouts: how far a Deployment is, what its pods say, and whether waiting for it makes sense any longer.

The verbs that use it are in ``cluster``.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

from meshbook.clusters.api import Api
from meshbook.clusters.records import DeploymentState
from meshbook.errors import WaitTimeout
from meshbook.objects import Object, condition, describe_pod, is_ready, selector_text

_STUCK = {
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
}
"""What a container waits for where time alone does not mend it."""


def follow(
    api: Api, namespace: str, names: Collection[str], timeout_s: float, *, to_the_end: bool = False
) -> list[DeploymentState]:
    """Wait until Deployments (all, or those in ``names``) are rolled out, and return their states.

    Unless ``to_the_end``, it ends before ``timeout_s`` where pods of each that is not have been stuck for
    ``Patience.stuck_s``, or found no node for ``Patience.unscheduled_s``: a missing image does not come by itself.
    WaitTimeout where a Deployment is not there: it is waited for no longer than ``Patience.absent_s``.
    """
    rollout = _Rollout(api, namespace, names, to_the_end)
    try:
        return api.wait_until(f"rollout in {namespace}", rollout.look, timeout_s)
    except WaitTimeout as error:
        if rollout.states:
            return rollout.states
        hint = "apply the manifests first (stages 1 and 2 of the runbook do), and check the namespace's name"
        raise WaitTimeout(error.message, **error.evidence, hint=hint) from error


@dataclass
class _Rollout:
    """One wait: the states that were seen last, and since when pods are stuck."""

    api: Api
    namespace: str
    names: Collection[str]
    to_the_end: bool
    states: list[DeploymentState] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)
    _stuck: dict[str, float] = field(default_factory=dict)

    def look(self) -> tuple[list[DeploymentState] | None, str]:
        """Return the states once there is nothing more to wait for, and what was seen."""
        found = self.api.list("Deployment", self.namespace)
        found = [one for one in found if not self.names or one["metadata"]["name"] in self.names]
        absent = set(self.names) - {one["metadata"]["name"] for one in found}
        if absent or not found:
            return self._none(absent)
        states, hopeless = [], True
        for one in found:
            state = DeploymentState.of(self.api.name, one)
            if not state.settled:
                pods = self.api.list("Pod", self.namespace, labels=selector_text(one["spec"]["selector"]))
                state = replace(state, obstacle="; ".join(_obstacles(one, pods)))
                hopeless &= self._is_hopeless(one, pods)
            states.append(state)
        self.states = states
        unsettled = [str(state) for state in states if not state.settled]
        done = not unsettled or (hopeless and not self.to_the_end)
        return (states if done else None), "; ".join(unsettled)

    def _none(self, absent: Collection[str]) -> tuple[None, str]:
        seen, absent_s = f"no Deployment {', '.join(sorted(absent))}".rstrip(), self.api.connection.patience.absent_s
        self.states = []
        if time.monotonic() - self.started > absent_s:
            message = f"{self.api.name}: rollout in {self.namespace} not begun within {absent_s:g} s"
            raise WaitTimeout(message, saw=seen)
        return None, seen

    def _is_hopeless(self, deployment: Object, pods: Sequence[Object]) -> bool:
        """Tell whether one of its pods, or the making of them, is stuck for so long that it will stay so."""
        patience, now = self.api.connection.patience, time.monotonic()
        for pod in filter(is_ready, pods):
            self._stuck.pop(pod["metadata"]["name"], None)
        waits = [
            (now - self._stuck.setdefault(one["metadata"]["name"], now), limit_s)
            for one, is_stuck, limit_s in (
                (deployment, condition(deployment, "ReplicaFailure").get("status") == "True", patience.stuck_s),
                *((pod, _is_stuck(pod), patience.stuck_s) for pod in pods),
                *((pod, _has_no_node(pod), patience.unscheduled_s) for pod in pods),
            )
            if is_stuck
        ]
        return any(waited_s >= limit_s for waited_s, limit_s in waits)


def _is_stuck(pod: Object) -> bool:
    return any((one.get("state") or {}).get("waiting", {}).get("reason") in _STUCK for one in _containers(pod))


def _has_no_node(pod: Object) -> bool:
    return condition(pod, "PodScheduled").get("reason") == "Unschedulable"


def _containers(pod: Object) -> list[Object]:
    status = pod.get("status") or {}
    return (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or [])


def _obstacles(deployment: Object, pods: Sequence[Object]) -> Iterator[str]:
    """Yield what stands in the way of a Deployment: refused replicas, and the states of pods that are not ready."""
    refused = condition(deployment, "ReplicaFailure")
    if refused.get("status") == "True":
        yield f"{deployment['metadata']['name']}: {refused.get('message', '')}"
    yield from (describe_pod(pod) for pod in pods if not is_ready(pod))
