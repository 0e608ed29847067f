"""Promises of the watch's sender here: a machine that stood still is not taken for a silent service."""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import time
from pathlib import Path

import pytest
from watched_service import HELLO, assert_whole, service

from meshbook import probes, tables
from meshbook.errors import UsageError
from meshbook.probes import sender


def test_a_sender_that_was_stopped_drops_the_ticks_it_missed_and_bursts_none() -> None:
    with service() as url, probes.watch(outside=url, rate_per_s=50, timeout_s=0.5) as watch:
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
        address, request = probes.route(url)
        config = {"address": address, "request": request, "gap_us": 100_000, "timeout_s": 0.2, "requests": 1}
        sender.Sender({**config, "begin": time.time()}).run()
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
    assert sender.answer(received) == (status, body)


def test_a_request_goes_by_the_environment_s_proxy_where_the_address_is_not_near(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:3128")
    assert probes.route("http://127.0.0.2:81/hello")[0] == ("127.0.0.2", 81)
    address, request = probes.route("http://9.9.9.9/hello?a=1")
    assert address == (("127.0.0.1", 3128))
    assert request.startswith("GET http://9.9.9.9/hello?a=1 HTTP/1.1\r\nHost: 9.9.9.9\r\n")


@pytest.mark.parametrize("url", ["https://127.0.0.1/hello", "ftp://127.0.0.1/", "http://no-such-name.invalid/"])
def test_a_watch_refuses_what_it_cannot_ask(url: str) -> None:
    with pytest.raises(UsageError):
        probes.watch(outside=url)
