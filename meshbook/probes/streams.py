"""A stream of requests from this machine, while it runs. What it sends with is the program ``sender``.

Streams from pods are in ``podstreams``; several streams together are a ``watching.Watch``.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import urlsplit, urlunsplit

from meshbook import tables
from meshbook.errors import UsageError
from meshbook.probes import sender
from meshbook.probes.curl import Ended, one_line
from meshbook.probes.exchange import Clock
from meshbook.probes.schedule import Row, Schedule, stamped
from meshbook.probes.sending import OUTSIDE, is_near

_SPARE_S = 0.1
"""Seconds for a request that was due right before the end to be sent on a busy machine."""
_LAST_WORDS_S = 3.0
"""Seconds that the last rows may need to get here."""


class Stream(Protocol):
    """A source of requests; ``run`` sends by the schedule and ends by itself."""

    source: str
    path: str
    url: str

    @property
    def clock(self) -> Clock | None:
        """How far the source's clock is off; None where it is this machine's."""

    def run(self) -> None:
        """Send until the schedule is over; called in a thread of its own."""

    def rows(self) -> dict[int, Row]:
        """Return the requests known to have ended, or not to have been sent, by their number."""

    def why_lost(self, number: int) -> str:
        """Return what is known about a request of which no record came."""


class HereStream:
    """Requests from this machine, by a process of its own, to a fixed ``address``."""

    clock: Clock | None = None
    """None: it is this machine's."""

    def __init__(self, schedule: Schedule, url: str, *, path: str, source: str = OUTSIDE) -> None:
        self.schedule, self.url, self.path, self.source = schedule, url, path, source
        self.address, self.request = route(url)
        self._rows: dict[int, Row] = {}
        self._last_words = ""

    def run(self) -> None:
        beat = self.schedule.beat
        config = {"address": self.address, "request": self.request, "gap_us": beat.gap_us, "timeout_s": beat.timeout_s}
        config |= {"requests": beat.requests, "begin": self.schedule.begin}
        argv = [sys.executable, "-I", str(Path(sender.__file__)), json.dumps(config)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with subprocess.Popen(argv, text=True, start_new_session=True, **pipes) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            stopper = threading.Thread(target=self._stop, args=(process,), name="meshbook stop", daemon=True)
            stopper.start()
            for line in process.stdout:
                self._take(line)
            stopper.join()

    def _stop(self, process: subprocess.Popen[str]) -> None:
        while process.poll() is None and time.time() < self.schedule.end + _SPARE_S:
            time.sleep(0.02)
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(self.schedule.beat.timeout_s + _LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            process.kill()

    def _take(self, line: str) -> None:
        try:
            told: Mapping[str, object] = json.loads(line)
        except ValueError:
            self._last_words = one_line(line) or self._last_words
            return
        number = cast(int, told["number"])
        if told.get("dropped"):
            self._rows[number] = {"error": tables.DROPPED, "detail": "this machine was too busy to send it in time"}
            return
        connect, first, total, sent, error = (
            cast(float, told[key]) for key in ("connect_s", "first_s", "total_s", "sent", "error_s")
        )
        ended = Ended(
            code=cast(int, told["code"]),
            exit_code=cast(int, told["exit_code"]),
            body=str(told["body"]).encode(),
            said=str(told["said"]),
        )
        row: Row = {
            **ended.row(),
            "time_connect_ms": round(connect * 1000, 3) or None,
            "time_starttransfer_ms": round(first * 1000, 3) or None,
            "time_total_ms": round(total * 1000, 3),
            "remote_ip": self.address[0] if connect else "",
        }
        self._rows[number] = stamped(self.schedule, number, row, (sent, sent + error))

    def rows(self) -> dict[int, Row]:
        return dict(self._rows)

    def why_lost(self, number: int) -> str:
        return self._last_words or "it was not sent, or had not ended when the watch did"


def route(url: str) -> tuple[tuple[str, int], str]:
    """Return the address to connect to for ``url`` (the proxy's where there is one to use) and the request's text."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise UsageError(f"a watch asks plain http only, not {url!r}", hint="the article's VIP is http://VIP/hello")
    proxy = None if is_near(url) or urllib.request.proxy_bypass(parts.hostname) else _proxy()
    there = urlsplit(proxy) if proxy else parts
    target = url if proxy else urlunsplit(("", "", parts.path or "/", parts.query, ""))
    head = (
        f"GET {target} HTTP/1.1",
        f"Host: {parts.netloc}",
        "User-Agent: meshbook",
        "Accept: */*",
        "Connection: close",
    )
    try:
        found = socket.getaddrinfo(there.hostname, there.port or 80, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(f"cannot find {there.hostname}", hint="is the name right?", said=str(error)) from error
    host, port = found[0][4][:2]
    return (str(host), int(port)), "\r\n".join((*head, "", ""))


def _proxy() -> str:
    return urllib.request.getproxies().get("http", "")
