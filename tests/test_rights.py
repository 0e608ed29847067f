"""The roles that are printed grant what the stages do, and preflight asks for the same."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import yaml
from accounts import bind

from meshbook import Fleet, preflight, rights
from meshbook.cli import main
from meshbook.errors import UsageError

DONE = [
    ("0", "get pods/exec in istio-system"),
    ("1", "patch serviceaccounts in sample"),
    ("2", "watch secrets in gw"),
    ("3", "patch deployments.apps/scale in sample"),
    ("4", "delete pods in sample"),
    ("99", "delete namespaces"),
    ("99", "list deployments.apps in istio-system"),
]


@pytest.mark.parametrize(("stage", "right"), DONE)
def test_a_stage_by_itself_has_the_rights_to_what_it_does(stage: str, right: str) -> None:
    assert right in map(str, rights.needed([stage], gateway_namespace="gw"))


def test_the_roles_grant_nothing_that_preflight_does_not_ask_for() -> None:
    wanted = rights.needed()
    assert sum(len(rule["verbs"]) for one in rights.roles(wanted) for rule in one["rules"]) == len(wanted)


def test_a_right_that_is_missing_is_named_before_anything_is_changed(bare_fleet: Fleet, tmp_path: Path) -> None:
    whole = rights.needed(preflight.RUNBOOK)
    lost = rights.Right(namespace="sample", resource="deployments.apps/scale", verb="patch")
    told = {}
    for case, granted in {"whole": whole, "one less": [one for one in whole if one != lost]}.items():
        _, kubeconfig = bind(bare_fleet, granted, tmp_path)
        with contextlib.closing(Fleet.connect([], str(kubeconfig))) as fleet:
            told[case] = preflight.user_may(fleet, "sample", "nifc-istio-gateway")
    assert told["whole"].outcome == "pass"
    assert told["one less"].outcome == "fail"
    assert f"1 of {len(whole)} rights are missing: patch deployments.apps/scale in sample" in told["one less"].reason


def test_a_stage_that_only_looks_needs_nothing_but_looks_and_a_command() -> None:
    changes = {(one.verb, one.resource) for one in rights.needed(["0"]) if one.verb not in ("get", "list", "watch")}
    assert changes == {("create", "pods/exec")}


def test_the_command_prints_documents_that_kubectl_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rights", "--stage", "1", "-n", "shop", "-o", "yaml"]) == 0
    said = capsys.readouterr().out
    assert {(one["kind"], one["metadata"].get("namespace")) for one in yaml.safe_load_all(said)} == {
        ("ClusterRole", None),
        ("Role", "shop"),
    }
    made = [line for line in said.splitlines() if line.startswith("#   kubectl create namespace")]
    assert made == [
        "#   kubectl create namespace shop && kubectl label namespace shop app.kubernetes.io/managed-by=meshbook"
    ]


def test_the_command_prints_what_the_entry_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rights", "--stage", "2", "--entry", "load-balancer", "-o", "name"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert "create services in nifc-istio-gateway" in told
    assert not [line for line in told if "multicluster" in line]


def test_an_unknown_stage_is_refused() -> None:
    with pytest.raises(UsageError, match="no stage 7"):
        rights.needed(["7"])
