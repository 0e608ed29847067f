"""One file leads to the clusters, as their owner or as one who may only look, and to the fleet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meshbook.lab import launch, pki
from meshbook.lab.topology import LabTopology, two_clouds


@pytest.fixture
def topology(tmp_path: Path) -> LabTopology:
    return two_clouds(tmp_path, 99)


def _written(topology: LabTopology, *users: str) -> Path:
    text = pki.fleet_kubeconfig(topology, "root", {user: f"token of {user}" for user in users})
    topology.kubeconfig.write_text(text)
    return topology.kubeconfig


def test_viewers_have_contexts_of_their_own_after_the_owners(topology: LabTopology) -> None:
    document = json.loads(_written(topology, "cluster1", "cluster2", "cluster2-viewer").read_text())
    contexts = [(entry["name"], entry["context"]["cluster"]) for entry in document["contexts"]]
    assert contexts == [("cluster1", "cluster1"), ("cluster2", "cluster2"), ("cluster2-viewer", "cluster2")]
    assert document["current-context"] == "cluster1"
    assert document["users"][2]["user"]["token"] == "token of cluster2-viewer"


def test_the_environment_of_a_shell_leads_to_clusters_and_fleet(topology: LabTopology) -> None:
    path = _written(topology, "cluster1", "cluster2")
    environment = launch.shell_environment(path, ("cluster1", "cluster2"))
    assert environment["KUBECONFIG"] == str(path)
    assert (environment["CTX_CLUSTER1"], environment["CTX_CLUSTER2"]) == ("cluster1", "cluster2")
    assert environment["CLOUDSDK_API_ENDPOINT_OVERRIDES_GKEHUB"] == topology.fleet_url + "/"
    assert environment["CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"] == str(topology.fleet_token_file)
