"""Faults are asked for over HTTP, by who knows the token; the lab ends them even when nobody does."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from meshbook.clusters import Fleet
from meshbook.errors import LabError
from meshbook.lab import launch
from meshbook.lab.faults import FaultClient, FaultSpec
from meshbook.lab.topology import LabFolder

pytestmark = pytest.mark.envoy

BREAK_AND_WAIT = """
import sys, time
from pathlib import Path
from meshbook.lab.faults import FaultClient, FaultSpec
faults = FaultClient.of(Path(sys.argv[1]))
with faults.injected(FaultSpec(kind="cluster-down", context="cluster1", for_s=0.8)):
    print("on", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def faults(shared_lab: launch.LabState) -> Iterator[FaultClient]:
    faults = FaultClient.of(shared_lab.root)
    yield faults
    faults.end_all()


def test_the_link_between_the_clusters_is_cut_for_a_block_and_whole_after_it(faults: FaultClient) -> None:
    with faults.injected(FaultSpec(kind="link-cut", context="cluster1", for_s=60)) as record:
        assert len(record.targets) == 2
        assert faults.active() == [record]
        assert "still on" in str(record)
    assert faults.active() == []
    ended = faults.find(record.id)
    assert ended.ended is not None
    assert "asked" in str(ended)
    assert faults.end(record.id) == ended


def knock(place: tuple[str, int]) -> str:
    """Return what comes of a try to connect."""
    try:
        socket.create_connection(place, 0.3).close()
    except OSError as error:
        return type(error).__name__
    return "connected"


def test_packets_to_a_cut_link_and_to_a_gateway_without_pods_vanish(
    shared_lab: launch.LabState, faults: FaultClient
) -> None:
    fleet = Fleet.connect(["cluster1", "cluster2"], str(shared_lab.kubeconfig))
    with contextlib.closing(fleet):
        cluster = fleet["cluster1"]
        gateway = ("istio-eastwestgateway", "istio-system")
        status = cluster.get("Service", *gateway)["status"]
        place = (status["loadBalancer"]["ingress"][0]["ip"], 15443)
        assert knock(place) == "connected"
        with faults.injected(FaultSpec(kind="link-cut", context="cluster1", direction="in", for_s=60)):
            assert knock(place) == "TimeoutError"
        assert knock(place) == "connected"
        cluster.scale(gateway[0], 0, gateway[1])
        try:
            wait_for(lambda: knock(place), "TimeoutError")
        finally:
            cluster.scale(gateway[0], 1, gateway[1])
            cluster.wait_for_rollout(gateway[1], timeout_s=30)
        wait_for(lambda: knock(place), "connected")


def wait_for(ask: Callable[[], str], wanted: str) -> None:
    """Ask until three answers in a row are as wanted."""
    seen: list[str] = []
    deadline = time.monotonic() + 15
    while seen[-3:] != [wanted] * 3:
        assert time.monotonic() < deadline, seen[-10:]
        seen.append(ask())


def test_refusals_come_with_their_reason(faults: FaultClient) -> None:
    with pytest.raises(LabError, match="no cluster 'cluster9'"):
        faults.begin(FaultSpec(kind="cluster-down", context="cluster9"))
    with pytest.raises(LabError, match="no fault 'fault-99'"):
        faults.end("fault-99")


def test_without_the_token_nothing_is_broken(shared_lab: launch.LabState) -> None:
    stranger = FaultClient(shared_lab.control_url, "guess")
    with pytest.raises(LabError, match="token"):
        stranger.begin(FaultSpec(kind="cluster-down", context="cluster1"))
    assert stat.S_IMODE(LabFolder(root=shared_lab.root).control_token_file.stat().st_mode) == 0o600


def test_a_fault_ends_in_time_although_its_caller_was_killed(shared_lab: launch.LabState, faults: FaultClient) -> None:
    argv = [sys.executable, "-c", BREAK_AND_WAIT, str(shared_lab.root)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == "on\n"
        os.kill(caller.pid, signal.SIGKILL)
    (record,) = faults.active()
    ended = faults.wait(record.id, 5)
    assert ended.why_ended == "duration"
    assert 0.8 <= ended.shortest_s < 1.3


def test_no_lab_no_faults(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no lab is up"):
        FaultClient.of(tmp_path)
