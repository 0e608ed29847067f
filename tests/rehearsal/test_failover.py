"""Stage 3 rehearsed: a dry run touches nothing, and a failure that the service does not survive comes out as a fail."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from meshbook import Fleet
from meshbook.lab.launch import LabState

Run = Callable[..., Any]

pytestmark = [pytest.mark.envoy, pytest.mark.rehearsal, pytest.mark.timeout(240)]

SHORT = ("-p", "rate_per_s=10", "-p", "before_s=2", "-p", "outage_s=3", "-p", "after_s=2")


@pytest.fixture(scope="module")
def served(lab: LabState, tmp_path_factory: pytest.TempPathFactory) -> LabState:
    """The lab with stages 1 and 2 done."""
    out = tmp_path_factory.mktemp("served")
    argv = [sys.executable, "-m", "meshbook", "run", "1", "2", "--out", str(out), "--kubeconfig", str(lab.kubeconfig)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=110, env=dict(os.environ), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return lab


def test_a_dry_run_prints_the_plan_and_changes_nothing(run: Run, served: LabState) -> None:
    fleet = Fleet.connect(["cluster1", "cluster2"], str(served.kubeconfig))
    before = fleet["cluster1"].get("Deployment", "helloworld-v1", "sample")
    outcome = run("--dry-run", kubeconfig=served.kubeconfig)
    after = fleet["cluster1"].get("Deployment", "helloworld-v1", "sample")
    fleet.close()
    assert outcome.exit_code == 0, outcome.said
    claim = "scale-to-zero at cluster1 is ready to start (a dry run: nothing was done)"
    assert outcome.outcomes("03_failover") == {claim: "pass"}
    assert list(outcome.notebooks) == ["00_preflight", "03_failover"]
    assert "change  cluster1: Deployment helloworld-v1 in sample: 1 → 0 replicas\n" in outcome.said
    assert after == before
    assert "1 → 0 replicas" in (outcome.folder / "03_failover.html").read_text()


def test_a_cluster_that_falls_silent_is_not_survived_and_that_fails(run: Run, served: LabState) -> None:
    modes = ("-p", "modes=[cluster-down]", "-p", "must_survive=[cluster-down]")
    both = ("-p", "outage_clusters=[cluster1,cluster2]")  # the second holds the MultiClusterIngress
    hidden = ("--redact", "addresses,contexts")
    outcome = run("3", *modes, *both, *SHORT, *hidden, kubeconfig=served.kubeconfig)
    assert outcome.exit_code == 1, outcome.said
    assert "[context 2]" in (index := (outcome.folder / "index.html").read_text())
    assert not re.search(r"cluster[12]|127\.\d", index)
    with (outcome.folder / "03_failover.rounds.csv").open() as rounds:
        away_s = [float(row["high_ms"] or 0) / 1000 for row in csv.DictReader(rounds)]
    assert max(away_s) < 20, "nobody's questions to a silent cluster made its outage longer"
    found = outcome.outcomes("03_failover")
    assert found["the survivor carries the service: at most 5 % of the requests fail"] == "fail"
    assert found["every source gets answers again from v1 and v2"] == "pass"
