"""Promises of sending many requests: every one has its row, no more than asked are in flight, none is repeated."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hello_service import service
from localpod import LocalPod
from watched_service import fleet
from watched_service import service as silent

from meshbook import probes, tables
from meshbook.errors import UsageError


def many(requests: int, **more: Any) -> probes.ClosedLoop:
    return probes.ClosedLoop(requests=requests, **{"concurrency": 8, "timeout_s": 2.0, **more})


def assert_all_good(frame: pd.DataFrame, requests: int) -> None:
    for _, rows in frame.groupby("source"):
        assert rows["seq"].tolist() == list(range(1, requests + 1))
    assert frame["error"].eq("").all()
    assert frame["version"].eq("v1").all()


def test_every_request_of_every_source_has_its_row_and_no_more_than_asked_are_in_flight() -> None:
    with service(delay_s=0.002) as server:
        frame = probes.send_many(fleet(LocalPod("pod")), server.url, server.url, loop=many(300))
    assert list(frame.columns) == tables.ANSWERS.names
    assert_all_good(frame, 300)
    assert frame["source"].unique().tolist() == ["external client", "pod"]
    assert len(server.asked) == 600
    assert 8 < server.most_at_once <= 16


def test_moments_of_a_request_are_in_their_order_and_no_schedule_is_invented() -> None:
    with service(delay_s=0.002) as server:
        before = pd.Timestamp.now("UTC")
        frame = probes.send_many(outside=server.url, loop=many(50))
        after = pd.Timestamp.now("UTC")
    assert frame["time"].between(before, after).all()
    assert frame[["scheduled", "late_ms"]].isna().all(axis=None)
    assert (frame["time_connect_ms"] <= frame["time_starttransfer_ms"]).all()
    assert (frame["time_starttransfer_ms"] <= frame["time_total_ms"]).all()
    assert frame["time_starttransfer_ms"].min() >= 2
    assert frame["remote_ip"].eq("127.0.0.1").all()
    assert frame["time_error_ms"].median() < 1


def test_requests_that_hang_time_out_and_the_rest_goes_on() -> None:
    with silent(answers=False) as url:
        frame = probes.send_many(outside=url, loop=many(20, timeout_s=0.1))
    assert frame["error"].tolist() == ["timeout"] * 20
    assert frame["time_total_ms"].between(95, 1000).all()


def test_a_sender_that_dies_leaves_lost_rows_and_sends_nothing_twice() -> None:
    class Dying(LocalPod):
        def exec_interactive(self, pod: str, command: Any, streams: Any, *, timeout_s: float, **where: str) -> Any:
            told: list[str] = []

            class Cut:
                stdin = streams.stdin

                @staticmethod
                def on_line(line: str, when: Any) -> None:
                    streams.on_line(line, when)
                    told.append(line)
                    if "rows" in line:
                        os.kill(child(), signal.SIGKILL)

            return super().exec_interactive(pod, command, Cut, timeout_s=timeout_s, **where)

    with service(delay_s=0.002) as server:
        frame = probes.send_many(fleet(Dying("pod")), inside=server.url, loop=many(5000))
    assert frame["seq"].tolist() == list(range(1, 5001))
    assert set(frame["error"]) == {"", tables.LOST}
    assert len(server.asked) < 5000


def child() -> int:
    """Return this process's child that sends."""
    return int(Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()[-1])


@pytest.mark.parametrize("wrong", [{"requests": 0}, {"concurrency": 0}, {"concurrency": 10_000}, {"timeout_s": 61.0}])
def test_a_loop_that_cannot_be_carried_out_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        probes.ClosedLoop(**{"requests": 1, **wrong})
