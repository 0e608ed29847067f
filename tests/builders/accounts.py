"""A service account with the roles that rights make, in every cluster of a fleet, and who acts as it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from meshbook import Fleet, rights
from meshbook.objects import SYSTEM_NAMESPACE

NAME = "runner"


def bind(fleet: Fleet, granted: Sequence[rights.Right], folder: Path) -> tuple[Path, Path]:
    """Make the roles and their bindings; return the manifest of them, and the kubeconfig of who acts as the account."""
    roles, manifest, kubeconfig = rights.roles(granted), folder / "roles.yaml", folder / "kubeconfig"
    for namespace in {one.namespace for one in granted} - {""}:
        fleet.create_namespace(namespace)
    manifest.write_text(yaml.safe_dump_all([*roles, *map(_binding, roles)]))
    fleet.apply(manifest)
    config = json.loads(Path(next(iter(fleet)).kubeconfig).read_text())
    for user in config["users"]:
        user["user"]["as"] = f"system:serviceaccount:{SYSTEM_NAMESPACE}:{NAME}"
    kubeconfig.write_text(json.dumps(config))
    return manifest, kubeconfig


def _binding(role: dict[str, Any]) -> dict[str, Any]:
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": role["kind"], "name": role["metadata"]["name"]}
    head = {"apiVersion": role["apiVersion"], "kind": f"{role['kind']}Binding", "metadata": role["metadata"]}
    return head | {
        "roleRef": ref,
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": SYSTEM_NAMESPACE}],
    }
