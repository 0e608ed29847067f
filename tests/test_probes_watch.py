"""Promises of the watch: requests leave on schedule from everywhere, and clocks are told within true bounds."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from datetime import UTC, datetime

import pandas as pd
import pytest
from localpod import LocalPod
from watched_service import HELLO, PACE, assert_whole, fleet, service

from meshbook import probes, tables
from meshbook.errors import UsageError
from meshbook.probes import Exchange, compare, pod_protocol

SHELLS = [
    pytest.param(["/bin/sh"], id="sh"),
    pytest.param(
        ["busybox", "sh"],
        id="busybox",
        marks=pytest.mark.skipif(shutil.which("busybox") is None, reason="there is no busybox here"),
    ),
]


def rows_of(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    return frame[frame["source"] == source]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_pod_and_this_machine_send_on_one_schedule_and_say_how_late_they_were(shell: list[str]) -> None:
    with service() as url:
        with probes.watch(fleet(LocalPod("pod", shell)), url, url, **PACE) as watch:
            time.sleep(0.5)
        frame = watch.frame
    assert_whole(frame, watch)
    assert set(zip(frame["source"], frame["path"], strict=True)) == {("external client", "vip"), ("pod", "mesh")}
    assert (frame["error"] == "").all()
    assert (frame["version"] == "v1").all()
    both = [rows_of(frame, source)["scheduled"].tolist() for source in ("external client", "pod")]
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
    for source in ("external client", "pod"):
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
        lanes = pod_protocol.Lanes(gap_us=round(1e6 / rate), timeout_s=timeout_s)
        assert lanes.count * lanes.gap_s >= timeout_s + 0.15


def test_a_watch_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="something to ask"):
        probes.watch(fleet())


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
