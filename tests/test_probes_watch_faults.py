"""Promises of the watch when its pods fail it: every request is accounted for, and nothing outlives its caller."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest
from localpod import LocalPod
from watched_service import PACE, assert_whole, fleet, service

from meshbook import probes, tables
from meshbook.errors import ClusterError, ExecError
from meshbook.probes import pod_protocol


class BreakingPod(LocalPod):
    """A pod whose exec is cut once, after so many lines."""

    def __init__(self, name: str, lines: int) -> None:
        super().__init__(name)
        self.left, self.execs = lines, 0

    def exec_interactive(
        self, pod: str, command: Sequence[str], streams: Any, *, timeout_s: float, **where: str
    ) -> Any:
        self.execs += 1
        outer = self

        class Cut:
            stdin = staticmethod(streams.stdin)

            @staticmethod
            def on_line(line: str, when: datetime) -> None:
                outer.left -= 1
                if outer.left == 0:
                    raise ExecError("lost the connection to sleep while the command ran")
                streams.on_line(line, when)

        return super().exec_interactive(pod, command, cast(Any, Cut), timeout_s=timeout_s, **where)


def test_a_lost_exec_leaves_lost_rows_and_is_taken_up_again() -> None:
    with service() as url:
        pod = BreakingPod("pod", 40)
        with probes.watch(fleet(pod), inside=url, **PACE) as watch:
            deadline = time.monotonic() + 15
            while time.monotonic() < deadline and not (pod.execs > 1 and _good_again(watch.frame)):
                time.sleep(0.1)
        frame = watch.frame
    assert_whole(frame, watch)
    lost = frame[frame["error"] == tables.LOST]
    assert not lost.empty
    assert lost["detail"].str.contains("lost the connection").any()
    assert frame["error"].iloc[0] == ""
    assert _good_again(frame)


def _good_again(frame: pd.DataFrame) -> bool:
    """Tell whether good answers were sent at least half a second apart, with a hole between them."""
    sent = tables.good(frame)["time"]
    return len(sent) > 1 and bool((sent.diff().dt.total_seconds() > 0.5).any())


def test_a_fleet_without_a_pod_to_send_from_is_an_error_at_once() -> None:
    class Empty(LocalPod):
        def ready_pod(self, selector: str, namespace: str) -> str:
            raise ClusterError(f"{self.name}: no pod {selector} is ready in {namespace}")

    with pytest.raises(ClusterError, match="no pod app=sleep"):
        probes.watch(fleet(Empty("pod")), inside="http://127.0.0.1:1/hello")


def test_a_pod_without_curl_gives_lost_rows_that_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("sh", "sleep"):
        (tmp_path / program).symlink_to(str(shutil.which(program)))
    monkeypatch.setenv("PATH", str(tmp_path))
    with probes.watch(fleet(LocalPod("pod")), inside="http://127.0.0.1:1/hello", **PACE) as watch:
        time.sleep(0.2)
    assert (watch.frame["error"] == tables.LOST).all()
    assert watch.frame["detail"].str.contains("curl: not found").all()


def test_nothing_goes_on_in_the_pod_when_its_caller_has_died() -> None:
    schedule = probes.Schedule(gap_us=50_000, timeout_s=0.2, requests=1000)
    with service() as url:
        report = pod_protocol.PodReport.of(schedule, url)
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(report.argv(), start_new_session=True, **pipes) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            hello = process.stdout.readline().split()
            process.stdin.write(f"go {round(float(hello[1]) * 1000)} 1\n")
            process.stdin.flush()
            while not process.stdout.readline().startswith("O"):
                pass
            process.stdin.close()
            process.stdout.read()  # ends with the last of its shells
            assert process.wait(5) == 0
        deadline = time.monotonic() + 5
        while _alive_in_group(process.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not _alive_in_group(process.pid)


def _alive_in_group(group: int) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[2]) == group and words[0] != "Z":
            found.append(folder.name)
    return found
