from __future__ import annotations

from typing import Any

import pytest

from meshbook.lab.kubelet.status import (
    CREATING,
    ContainerView,
    PodView,
    Running,
    State,
    Terminated,
    Waiting,
    phase,
    pod_status,
)

NOW, LATER = "2024-01-01T00:00:00Z", "2024-01-01T00:00:09Z"
RUNNING = Running(started_at=NOW)
WAITING = Waiting(reason="ImagePullBackOff", message="no such image")
DONE = Terminated(exit_code=0, started_at=NOW, finished_at=LATER)
FAILED = Terminated(exit_code=1, reason="Error", started_at=NOW, finished_at=LATER)


def view(*states: State, init: tuple[State, ...] = (), ready: bool = True) -> PodView:
    def containers(some: tuple[State, ...]) -> tuple[ContainerView, ...]:
        return tuple(
            ContainerView(name=f"c{n}", image="i", state=state, ready=ready and state is RUNNING)
            for n, state in enumerate(some)
        )

    return PodView(
        pod_ip="127.64.11.1",
        host_ip="127.64.10.2",
        started_at=NOW,
        init=containers(init),
        containers=containers(states),
    )


def conditions(status: dict[str, Any]) -> dict[str, str]:
    return {item["type"]: item["status"] for item in status["conditions"]}


@pytest.mark.parametrize(
    ("policy", "pod", "expected"),
    [
        ("Always", view(CREATING), "Pending"),
        ("Always", view(RUNNING, WAITING), "Pending"),
        ("Always", view(RUNNING, RUNNING), "Running"),
        ("Always", view(DONE), "Running"),
        ("OnFailure", view(FAILED), "Running"),
        ("OnFailure", view(DONE), "Succeeded"),
        ("Never", view(DONE, RUNNING), "Running"),
        ("Never", view(DONE, DONE), "Succeeded"),
        ("Never", view(DONE, FAILED), "Failed"),
        ("Never", view(CREATING, init=(FAILED,)), "Failed"),
        ("Always", view(CREATING, init=(FAILED,)), "Pending"),
        ("Always", view(RUNNING, init=(DONE,)), "Running"),
    ],
)
def test_the_phase_follows_from_the_containers(policy: str, pod: PodView, expected: str) -> None:
    assert phase(policy, pod) == expected


def test_a_pod_is_ready_when_all_its_containers_are(specs: Any) -> None:
    pod = specs.pod()
    assert conditions(pod_status(pod, view(RUNNING), {}, NOW)) == {
        "PodScheduled": "True",
        "Initialized": "True",
        "ContainersReady": "True",
        "Ready": "True",
    }
    half = conditions(pod_status(pod, view(RUNNING, WAITING), {}, NOW))
    assert (half["ContainersReady"], half["Ready"]) == ("False", "False")


def test_a_terminating_pod_is_not_ready_though_its_containers_are(specs: Any) -> None:
    status = conditions(pod_status(specs.terminating(specs.pod()), view(RUNNING), {}, NOW))
    assert (status["ContainersReady"], status["Ready"]) == ("True", "False")


def test_transition_times_change_with_the_status_only(specs: Any) -> None:
    first = pod_status(specs.pod(), view(RUNNING, ready=False), {}, NOW)
    second = pod_status(specs.pod(), view(RUNNING), first, LATER)
    times = {item["type"]: item["lastTransitionTime"] for item in second["conditions"]}
    assert times == {"PodScheduled": NOW, "Initialized": NOW, "ContainersReady": LATER, "Ready": LATER}
    assert pod_status(specs.pod(), view(RUNNING), second, "2024-01-02T00:00:00Z") == second


def test_conditions_of_others_are_left_alone(specs: Any) -> None:
    foreign = {"type": "example.com/gate", "status": "True"}
    pod = specs.pod() | {"status": {"conditions": [foreign, {"type": "Ready", "status": "False"}]}}
    found = pod_status(pod, view(RUNNING), {}, NOW)["conditions"]
    assert foreign in found
    assert len([item for item in found if item["type"] == "Ready"]) == 1


def test_states_have_the_form_of_the_api(specs: Any) -> None:
    killed = Terminated(exit_code=137, signal=9, reason="Error", started_at=NOW, finished_at=LATER)
    states = [
        item["state"] for item in pod_status(specs.pod(), view(WAITING, RUNNING, killed), {}, NOW)["containerStatuses"]
    ]
    assert states[0] == {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    assert states[1] == {"running": {"startedAt": NOW}}
    assert states[2]["terminated"]["exitCode"] == 137
    assert states[2]["terminated"]["signal"] == 9
