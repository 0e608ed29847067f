"""What an SRE changes by stock kubectl: said, applied, rolled out and taken away as in a real cluster.

Each test has a namespace of its own in one lab. Where kubectl's version matters, each installed one is asked.
"""

from __future__ import annotations

import json
import re

import pytest
from kubectl_desk import APP, Desk

pytestmark = pytest.mark.envoy


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


def test_a_rollout_restarts(desk: Desk) -> None:
    desk.app()
    assert desk("set env deployment/app A=c").lines == ["deployment.apps/app env updated"]
    desk.rolled_out()
    before = desk.pod()
    assert desk("rollout restart deployment app").lines == ["deployment.apps/app restarted"]
    desk.rolled_out()
    assert desk.pod() != before


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
