"""On a whole lab: the runner is killed while something is away, nobody restores, and the Job brings it back."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from meshbook import outage
from meshbook.clusters import Cluster, Fleet
from meshbook.errors import OutageError
from meshbook.lab import launch
from meshbook.outage import watchjob

pytestmark = pytest.mark.envoy

MANIFESTS = Path(__file__).parents[1] / "manifests" / "connectivity"
WATCHDOG_S = 3.0
PATIENCE_S = 30.0
PROGRAM = """
    import sys, time
    from meshbook import Fleet, outage
    fleet = Fleet.connect([], sys.argv[1])
    given = {"cluster": fleet["cluster1"], "deployment": "helloworld-v1", "namespace": "sample"}
    safeguards = outage.Safeguards(watchdog_s=float(sys.argv[3]))
    intent = outage.Intent(**given, mode=sys.argv[2], survivors=tuple(fleet), safeguards=safeguards)
    with outage.outage(intent):
        print("away", flush=True)
        time.sleep(60)
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[launch.LabState]:
    with launch.running_lab(fast=True) as lab:
        yield lab


@pytest.fixture(scope="module")
def fleet(lab: launch.LabState) -> Iterator[Fleet]:
    fleet = Fleet.connect(["cluster1", "cluster2"], lab.kubeconfig)
    fleet.create_namespace("sample", revision="asm-1175-9")
    for cluster, other in zip(fleet, ("v2", "v1"), strict=True):
        cluster.apply(MANIFESTS, "sample", f"version!={other}")
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "helloworld-v1"}
    spec = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 3}
    fleet["cluster1"].create(
        "HorizontalPodAutoscaler", {"metadata": {"name": "web", "namespace": "sample"}, "spec": spec}
    )
    fleet.wait_for_rollout("sample", timeout_s=30)
    yield fleet
    fleet.close()


@pytest.fixture
def target(fleet: Fleet) -> Cluster:
    return fleet["cluster1"]


def _state(cluster: Cluster) -> dict[str, Any]:
    """Return what an outage may touch: specs, meshbook's annotations, ready replicas."""
    found = {}
    for kind in ("Deployment", "Service", "HorizontalPodAutoscaler"):
        for one in cluster.list(kind):
            notes = {key: text for key, text in (one["metadata"].get("annotations") or {}).items() if "meshbook" in key}
            ready = one.get("status", {}).get("readyReplicas")
            found[f"{kind} {one['metadata']['namespace']}/{one['metadata']['name']}"] = (one["spec"], notes, ready)
    return found


def _left(cluster: Cluster) -> list[str]:
    kinds = (watchjob.JOB, watchjob.ACCOUNT_KIND, watchjob.ROLE, watchjob.BINDING, "Pod")
    names = [one["metadata"]["name"] for kind in kinds for one in cluster.list(kind)]
    return [name for name in names if name.startswith(watchjob.NAME)]


def _eventually(holds: Callable[[], bool]) -> float:
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < PATIENCE_S, "not in time"
        time.sleep(0.05)
    return time.monotonic() - begun


def _killed_while_away(lab: launch.LabState, mode: str) -> None:
    argv = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(lab.kubeconfig), mode, f"{WATCHDOG_S:g}"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as runner:
        assert runner.stdout is not None
        said = runner.stdout.readline()
        runner.send_signal(signal.SIGKILL)
        assert said == "away\n", said + runner.stdout.read()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mode", ["scale-to-zero", "readiness-lost", "east-west-down", "pods-deleted"])
def test_what_a_killed_runner_left_away_comes_back_by_itself(lab: launch.LabState, target: Cluster, mode: str) -> None:
    before = _state(target)
    _killed_while_away(lab, mode)
    assert _state(target) != before
    assert outage.MODE in str(_state(target))
    took_s = _eventually(lambda: _state(target) == before)
    assert took_s < WATCHDOG_S + 10
    (job,) = target.list(watchjob.JOB)
    _eventually(lambda: bool(target.list(watchjob.JOB)[0]["status"].get("completionTime")))
    target.delete_object(watchjob.JOB, job["metadata"]["name"], job["metadata"]["namespace"])
    _eventually(lambda: _left(target) == [])


@pytest.mark.timeout(120)
def test_a_runner_that_ends_well_leaves_no_watchdog_behind(fleet: Fleet, target: Cluster) -> None:
    before = _state(target)
    given = {"cluster": target, "deployment": "helloworld-v1", "namespace": "sample", "survivors": tuple(fleet)}
    with outage.outage(outage.Intent(**given, safeguards=outage.Safeguards(watchdog_s=30.0), timeout_s=30)):
        assert len(_left(target)) == 5
    _eventually(lambda: _left(target) == [])
    assert _state(target) == before


@pytest.mark.timeout(120)
def test_an_outage_that_its_watchdog_has_cut_short_is_no_measurement(fleet: Fleet, target: Cluster) -> None:
    before = _state(target)
    given = {"cluster": target, "deployment": "helloworld-v1", "namespace": "sample", "survivors": tuple(fleet)}
    intent = outage.Intent(**given, safeguards=outage.Safeguards(watchdog_s=WATCHDOG_S), timeout_s=30)
    with pytest.raises(OutageError, match="by its watchdog") as error, outage.outage(intent):
        _eventually(lambda: _state(target) == before)
    assert "watchdog_s is to be longer" in error.value.hint
    _eventually(lambda: _left(target) == [])


@pytest.mark.timeout(120)
def test_the_watchdog_of_a_dead_run_leaves_a_later_outage_alone(
    lab: launch.LabState, fleet: Fleet, target: Cluster
) -> None:
    _killed_while_away(lab, "scale-to-zero")
    (job,) = target.list(watchjob.JOB)
    given = {"cluster": target, "deployment": "helloworld-v1", "namespace": "sample", "survivors": tuple(fleet)}
    with outage.outage(outage.Intent(**given, timeout_s=30)):
        time.sleep(WATCHDOG_S + 1)
        assert target.get("Deployment", "helloworld-v1", "sample")["spec"]["replicas"] == 0
    target.delete_object(watchjob.JOB, job["metadata"]["name"], job["metadata"]["namespace"])
    _eventually(lambda: _left(target) == [])
