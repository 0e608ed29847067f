"""Deployments and ReplicaSets, played through on plain dicts: what is there at every step of a rollout."""

from __future__ import annotations

from typing import Any

import pytest

from meshbook.lab.client import DEPLOYMENTS, EVENTS, PODS, REPLICA_SETS, ApiError
from meshbook.lab.controllers import Create
from meshbook.objects import annotations_of, condition, is_ready, labels_of

Object = dict[str, Any]
BOTH = ("replicaset", "deployment")


def the_deployment(play: Any) -> Object:
    found: Object = play.cache.get(DEPLOYMENTS, ("sample", "helloworld"))
    return found


def run(play: Any, *, ready: bool = True) -> None:
    """Play the controllers and a kubelet that makes pods ready, until all is quiet."""
    for _ in range(20):
        play.play(*BOTH)
        waiting = [pod for pod in play.pods() if not is_ready(pod)]
        if not waiting or not ready:
            return
        for pod in waiting:
            play.make_ready(pod)
    raise AssertionError("never quiet")


def image(play: Any, name: str) -> None:
    container = {"name": "helloworld", "image": name}
    play.patch(DEPLOYMENTS, "helloworld", {"spec": {"template": {"spec": {"containers": [container]}}}})


def test_names_labels_owners_and_revision_are_those_of_a_real_cluster(play: Any, deployment: Object) -> None:
    play.add(DEPLOYMENTS, deployment)
    run(play)
    (replica_set,), (pod,) = play.cache.list(REPLICA_SETS), play.pods()
    mark = labels_of(replica_set)["pod-template-hash"]
    assert replica_set["metadata"]["name"] == f"helloworld-{mark}"
    assert labels_of(pod) == {"app": "helloworld", "pod-template-hash": mark}
    assert pod["metadata"]["generateName"] == f"helloworld-{mark}-"
    assert replica_set["spec"]["selector"]["matchLabels"]["pod-template-hash"] == mark
    (owner,) = pod["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["controller"], owner["blockOwnerDeletion"]) == ("ReplicaSet", True, True)
    for obj in (replica_set, the_deployment(play)):
        assert annotations_of(obj)["deployment.kubernetes.io/revision"] == "1"


def test_a_finished_rollout_says_so_in_counts_and_conditions(play: Any, deployment: Object) -> None:
    deployment["spec"]["replicas"] = 3
    play.add(DEPLOYMENTS, deployment)
    run(play)
    status = the_deployment(play)["status"]
    assert status["observedGeneration"] == 1
    assert {name: status[name] for name in status if name.endswith("eplicas")} == {
        "replicas": 3,
        "updatedReplicas": 3,
        "readyReplicas": 3,
        "availableReplicas": 3,
    }
    reasons = {found["type"]: (found["status"], found["reason"]) for found in status["conditions"]}
    assert reasons == {
        "Available": ("True", "MinimumReplicasAvailable"),
        "Progressing": ("True", "NewReplicaSetAvailable"),
    }


def test_billions_of_pods_are_asked_for_in_turns_and_a_strange_revision_counts_as_none(
    play: Any, deployment: Object
) -> None:
    deployment["spec"]["replicas"] = 2**31 - 1
    deployment["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "x"}
    play.add(DEPLOYMENTS, deployment)
    play.play("deployment")
    (replica_set,) = play.cache.list(REPLICA_SETS)
    actions = play.decide("replicaset", replica_set["metadata"]["name"])
    assert 0 < sum(action.resource == PODS for action in actions if isinstance(action, Create)) <= 100


def test_an_unready_deployment_is_progressing_and_unavailable(play: Any, deployment: Object) -> None:
    play.add(DEPLOYMENTS, deployment)
    run(play, ready=False)
    status = the_deployment(play)["status"]
    assert status["unavailableReplicas"] == 1
    assert condition(the_deployment(play), "Available")["reason"] == "MinimumReplicasUnavailable"
    assert condition(the_deployment(play), "Progressing")["reason"] == "ReplicaSetUpdated"


def test_a_rollout_that_stands_still_exceeds_its_deadline_and_recovers(play: Any, deployment: Object) -> None:
    deployment["spec"]["progressDeadlineSeconds"] = 10
    play.add(DEPLOYMENTS, deployment)
    run(play, ready=False)
    play.pass_s(11)
    run(play, ready=False)
    late = condition(the_deployment(play), "Progressing")
    assert (late["status"], late["reason"]) == ("False", "ProgressDeadlineExceeded")
    run(play)
    assert condition(the_deployment(play), "Progressing")["reason"] == "NewReplicaSetAvailable"


def test_scaling_to_zero_and_back_keeps_the_replica_set(play: Any, deployment: Object) -> None:
    play.add(DEPLOYMENTS, deployment)
    run(play)
    before = [found["metadata"]["name"] for found in play.cache.list(REPLICA_SETS)]
    play.patch(DEPLOYMENTS, "helloworld", {"spec": {"replicas": 0}})
    run(play)
    assert play.pods() == []
    assert "replicas" not in the_deployment(play)["status"]
    assert the_deployment(play)["status"]["observedGeneration"] == 2
    play.patch(DEPLOYMENTS, "helloworld", {"spec": {"replicas": 2}})
    run(play)
    assert the_deployment(play)["status"]["availableReplicas"] == 2
    assert [found["metadata"]["name"] for found in play.cache.list(REPLICA_SETS)] == before
    told = [event["message"] for event in play.cache.list(EVENTS) if event["reason"] == "ScalingReplicaSet"]
    assert [message.split(" from ")[1] for message in told] == ["0 to 1", "1 to 0", "0 to 2"]


@pytest.mark.parametrize(
    ("replicas", "strategy", "most", "least"),
    [
        (1, {}, 2, 1),
        (4, {}, 5, 3),
        (4, {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}, 4, 3),
        (3, {"rollingUpdate": {"maxSurge": 2, "maxUnavailable": 0}}, 5, 3),
        (10, {"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0}}, 20, 10),
        (3, {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}, 3, 2),
        (2, {"type": "Recreate"}, 2, 0),
    ],
    ids=["one", "quarter", "no-surge", "surge", "double", "zero", "recreate"],
)
def test_an_update_stays_within_surge_and_unavailable(
    play: Any, deployment: Object, replicas: int, strategy: Object, most: int, least: int
) -> None:
    deployment["spec"] |= {"replicas": replicas, "strategy": strategy}
    play.add(DEPLOYMENTS, deployment)
    run(play)
    image(play, "v2")

    def within() -> None:
        assert sum(found["spec"]["replicas"] for found in play.cache.list(REPLICA_SETS)) <= most
        assert sum(is_ready(pod) for pod in play.pods()) >= least

    for _ in range(4 * replicas + 4):
        play.play(*BOTH, check=within)
        waiting = [pod for pod in play.pods() if not is_ready(pod)]
        if not waiting:
            break
        play.make_ready(waiting[0])
    assert [pod["spec"]["containers"][0]["image"] for pod in play.pods()] == ["v2"] * replicas
    assert annotations_of(the_deployment(play))["deployment.kubernetes.io/revision"] == "2"


def test_a_broken_new_version_does_not_take_the_old_one_away(play: Any, deployment: Object) -> None:
    play.add(DEPLOYMENTS, deployment)
    run(play)
    image(play, "broken")
    run(play, ready=False)
    assert sorted(is_ready(pod) for pod in play.pods()) == [False, True]
    assert the_deployment(play)["status"]["updatedReplicas"] == 1


def test_going_back_reuses_the_replica_set_with_a_new_revision(play: Any, deployment: Object) -> None:
    play.add(DEPLOYMENTS, deployment)
    containers = deployment["spec"]["template"]["spec"]["containers"]
    run(play)
    (first,) = [found["metadata"]["name"] for found in play.cache.list(REPLICA_SETS)]
    image(play, "v2")
    run(play)
    play.patch(DEPLOYMENTS, "helloworld", {"spec": {"template": {"spec": {"containers": containers}}}})
    run(play)
    active = [found for found in play.cache.list(REPLICA_SETS) if found["spec"]["replicas"]]
    assert [found["metadata"]["name"] for found in active] == [first]
    assert annotations_of(active[0])["deployment.kubernetes.io/revision"] == "3"
    assert annotations_of(the_deployment(play))["deployment.kubernetes.io/revision"] == "3"


def test_a_restart_is_a_new_template(play: Any, deployment: Object) -> None:
    play.add(DEPLOYMENTS, deployment)
    run(play)
    stamp = {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}
    play.patch(DEPLOYMENTS, "helloworld", {"spec": {"template": {"metadata": {"annotations": stamp}}}})
    run(play)
    assert [annotations_of(pod) for pod in play.pods()] == [stamp]


def test_a_paused_deployment_stays_as_it_is_until_it_is_resumed(play: Any, deployment: Object) -> None:
    play.add(DEPLOYMENTS, deployment)
    run(play)
    play.patch(DEPLOYMENTS, "helloworld", {"spec": {"paused": True}})
    image(play, "v2")
    run(play)
    assert [pod["spec"]["containers"][0]["image"] for pod in play.pods()] == ["v1"]
    play.patch(DEPLOYMENTS, "helloworld", {"spec": {"paused": None}})
    run(play)
    assert {pod["spec"]["containers"][0]["image"] for pod in play.pods()} == {"v2"}


def test_orphans_are_adopted_and_relabelled_pods_let_go(play: Any, deployment: Object) -> None:
    play.add(DEPLOYMENTS, deployment)
    run(play)
    (replica_set,), (pod,) = play.cache.list(REPLICA_SETS), play.pods()
    play.patch(REPLICA_SETS, replica_set["metadata"]["name"], {"metadata": {"ownerReferences": None}})
    play.patch(PODS, pod["metadata"]["name"], {"metadata": {"labels": {"app": "quarantine"}}})
    run(play)
    assert len(play.cache.list(REPLICA_SETS)) == 1
    assert play.cache.list(REPLICA_SETS)[0]["metadata"]["ownerReferences"][0]["kind"] == "Deployment"
    owners = {labels_of(found)["app"]: found["metadata"].get("ownerReferences", []) for found in play.pods()}
    assert owners["quarantine"] == []
    assert len(owners["helloworld"]) == 1


def test_only_as_many_old_replica_sets_stay_as_the_history_wants(play: Any, deployment: Object) -> None:
    deployment["spec"]["revisionHistoryLimit"] = 2
    play.add(DEPLOYMENTS, deployment)
    for number in range(5):
        play.pass_s(1)
        image(play, f"v{number}")
        run(play)
    assert len(play.cache.list(REPLICA_SETS)) == 3


def test_a_pod_counts_as_available_after_min_ready_seconds(play: Any, deployment: Object) -> None:
    deployment["spec"]["minReadySeconds"] = 5
    play.add(DEPLOYMENTS, deployment)
    run(play)
    assert "availableReplicas" not in the_deployment(play)["status"]
    play.pass_s(5)
    run(play)
    assert the_deployment(play)["status"]["availableReplicas"] == 1


def test_the_least_useful_pods_are_deleted_first(play: Any, deployment: Object) -> None:
    deployment["spec"]["replicas"] = 3
    play.add(DEPLOYMENTS, deployment)
    play.play(*BOTH)
    unready, *ready = play.pods()
    for pod in ready:
        play.make_ready(pod)
    play.patch(DEPLOYMENTS, "helloworld", {"spec": {"replicas": 2}})
    play.play(*BOTH)
    assert unready["metadata"]["name"] not in [pod["metadata"]["name"] for pod in play.pods()]


def test_a_refused_pod_is_told_in_the_status_of_set_and_deployment(play: Any, deployment: Object) -> None:
    play.add(DEPLOYMENTS, deployment)
    play.play("deployment")
    key = ("sample", play.cache.list(REPLICA_SETS)[0]["metadata"]["name"])
    refusal = ApiError("webhook does not answer", code=500)
    play.apply(play.controllers["replicaset"].on_refusal(play.cache, key, refusal))
    play.play("deployment")
    assert condition(the_deployment(play), "ReplicaFailure")["message"] == "webhook does not answer"
    assert play.controllers["replicaset"].on_refusal(play.cache, key, refusal) == []
    run(play)
    assert condition(the_deployment(play), "ReplicaFailure") == {}
