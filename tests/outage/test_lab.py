"""On a whole lab: every mode, and a whole cluster down that is restored also when who took it down was killed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshbook import outage
from meshbook.clusters import Cluster, Fleet
from meshbook.errors import ClusterError, LeftToRunError
from meshbook.lab import launch
from meshbook.lab.faults import FaultClient, FaultSpec
from meshbook.settings import Patience

pytestmark = pytest.mark.envoy

MANIFESTS = Path(__file__).parents[2] / "manifests" / "connectivity"
LEASE = "coordination.k8s.io/v1/Lease"
PROGRAM = """
    import sys, time
    from meshbook import Fleet, outage
    from meshbook.settings import Patience
    fleet = Fleet.connect([], sys.argv[1], patience=Patience(lease_s=4))
    given = {"cluster": fleet["cluster1"], "deployment": "helloworld-v1", "namespace": "sample"}
    with outage.outage(outage.Intent(**given, mode="cluster-down", survivors=tuple(fleet))):
        print("down", flush=True)
        time.sleep(60)
"""


@pytest.fixture(scope="module")
def lab(shared_lab: launch.LabState) -> launch.LabState:
    return shared_lab


@pytest.fixture(scope="module")
def fleet(lab: launch.LabState) -> Iterator[Fleet]:
    """Short leases, here as in a killed run, that run out soon; long enough for a busy machine all the same."""
    fleet = Fleet.connect(["cluster1", "cluster2"], lab.kubeconfig, patience=Patience(lease_s=2))
    fleet.create_namespace("sample", revision="asm-1175-9")
    for cluster, other in zip(fleet, ("v2", "v1"), strict=True):
        cluster.apply(MANIFESTS, "sample", f"version!={other}")
    fleet.wait_for_rollout("sample", timeout_s=30)
    yield fleet
    fleet.close()


@pytest.fixture
def target(fleet: Fleet) -> Cluster:
    return fleet["cluster1"]


def _answers(fleet: Fleet, lab: launch.LabState) -> bool:
    """Ask with little patience whether the API server of cluster1 answers."""
    hasty = Patience(connect_s=1, read_s=0.5, attempts=1)
    try:
        Fleet.connect(["cluster1"], lab.kubeconfig, patience=hasty)
    except ClusterError:
        return False
    return True


def _kill_a_run_with_the_cluster_down(lab: launch.LabState) -> None:
    argv = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(lab.kubeconfig)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "down\n"
        program.kill()


def test_every_node_of_a_lab_says_so(fleet: Fleet) -> None:
    assert fleet.each(outage.is_lab) == {"cluster1": True, "cluster2": True}


def test_a_whole_cluster_goes_down_and_is_restored(fleet: Fleet, target: Cluster, lab: launch.LabState) -> None:
    given = {"cluster": target, "deployment": "helloworld-v1", "namespace": "sample"}
    intent = outage.Intent(**given, mode="cluster-down", survivors=tuple(fleet), timeout_s=30)
    with outage.outage(intent) as going_on:
        assert not _answers(fleet, lab)
        with pytest.raises(LeftToRunError, match=r"a run that is alive holds cluster1 down[\s\S]*--force"):
            outage.restore(fleet, "sample")
        assert not _answers(fleet, lab)
        (fault,) = FaultClient.of(lab.root).active()
    assert _answers(fleet, lab)
    assert going_on.ready_again is not None
    ended = FaultClient.of(lab.root).find(fault.id)
    assert ended.ended is not None
    assert going_on.down_requested is not None
    assert going_on.down_accepted is not None
    assert going_on.down_requested <= ended.began.not_before.time <= going_on.down_accepted


def test_a_cluster_that_a_killed_run_left_down_is_restored_when_its_lease_has_run_out(
    fleet: Fleet, target: Cluster, lab: launch.LabState
) -> None:
    _kill_a_run_with_the_cluster_down(lab)
    begun = time.monotonic()
    (restored,) = outage.restore(fleet, "sample")
    assert str(restored) == "cluster1: Cluster cluster1 restored"
    assert time.monotonic() - begun < 15
    assert _answers(fleet, lab)
    assert target.list(LEASE, "sample") == []


def test_the_command_restores_a_cluster_before_it_asks_it(fleet: Fleet, lab: launch.LabState) -> None:
    FaultClient.of(lab.root).begin(FaultSpec(kind="cluster-down", context="cluster1", by="outage"))
    argv = [sys.executable, "-m", "meshbook", "restore", "--contexts", "cluster1,cluster2"]
    argv += ["--kubeconfig", str(lab.kubeconfig)]
    looked = subprocess.run([*argv, "--dry-run"], capture_output=True, text=True, timeout=20, check=True)
    assert looked.stdout.startswith("cluster1: Cluster cluster1: cluster-down since ")
    assert not _answers(fleet, lab)
    found = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True)
    assert found.stdout == "cluster1: Cluster cluster1 restored\n"
    assert _answers(fleet, lab)


def test_a_cluster_that_a_killed_run_left_down_comes_back_by_itself(fleet: Fleet, lab: launch.LabState) -> None:
    _kill_a_run_with_the_cluster_down(lab)
    control = FaultClient.of(lab.root)
    (fault,) = control.active()
    assert control.wait(fault.id, 15).why_ended == "duration"
    fleet.wait_for_rollout("sample", timeout_s=20)
    assert outage.restore(fleet, "sample", force=True) == []  # its lease need not be watched here


@pytest.mark.parametrize("mode", ["scale-to-zero", "pods-deleted", "readiness-lost", "east-west-down"])
def test_every_other_mode_leaves_the_lab_as_it_was(fleet: Fleet, target: Cluster, mode: str) -> None:
    def shape() -> dict[str, object]:
        found = [(kind, one) for kind in ("Deployment", "Service") for one in target.list(kind)]
        return {f"{kind} {one['metadata']['namespace']}/{one['metadata']['name']}": one["spec"] for kind, one in found}

    before = shape()
    given = {"cluster": target, "deployment": "helloworld-v1", "namespace": "sample"}
    with outage.outage(outage.Intent(**given, mode=mode, survivors=tuple(fleet), timeout_s=30)) as going_on:
        assert going_on.down is not None
    assert shape() == before
    assert outage.restore(fleet) == []
