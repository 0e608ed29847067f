"""Promises of the watch: requests leave on schedule from everywhere, and every one of them is accounted for."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest
from localpod import LocalPod

from meshbook import probes, tables
from meshbook.clusters import Fleet
from meshbook.errors import ClusterError, ExecError, UsageError
from meshbook.probes.exchange import Exchange, compare
from meshbook.probes.lanes import Beat, PodReport
from meshbook.probes.sender import Sender, answer
from meshbook.probes.streams import route

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 31\r\n\r\nHello version: v1, instance: x1\n"
SHELLS = [
    pytest.param(["/bin/sh"], id="sh"),
    pytest.param(
        ["busybox", "sh"],
        id="busybox",
        marks=pytest.mark.skipif(shutil.which("busybox") is None, reason="there is no busybox here"),
    ),
]
PACE = {"rate_per_s": 20.0, "timeout_s": 0.2}


@contextmanager
def service(answers: bool = True) -> Iterator[str]:
    """A real server on a free loopback port, which answers or is silent for ever; yields its URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:

        def serve() -> None:
            while True:
                try:
                    link, _ = listener.accept()
                except OSError:
                    return
                with link:
                    link.recv(65536)
                    link.sendall(HELLO)

        if answers:
            threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/hello"
        listener.shutdown(socket.SHUT_RDWR)


def fleet(*pods: Any) -> Fleet:
    return cast(Fleet, list(pods))


