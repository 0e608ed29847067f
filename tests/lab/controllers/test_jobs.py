from __future__ import annotations

from typing import Any

import pytest

from meshbook.lab.client import EVENTS, JOBS, PODS
from meshbook.lab.controllers import jobs
from meshbook.lab.controllers.objects import condition
from meshbook.lab.controllers.world import Delete

Object = dict[str, Any]


class Work:
    """One Job on the playground; ``finish`` is what a kubelet says of its pod."""

    def __init__(self, play: Any) -> None:
        self.play = play

    def start(self, policy: str = "Never", **spec: Any) -> None:
        template = {"metadata": {"labels": {"job-name": "work"}}, "spec": {"restartPolicy": policy, "containers": []}}
        given = {"completions": 1, "backoffLimit": 6, "template": template, **spec}
        self.play.add(JOBS, {"metadata": {"name": "work"}, "spec": given})
        self.go_on()

    def go_on(self) -> None:
        self.play.play(jobs.CONTROLLER)

    def finish(self, phase: str) -> None:
        ended = {"terminated": {"finishedAt": self.play.time.strftime("%Y-%m-%dT%H:%M:%SZ")}}
        (pod,) = self.running
        status = {"phase": phase, "containerStatuses": [{"state": ended}]}
        self.play.patch(PODS, pod["metadata"]["name"], {"status": status})
        self.go_on()

    @property
    def running(self) -> list[Object]:
        return [pod for pod in self.play.pods() if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")]

    @property
    def job(self) -> Object:
        found: Object = self.play.world.get(JOBS, ("sample", "work"))
        return found

    @property
    def status(self) -> Object:
        found: Object = self.job["status"]
        return found

    @property
    def told(self) -> list[str]:
        return [one["reason"] for one in self.play.world.list(EVENTS)]


@pytest.fixture
def work(play: Any) -> Work:
    return Work(play)


def test_a_job_makes_one_pod_of_its_own(work: Work) -> None:
    work.start()
    (pod,) = work.running
    assert pod["metadata"]["generateName"] == "work-"
    assert pod["metadata"]["labels"] == {"job-name": "work"}
    (owner,) = pod["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Job", work.job["metadata"]["uid"], True)
    assert (work.status["active"], work.status["ready"]) == (1, 0)
    work.play.make_ready(pod)
    work.go_on()
    assert work.status["ready"] == 1


def test_a_job_whose_pod_succeeds_is_complete(work: Work) -> None:
    work.start()
    work.play.pass_s(5)
    work.finish("Succeeded")
    assert work.status["startTime"] < work.status["completionTime"]
    assert work.status["succeeded"] == 1
    assert "active" not in work.status
    for name in ("SuccessCriteriaMet", "Complete"):
        assert condition(work.job, name)["reason"] == "CompletionsReached"
    assert work.told == ["Completed"]


def test_a_pod_that_fails_is_followed_by_another_after_a_growing_pause(work: Work) -> None:
    work.start()
    for pause_s in (jobs.FIRST_PAUSE_S, 2 * jobs.FIRST_PAUSE_S):
        work.finish("Failed")
        assert work.running == []
        work.play.pass_s(pause_s - 0.1)
        work.go_on()
        assert work.running == []
        work.play.pass_s(0.1)
        work.go_on()
        assert len(work.running) == 1
    assert work.status["failed"] == 2


def test_failed_pods_count_after_they_were_deleted(work: Work) -> None:
    work.start(backoffLimit=1)
    work.finish("Failed")
    work.play.remove(PODS, work.play.pods()[0]["metadata"]["name"])
    work.play.pass_s(10)
    work.go_on()
    assert work.status["failed"] == 1


def test_more_failures_than_the_limit_are_the_end(work: Work) -> None:
    work.start(backoffLimit=0)
    work.finish("Failed")
    assert condition(work.job, "Failed")["reason"] == "BackoffLimitExceeded"
    assert "completionTime" not in work.status
    work.play.pass_s(100)
    work.go_on()
    assert work.running == []
    assert work.told == ["BackoffLimitExceeded"]


def test_restarts_count_as_failures_where_containers_are_restarted(work: Work) -> None:
    work.start("OnFailure", backoffLimit=2)
    (pod,) = work.running
    for restarts, verdict in ((1, {}), (2, {"reason": "BackoffLimitExceeded"})):
        status = {"phase": "Running", "containerStatuses": [{"restartCount": restarts, "state": {}}]}
        work.play.patch(PODS, pod["metadata"]["name"], {"status": status})
        work.go_on()
        assert verdict.items() <= condition(work.job, "Failed").items()
        assert bool(condition(work.job, "Failed")) == bool(verdict)
    assert work.running == []


def test_a_job_that_takes_too_long_fails_once_its_pod_is_gone(work: Work) -> None:
    work.start(activeDeadlineSeconds=60)
    (pod,) = work.running
    work.play.pass_s(60)
    actions = jobs.decide(work.play.world, ("sample", "work"))
    assert [action.of for action in actions if isinstance(action, Delete)] == [pod]
    marked = {"metadata": {"deletionTimestamp": "2026-01-01T00:01:00Z"}}
    work.play.apply([action for action in actions if not isinstance(action, Delete)])
    work.play.patch(PODS, pod["metadata"]["name"], marked)
    work.go_on()
    assert condition(work.job, "FailureTarget")["reason"] == "DeadlineExceeded"
    assert condition(work.job, "Failed") == {}
    work.play.remove(PODS, pod["metadata"]["name"])
    work.go_on()
    assert condition(work.job, "Failed")["reason"] == "DeadlineExceeded"


def test_a_job_that_is_over_goes_when_its_time_has_come_and_not_before(work: Work) -> None:
    work.start(ttlSecondsAfterFinished=10)
    work.finish("Succeeded")
    work.play.pass_s(9)
    work.go_on()
    assert work.job
    work.play.pass_s(1)
    (delete,) = jobs.decide(work.play.world, ("sample", "work"))
    assert isinstance(delete, Delete)
    assert delete.propagation == "Background"
