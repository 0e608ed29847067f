"""What stock kubectl is refused: mistakes, rights and what the lab does not do, in the words of a real cluster.

Each test has a namespace of its own in one lab. Where kubectl's version matters, each installed one is asked.
"""

from __future__ import annotations

import pytest
from kubectl_desk import APP, Desk

pytestmark = pytest.mark.envoy


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


UNSERVED = {
    "port-forward": ("port-forward deploy/app 18080:80", "the lab does not serve pods/portforward"),
    "attach": ("attach deploy/app", "the lab does not serve pods/attach"),
    "cp": ("cp {pod}:/etc/hosts ./hosts", "the lab does not copy files"),
    "create job": ("create job x --image=curl", "the lab does not serve jobs of batch/v1"),
    "create quota": ("create quota x", "does not serve resourcequotas of v1"),
}


@pytest.mark.parametrize(("arguments", "why"), UNSERVED.values(), ids=UNSERVED)
def test_what_the_lab_does_not_do_is_said(desk: Desk, arguments: str, why: str) -> None:
    desk.app()
    done = desk(arguments.format(pod=desk.pod()))
    assert done.code == 1
    assert why in done.err


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
