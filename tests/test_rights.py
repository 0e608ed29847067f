"""The roles that are printed grant what the stages do, and preflight asks for the same."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from meshbook import rights
from meshbook.cli import main
from meshbook.errors import UsageError


def allows(documents: list[dict[str, Any]], verb: str, resource: str, namespace: str) -> bool:
    """Evaluate roles as RBAC does, for a user who is bound to all of them."""
    full, _, subresource = resource.partition("/")
    plural, _, group = full.partition(".")
    wanted = f"{plural}/{subresource}".rstrip("/")
    return any(
        group in rule["apiGroups"] and wanted in rule["resources"] and verb in rule["verbs"]
        for one in documents
        if one["metadata"].get("namespace") in (None, namespace)
        for rule in one["rules"]
    )


DONE = [
    ("1", "patch", "serviceaccounts", "sample"),
    ("1", "create", "deployments.apps", "sample"),
    ("1", "create", "pods/exec", "sample"),
    ("1", "get", "pods/exec", "sample"),
    ("0", "get", "pods/exec", "istio-system"),
    ("1", "create", "namespaces", ""),
    ("2", "create", "roles.rbac.authorization.k8s.io", "gw"),
    ("2", "watch", "secrets", "gw"),
    ("2", "patch", "multiclusteringresses.networking.gke.io", "gw"),
    ("2", "patch", "virtualservices.networking.istio.io", "sample"),
    ("3", "patch", "deployments.apps/scale", "sample"),
    ("3", "patch", "leases.coordination.k8s.io", "sample"),
    ("4", "delete", "pods", "sample"),
    ("4", "patch", "deployments.apps/scale", "istio-system"),
    ("99", "delete", "multiclusterservices.networking.gke.io", "gw"),
    ("99", "delete", "namespaces", ""),
]


@pytest.mark.parametrize(("stage", "verb", "resource", "namespace"), DONE)
def test_the_roles_of_a_stage_grant_what_it_does(stage: str, verb: str, resource: str, namespace: str) -> None:
    assert allows(rights.roles(rights.needed([stage], gateway_namespace="gw")), verb, resource, namespace)


def test_the_roles_grant_every_right_that_preflight_asks_for_and_no_other() -> None:
    wanted = rights.needed()
    documents = rights.roles(wanted)
    assert all(allows(documents, one.verb, one.resource, one.namespace) for one in wanted)
    assert sum(len(rule["verbs"]) for one in documents for rule in one["rules"]) == len(wanted)


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
