"""Promises of the watch: requests leave on schedule from everywhere, and clocks are told within true bounds."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pandas as pd
import pytest
from localpod import LocalPod
from watched_service import PACE, assert_whole, fleet, service

from meshbook import probes, tables
from meshbook.errors import UsageError
from meshbook.probes import Exchange, compare


def rows_of(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    return frame[frame["source"] == source]


def test_a_pod_and_this_machine_send_on_one_schedule_and_say_how_late_they_were() -> None:
    with service() as url:
        with probes.watch(fleet(LocalPod("pod")), url, url, **PACE) as watch:
            time.sleep(0.5)
        frame = watch.frame
    assert_whole(frame, watch)
    assert set(zip(frame["source"], frame["path"], strict=True)) == {("external client", "address"), ("pod", "mesh")}
    assert (frame["error"] == "").all()
    assert (frame["version"] == "v1").all()
    both = [rows_of(frame, source)["scheduled"].tolist() for source in ("external client", "pod")]
    assert both[0] == both[1]
    late = (frame["time"] - frame["scheduled"]).dt.total_seconds() * 1000
    assert late.to_list() == pytest.approx(frame["late_ms"].to_list(), abs=0.01)
    assert frame["time"].notna().all()


def test_requests_leave_on_schedule_while_all_earlier_ones_hang() -> None:
    with service(answers=False) as url:
        with probes.watch(fleet(LocalPod("pod")), url, url, **PACE) as watch:
            time.sleep(0.6)
        frame = watch.frame
    assert_whole(frame, watch)
    for source in ("external client", "pod"):
        rows = rows_of(frame, source)
        assert len(rows) > 10
        assert (rows["error"] == "timeout").mean() > 0.8
        assert rows["late_ms"].median() < 100


def test_a_pod_s_request_was_sent_within_the_bounds_that_its_row_gives() -> None:
    """The server's own clock is the witness: on one machine a request arrives in the moment in which it is sent."""
    arrived: list[float] = []
    with service(on_request=lambda _: arrived.append(time.time())) as url:
        with probes.watch(fleet(LocalPod("pod")), inside=url, **PACE) as watch:
            time.sleep(0.5)
        frame = watch.frame
    good = tables.good(frame)
    slack_s = 0.02
    for row in good.to_dict("records"):
        bound_s = (row["time_error_ms"] + row["clock_error_ms"]) / 1000
        nearest = min(abs(moment - row["time"].timestamp()) for moment in arrived)
        assert nearest <= bound_s + slack_s
    assert good["time_error_ms"].median() < 1


def test_a_watch_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing is to be asked"):
        probes.watch(fleet())


@pytest.mark.parametrize("url", ["https://127.0.0.1/hello", "ftp://127.0.0.1/", "http://no-such-name.invalid/"])
def test_a_watch_refuses_what_it_cannot_ask(url: str) -> None:
    with pytest.raises(UsageError):
        probes.watch(outside=url)


def exchange(asked: float, there: float, heard: float) -> Exchange:
    return Exchange(asked=asked, there=there, heard=heard)


def test_the_true_offset_lies_within_the_bound_however_lopsided_the_way() -> None:
    offset = -1000.0
    for out, back in ((0.001, 0.001), (0.2, 0.001), (0.001, 0.2)):
        clock = compare([exchange(n, n + out + offset, n + out + back) for n in range(5)])
        assert abs(clock.offset_s - offset) <= clock.bound_s
        assert clock.bound_s <= (out + back) / 2 + 5e-4


def test_the_exchange_with_the_shortest_way_decides() -> None:
    clock = compare([exchange(n, n + 0.0001, n + 0.0002 + 0.1 * (n % 3 > 0)) for n in range(9)])
    assert abs(clock.offset_s) <= clock.bound_s < 0.002


def test_a_clock_that_was_set_meanwhile_gets_a_bound_that_covers_both() -> None:
    clock = compare([exchange(0, 5, 0.001), exchange(1, 8, 1.001)])
    assert abs(clock.offset_s - 5) <= clock.bound_s + 0.001
    assert abs(clock.offset_s - 7) <= clock.bound_s + 0.001


def test_how_far_the_clock_of_a_pod_may_be_off_is_told_in_its_rows() -> None:
    with service() as url, probes.watch(fleet(LocalPod("pod")), url, url, **PACE) as watch:
        time.sleep(0.2)
    assert rows_of(watch.frame, "pod")["clock_error_ms"].dropna().between(0, 50, inclusive="right").all()
    assert (rows_of(watch.frame, probes.OUTSIDE)["clock_error_ms"].dropna() == 0).all()
    assert watch.frame["time"].dropna().between(datetime(2020, 1, 1, tzinfo=UTC), datetime.now(UTC)).all()
