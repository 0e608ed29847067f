"""What does not end with one answer: watches, commands, logs; and a pod from its birth to its end."""

from __future__ import annotations

import itertools
import urllib.parse
from datetime import datetime
from typing import Any

import pytest
import websocket
from kubernetes.client import CoreV1Api
from kubernetes.stream import stream
from waits import until

PATIENCE_S = 120
V4, V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"
MERGE = {"Content_Type": "application/merge-patch+json"}


def labelled(name: str, value: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"watched": value}}}


def test_a_watch_tells_of_changes_since_a_list(api: Any) -> None:
    path, name = f"{api.core}/configmaps", "watched"
    version = api.get(path)["metadata"]["resourceVersion"]
    made = api.make(path, labelled(name, "yes"))
    api.ask("PATCH", f"{path}/{name}", {"data": {"k": "v"}}, **MERGE)
    api.ask("DELETE", f"{path}/{name}")
    query = f"watch=true&timeoutSeconds=10&resourceVersion={version}&fieldSelector=metadata.name={name}"
    events = list(itertools.islice(api.events(f"{path}?{query}"), 3))
    assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "DELETED"]
    assert events[0]["object"] == made
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))
    assert events[1]["object"]["kind"] == "ConfigMap"


def test_a_watch_begins_with_what_is_there(api: Any) -> None:
    path = f"{api.core}/configmaps"
    api.make(path, labelled("present", "present"))
    events = api.events(f"{path}?watch=true&timeoutSeconds=10&labelSelector=watched=present")
    assert next(events)["type"] == "ADDED"
    events.close()


def test_an_object_that_leaves_the_selection_is_deleted_for_the_watcher(api: Any) -> None:
    path, name = f"{api.core}/configmaps", "leaver"
    version = api.make(path, labelled(name, "stays"))["metadata"]["resourceVersion"]
    api.ask("PATCH", f"{path}/{name}", labelled(name, "leaves"), **MERGE)
    api.ask("PATCH", f"{path}/{name}", labelled(name, "stays"), **MERGE)
    query = f"watch=true&timeoutSeconds=10&resourceVersion={version}&labelSelector=watched=stays"
    events = list(itertools.islice(api.events(f"{path}?{query}"), 2))
    assert [event["type"] for event in events] == ["DELETED", "ADDED"]


def test_a_watch_ends_at_its_time_out(api: Any) -> None:
    path = f"{api.core}/secrets?watch=true&timeoutSeconds=1&fieldSelector=metadata.name=nothing"
    assert list(api.events(path)) == []


def test_a_watch_from_a_forgotten_version_is_gone(api: Any) -> None:
    event = next(api.events(f"{api.core}/configmaps?watch=true&timeoutSeconds=5&resourceVersion=1"))
    if event["type"] == "ADDED":
        pytest.skip(f"{api.context} is too young to have forgotten its first version: etcd compacts every five minutes")
    assert event["type"] == "ERROR"
    status = event["object"]
    assert (status["kind"], status["code"], status["reason"]) == ("Status", 410, "Expired")
    assert "too old resource version: 1" in status["message"]


def test_pages_together_are_the_whole_list(api: Any) -> None:
    path = f"{api.core}/configmaps"
    for number in range(3):
        api.make(path, labelled(f"paged-{number}", "paged"))
    found, token = [], ""
    for _ in range(10):
        page = api.get(f"{path}?labelSelector=watched=paged&limit=2&continue={urllib.parse.quote(token)}")
        found += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue", "")
        if not token:
            break
    assert found == ["paged-0", "paged-1", "paged-2"]


def test_a_pod_says_how_it_is(api: Any, pod: str) -> None:
    found = api.get(f"{api.core}/pods/{pod}")
    spec, status = found["spec"], found["status"]
    assert status["phase"] == "Running"
    holding = {one["type"] for one in status["conditions"] if one["status"] == "True"}
    assert holding >= {"PodScheduled", "Initialized", "ContainersReady", "Ready"}
    (container,) = status["containerStatuses"]
    assert (container["name"], container["ready"], container["restartCount"]) == ("main", True, 0)
    assert "running" in container["state"]
    assert status["podIP"] == status["podIPs"][0]["ip"]
    assert status["hostIP"]
    assert spec["nodeName"]
    assert spec["serviceAccountName"] == "default"


