"""The wait for a service's first good answer, with a word on what is wrong meanwhile. Single requests, one by one.

Requests on a schedule are ``watching``'s; the wait for every version of it is ``settling``'s.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from meshbook.errors import WaitTimeout
from meshbook.probes.curl import Ask
from meshbook.probes.sending import LocalCurl

_HINTS = {
    "http_404": "no route matches (yet): look at the Gateway, the VirtualService and the load balancer's URL map",
    "http_502": "the load balancer has no healthy backend (yet): look at the BackendConfig's health check",
    "http_503": "the route has no ready endpoint: look at the pods behind it",
    "refused": "nobody listens there: look at the ingress gateway, the address and the port",
    "timeout": "packets go nowhere: look at firewalls, routes and the address",
    "unexpected": "something else answers there: look at the address and the path",
    "dns": "the name is unknown: look at its spelling",
}


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
