"""Requests that go on while something else happens, and the wait for a first good answer.

Today's watch starts a short curl on every beat from this machine; ``curl`` and ``sending`` do the single request.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pandas as pd

from meshbook import tables
from meshbook.errors import UsageError, WaitTimeout
from meshbook.probes.curl import Ask
from meshbook.probes.sending import OUTSIDE, VIP, LocalCurl, curl_program

HIGHEST_RATE = 50.0
"""Requests per second: each costs a process."""

_HINTS = {
    "http_404": "no route matches (yet): look at the Gateway, the VirtualService and the load balancer's URL map",
    "http_502": "the load balancer has no healthy backend (yet): look at the BackendConfig's health check",
    "http_503": "the route has no ready endpoint: look at the pods behind it",
    "refused": "nobody listens there: look at the ingress gateway, the address and the port",
    "timeout": "packets go nowhere: look at firewalls, routes and the address",
    "unexpected": "something else answers there: look at the address and the path",
    "dns": "the name is unknown: look at its spelling",
}


class Watch:
    """One request on every beat, whatever earlier ones do, until ``stop`` or for ``longest_s`` at most.

    A context manager, sending from its making on; ``frame`` holds the rows so far. Prints nothing. Rows are stamped as
    ``curl.parse`` says; a beat that this machine could not keep shows as a gap between them.
    """

    def __init__(self, ask: Ask, *, path: str, longest_s: float) -> None:
        self.ask, self.path = ask, path
        self._beats = math.ceil(longest_s * ask.rate_per_s)
        self._rows: list[dict[str, object]] = []
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(math.ceil(ask.rate_per_s * (ask.timeout_s + 1)) + 2, "meshbook watch")
        self._clock = threading.Thread(target=self._beat, name="meshbook watch clock", daemon=True)
        self._clock.start()

    def _beat(self) -> None:
        started = time.monotonic()
        for beat in range(1, self._beats + 1):
            self._pool.submit(self._send, beat)
            if self._stopped.wait(max(0.0, started + beat / self.ask.rate_per_s - time.monotonic())):
                return

    def _send(self, beat: int) -> None:
        ask = Ask(url=self.ask.url, requests=beat, first=beat, timeout_s=self.ask.timeout_s)
        curl = LocalCurl(ask)
        self._rows += curl.rows()

    @property
    def frame(self) -> pd.DataFrame:
        """ANSWERS of the requests that have ended, in the order of their beats."""
        rows = sorted(self._rows, key=lambda row: int(str(row["seq"])))
        return tables.from_rows(({"source": OUTSIDE, "path": self.path, **row} for row in rows), tables.ANSWERS)

    def stop(self) -> pd.DataFrame:
        """Send no more, wait for the requests on their way (their time-out at most), and return all rows."""
        self._stopped.set()
        self._clock.join()
        self._pool.shutdown(wait=True)
        return self.frame

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def watch_from_here(
    url: str, *, rate_per_s: float = 10.0, timeout_s: float = 1.0, path: str = VIP, longest_s: float = 900.0
) -> Watch:
    """Start to send ``rate_per_s`` requests a second from this machine in the background and return the Watch.

    Each request has a curl and a connection of its own and ``timeout_s`` seconds, so one that hangs delays no other.
    """
    if not 0 < rate_per_s <= HIGHEST_RATE:
        raise UsageError(f"a watch sends more than 0 and at most {HIGHEST_RATE:g} requests per s, not {rate_per_s:g}")
    curl_program()
    return Watch(Ask(url=url, requests=1, timeout_s=timeout_s, rate_per_s=rate_per_s), path=path, longest_s=longest_s)


@dataclass(frozen=True, kw_only=True)
class FirstAnswer:
    """The first good answer that a wait got."""

    url: str
    version: str
    instance: str
    after_s: float
    """Seconds from the begin of the wait to this answer; the service may have been there up to ``poll_s`` earlier."""
    attempts: int
    before: str
    """What came before it, counted: ``refused 3×, http_404 12×``."""


def wait_for_first_answer(
    url: str,
    timeout_s: float = 900.0,
    *,
    poll_s: float = 0.5,
    request_timeout_s: float = 5.0,
    on_look: Callable[[str], None] | None = None,
) -> FirstAnswer:
    """Ask ``url`` every ``poll_s`` until the sample answers as it should; WaitTimeout says what was seen instead.

    ``on_look`` is called after each failed try with one line on the state of the wait, for a display that updates.
    """
    started, seen, row = time.monotonic(), Counter[str](), dict[str, object]()
    while True:
        row = LocalCurl(Ask(url=url, requests=1, timeout_s=request_timeout_s)).rows()[0]
        waited = time.monotonic() - started
        if not row["error"]:
            return _first(url, row, waited, seen)
        seen[str(row["error"])] += 1
        if on_look is not None:
            on_look(f"{url}: no good answer for {waited:.0f} s ({_counted(seen)})")
        if waited + poll_s > timeout_s:
            raise _nothing_good(url, timeout_s, row, seen)
        time.sleep(poll_s)


def _first(url: str, row: dict[str, object], waited: float, seen: Counter[str]) -> FirstAnswer:
    return FirstAnswer(
        url=url,
        version=str(row["version"]),
        instance=str(row["instance"]),
        after_s=round(waited, 1),
        attempts=seen.total() + 1,
        before=_counted(seen),
    )


def _nothing_good(url: str, timeout_s: float, row: dict[str, object], seen: Counter[str]) -> WaitTimeout:
    last = str(row["error"])
    return WaitTimeout(
        f"no good answer from {url} within {timeout_s:g} s; the last try gave {last}",
        hint=_HINTS.get(last, ""),
        saw=_counted(seen),
        last=row["detail"],
    )


def _counted(seen: Counter[str]) -> str:
    return ", ".join(f"{error} {count}×" for error, count in seen.items())
