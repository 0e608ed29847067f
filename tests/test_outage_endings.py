"""An outage ends in a program of its own however that program ends: by signals, by exit, or killed and restored."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from meshbook import outage
from meshbook.clusters import Fleet

PROGRAM = """
    import sys, time
    from meshbook import Fleet, outage
    fleet = Fleet.connect(["cluster1", "cluster2"], sys.argv[1])
    with outage.scaled_to_zero(fleet["cluster1"], "web", namespace="sample", timeout_s=20):
        print("away", flush=True)
        time.sleep(60)
"""


@pytest.fixture
def fleet(bare_fleet: Fleet, hands: Any) -> Iterator[Fleet]:
    cluster = bare_fleet["cluster1"]
    cluster.create("Node", {"metadata": {"name": "node-1", "labels": {"meshbook.io/lab": "true"}}})
    cluster.create_namespace("sample")
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "app", "image": "web"}]}}
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    cluster.create("Deployment", {"metadata": {"name": "web", "namespace": "sample"}, "spec": spec})
    with hands(cluster):
        cluster.wait_for_rollout("sample", timeout_s=10)
        yield bare_fleet


def _run_and_send(kubeconfig: str, number: signal.Signals) -> int:
    argv = [sys.executable, "-c", textwrap.dedent(PROGRAM), kubeconfig]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "away\n"
        os.kill(program.pid, number)
        return program.wait(20)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_signal_ends_the_program_and_the_workload_comes_back(
    fleet: Fleet, tmp_path: Any, number: signal.Signals, code: int
) -> None:
    assert _run_and_send(str(tmp_path / "kubeconfig"), number) == code
    restored = outage.restore(fleet, "sample", timeout_s=10)
    assert len(restored) == (1 if number == signal.SIGKILL else 0)
    found = fleet["cluster1"].get("Deployment", "web", "sample")
    assert found["spec"]["replicas"] == 2
    assert not found["metadata"].get("annotations")
