"""What an SRE looks at by stock kubectl: the same lines and columns as of a real cluster.

Each test has a namespace of its own in one lab. Where kubectl's version matters, each installed one is asked.
"""

from __future__ import annotations

import itertools
import re

import pytest
from kubectl_desk import APP, Desk

pytestmark = pytest.mark.envoy


def test_exec_gives_output_input_and_exit_code(each_desk: Desk) -> None:
    each_desk.app()
    assert each_desk("exec deploy/app -- echo hello").out == "hello\n"
    assert each_desk.shell(f"echo taken | kubectl -n {each_desk.namespace} exec -i deploy/app -- cat").out == "taken\n"
    failed = each_desk("exec deploy/app -- sh -c 'echo no >&2; exit 3'")
    assert (failed.code, failed.err) == (3, "no\ncommand terminated with exit code 3\n")


def test_exec_in_a_terminal_is_a_conversation(each_desk: Desk) -> None:
    each_desk.app()
    command = f"kubectl -n {each_desk.namespace} exec -it deploy/app -- sh"
    done = each_desk.shell.ask(
        command, "#" if "root" in each_desk("exec deploy/app -- id").out else "$", "tty; exit 4\n"
    )
    assert "/dev/pts/" in done.out
    assert (done.code, "command terminated with exit code 4" in done.out) == (4, True)


def test_get_prints_the_columns_of_a_real_cluster(each_desk: Desk) -> None:
    each_desk.app()
    assert each_desk("get pods -o wide").lines[0].split("  ")[0] == "NAME"
    assert re.split(r"\s{2,}", each_desk("get pods -o wide").lines[0].strip()) == (
        ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES"]
    )
    wide = "NAME READY UP-TO-DATE AVAILABLE AGE CONTAINERS IMAGES SELECTOR"
    assert each_desk("get deployments -o wide").lines[0].split() == wide.split()
    assert re.match(r"app-\w+-\w+ +1/1 +Running +0 ", each_desk("get pods").lines[1])
    assert each_desk("get pods -A --no-headers").lines[0].split()[0].startswith(("desk-", "istio-system"))
    assert each_desk("get deploy app -o name").out == "deployment.apps/app\n"
    assert each_desk("get deploy -o custom-columns=N:.metadata.name --no-headers").out == "app\n"


def test_a_watch_shows_a_pod_from_birth_to_end(desk: Desk) -> None:
    desk.app()
    born = f"kubectl -n {desk.namespace} scale deployment app --replicas=2"
    gone = f"kubectl -n {desk.namespace} scale deployment app --replicas=1"
    watch = f"timeout 6 kubectl -n {desk.namespace} get pods -w"
    done = desk.shell(f"({watch}) & sleep 1.5; {born} >/dev/null; sleep 2; {gone} >/dev/null; wait")
    seen = [line.split()[2] for line in done.lines if line.startswith("app-") and desk.pod() not in line]
    for earlier, later in itertools.pairwise(("Pending", "ContainerCreating", "Running", "Terminating")):
        assert seen.index(earlier) < seen.index(later), done.out


def test_describe_tells_the_story_of_a_pod_in_order(each_desk: Desk) -> None:
    each_desk.app()
    described = each_desk.until("describe pod -l app=app", "Started container app")
    assert re.findall(r"(?m)^  Normal +(\w+)", described) == ["Scheduled", "Pulled", "Created", "Started"]
    assert "Successfully assigned" in described
    assert f"Created pod: {each_desk.pod()}" in each_desk("describe replicaset").out
    assert re.search(r"Scaled up replica set app-\w+ from 0 to 1", each_desk("describe deployment app").out)


def test_an_image_that_nobody_has_is_told_in_status_and_events(desk: Desk) -> None:
    desk.write(APP.replace("curlimages/curl", "example.org/nothing:1"))
    assert desk("apply -f app.yaml").code == 0
    desk.until("get pods", "ErrImagePull|ImagePullBackOff")
    assert re.search(r"Warning +Failed .*no program of the lab stands for image", desk("describe pod").out)


def test_describe_knows_nodes_and_their_leases(desk: Desk) -> None:
    described = desk("describe node cluster1-node-1").out
    assert re.search(r"HolderIdentity: +cluster1-node-1\n", described)
    assert re.search(r"Ready +True .*KubeletReady", described)


def test_logs_are_followed(desk: Desk) -> None:
    desk.write(APP.replace("args: [sleep, infinity]", "args: [sh, -c, 'echo one; sleep 1; echo two; sleep 60']"))
    assert desk("apply -f app.yaml").code == 0
    desk.rolled_out()
    done = desk.shell(f"timeout 4 kubectl -n {desk.namespace} logs -f deployment/app")
    assert done.out == "one\ntwo\n"


def test_wait_ends_at_its_deadline_and_says_for_what(desk: Desk) -> None:
    desk.app()
    assert desk("wait deployment app --for=jsonpath='{.status.readyReplicas}'=1 --timeout=5s").code == 0
    done = desk("wait deployment app --for=condition=Nonsense --timeout=1s")
    assert (done.code, done.err) == (1, "error: timed out waiting for the condition on deployments/app\n")


def test_the_server_says_what_it_has(each_desk: Desk) -> None:
    kinds = {line.split()[0] for line in each_desk("api-resources").lines}
    assert {"deployments", "virtualservices", "multiclusteringresses", "leases"} <= kinds
    assert not {"jobs", "customresourcedefinitions"} & kinds
    assert "Server Version: v1." in each_desk("version").out