@pytest.mark.parametrize("protocols", [(V4,), (V5, V4)], ids=["v4", "v5"])
@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7)], ids=["good", "bad"])
def test_a_command_gives_outputs_and_exit_code(
    api: Any, pod: str, protocols: tuple[str, ...], script: str, code: int
) -> None:
    ran = api.run(pod, "sh", "-c", f"echo out; echo err >&2; {script}", protocols=protocols)
    assert (ran.stdout, ran.stderr, ran.exit_code) == ("out\n", "err\n", code)
    assert ran.protocol in protocols
    if code:
        assert (ran.status["status"], ran.status["reason"]) == ("Failure", "NonZeroExitCode")
        assert "command terminated with non-zero exit code" in ran.status["message"]


def test_the_python_client_sees_output_and_exit_code_and_its_input_arrives(api: Any, pod: str) -> None:
    call, command = CoreV1Api(api.client).connect_get_namespaced_pod_exec, ["sh", "-c", "read a; echo got $a é; exit 3"]
    socket = stream(call, pod, api.namespace, command=command, stdin=True, stdout=True, _preload_content=False)
    socket.write_stdin("x?a=b&c\n")
    socket.run_forever(timeout=60)
    assert (socket.read_stdout(), socket.returncode) == ("got x?a=b&c é\n", 3)
    socket.sock.shutdown()


def test_a_command_reads_standard_input_to_its_end(api: Any, pod: str) -> None:
    ran = api.run(pod, "sh", "-c", "read line; echo got $line", stdin="words\n", protocols=(V4,))
    assert (ran.stdout, ran.exit_code) == ("got words\n", 0)
    offered = api.run(pod, "true", protocols=(V5, V4))
    if offered.protocol == V5:
        ran = api.run(pod, "cat", stdin="all of it", protocols=(V5, V4))
        assert (ran.stdout, ran.exit_code) == ("all of it", 0)


def test_a_large_output_is_complete(api: Any, pod: str) -> None:
    ran = api.run(pod, "sh", "-c", "seq 1 50000", protocols=(V5, V4))
    assert ran.stdout == "".join(f"{number}\n" for number in range(1, 50001))


def test_a_command_that_cannot_start_is_a_failure(api: Any, pod: str) -> None:
    ran = api.run(pod, "no-such-program", protocols=(V5, V4))
    assert ran.status["status"] == "Failure"


def test_an_exec_into_nothing_is_refused(api: Any, pod: str) -> None:
    for name, code in (("absent", 404), (f"{pod}", 400)):
        path = f"/api/v1/namespaces/{api.namespace}/pods/{name}/exec?command=true&stdout=true&container=absent"
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": V4}
        answer = api.ask("GET", path, **upgrade, **key)
        assert answer.code == code
        wanted = "not found" if code == 404 else f"container absent is not valid for pod {pod}"
        assert wanted in answer.json["message"]
    with pytest.raises(websocket.WebSocketBadStatusException):
        api.run("absent", "true", protocols=(V5, V4))


def test_logs_come_whole_or_in_part(api: Any, pod: str) -> None:
    path = f"{api.core}/pods/{pod}/log"
    until(lambda: len(api.ask("GET", path).text.splitlines()) == 3, 20)
    answer = api.ask("GET", path)
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert sorted(answer.text.splitlines()) == ["first", "second", "third"]
    for query, lines in (("tailLines=0", 0), ("tailLines=1", 1), ("tailLines=99", 3), ("sinceSeconds=600", 3)):
        assert len(api.ask("GET", f"{path}?{query}").text.splitlines()) == lines, query
    assert api.ask("GET", f"{path}?sinceTime=2100-01-01T00:00:00Z").text == ""
    assert api.ask("GET", f"{path}?limitBytes=3").text == answer.text[:3]
    stamped = api.ask("GET", f"{path}?timestamps=true").text.splitlines()
    times = [datetime.fromisoformat(line.partition(" ")[0][:19]) for line in stamped]
    assert times == sorted(times)
    assert [line.partition(" ")[2] for line in stamped] == answer.text.splitlines()
    assert api.ask("GET", f"{path}?container=main").text == answer.text


def test_logs_of_nothing_are_refused(api: Any, pod: str) -> None:
    absent = api.ask("GET", f"{api.core}/pods/absent/log")
    assert (absent.code, absent.json["reason"]) == (404, "NotFound")
    other = api.ask("GET", f"{api.core}/pods/{pod}/log?container=absent")
    assert (other.code, other.json["reason"]) == (400, "BadRequest")
    assert f"container absent is not valid for pod {pod}" in other.json["message"]
    former = api.ask("GET", f"{api.core}/pods/{pod}/log?previous=true")
    assert former.code == 400
    assert "previous terminated container" in former.text


