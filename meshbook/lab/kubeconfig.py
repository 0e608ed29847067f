"""The lab's kubeconfig: one context per cluster, and all that a client must know to reach them.

The cluster entries carry two extensions, a place that kubectl leaves alone: ``gkehub.googleapis.com`` with the address
of the fleet API, and ``meshbook.io/lab`` with the address where the lab is asked for faults. So this one file is all
that the runbook needs, as with two real clusters.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
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
    """Return the kubeconfig of all clusters, as JSON, which is YAML; ``tokens`` is keyed by user name.

    Who owns a cluster has its name, and so has the context; who may only look, and that context, ``viewer_of`` it.
    """
    fleet = {"endpoint": topology.fleet_url, "token-file": str(topology.fleet_token_file), "project": PROJECT}
    clusters = topology.clusters
    users = {cluster.name: cluster.name for cluster in clusters}
    users |= {viewer_of(cluster): cluster.name for cluster in clusters if viewer_of(cluster) in tokens}
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
        "users": [{"name": user, "user": {"token": tokens[user]}} for user in users],
        "contexts": [{"name": user, "context": {"cluster": cluster, "user": user}} for user, cluster in users.items()],
    }
    return json.dumps(document, indent=2) + "\n"


def viewer_of(cluster: ClusterTopology) -> str:
    """Return the user of a cluster who may look and change nothing, which is the name of a context too."""
    return f"{cluster.name}-viewer"


def shell_environment(path: Path, contexts: Sequence[str]) -> dict[str, str]:
    """Return what kubectl and gcloud, and the article's commands, must find in their environment to reach a lab."""
    clusters = json.loads(path.read_text())["clusters"]
    extensions = {entry["name"]: entry["extension"] for entry in clusters[0]["cluster"]["extensions"]}
    fleet = extensions[FLEET_EXTENSION]
    return {
        "KUBECONFIG": str(path),
        **{f"CTX_CLUSTER{number}": name for number, name in enumerate(contexts, start=1)},
        "CLOUDSDK_CORE_PROJECT": fleet["project"],
        "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": fleet["token-file"],
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_GKEHUB": fleet["endpoint"] + "/",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_SERVICEUSAGE": fleet["endpoint"] + "/",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
    }


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
