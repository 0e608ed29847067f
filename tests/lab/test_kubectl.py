"""What an SRE does by stock kubectl reads as in a real cluster, also what is refused, and what the lab does not do.

Each kubectl that is installed is asked. What the API server answers is asked in tests/contract, without a kubectl.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.envoy

WAIT_S = 20.0
APP = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: app, labels: {app: app}, annotations: {note: first}}
spec:
  replicas: 1
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - {name: app, image: curlimages/curl, args: [sleep, infinity], env: [{name: A, value: b}]}
"""
_numbers = itertools.count(1)


class Desk:
    """Where an SRE sits: one namespace of ``cluster1``, and a folder for files."""

    def __init__(self, shell: Any, folder: Path) -> None:
        self.shell, self.folder, self.namespace = shell, folder, f"desk-{next(_numbers)}"
        assert shell(f"kubectl create namespace {self.namespace}").code == 0

    def __call__(self, arguments: str) -> Any:
        return self.shell(f"kubectl -n {self.namespace} {arguments}", cwd=self.folder)

    def write(self, text: str, name: str = "app.yaml") -> str:
        (self.folder / name).write_text(text)
        return name

    def app(self) -> None:
        """Have one Deployment of one pod, rolled out."""
        self.write(APP)
        assert self("apply -f app.yaml").lines == ["deployment.apps/app created"]
        self.rolled_out()

    def rolled_out(self) -> None:
        done = self("rollout status deployment app --timeout=20s")
        assert done.lines[-1] == 'deployment "app" successfully rolled out', done

    def pod(self) -> str:
        return str(self("get pods -o jsonpath='{.items[-1:].metadata.name}'").out)

    def until(self, arguments: str, seen: str) -> str:
        return str(self.shell.until(f"kubectl -n {self.namespace} {arguments}", seen, cwd=self.folder))


@pytest.fixture
def desk(shell: Any, tmp_path: Path) -> Desk:
    """A desk of the test's own."""
    return Desk(shell, tmp_path)


