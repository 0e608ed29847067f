"""Wait until the mesh has told every client of every server, before anything is counted.

A fresh pod is ready before all proxies know it: endpoints travel for a moment, and for longer between clouds. Counting
at once would call that moment an uneven split. What is counted afterwards is judged in ``judge``, not here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from meshbook import tables
from meshbook.clusters import Fleet
from meshbook.probes.sending import curl_from_pods

_BATCH = 4
_PAUSE_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What a wait for all versions saw. ``missing`` is empty when every source saw every version."""

    after_s: float
    """Seconds until the last version was seen, or until the wait gave up."""
    requests: int
    missing: tuple[str, ...]
    """``<source> has not seen <version>``; left to the measurement to judge."""

    def __str__(self) -> str:
        if self.missing:
            return f"not settled after {self.after_s:g} s: {', '.join(self.missing)}"
        return f"settled after {self.after_s:g} s, {self.requests} requests: every source has seen every version"


def wait_for_versions(
    fleet: Fleet,
    url: str,
    versions: Sequence[str],
    *,
    namespace: str = "sample",
    timeout_s: float = 30.0,
    on_look: Callable[[str], None] | None = None,
) -> Settled:
    """Ask ``url`` from every cluster's sleep pod until each has seen all ``versions``, or for ``timeout_s``.

    Giving up is no error: that a version never comes is a finding, and the measurement that follows makes it.
    """
    started, sent = time.monotonic(), 0
    wanted = {(cluster.name, version) for cluster in fleet for version in versions}
    while True:
        frame = curl_from_pods(fleet, url, requests=_BATCH, namespace=namespace)
        sent += len(frame)
        good = tables.good(frame)
        wanted -= set(zip(good["source"], good["version"], strict=True))
        waited = round(time.monotonic() - started, 1)
        missing = tuple(f"{source} has not seen {version}" for source, version in sorted(wanted))
        if not missing or waited + _PAUSE_S > timeout_s:
            return Settled(after_s=waited, requests=sent, missing=missing)
        if on_look is not None:
            on_look(f"{waited:.0f} s: {', '.join(missing)}")
        time.sleep(_PAUSE_S)
