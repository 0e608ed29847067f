"""Google's own command line enables the ingress feature on the lab's fleet API."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshbook.lab import launch, pki
from meshbook.lab.gkehub import FleetServer
from meshbook.lab.loopback import claim_block
from meshbook.lab.topology import two_clouds

pytestmark = pytest.mark.skipif(not shutil.which("gcloud"), reason="gcloud is not installed")

CONFIG = "projects/meshbook-lab/locations/us-central1/memberships/nifc-anthosgke-cls"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def fleet(background: Any, tmp_path: Path) -> Any:
    block, claim = claim_block()
    topology = two_clouds(tmp_path, block)
    topology.fleet_token_file.write_text("secret")
    tokens = {cluster.name: "token" for cluster in topology.clusters}
    topology.kubeconfig.write_text(pki.fleet_kubeconfig(topology, "root", tokens))
    server = FleetServer(topology, "secret")
    background.run(server.start())
    environment = launch.shell_environment(topology.kubeconfig, ("cluster1", "cluster2"))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        home = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
        argv = ["gcloud", "container", "hub", *arguments, "--quiet"]
        return subprocess.run(argv, env=environment | home, capture_output=True, text=True, timeout=60)

    yield run, server.fleet
    background.run(server.stop())
    claim.close()


def test_the_memberships_are_those_of_the_article(fleet: Any) -> None:
    run, _ = fleet
    listed = run("memberships", "list", "--format=value(name.basename(),name.segment(3))")
    assert listed.stdout == "nifc-anthosbm-cls\tglobal\nnifc-anthosgke-cls\tus-central1\n"


def test_the_feature_is_enabled_once_and_taken_away(fleet: Any) -> None:
    run, data = fleet
    enabled = run("ingress", "enable", f"--config-membership={CONFIG}")
    assert (enabled.returncode, "done" in enabled.stderr) == (0, True)
    (feature,) = data.features("projects/meshbook-lab/locations/global")
    assert feature["spec"]["multiclusteringress"]["configMembership"] == CONFIG
    again = run("ingress", "enable", f"--config-membership={CONFIG}")
    assert "already enabled" in again.stderr
    assert run("ingress", "disable").returncode == 0
    assert data.features("projects/meshbook-lab/locations/global") == []


def test_a_membership_that_cannot_be_is_refused(fleet: Any) -> None:
    run, _ = fleet
    refused = run("ingress", "enable", "--config-membership=nifc-anthosbm-cls", "--location=global")
    assert refused.returncode == 1
    assert "is not a GKE cluster" in refused.stderr
