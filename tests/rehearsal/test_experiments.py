"""Outages rehearsed: a dry run touches nothing, what is not survived fails, known pauses are measured truly."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from causes import Bench
from ground import Ground
from planted import FAULTS

from meshbook import Fleet, analysis, experiment, probes, rights
from meshbook.errors import OutageError, UsageError
from meshbook.experiment import LoadProfile, Target, scratch_workload
from meshbook.lab.launch import LabState
from meshbook.outage import Safeguards

Run = Callable[..., Any]

pytestmark = [pytest.mark.envoy, pytest.mark.rehearsal, pytest.mark.timeout(240)]

GATEWAYS = "nifc-istio-gateway"
SHORT = ("-p", "rate_per_s=10", "-p", "outage_s=3")
KINDS = ("Deployment", "Service", "VirtualService")
KILLED = """
    import sys
    from meshbook import Fleet, experiment
    on_line = experiment.ProcessPause.on_line
    def aloud(pause, line, when):
        on_line(pause, line, when)
        print(line, flush=True)
    experiment.ProcessPause.on_line = aloud
    target = experiment.find_target(Fleet.connect([], sys.argv[1]), "sample", "nifc-istio-gateway", timeout_s=30)
    with experiment.scratch_workload(target) as scratch:
        print(scratch.outside[0].url, flush=True)
        scratch.pause_process(5)
