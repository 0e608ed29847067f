"""Promises of the scratch workload's server and of the script that stops it, as real processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from localpod import LocalPod
from waits import until

from meshbook import analysis, manifests, mesh, probes
from meshbook.analysis import Fault
from meshbook.clusters import Fleet
from meshbook.errors import OutageError, UsageError
from meshbook.experiment import LONGEST_PAUSE_S, PAUSE_SCRIPT, ProcessPause, Target, scratch_workload
from meshbook.lab.loopback import claim_block

MANIFESTS = Path(__file__).parents[1] / "manifests" / "scratch"
CALM_S = 1.8
"""Seconds before and after a pause: longer than a lie about it."""
SCRIPT = ["/bin/sh", "-c", PAUSE_SCRIPT]


def container() -> dict[str, Any]:
    (deployment,) = [found for found in manifests.load(MANIFESTS) if found["kind"] == "Deployment"]
    (found,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(found)


def environment() -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container()["env"] if "value" in entry}


@dataclass
class Workload:
    """The container's command under a shell of this machine; its folder is the working directory."""

    shell: subprocess.Popen[bytes]
    url: str

    @property
    def pid(self) -> int:
        return int(Path("meshbook-scratch.pid").read_text())

    @property
    def state(self) -> str:
        """T: stopped; empty: there is no such process."""
        stat = Path(f"/proc/{self.pid}/stat")
        return stat.read_text().rpartition(") ")[2][:1] if stat.exists() else ""

    def answers(self) -> bool:
        row = probes.curl_from_here(self.url, 1, timeout_s=0.5).iloc[0]
        return (row["error"], row["version"], row["instance"]) == ("", "scratch", "pod-1")


@pytest.fixture
def workload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workload]:
    monkeypatch.chdir(tmp_path)
    block, claim = claim_block()
    address = f"127.{block}.0.9"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"POD_IP": address, "HOSTNAME": "pod-1", "LONGEST_S": "1", "PATH": path}
    with claim, subprocess.Popen(container()["command"], env=environment() | own, start_new_session=True) as process:
        try:
            running = Workload(process, f"http://{address}:5000/")
            until(running.answers)
            yield running
        finally:
            with suppress(ProcessLookupError):  # some tests end all of it
                os.killpg(process.pid, signal.SIGKILL)


def measured(workload: Workload) -> tuple[pd.DataFrame, Fault]:
    pausing = ProcessPause(0.4)
    with probes.watch(outside=workload.url, rate_per_s=20) as watch:
        time.sleep(CALM_S)
        LocalPod("pod", ("/bin/sh",)).exec_interactive("pod", SCRIPT, pausing, timeout_s=20)
        time.sleep(CALM_S)
        return watch.stop(), pausing.fault("stopped")


def test_the_truth_of_a_pause_and_no_lie_about_it_lies_in_what_is_measured_of_it(workload: Workload) -> None:
    answers, fault = measured(workload)
    assert 0.3 < fault.seconds < 0.7
    assert fault.error_ms < 100
    assert analysis.measures_truly(analysis.compare_with_truth(answers, [fault])).outcome == "pass"
    for lie in (timedelta(seconds=1), timedelta(seconds=-1)):
        told = replace(fault, start=fault.start + lie, end=fault.end + lie)
        assert analysis.measures_truly(analysis.compare_with_truth(answers, [told])).outcome == "fail"


def stopping() -> subprocess.Popen[str]:
    """Start the script, tell it to stop the server, and return when it has."""
    process = subprocess.Popen(SCRIPT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("stop\n")
    assert [process.stdout.readline().strip() for _ in range(2)] == ["ready", "stopped"]
    return process


def close(process: subprocess.Popen[str]) -> None:
    process.wait(10)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


@pytest.mark.parametrize("ending", ["end of input", "SIGTERM", "SIGHUP"])
def test_the_server_goes_on_however_the_script_ends(workload: Workload, ending: str) -> None:
    script = stopping()
    assert workload.state == "T"
    assert script.stdin is not None
    script.stdin.close() if ending == "end of input" else script.send_signal(signal.Signals[ending])
    close(script)
    assert workload.answers()


def test_a_script_that_is_killed_leaves_the_server_stopped_for_a_bounded_time(workload: Workload) -> None:
    script = stopping()
    script.kill()
    close(script)
    assert workload.state == "T"
    until(workload.answers)


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_the_end_of_the_shell_is_that_of_the_server(workload: Workload, stopped: bool) -> None:
    if stopped:
        os.kill(workload.pid, signal.SIGSTOP)
    workload.shell.terminate()
    workload.shell.wait(5)
    until(lambda: workload.state in ("", "Z"))


def test_a_server_that_ends_takes_the_shell_with_it(workload: Workload) -> None:
    os.kill(workload.pid, signal.SIGKILL)
    assert workload.shell.wait(5) != 0


def test_without_a_server_there_is_nothing_to_stop(tmp_path: Path) -> None:
    done = subprocess.run(SCRIPT, cwd=tmp_path, capture_output=True, text=True, timeout=5)
    assert (done.returncode, done.stdout) == (3, "")


def test_a_pause_whose_edges_were_not_echoed_is_an_error() -> None:
    with pytest.raises(OutageError, match="not known whether"):
        ProcessPause(0.1).fault("stopped")


def test_the_shell_lets_go_on_later_than_anybody_may_ask_for() -> None:
    assert float(environment()["LONGEST_S"]) > LONGEST_PAUSE_S + 1


def target(fleet: Fleet) -> Target:
    here = {"outside": [mesh.Entry(url="http://127.0.0.1:9/hello")], "gateway_namespace": "gateways"}
    return Target(fleet=fleet, namespace="sample", versions={}, deployments={}, **here)


def test_without_the_samples_gateway_nothing_is_made(bare_fleet: Fleet) -> None:
    bare_fleet.create_namespace("sample")
    with (
        pytest.raises(UsageError, match="no Gateway helloworld-gateway"),
        scratch_workload(target(bare_fleet)),
    ):
        raise AssertionError("it was given")
    assert bare_fleet.deployments("sample") == []


def test_objects_of_others_by_the_same_name_are_left_alone(bare_fleet: Fleet) -> None:
    bare_fleet.create_namespace("sample")
    spec = {"ports": [{"port": 80}]}
    for cluster in bare_fleet:
        cluster.create("Service", {"metadata": {"name": "meshbook-scratch", "namespace": "sample"}, "spec": spec})
        cluster.create("Gateway", {"metadata": {"name": "helloworld-gateway", "namespace": "sample"}, "spec": {}})
    with pytest.raises(UsageError, match="was not made by meshbook"), scratch_workload(target(bare_fleet)):
        raise AssertionError("it was given")
    assert bare_fleet["cluster1"].find("Service", "meshbook-scratch", "sample") is not None
