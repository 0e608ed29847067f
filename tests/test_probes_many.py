"""Promises of sending many requests: every one has its row, no more than asked are in flight, none is repeated."""

from __future__ import annotations

import os
import signal
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from localpod import LocalPod
from watched_service import HELLO, fleet, service

from meshbook import probes, tables
from meshbook.errors import UsageError


class CountingServer(socketserver.ThreadingTCPServer):
    """Answers each connection's request; counts those that came, and those in flight."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lock, self.asked, self.in_flight, self.most = threading.Lock(), 0, 0, 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hello"


class _Handler(socketserver.StreamRequestHandler):
    server: CountingServer

    def handle(self) -> None:
        server = self.server
        with server.lock:
            server.asked, server.in_flight = server.asked + 1, server.in_flight + 1
            server.most = max(server.most, server.in_flight)
        self.request.recv(65536)
        time.sleep(0.002)
        with server.lock:
            server.in_flight -= 1
        with suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(HELLO)


@contextmanager
def counting_server() -> Iterator[CountingServer]:
    with CountingServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def many(requests: int, **more: Any) -> probes.ClosedLoop:
    return probes.ClosedLoop(requests=requests, **{"concurrency": 8, "timeout_s": 2.0, **more})


def assert_all_good(frame: pd.DataFrame, requests: int) -> None:
    for _, rows in frame.groupby("source"):
        assert rows["seq"].tolist() == list(range(1, requests + 1))
    assert frame["error"].eq("").all()
    assert frame["version"].eq("v1").all()


def test_every_request_of_every_source_has_its_row_and_no_more_than_asked_are_in_flight() -> None:
    with counting_server() as server:
        frame = probes.send_many(fleet(LocalPod("pod")), server.url, server.url, loop=many(300))
    assert list(frame.columns) == tables.ANSWERS.names
    assert_all_good(frame, 300)
    assert frame["source"].unique().tolist() == ["external client", "pod"]
    assert server.asked == 600
    assert 8 < server.most <= 16


def test_moments_of_a_request_are_in_their_order_and_no_schedule_is_invented() -> None:
    with counting_server() as server:
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
    with service(answers=False) as url:
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

    with counting_server() as server:
        frame = probes.send_many(fleet(Dying("pod")), inside=server.url, loop=many(5000))
    assert frame["seq"].tolist() == list(range(1, 5001))
    assert set(frame["error"]) == {"", tables.LOST}
    assert server.asked < 5000


def child() -> int:
    """Return this process's child that sends."""
    return int(Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()[-1])


@pytest.mark.parametrize("wrong", [{"requests": 0}, {"concurrency": 0}, {"concurrency": 10_000}, {"timeout_s": 61.0}])
def test_a_loop_that_cannot_be_carried_out_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        probes.ClosedLoop(**{"requests": 1, **wrong})
