"""The lab's kubeconfig: one context per cluster, and all that a client must know to reach them.

The cluster entries carry two extensions, a place that kubectl leaves alone: ``gkehub.googleapis.com`` with the address
of the fleet API, and ``meshbook.io/lab`` with the address where the lab is asked for faults. So this one file is all
that the runbook needs, as with two real clusters.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meshbook.lab.topology import PROJECT, ClusterTopology, LabTopology

FLEET_EXTENSION = "gkehub.googleapis.com"
LAB_EXTENSION = "meshbook.io/lab"


def write_private(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` by atomic rename; only the owner may read it (mode 0600)."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    draft.replace(path)


def _cluster_entry(cluster: ClusterTopology, root_pem: str, extensions: list[dict[str, Any]]) -> dict[str, Any]:
    authority = base64.b64encode(root_pem.encode()).decode()
    entry = {"server": cluster.api_url, "certificate-authority-data": authority, "extensions": extensions}
    return {"name": cluster.name, "cluster": entry}


def for_fleet(topology: LabTopology, root_pem: str, tokens: Mapping[str, str]) -> str:
    """Return the kubeconfig of all clusters, as JSON, which is YAML; ``tokens`` is keyed by cluster name."""
    fleet = {"endpoint": topology.fleet_url, "token-file": str(topology.fleet_token_file), "project": PROJECT}
    clusters = topology.clusters
    extensions = {
        cluster.name: [
            {"name": FLEET_EXTENSION, "extension": fleet},
            {"name": LAB_EXTENSION, "extension": _control(topology, cluster)},
        ]
        for cluster in clusters
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": clusters[0].name,
        "clusters": [_cluster_entry(cluster, root_pem, extensions[cluster.name]) for cluster in clusters],
        "users": [{"name": cluster.name, "user": {"token": tokens[cluster.name]}} for cluster in clusters],
        "contexts": [
            {"name": cluster.name, "context": {"cluster": cluster.name, "user": cluster.name}} for cluster in clusters
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def _control(topology: LabTopology, cluster: ClusterTopology) -> dict[str, str]:
    token_file = str(topology.control_token_file)
    return {"endpoint": topology.control_url, "token-file": token_file, "cluster": cluster.name}


def for_remote_secret(cluster: ClusterTopology, root_pem: str, token: str) -> str:
    """Return the kubeconfig that a remote secret holds: how one istiod reads another cluster."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": cluster.name,
        "clusters": [_cluster_entry(cluster, root_pem, [])],
        "users": [{"name": cluster.name, "user": {"token": token}}],
        "contexts": [{"name": cluster.name, "context": {"cluster": cluster.name, "user": cluster.name}}],
    }
    return json.dumps(document)
