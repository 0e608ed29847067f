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


def test_a_mistake_in_a_change_is_answered_as_by_a_real_cluster(each_desk: Desk) -> None:
    each_desk.app()
    each_desk.write(APP.replace("app: app}}", "app: other}}").replace("{labels: {app: app}}", "{labels: {app: other}}"))
    assert "spec.selector: Invalid value: " in (refused := each_desk("apply -f app.yaml").err)
    assert "field is immutable" in refused
    each_desk.write(APP.replace("  replicas: 1", "  replcas: 1"))
    assert 'strict decoding error: unknown field "spec.replcas"' in each_desk("apply -f app.yaml").err
    wrong = each_desk("""patch deployment app -p '{"spec":{"replicas":"x"}}'""")
    assert wrong.err.startswith("The request is invalid: patch: Invalid value: ")


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
