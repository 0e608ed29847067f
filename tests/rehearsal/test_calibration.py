"""The measurement's own error on a whole mesh: by a workload of meshbook's own, which nothing is left of afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from meshbook import Fleet, analysis, experiment, gkehub, probes
from meshbook.analysis import Fault
from meshbook.errors import UsageError
from meshbook.experiment import calibrating
from meshbook.experiment.freezing import Freezable
from meshbook.experiment.rungs import Scene
from meshbook.experiment.scratch import KINDS, NAME, scratch
from meshbook.lab.launch import LabState

Run = Callable[..., Any]

pytestmark = [pytest.mark.envoy, pytest.mark.rehearsal, pytest.mark.timeout(240)]

PACE = experiment.Pace(rate_per_s=10.0, before_s=2.0)
LENGTHS_S = [0.3, 1.0]
KILLED = """
    import sys
    from meshbook import Fleet, experiment
    from meshbook.experiment import holding
    from meshbook.experiment.scratch import scratch
    heard = holding.Hold.on_line
    def aloud(hold, line, when):
        heard(hold, line, when)
        print(line, flush=True)
    holding.Hold.on_line = aloud
    fleet = Fleet.connect([], sys.argv[1])
    where = {"outside": sys.argv[2], "namespace": "sample", "gateway_namespace": "gateways", "versions": {}}
    with scratch(experiment.Scene(fleet=fleet, config=fleet["cluster2"], **where, timeout_s=30)) as subject:
        print(subject.outside, flush=True)
        subject.freeze(8)
"""


@pytest.fixture(scope="module")
def scene(lab: LabState, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """The lab with stages 1 and 2 done."""
    out = tmp_path_factory.mktemp("served")
    argv = [sys.executable, "-m", "meshbook", "run", "1", "2", "--out", str(out), "--kubeconfig", str(lab.kubeconfig)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=110, env=dict(os.environ), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    fleet = Fleet.connect(["cluster1", "cluster2"], str(lab.kubeconfig))
    vip = gkehub.wait_for_vip(fleet["cluster2"], "nifc-istio-gateway", "istio-ingressgateway")
    where = {"outside": f"http://{vip}/hello", "namespace": "sample", "gateway_namespace": "nifc-istio-gateway"}
    versions = {"cluster1": "v1", "cluster2": "v2"}
    yield Scene(fleet=fleet, config=fleet["cluster2"], versions=versions, **where, timeout_s=30)
    fleet.close()


def left(scene: Scene) -> list[str]:
    """Return what is left of the workload in any cluster."""
    return [
        f"{cluster.name}: {kind}"
        for cluster in scene.fleet
        for kind in KINDS
        if cluster.find(kind, NAME, scene.namespace) is not None
    ]


@pytest.mark.flaky(reruns=1)  # a machine that stands still for a moment is an outage that nobody has made
def test_known_freezes_of_the_scratch_workload_lie_in_what_is_measured_by_every_path(scene: Scene) -> None:
    before = [str(state) for state in scene.fleet.deployments(scene.namespace)]
    found = experiment.calibrate(scene, PACE, LENGTHS_S, "scratch")
    assert {(row.source, row.path) for row in found.itertuples()} == {
        ("outside", "vip"),
        ("cluster1", "mesh"),
        ("cluster2", "mesh"),
    }
    assert set(found["fault"]) == {"scratch frozen for 0.3 s", "scratch frozen for 1 s"}
    assert bool(found["seen"].all())
    assert analysis.measures_truly(found).outcome == "pass", found.to_string()
    assert left(scene) == []
    assert [str(state) for state in scene.fleet.deployments(scene.namespace)] == before


def test_a_truth_that_lies_by_a_second_fails(scene: Scene) -> None:
    with scratch(scene) as honest:

        def lying(length_s: float) -> Fault:
            told, lie = honest.freeze(length_s), timedelta(seconds=1)
            return replace(told, start=told.start - lie, end=told.end - lie)

        liar = Freezable(outside=honest.outside, inside=honest.inside, freeze=lying)
        found = calibrating.measured(liar, scene, PACE, [0.3])
    assert analysis.measures_truly(found).outcome == "fail", found.to_string()
    assert [verdict.outcome for verdict in experiment.claims_on(found)] == ["fail"]


def test_an_interrupted_calibration_leaves_nothing(scene: Scene) -> None:
    def interrupted() -> None:
        with scratch(scene):
            assert left(scene) == [f"cluster1: {kind}" for kind in KINDS] + [f"cluster2: {kind}" for kind in KINDS[1:]]
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert left(scene) == []


def test_a_killed_calibration_leaves_a_server_that_answers_again_and_the_next_one_tidies_up(
    scene: Scene, lab: LabState
) -> None:
    argv = [sys.executable, "-c", textwrap.dedent(KILLED), str(lab.kubeconfig), scene.outside]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        url = program.stdout.readline().strip()
        assert [program.stdout.readline().strip() for _ in range(2)] == ["ready", "frozen"]
        os.kill(program.pid, signal.SIGKILL)
    assert left(scene)
    frozen = probes.curl_from_here(url, 1, timeout_s=0.5)
    assert frozen["error"].tolist() == ["timeout"]
    assert probes.wait_for_first_answer(url, 20).version == "scratch"
    with scratch(scene):
        pass
    assert left(scene) == []


def test_without_injection_there_is_no_calibration(scene: Scene) -> None:
    fleet, bare = scene.fleet, "unmeshed"
    fleet.create_namespace(bare)
    for cluster in fleet:
        gateway = cluster.get("Gateway", "helloworld-gateway", scene.namespace)
        metadata = {"name": "helloworld-gateway", "namespace": bare}
        cluster.create("Gateway", {"metadata": metadata, "spec": gateway["spec"]})
    try:
        with pytest.raises(UsageError, match="has put no sidecar into"), scratch(replace(scene, namespace=bare)):
            raise AssertionError("it was given")
        assert left(replace(scene, namespace=bare)) == []
    finally:
        fleet.delete_namespace(bare)


def test_the_notebook_calibrates_on_scratch_when_it_is_told_to(run: Run, scene: Scene, lab: LabState) -> None:
    short = ("-p", "before_s=2", "-p", "outage_s=3", "-p", "after_s=2", "-p", "calibrate_s=[0.3]")
    chosen = ("-p", "rate_per_s=10", "-p", "calibrate=true", "-p", "calibrate_on=scratch")
    outcome = run("3", *short, *chosen, kubeconfig=lab.kubeconfig)
    kept = (outcome.folder / "03_failover.calibration.csv").read_text()
    assert kept.count("scratch frozen for 0.3 s") == 3
    assert left(scene) == []
    assert "outages of known length lie in the ranges that are measured" in outcome.outcomes("03_failover")