"""


@pytest.fixture
def target(served: LabState, fleet: Fleet) -> Target:
    return experiment.find_target(fleet, "sample", GATEWAYS, timeout_s=30)


def left(target: Target) -> list[str]:
    """Return what is left of the scratch workload in any cluster."""
    return [
        f"{cluster.name}: {kind}"
        for cluster in target.fleet
        for kind in KINDS
        if cluster.find(kind, "meshbook-scratch", target.namespace) is not None
    ]


def test_a_dry_run_prints_the_plan_and_changes_nothing(run: Run, served: LabState, fleet: Fleet) -> None:
    before = fleet["cluster1"].get("Deployment", "helloworld-v1", "sample")
    outcome = run("--dry-run", kubeconfig=served.kubeconfig)
    assert outcome.exit_code == 0, outcome.said
    claim = "scale-to-zero at cluster1 is planned (a dry run: nothing was taken down)"
    assert "\nnothing would be refused\n" in outcome.said
    assert outcome.outcomes("03_failover") == {claim: "pass"}
    assert list(outcome.notebooks) == ["00_preflight", "03_failover"]
    assert "cluster1: Deployment helloworld-v1 in sample: 1 → 0 replicas\n" in outcome.said
    assert fleet["cluster1"].get("Deployment", "helloworld-v1", "sample") == before
    assert "1 → 0 replicas" in (outcome.folder / "03_failover.html").read_text()


def test_no_outage_starts_while_a_source_cannot_reach_the_survivor(target: Target) -> None:
    ground = Ground(fleet=target.fleet)
    with FAULTS["remote secret gone, one side"].plant(ground):
        asked = Bench(ground=ground, vip="", effect_s=15, timeout_s=0.5)
        assert asked.wait({ground.ways["there"]}, silent=True) is not None
        load = experiment.fit_load(LoadProfile(), target, experiment.Limits())
        (plan,) = experiment.plans(experiment.steps(target.fleet, ["scale-to-zero"]), target, Safeguards(), load)
        wrong, steady = [check for check in plan.checks if check.ok is False]
        assert wrong.saw.startswith("cluster1 → cluster2: cluster1 has no remote secret for cluster2")
        assert "cluster1 got none from cluster2 in " in wrong.saw
        assert "cluster1 got no answer from cluster2 in " in steady.saw
        with pytest.raises(OutageError, match="each source is answered by the survivor"):
            plan.require()


def test_a_cluster_that_is_down_is_not_survived_and_that_fails(run: Run, account: Run, target: Target) -> None:
    modes = ("-p", "modes=[cluster-down]", "-p", "must_survive=[cluster-down]", "-p", "calibrate_s=[0.5]")
    second = ("-p", "outage_clusters=[cluster2]")  # which holds the MultiClusterIngress
    redacted = ("--redact", "addresses,contexts")
    outcome = run("4", *modes, *second, *SHORT, *redacted, kubeconfig=account(rights.needed(["4"])))
    assert outcome.exit_code == 1, outcome.said
    assert "[context 2]" in (index := (outcome.folder / "index.html").read_text())
    assert not re.search(r"cluster[12]|127\.\d+\.\d", index)
    with (outcome.folder / "04_experiments.downtime.csv").open() as rows:
        down_s = [float(row["high_ms"] or 0) / 1000 for row in csv.DictReader(rows)]
    assert max(down_s) < 20, "nobody's questions to a silent cluster made its outage longer"
    found = outcome.outcomes("04_experiments")
    assert found["every source is answered by the survivor alone"] == "fail"
    afterwards = "every source is answered by pods of [context 1] (v1) and [context 2] (v2) after each outage"
    assert found[afterwards] == "pass"
    assert "outages of known length lie in the ranges that are measured" in found
    calibration = (outcome.folder / "04_experiments.calibration.csv").read_text()
    assert calibration.count("scratch stopped for 0.5 s") == 3
    assert left(target) == []


@pytest.mark.flaky(reruns=1)  # a machine that stands still for a moment is an outage that nobody has made
def test_known_pauses_of_the_scratch_workload_lie_in_what_is_measured_by_every_path(target: Target) -> None:
    before = [str(state) for state in target.fleet.deployments(target.namespace)]
    found = experiment.calibrate(target, LoadProfile(rate_per_s=10.0), [0.3, 1.0])
    ways = {(row.source, row.path) for row in found.itertuples()}
    assert ways == {("external client", "vip"), ("cluster1", "mesh"), ("cluster2", "mesh")}
    assert bool(found["seen"].all())
    assert analysis.measures_truly(found).outcome == "pass", found.to_string()
    assert left(target) == []
    assert [str(state) for state in target.fleet.deployments(target.namespace)] == before


def test_an_interrupted_calibration_leaves_nothing(target: Target) -> None:
    def interrupted() -> None:
        with scratch_workload(target):
            assert left(target) == [f"cluster1: {kind}" for kind in KINDS] + [f"cluster2: {kind}" for kind in KINDS[1:]]
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert left(target) == []


def test_a_killed_calibration_leaves_a_server_that_answers_again_and_the_next_one_tidies_up(
    target: Target, served: LabState
) -> None:
    argv = [sys.executable, "-c", textwrap.dedent(KILLED), str(served.kubeconfig)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        url = program.stdout.readline().strip()
        assert [program.stdout.readline().strip() for _ in range(2)] == ["ready", "stopped"]
        os.kill(program.pid, signal.SIGKILL)
    assert left(target)
    assert probes.curl_from_here(url, 1, timeout_s=0.5)["error"].tolist() == ["timeout"]
    assert probes.wait_for_first_answer(url, 20).version == "scratch"
    with scratch_workload(target):
        pass
    assert left(target) == []


def test_without_injection_there_is_no_calibration(target: Target) -> None:
    fleet, bare = target.fleet, replace(target, namespace="unmeshed")
    fleet.create_namespace(bare.namespace)
    for cluster in fleet:
        gateway = cluster.get("Gateway", "helloworld-gateway", target.namespace)
        metadata = {"name": "helloworld-gateway", "namespace": bare.namespace}
        cluster.create("Gateway", {"metadata": metadata, "spec": gateway["spec"]})
    try:
        with pytest.raises(UsageError, match="has put no sidecar into"), scratch_workload(bare):
            raise AssertionError("it was given")
        assert left(bare) == []
    finally:
        fleet.delete_namespace(bare.namespace)
