"""What an SRE types after the article's commands, by stock kubectl: the same lines, columns and exit codes.

One lab for all; each test has a namespace of its own. Where kubectl's version matters, each installed one is asked.
"""

from __future__ import annotations

import itertools
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.envoy

WAIT_S = 20.0
_numbers = itertools.count(1)

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
DEFINITION = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.org}
spec:
  group: example.org
  scope: Namespaced
  names: {kind: Widget, plural: widgets, shortNames: [wd]}
  versions:
    - name: v1
      served: true
      storage: true
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
      additionalPrinterColumns: [{name: Size, type: integer, jsonPath: .spec.size}]
"""


class Desk:
    """One namespace of ``cluster1``, and a folder for files."""

    def __init__(self, shell: Any, folder: Path) -> None:
        self.shell, self.folder, self.namespace = shell, folder, f"desk-{next(_numbers)}"
        assert shell(f"kubectl create namespace {self.namespace}").code == 0

    def __call__(self, arguments: str, *, after: str = "") -> Any:
        return self.shell(f"kubectl -n {self.namespace} {arguments} {after}", cwd=self.folder)

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
        deadline, last = time.monotonic() + WAIT_S, ""
        while time.monotonic() < deadline:
            last = self(arguments).out
            if re.search(seen, last):
                return last
            time.sleep(0.1)
        raise AssertionError(f"kubectl {arguments}: nothing like {seen!r} in {WAIT_S:g} s; last: {last}")


@pytest.fixture
def desk(shell: Any, tmp_path: Path) -> Desk:
    return Desk(shell, tmp_path)


@pytest.fixture
def each_desk(each_shell: Any, tmp_path: Path) -> Desk:
    return Desk(each_shell, tmp_path)


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


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("exec nosuch -- true", 'Error from server (NotFound): pods "nosuch" not found\n'),
        (
            "exec {pod} -c nosuch -- true",
            "Error from server (BadRequest): container nosuch is not valid for pod {pod}\n",
        ),
        ("logs {pod} -c nosuch", "error: container nosuch is not valid for pod {pod}\n"),
    ],
)
def test_a_wrong_pod_or_container_is_named(desk: Desk, arguments: str, error: str) -> None:
    desk.app()
    pod = desk.pod()
    done = desk(arguments.format(pod=pod))
    assert (done.code, done.err) == (1, error.format(pod=pod))


def test_apply_says_created_configured_unchanged_and_takes_removed_fields_away(each_desk: Desk) -> None:
    each_desk.app()
    assert each_desk("apply -f app.yaml").lines == ["deployment.apps/app unchanged"]
    each_desk.write(APP.replace(", annotations: {note: first}", "").replace(", env: [{name: A, value: b}]", ""))
    differing = each_desk("diff -f app.yaml")
    assert differing.code == 1
    assert re.search(r"(?m)^-\s+note: first$", differing.out)
    assert each_desk("apply -f app.yaml").lines == ["deployment.apps/app configured"]
    assert each_desk("diff -f app.yaml").code == 0
    live = json.loads(each_desk("get deployment app -o json").out)
    assert "note" not in live["metadata"]["annotations"]
    assert "env" not in live["spec"]["template"]["spec"]["containers"][0]


def test_server_side_apply_conflicts_until_forced(each_desk: Desk) -> None:
    each_desk.write(APP)
    assert each_desk("apply --server-side -f app.yaml").lines == ["deployment.apps/app serverside-applied"]
    assert each_desk("scale deployment app --replicas=2").lines == ["deployment.apps/app scaled"]
    refused = each_desk("apply --server-side -f app.yaml")
    conflict = 'conflict with "kubectl" with subresource "scale" using apps/v1: .spec.replicas'
    assert (refused.code, f"Apply failed with 1 conflict: {conflict}" in refused.err) == (1, True)
    assert each_desk("apply --server-side --force-conflicts -f app.yaml").code == 0
    assert each_desk("get deployment app -o jsonpath='{.spec.replicas}'").out == "1"


def test_a_dry_run_says_so_and_changes_nothing(desk: Desk) -> None:
    desk.write(APP)
    assert desk("apply -f app.yaml --dry-run=client").lines == ["deployment.apps/app created (dry run)"]
    assert desk("apply -f app.yaml --dry-run=server").lines == ["deployment.apps/app created (server dry run)"]
    assert desk("get deployments").err.startswith("No resources found in desk-")


def test_a_deployment_can_be_made_without_a_file(each_desk: Desk) -> None:
    done = each_desk("create deployment made --image=curlimages/curl --replicas=2 -- sleep infinity")
    assert done.lines == ["deployment.apps/made created"]
    assert each_desk("wait deployment made --for=condition=Available --timeout=20s").lines == [
        "deployment.apps/made condition met"
    ]


def test_a_rollout_restarts_and_is_undone(desk: Desk) -> None:
    desk.app()
    assert desk("set env deployment/app A=c").lines == ["deployment.apps/app env updated"]
    desk.rolled_out()
    assert desk("rollout history deployment app").lines[1:4] == [
        "REVISION  CHANGE-CAUSE",
        "1         <none>",
        "2         <none>",
    ]
    assert desk("rollout undo deployment app").lines == ["deployment.apps/app rolled back"]
    desk.rolled_out()
    assert "value: b" in desk("get deployment app -o yaml").out
    assert desk("rollout restart deployment app").lines == ["deployment.apps/app restarted"]
    desk.rolled_out()


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


def test_field_selectors_narrow_and_wrong_ones_are_refused(desk: Desk) -> None:
    desk.app()
    assert desk("get pods --field-selector status.phase=Running -o name").lines == [f"pod/{desk.pod()}"]
    assert desk("get pods --field-selector status.phase=Failed -o name").lines == []
    assert "field label not supported: status.nonsense" in desk("get pods --field-selector status.nonsense=1").err


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


def test_an_orphaning_delete_leaves_pods_that_the_next_deployment_takes_over(desk: Desk) -> None:
    desk.app()
    pod = desk.pod()
    assert desk("delete deployment app --cascade=orphan").lines == ['deployment.apps "app" deleted']
    assert desk("get pods -o name").lines == [f"pod/{pod}"]
    assert desk("apply -f app.yaml").code == 0
    desk.rolled_out()
    assert desk("get pods -o name").lines == [f"pod/{pod}"]


@pytest.mark.parametrize("options", ["--cascade=foreground", "--grace-period=1", "--now", "--grace-period=0 --force"])
def test_a_delete_ends_everything_below(desk: Desk, options: str) -> None:
    desk.app()
    assert desk(f"delete deployment app {options}").code == 0
    desk.until("get pods,replicasets -o name", r"^\s*$")


UNSERVED = {
    "port-forward": ("port-forward deploy/app 18080:80", "the lab does not serve pods/portforward"),
    "attach": ("attach deploy/app", "the lab does not serve pods/attach"),
    "cp": ("cp {pod}:/etc/hosts ./hosts", "the lab does not copy files"),
    "create cronjob": (
        "create cronjob x --image=curl --schedule='* * * * *'",
        "the lab does not serve cronjobs of batch/v1",
    ),
    "create quota": ("create quota x", "does not serve resourcequotas of v1"),
}


@pytest.mark.parametrize(("arguments", "why"), UNSERVED.values(), ids=UNSERVED)
def test_what_the_lab_does_not_do_is_said(desk: Desk, arguments: str, why: str) -> None:
    desk.app()
    done = desk(arguments.format(pod=desk.pod()))
    assert done.code == 1
    assert why in done.err


def test_a_job_is_created_waited_for_read_listed_and_deleted(each_desk: Desk) -> None:
    created = each_desk("create job work --image=curlimages/curl -- sh -c 'echo done'")
    assert created.lines == ["job.batch/work created"], created
    assert each_desk("wait --for=condition=complete job/work --timeout=20s").lines == ["job.batch/work condition met"]
    assert each_desk("logs job/work").out == "done\n"
    heads, row = (line.split() for line in each_desk("get jobs").lines)
    assert heads[:4] == ["NAME", "STATUS", "COMPLETIONS", "DURATION"]
    assert row[:3] == ["work", "Complete", "1/1"]
    assert each_desk("get pods --no-headers").out.split()[1:3] == ["0/1", "Completed"]
    told = each_desk("describe job work").out
    assert re.search(r"Normal\s+SuccessfulCreate.*Created pod: work-.*\n.*Normal\s+Completed.*Job completed", told)
    assert each_desk("delete job work").code == 0
    each_desk.until("get jobs,pods -o name", r"^\s*$")


def test_an_account_does_with_its_token_what_its_role_allows(each_desk: Desk) -> None:
    assert each_desk("create serviceaccount robot").code == 0
    assert each_desk("create role looker --verb=get,list --resource=pods").code == 0
    namespace = each_desk.namespace
    assert each_desk(f"create rolebinding looker --role=looker --serviceaccount={namespace}:robot").code == 0
    token = each_desk("create token robot").out.strip()
    as_robot = f"--token={token}"
    server = json.loads(each_desk("config view --minify -o json").out)["clusters"][0]["cluster"]["server"]
    (each_desk.folder / "ca.crt").write_text(each_desk("get cm kube-root-ca.crt -o jsonpath='{.data.ca\\.crt}'").out)
    alone = f"KUBECONFIG=/dev/null kubectl -n {namespace} --server={server} --certificate-authority=ca.crt {as_robot}"
    answers = {verb: each_desk.shell(f"{alone} auth can-i {verb}", cwd=each_desk.folder).out for verb in _WISHES}
    assert answers == {verb: f"{answer}\n" for verb, answer in _WISHES.items()}
    refused = each_desk.shell(f"{alone} get secrets", cwd=each_desk.folder)
    who = f'User "system:serviceaccount:{namespace}:robot" cannot list resource "secrets"'
    assert (refused.code, who in refused.err) == (1, True)


_WISHES = {"list pods": "yes", "delete pods": "no", "get pods --subresource=log": "no"}


def test_a_definition_that_a_user_applies_is_served(each_desk: Desk) -> None:
    each_desk.write(DEFINITION, "definition.yaml")
    each_desk.write("apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: one}\nspec: {size: 3}\n", "widget.yaml")
    assert each_desk("apply -f definition.yaml").code == 0
    assert each_desk("wait crd/widgets.example.org --for=condition=Established --timeout=5s").code == 0
    assert each_desk("apply -f widget.yaml").lines == ["widget.example.org/one created"]
    assert [line.split() for line in each_desk("get wd").lines] == [["NAME", "SIZE"], ["one", "3"]]
    assert each_desk("delete crd widgets.example.org").code == 0
    assert each_desk("get widgets").code == 1


MISTAKES = {
    "an unknown field": (
        ("  replicas: 1", "  replcas: 1"),
        'Error from server (BadRequest): error when creating "app.yaml": Deployment in version "v1" cannot be handled '
        'as a Deployment: strict decoding error: unknown field "spec.replcas"',
    ),
    "a missing field": (
        (", image: curlimages/curl", ""),
        'The Deployment "app" is invalid: spec.template.spec.containers[0].image: Required value',
    ),
    "a wrong type": (
        ("replicas: 1", "replicas: one"),
        'Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct '
        "field DeploymentSpec.spec.replicas of type int32",
    ),
    "a bad label value": (
        ("labels: {app: app}, ann", "labels: {app: 'a b'}, ann"),
        'The Deployment "app" is invalid: metadata.labels: Invalid value: "a b": a valid label must be an empty string',
    ),
    "an unknown version": (("apps/v1", "apps/v9"), 'no matches for kind "Deployment" in version "apps/v9"'),
    "an unknown kind": (
        ("kind: Deployment", "kind: Deploymnt"),
        'no matches for kind "Deploymnt" in version "apps/v1"',
    ),
}


@pytest.mark.parametrize(("mistake", "error"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_a_file_is_answered_as_by_a_real_cluster(desk: Desk, mistake: tuple[str, str], error: str) -> None:
    desk.write(APP.replace(*mistake))
    done = desk("create -f app.yaml")
    assert done.code == 1
    assert error in done.err


def test_a_mistake_in_a_change_is_answered_as_by_a_real_cluster(each_desk: Desk) -> None:
    each_desk.app()
    each_desk.write(APP.replace("app: app}}", "app: other}}").replace("{labels: {app: app}}", "{labels: {app: other}}"))
    assert "spec.selector: Invalid value: " in (refused := each_desk("apply -f app.yaml").err)
    assert "field is immutable" in refused
    each_desk.write(APP.replace("  replicas: 1", "  replcas: 1"))
    assert 'strict decoding error: unknown field "spec.replcas"' in each_desk("apply -f app.yaml").err
    wrong = each_desk("""patch deployment app -p '{"spec":{"replicas":"x"}}'""")
    assert wrong.err.startswith("The request is invalid: patch: Invalid value: ")


def test_names_that_are_taken_or_not_there_are_told(desk: Desk) -> None:
    desk.app()
    taken = desk("create -f app.yaml").err
    assert (
        taken
        == 'Error from server (AlreadyExists): error when creating "app.yaml": deployments.apps "app" already exists\n'
    )
    assert desk("get deployment none").err == 'Error from server (NotFound): deployments.apps "none" not found\n'
    assert desk("get nonsense").err == 'error: the server doesn\'t have a resource type "nonsense"\n'


def test_a_stale_replacement_is_refused(desk: Desk) -> None:
    desk.app()
    desk("get deployment app -o yaml", after="> live.yaml")
    assert desk("annotate deployment app a=b").code == 0
    assert 'Operation cannot be fulfilled on deployments.apps "app": the object has been modified' in (
        desk("replace -f live.yaml").err
    )


def test_a_viewer_sees_and_may_not_touch(each_desk: Desk) -> None:
    each_desk.app()
    assert each_desk("--context=cluster1-viewer get deployment app").code == 0
    refused = each_desk("--context=cluster1-viewer delete deployment app")
    assert refused.err == (
        'Error from server (Forbidden): deployments.apps "app" is forbidden: User "viewer" cannot delete resource '
        f'"deployments" in API group "apps" in the namespace "{each_desk.namespace}"\n'
    )
    may = each_desk("--context=cluster1-viewer auth can-i delete deployments")
    assert (may.code, may.out.split()[0]) == (1, "no")
    assert each_desk("auth can-i delete deployments").out == "yes\n"
    assert "[get list watch]" in each_desk("--context=cluster1-viewer auth can-i --list").out


def test_the_server_says_what_it_has(each_desk: Desk) -> None:
    kinds = {line.split()[0] for line in each_desk("api-resources").lines}
    assert {"deployments", "virtualservices", "multiclusteringresses", "customresourcedefinitions", "leases"} <= kinds
    assert "Server Version: v1." in each_desk("version").out
