"""The waits before anything is counted: for the first good answer, and until every client has seen every version.

A load balancer takes minutes to answer, and a fresh pod is ready before all proxies know it. Counting at once would
call that an outage, or an uneven split. What is counted afterwards is judged in ``analysis``.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd

from meshbook import progress, tables
from meshbook.clusters import Fleet, gather
from meshbook.errors import GatheredError, WaitTimeout
from meshbook.mesh import Entry, entries_of
from meshbook.probes.curl import curl_from_here, curl_from_pods
from meshbook.settings import REQUEST_S

_BATCH = 6
_PAUSE_S = 0.2
_SIDE_BY_SIDE = 4
"""Requests of one try, once one has hung: where one of two ways hangs, nearly every try has a good answer then."""
_EXISTS_S = 60.0
"""Seconds until somebody answers, by HTTP at all, at an address that existed before: only what is behind it is new."""
_HANGS_S, _HANGS = 2.0, 2
"""Seconds after which a request of the wait hangs, and so many of a source end it.

An endpoint that a proxy does not know yet gets no requests, or has them refused at once: those that hang stay so."""
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
    after_s: float
    """Seconds from the begin of the wait to this answer; the service may have been there up to ``poll_s`` earlier."""
    before: str
    """What came before it, counted: ``refused 3×, http_404 12×``."""

    def __str__(self) -> str:
        return f"first good answer after {self.after_s:.1f} s, from {self.version}"


def wait_for_first_answer(
    url: str,
    timeout_s: float = 900.0,
    *,
    exists: bool = False,
    poll_s: float = 0.5,
) -> FirstAnswer:
    """Ask ``url`` every ``poll_s`` until the sample answers as it should; WaitTimeout says what was seen instead.

    Where nobody answers at all at an address that ``exists`` already, it ends after a minute.
    """
    started, seen = time.monotonic(), Counter[str]()
    longest_s = min(timeout_s, _EXISTS_S) if exists else timeout_s
    with progress.waiting(f"the first good answer from {url}", timeout_s) as tell:
        while True:
            hung = seen[tables.TIMEOUT]
            patience_s = min(REQUEST_S, _HANGS_S + hung)
            rows = curl_from_here(url, _SIDE_BY_SIDE if hung else 1, timeout_s=patience_s, at_once=True)
            row = rows.sort_values("error", kind="stable").iloc[0]  # a good one, if there is any
            waited = time.monotonic() - started
            if not row["error"]:
                return FirstAnswer(
                    url=url, version=str(row["version"]), after_s=round(waited, 1), before=_counted(seen)
                )
            seen.update(rows["error"])
            tell(_counted(seen))
            longest_s = timeout_s if rows["code"].notna().any() else longest_s
            if waited + poll_s > longest_s:
                raise _nothing_good(url, longest_s, row, seen)
            time.sleep(poll_s)


def wait_for_first_answers(entries: Sequence[Entry], timeout_s: float = 900.0) -> list[FirstAnswer]:
    """Wait for each of several entries as for one, all at once; WaitTimeout tells of the first that has none."""
    waits = {
        one.url: partial(wait_for_first_answer, one.url, timeout_s, exists=one.path == tables.ADDRESS)
        for one in entries_of(entries)
    }
    try:
        return [*gather(waits).values()]
    except GatheredError as error:
        raise next(iter(error.errors.values())) from error


def _nothing_good(url: str, timeout_s: float, row: pd.Series[Any], seen: Counter[str]) -> WaitTimeout:
    last = str(row["error"])
    return WaitTimeout(
        f"no good answer from {url} within {timeout_s:g} s; the last try gave {last}",
        hint=_HINTS.get(last, ""),
        saw=_counted(seen),
        last=row["detail"],
    )


def _counted(seen: Counter[str]) -> str:
    return ", ".join(f"{error} {count}×" for error, count in seen.items())


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What a wait for all versions saw. ``missing`` is empty when every source saw every version."""

    after_s: float
    """Seconds until the last version was seen, or until the wait gave up."""
    requests: int
    missing: tuple[str, ...]
    """``<source> has not seen <version>``; left to the measurement to judge."""
    hung: Mapping[str, int] = field(default_factory=dict)
    """How many of a source's requests hung."""

    @property
    def hangs(self) -> bool:
        """Tell whether requests hang where a version is missing: those that are sent next go side by side."""
        return bool(self.missing and self.hung)

    def __str__(self) -> str:
        if self.missing:
            hung = "".join(f"; {count} requests of {source} hung" for source, count in self.hung.items())
            return f"not settled after {self.after_s:g} s: {', '.join(self.missing)}{hung}"
        return f"settled after {self.after_s:g} s, {self.requests} requests: every source has seen every version"


def wait_for_versions(
    fleet: Fleet,
    url: str,
    versions: Sequence[str],
    *,
    namespace: str = "sample",
    timeout_s: float = 30.0,
) -> Settled:
    """Ask ``url`` from every cluster's sleep pod until each has seen all ``versions``, or for ``timeout_s``.

    It ends before that where requests of every source that misses one hang. Giving up is no error: that a version never
    comes is a finding, and the measurement that follows makes it.
    """
    started, sent, hung = time.monotonic(), 0, Counter[str]()
    wanted = {(cluster.name, version) for cluster in fleet for version in versions}
    with progress.waiting("proxies know all endpoints", timeout_s) as tell:
        while True:
            frame = curl_from_pods(fleet, url, requests=_BATCH, namespace=namespace, timeout_s=_HANGS_S)
            sent += len(frame)
            hung.update(frame.loc[frame["error"] == tables.TIMEOUT, "source"])
            good = tables.good(frame)
            wanted -= set(zip(good["source"], good["version"], strict=True))
            waited = round(time.monotonic() - started, 1)
            missing = tuple(f"{source} has not seen {version}" for source, version in sorted(wanted))
            hopeless = all(hung[source] >= _HANGS for source, _ in wanted)
            if hopeless or waited + _PAUSE_S > timeout_s:
                return Settled(after_s=waited, requests=sent, missing=missing, hung=dict(hung))
            tell(", ".join(missing))
            time.sleep(_PAUSE_S)