def rows_of(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    return frame[frame["source"] == source]


def assert_whole(frame: pd.DataFrame, watch: probes.Watch) -> None:
    """One row for every scheduled request of every source, and no number twice."""
    for _, rows in frame.groupby("source"):
        assert rows["seq"].tolist() == list(watch.schedule.numbers)


# ---- open loop


@pytest.mark.parametrize("shell", SHELLS)
def test_a_pod_and_this_machine_send_on_one_schedule_and_say_how_late_they_were(shell: list[str]) -> None:
    with service() as url:
        with probes.watch(fleet(LocalPod("pod", shell)), url, url, **PACE) as watch:
            time.sleep(0.5)
        frame = watch.frame
    assert_whole(frame, watch)
    assert set(zip(frame["source"], frame["path"], strict=True)) == {("outside", "vip"), ("pod", "mesh")}
    assert (frame["error"] == "").all()
    assert (frame["version"] == "v1").all()
    both = [rows_of(frame, source)["scheduled"].tolist() for source in ("outside", "pod")]
    assert both[0] == both[1]
    late = (frame["time"] - frame["scheduled"]).dt.total_seconds() * 1000
    assert late.to_list() == pytest.approx(frame["late_ms"].to_list(), abs=0.01)
    assert watch.sends["sent"].tolist() == watch.sends["scheduled"].tolist()


@pytest.mark.parametrize("shell", SHELLS)
def test_requests_leave_on_schedule_while_all_earlier_ones_hang(shell: list[str]) -> None:
    with service(answers=False) as url:
        with probes.watch(fleet(LocalPod("pod", shell)), url, url, **PACE) as watch:
            time.sleep(0.6)
        frame = watch.frame
    assert_whole(frame, watch)
    for source in ("outside", "pod"):
        rows = rows_of(frame, source)
        assert len(rows) > 10
        assert (rows["error"] == "timeout").mean() > 0.8
        assert rows["late_ms"].median() < 100


@pytest.mark.parametrize("shell", SHELLS)
def test_a_pod_s_request_was_sent_within_the_bounds_that_its_row_gives(shell: list[str]) -> None:
    """The server's own clock is the witness: on one machine a request arrives in the moment in which it is sent."""
    arrived: list[float] = []
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/hello"

        def serve() -> None:
            while True:
                try:
                    link, _ = listener.accept()
                except OSError:
                    return
                arrived.append(time.time())
                with link:
                    link.recv(65536)
                    link.sendall(HELLO)

        threading.Thread(target=serve, daemon=True).start()
        with probes.watch(fleet(LocalPod("pod", shell)), inside=url, **PACE) as watch:
            time.sleep(0.5)
        frame = watch.frame
        listener.shutdown(socket.SHUT_RDWR)
    good = tables.good(frame)
    slack_s = 0.02
    for row in good.to_dict("records"):
        bound_s = (row["time_error_ms"] + row["clock_error_ms"]) / 1000
        nearest = min(abs(moment - row["time"].timestamp()) for moment in arrived)
        assert nearest <= bound_s + slack_s
    assert good["time_error_ms"].median() < 25


def test_lanes_are_enough_that_none_is_busy_when_its_turn_comes_again() -> None:
    for rate, timeout_s in ((1, 1.0), (10, 1.0), (200, 1.0), (200, 0.1), (0.5, 5.0)):
        beat = Beat(gap_us=round(1e6 / rate), timeout_s=timeout_s, requests=10)
        assert beat.lanes * beat.gap_s >= timeout_s + 0.15


# ---- what goes wrong


class BreakingPod(LocalPod):
    """A pod whose exec is cut once, after so many lines."""

    def __init__(self, name: str, lines: int) -> None:
        super().__init__(name)
        self.left, self.execs = lines, 0

    def converse(self, pod: str, command: Sequence[str], partner: Any, *, timeout_s: float, **where: str) -> Any:
        self.execs += 1
        outer = self

        class Cut:
            say = staticmethod(partner.say)

            @staticmethod
            def heard(line: str, when: datetime) -> None:
                outer.left -= 1
                if outer.left == 0:
                    raise ExecError("lost the connection to sleep while the command ran")
                partner.heard(line, when)

        return super().converse(pod, command, cast(Any, Cut), timeout_s=timeout_s, **where)


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
    beat = Beat(gap_us=50_000, timeout_s=0.2, requests=1000)
    with service() as url:
        report = PodReport.of(beat, url)
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


# ---- from here


def test_a_sender_that_was_stopped_drops_the_beats_it_missed_and_bursts_none() -> None:
    with service() as url, probes.watch_from_here(url, rate_per_s=50, timeout_s=0.5) as watch:
        _wait_for(watch, 5)
        (child,) = _children("sender.py")
        os.kill(child, signal.SIGSTOP)
        time.sleep(0.4)
        os.kill(child, signal.SIGCONT)
        time.sleep(0.2)
    frame = watch.frame
    assert_whole(frame, watch)
    dropped = frame[frame["error"] == tables.DROPPED]
    assert 10 <= len(dropped) <= 25
    assert watch.sends["dropped"].tolist() == [len(dropped)]
    assert frame["late_ms"].dropna().le(25).mean() > 0.9


def test_a_sender_that_stood_still_does_not_take_that_for_silence_of_the_service(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A request whose connection is made while the sender stands still is sent once it goes on, and answered."""
    mine, its = socket.socketpair()
    with service() as url, mine, its:
        monkeypatch.setattr("sys.stdin", its)
        monkeypatch.setattr("selectors.DefaultSelector", SleepySelector)
        address, request = route(url)
        config = {"address": address, "request": request, "gap_us": 100_000, "timeout_s": 0.2, "requests": 1}
        Sender({**config, "begin": time.time()}).run()
    (told,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (told["code"], told["exit_code"]) == (200, 0)
    assert told["total_s"] > 0.3


class SleepySelector(selectors.SelectSelector):
    """Wakes up late when a connection stands, as on a machine that was stopped meanwhile."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if any(key.events == selectors.EVENT_WRITE for key in self.get_map().values()):
            time.sleep(0.3)
        return super().select(timeout)


def _children(program: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == os.getpid() and any(word.endswith(program) for word in words):
            found.append(int(folder.name))
    return found


def _wait_for(watch: probes.Watch, rows: int) -> None:
    deadline = time.monotonic() + 10
    while len(watch.frame) < rows and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("received", "status", "body"),
    [
        pytest.param(HELLO, 200, b"Hello version: v1, instance: x1\n", id="with a length"),
        pytest.param(b"HTTP/1.1 503 No\r\n\r\nbusy", 503, b"busy", id="to the end"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n",
            200,
            b"abcde",
            id="in chunks",
        ),
        pytest.param(b"SSH-2.0-x\r\n", 0, b"SSH-2.0-x\r\n", id="no HTTP"),
    ],
)
def test_answers_are_read_however_they_are_framed(received: bytes, status: int, body: bytes) -> None:
    assert answer(received) == (status, body)


def test_a_request_goes_by_the_environment_s_proxy_where_the_address_is_not_near(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:3128")
    assert route("http://127.0.0.2:81/hello")[0] == ("127.0.0.2", 81)
    address, request = route("http://9.9.9.9/hello?a=1")
    assert address == (("127.0.0.1", 3128))
    assert request.startswith("GET http://9.9.9.9/hello?a=1 HTTP/1.1\r\nHost: 9.9.9.9\r\n")


@pytest.mark.parametrize("url", ["https://127.0.0.1/hello", "ftp://127.0.0.1/", "http://no-such-name.invalid/"])
def test_a_watch_refuses_what_it_cannot_ask(url: str) -> None:
    with pytest.raises(UsageError):
        probes.watch_from_here(url)


def test_a_watch_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="something to ask"):
        probes.watch(fleet())


# ---- clocks


def exchange(asked: float, there: float, heard: float, tick_s: float = 0.0) -> Exchange:
    return Exchange(asked=asked, there=there, heard=heard, tick_s=tick_s)


def test_the_true_offset_lies_within_the_bound_however_lopsided_the_way() -> None:
    offset = -1000.0
    for out, back in ((0.001, 0.001), (0.2, 0.001), (0.001, 0.2)):
        clock = compare([exchange(n, n + out + offset, n + out + back) for n in range(5)])
        assert abs(clock.offset_s - offset) <= clock.bound_s
        assert clock.bound_s <= (out + back) / 2 + 5e-4


def test_the_exchange_with_the_shortest_way_decides_and_ticks_average_out() -> None:
    readings = [10.0013 + n * 0.0037 for n in range(40)]
    clock = compare([exchange(at, int(at * 100) / 100, at + 0.0002, 0.01) for at in readings])
    assert abs(clock.offset_s) <= clock.bound_s < 0.002
    assert clock.round_trip_s == pytest.approx(0.0002)


def test_a_clock_that_was_set_meanwhile_gets_a_bound_that_covers_both() -> None:
    clock = compare([exchange(0, 5, 0.001), exchange(1, 8, 1.001)])
    assert abs(clock.offset_s - 5) <= clock.bound_s + 0.001
    assert abs(clock.offset_s - 7) <= clock.bound_s + 0.001


def test_clocks_are_told_for_each_pod_and_carried_in_its_rows() -> None:
    with service() as url, probes.watch(fleet(LocalPod("pod")), inside=url, **PACE) as watch:
        time.sleep(0.2)
    clock = watch.clocks.iloc[0]
    assert (clock["source"], clock["exchanges"] >= 8) == ("pod", True)
    assert (watch.frame["clock_error_ms"].dropna() == clock["bound_ms"]).all()
    assert clock["bound_ms"] < 50
    assert watch.frame["time"].dropna().between(datetime(2020, 1, 1, tzinfo=UTC), datetime.now(UTC)).all()