def workload(image: str) -> tuple[dict[str, Any], dict[str, Any]]:
    labels = {"app": "workload"}
    main = {"name": "main", "image": image, "command": ["sleep", "1000000"]}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [main], "terminationGracePeriodSeconds": 1}}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    deployment = {"metadata": {"name": "workload"}, "spec": spec}
    service = {"metadata": {"name": "workload"}, "spec": {"selector": labels, "ports": [{"name": "http", "port": 80}]}}
    return deployment, service


def test_a_deployment_brings_pods_and_endpoints_and_takes_them_away(api: Any, pod: str) -> None:
    image = api.get(f"{api.core}/pods/{pod}")["spec"]["containers"][0]["image"]
    deployment, service = workload(image)
    api.make(f"{api.core}/services", service)
    api.make(f"{api.apps}/deployments", deployment)
    path = f"{api.apps}/deployments/workload"
    until(lambda: api.get(path)["status"].get("readyReplicas") == 2, PATIENCE_S)
    settled = api.get(path)
    status = settled["status"]
    assert (status["replicas"], status["updatedReplicas"], status["availableReplicas"]) == (2, 2, 2)
    assert status["observedGeneration"] == settled["metadata"]["generation"]
    conditions = {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}
    assert conditions["Available"] == ("True", "MinimumReplicasAvailable")
    until(lambda: progressed(api.get(path)), 20)
    (replica_set,) = api.get(f"{api.apps}/replicasets?labelSelector=app=workload")["items"]
    template_hash = replica_set["metadata"]["labels"]["pod-template-hash"]
    assert replica_set["metadata"]["name"] == f"workload-{template_hash}"
    assert replica_set["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
    pods = api.get(f"{api.core}/pods?labelSelector=app=workload")["items"]
    assert {one["metadata"]["ownerReferences"][0]["uid"] for one in pods} == {replica_set["metadata"]["uid"]}
    assert all(one["metadata"]["generateName"] == f"workload-{template_hash}-" for one in pods)
    until(lambda: ready_addresses(api) == sorted(one["status"]["podIP"] for one in pods), 30)

    api.ask("PATCH", f"{path}/scale", {"spec": {"replicas": 0}}, **MERGE)
    until(lambda: ready_addresses(api) == [], 30)
    until(lambda: not api.get(f"{api.core}/pods?labelSelector=app=workload")["items"], PATIENCE_S)
    until(lambda: "readyReplicas" not in api.get(path)["status"], 20)


def progressed(deployment: dict[str, Any]) -> bool:
    conditions = deployment["status"]["conditions"]
    return any(one["type"] == "Progressing" and one["reason"] == "NewReplicaSetAvailable" for one in conditions)


def ready_addresses(api: Any) -> list[str]:
    selector = "labelSelector=kubernetes.io/service-name=workload"
    slices = api.get(f"/apis/discovery.k8s.io/v1/namespaces/{api.namespace}/endpointslices?{selector}")["items"]
    found = [one for piece in slices for one in piece.get("endpoints") or [] if one["conditions"]["ready"]]
    return sorted(address for one in found for address in one["addresses"])


def test_a_deleted_pod_has_its_grace_and_goes_and_without_grace_at_once_and_its_name_is_free(
    api: Any, pod: str
) -> None:
    image = api.get(f"{api.core}/pods/{pod}")["spec"]["containers"][0]["image"]
    main = {"name": "main", "image": image, "command": ["sleep", "1000000"]}
    path = f"{api.core}/pods/doomed"

    def run() -> None:
        api.make(f"{api.core}/pods", {"metadata": {"name": "doomed"}, "spec": {"containers": [main]}})
        until(lambda: api.get(path)["status"]["phase"] == "Running", PATIENCE_S)

    run()
    deleted = api.ask("DELETE", f"{path}?gracePeriodSeconds=1")
    assert deleted.code == 200
    metadata = deleted.json["metadata"]
    assert (deleted.json["kind"], metadata["deletionGracePeriodSeconds"]) == ("Pod", 1)
    assert metadata["deletionTimestamp"]
    until(lambda: api.ask("GET", path).code == 404, 60)
    for _ in range(2):
        run()
        assert api.ask("DELETE", f"{path}?gracePeriodSeconds=0").code == 200
        assert api.ask("GET", path).code == 404
