"""Promises of looking on from here: a watch keeps its schedule, and a wait says what it has seen until it ended."""

from __future__ import annotations

import re
import time

import pytest
from hello_service import HELLO, URL, service

from meshbook import probes, tables
from meshbook.errors import UsageError, WaitTimeout


def test_a_watch_keeps_its_schedule_while_requests_hang_and_finds_good_bad_and_good_again() -> None:
    answers = [(200, HELLO)] * 4 + [(503, b"")] * 3 + [(200, HELLO)] * 1000
    with service(*answers, delay_s=0.08) as server:
        with probes.watch(outside=server.url, rate_per_s=25, timeout_s=1) as watch:
            deadline = time.monotonic() + 5
            while len(watch.frame) < 12 and time.monotonic() < deadline:
                time.sleep(0.02)
        frame = watch.frame
    assert len(frame) >= 12
    assert frame["seq"].tolist() == list(range(1, len(frame) + 1))
    assert (frame["error"] == "http_503").sum() == 3
    beat_s = (frame["time"].max() - frame["time"].min()).total_seconds() / (len(frame) - 1)
    assert 0.03 < beat_s < 0.06


@pytest.mark.parametrize("rate", [0, -1, 1000])
def test_a_rate_that_cannot_be_kept_is_refused(rate: float) -> None:
    with pytest.raises(UsageError):
        probes.watch(outside=URL, rate_per_s=rate)


def test_the_wait_returns_the_first_good_answer_and_what_came_before_it() -> None:
    looks: list[str] = []
    with service((404, b""), (404, b""), (502, b""), (200, HELLO)) as server:
        first = probes.wait_for_first_answer(server.url, 5, poll_s=0.01, on_look=looks.append)
    assert (first.version, first.attempts, first.before) == ("v1", 4, "http_404 2×, http_502 1×")
    assert len(looks) == 3
    assert len(tables.frame([first])) == 1


def test_a_wait_that_ends_says_what_it_last_saw_and_what_to_look_at() -> None:
    with service((404, b"nothing here")) as server, pytest.raises(WaitTimeout) as caught:
        probes.wait_for_first_answer(server.url, 0.1, poll_s=0.02)
    assert "the last try gave http_404" in str(caught.value)
    assert "nothing here" in str(caught.value)
    assert "VirtualService" in str(caught.value)
    assert re.search(r"saw: http_404 \d+×", str(caught.value))