@pytest.fixture(scope="module")
def app(shell: Any, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A desk with a Deployment of one pod, which no test changes."""
    desk = Desk(shell, tmp_path_factory.mktemp("app"))
    desk.app()
    return desk


def test_exec_gives_output_input_and_exit_code(app: Desk) -> None:
    assert app("exec deploy/app -- echo hello").out == "hello\n"
    assert app.shell(f"echo taken | kubectl -n {app.namespace} exec -i deploy/app -- cat").out == "taken\n"
    failed = app("exec deploy/app -- sh -c 'echo no >&2; exit 3'")
    assert (failed.code, failed.err) == (3, "no\ncommand terminated with exit code 3\n")


def test_exec_in_a_terminal_is_a_conversation(app: Desk) -> None:
    prompt = "#" if "root" in app("exec deploy/app -- id").out else "$"
    done = app.shell.ask(f"kubectl -n {app.namespace} exec -it deploy/app -- sh", prompt, "tty; exit 4\n")
    assert "/dev/pts/" in done.out
    assert (done.code, "command terminated with exit code 4" in done.out) == (4, True)


def test_get_prints_the_columns_of_a_real_cluster(app: Desk) -> None:
    header, row = app("get pods -o wide").lines
    names = ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES"]
    assert re.split(r"\s{2,}", header.strip()) == names
    assert re.match(r"app-\w+-\w+ +1/1 +Running +0 ", row)
    wide = "NAME READY UP-TO-DATE AVAILABLE AGE CONTAINERS IMAGES SELECTOR"
    assert app("get deployments -o wide").lines[0].split() == wide.split()
    assert app("get deploy app -o custom-columns=N:.metadata.name --no-headers").out == "app\n"


def test_describe_tells_the_story_of_a_pod_in_order_and_of_its_node(app: Desk) -> None:
    described = app.until("describe pod -l app=app", "Started container app")
    assert re.findall(r"(?m)^  Normal +(\w+)", described) == ["Scheduled", "Pulled", "Created", "Started"]
    assert "Successfully assigned" in described
    assert f"Created pod: {app.pod()}" in app("describe replicaset").out
    assert re.search(r"Scaled up replica set app-\w+ from 0 to 1", app("describe deployment app").out)
    node = app("describe node cluster1-node-1").out
    assert re.search(r"HolderIdentity: +cluster1-node-1\n", node)
    assert re.search(r"Ready +True .*KubeletReady", node)


def test_wait_ends_at_its_deadline_and_says_for_what(app: Desk) -> None:
    assert app("wait deployment app --for=jsonpath='{.status.readyReplicas}'=1 --timeout=5s").code == 0
    done = app("wait deployment app --for=condition=Nonsense --timeout=1s")
    assert (done.code, done.err) == (1, "error: timed out waiting for the condition on deployments/app\n")


def test_the_server_says_what_it_has(app: Desk) -> None:
    kinds = {line.split()[0] for line in app("api-resources").lines}
    assert {"deployments", "virtualservices", "multiclusteringresses", "leases"} <= kinds
    assert not {"jobs", "customresourcedefinitions"} & kinds
    assert "Server Version: v1." in app("version").out


def test_a_viewer_sees_and_may_not_touch(app: Desk) -> None:
    assert app("--context=cluster1-viewer get deployment app").code == 0
    refused = app("--context=cluster1-viewer delete deployment app")
    assert refused.err == (
        'Error from server (Forbidden): deployments.apps "app" is forbidden: User "viewer" cannot delete resource '
        f'"deployments" in API group "apps" in the namespace "{app.namespace}"\n'
    )
    may = app("--context=cluster1-viewer auth can-i delete deployments")
    assert (may.code, may.out.split()[0]) == (1, "no")
    assert "[get list watch]" in app("--context=cluster1-viewer auth can-i --list").out


REFUSED = {
    "no such pod": ("exec nosuch -- true", 'Error from server (NotFound): pods "nosuch" not found\n'),
    "no such container": ("logs {pod} -c nosuch", "error: container nosuch is not valid for pod {pod}\n"),
    "wrong type": ("""patch deployment app -p '{{"spec":{{"replicas":"x"}}}}'""", "The request is invalid: patch: "),
    "port-forward": ("port-forward deploy/app 18080:80", "the lab does not serve pods/portforward"),
    "attach": ("attach deploy/app", "the lab does not serve pods/attach"),
    "cp": ("cp {pod}:/etc/hosts ./hosts", "the lab does not copy files"),
    "create job": ("create job x --image=curl", "the lab does not serve jobs of batch/v1"),
}


@pytest.mark.parametrize(("arguments", "why"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_or_not_done_in_a_lab_is_said(app: Desk, arguments: str, why: str) -> None:
    pod = app.pod()
    done = app(arguments.format(pod=pod))
    assert (done.code, why.format(pod=pod) in done.err) == (1, True), done


def test_apply_says_created_configured_unchanged_and_takes_removed_fields_away(desk: Desk) -> None:
    desk.app()
    assert desk("apply -f app.yaml").lines == ["deployment.apps/app unchanged"]
    desk.write(APP.replace(", annotations: {note: first}", "").replace(", env: [{name: A, value: b}]", ""))
    differing = desk("diff -f app.yaml")
    assert differing.code == 1
    assert re.search(r"(?m)^-\s+note: first$", differing.out)
    assert desk("apply -f app.yaml").lines == ["deployment.apps/app configured"]
    assert desk("diff -f app.yaml").code == 0
    live = json.loads(desk("get deployment app -o json").out)
    assert "note" not in live["metadata"]["annotations"]
    assert "env" not in live["spec"]["template"]["spec"]["containers"][0]
    desk.write(APP.replace("  replicas: 1", "  replcas: 1"))
    assert 'strict decoding error: unknown field "spec.replcas"' in desk("apply -f app.yaml").err


def test_server_side_apply_conflicts_until_forced(desk: Desk) -> None:
    desk.write(APP)
    assert desk("apply --server-side -f app.yaml").lines == ["deployment.apps/app serverside-applied"]
    assert desk("scale deployment app --replicas=2").lines == ["deployment.apps/app scaled"]
    refused = desk("apply --server-side -f app.yaml")
    conflict = 'conflict with "kubectl" with subresource "scale" using apps/v1: .spec.replicas'
    assert (refused.code, f"Apply failed with 1 conflict: {conflict}" in refused.err) == (1, True)
    assert desk("apply --server-side --force-conflicts -f app.yaml").code == 0
    assert desk("get deployment app -o jsonpath='{.spec.replicas}'").out == "1"


def test_a_dry_run_says_so_and_changes_nothing(desk: Desk) -> None:
    desk.write(APP)
    assert desk("apply -f app.yaml --dry-run=client").lines == ["deployment.apps/app created (dry run)"]
    assert desk("apply -f app.yaml --dry-run=server").lines == ["deployment.apps/app created (server dry run)"]
    assert desk("get deployments").err.startswith("No resources found in desk-")


def test_a_rollout_restarts_and_a_delete_ends_everything_below(desk: Desk) -> None:
    desk.app()
    assert desk("set env deployment/app A=c").lines == ["deployment.apps/app env updated"]
    desk.rolled_out()
    before = desk.pod()
    assert desk("rollout restart deployment app").lines == ["deployment.apps/app restarted"]
    desk.rolled_out()
    assert desk.pod() != before
    for options in ("--now", "--grace-period=0 --force"):
        assert desk(f"delete deployment app {options}").code == 0
        desk.until("get pods,replicasets -o name", r"^\s*$")
        desk.app()


@pytest.fixture
def rows(desk: Desk) -> Iterator[Iterator[str]]:
    """The rows that ``kubectl get pods -w`` shows, from then on when the first is there."""
    desk.app()
    argv = ["timeout", f"{WAIT_S:g}", "kubectl", "-n", desk.namespace, "get", "pods", "-w"]
    environment = desk.shell.environment
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline().startswith("NAME")
        yield watch.stdout
        watch.terminate()


def test_a_watch_shows_a_pod_from_birth_to_end(desk: Desk, rows: Iterator[str]) -> None:
    made = desk("create deployment made --image=curlimages/curl -- sh -c 'trap exit TERM; while :; do sleep 0.1; done'")
    assert made.lines == ["deployment.apps/made created"]
    seen: list[str] = []
    for row in rows:
        if not row.startswith("made-"):
            continue
        seen.append(row.split()[2])
        if seen[-1] == "Running" and seen.count("Running") == 1:
            desk("delete deployment made --wait=false")
        if seen[-1] == "Terminating":
            break
    for earlier, later in itertools.pairwise(("Pending", "ContainerCreating", "Running", "Terminating")):
        assert seen.index(earlier) < seen.index(later), seen


def test_an_image_that_nobody_has_is_told_in_status_and_events(desk: Desk) -> None:
    desk.write(APP.replace("curlimages/curl", "example.org/nothing:1"))
    assert desk("apply -f app.yaml").code == 0
    desk.until("get pods", "ErrImagePull|ImagePullBackOff")
    assert re.search(r"Warning +Failed .*no program of the lab stands for image", desk("describe pod").out)


def test_logs_are_followed(desk: Desk) -> None:
    talk = "run talk --image=curlimages/curl --restart=Never -- sh -c 'echo one; sleep 1; echo two'"
    assert desk(talk).lines == ["pod/talk created"]
    assert desk.until("logs -f talk", "one") == "one\ntwo"
