"""What a kubelet tells of a container, as events: from one view of it to the next. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from meshbook.lab.kubelet.status import ContainerView, Running, Waiting

PROBLEMS = {
    "ErrImagePull": "Failed",
    "ImagePullBackOff": "BackOff",
    "CrashLoopBackOff": "BackOff",
    "CreateContainerConfigError": "Failed",
}
"""Reason of a container that waits → reason of the event."""


@dataclass(frozen=True, kw_only=True)
class Telling:
    """One event of one container."""

    reason: str
    message: str
    container: str
    kind: str = "Normal"


def of_change(before: ContainerView, after: ContainerView) -> list[Telling]:
    """Return what is told when a container that was as in ``before`` is as in ``after``."""
    name, state = after.name, after.state
    if isinstance(state, Waiting) and state != before.state and state.reason in PROBLEMS:
        return [Telling(reason=PROBLEMS[state.reason], message=state.message, container=name, kind="Warning")]
    if not isinstance(state, Running):
        return []
    if before.ready and not after.ready:
        return [Telling(reason="Unhealthy", message="Readiness probe failed", container=name, kind="Warning")]
    if isinstance(before.state, Running):
        return []
    present = f'Container image "{after.image}" already present on machine'
    steps = {"Pulled": present, "Created": f"Created container: {name}", "Started": f"Started container {name}"}
    return [Telling(reason=reason, message=message, container=name) for reason, message in steps.items()]


def of_mount(why: str) -> Telling:
    """Return what is told when a pod cannot start, since it has got no token."""
    return Telling(reason="FailedMount", message=f"MountVolume.SetUp failed: {why}", container="", kind="Warning")


def of_stopping(view: ContainerView) -> list[Telling]:
    """Return what is told when a container is asked to end."""
    if not isinstance(view.state, Running):
        return []
    return [Telling(reason="Killing", message=f"Stopping container {view.name}", container=view.name)]
