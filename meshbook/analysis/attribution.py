"""Which layer saved the requests: endpoints taken out, retries, the load balancer, or none. Pure.

Told by what proxies logged and what API servers showed, with the source of each statement beside it. A proxy that sends
a request to a good endpoint at once has been saved by news of the endpoints (or by luck), one that tries again by its
retry policy. What the log does not tell stays unknown: Envoy's own view of an endpoint's health is in no access log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from meshbook import tables
from meshbook.analysis.accesslog import AccessLogs

_CALLERS = {"sidecar": "callers' sidecars", "gateway": "ingress gateways"}
_FLAGS = {
    "DC": "caller gave up",
    "LR": "connection reset by the proxy itself",
    "NC": "no such cluster",
    "NR": "no route",
    "UC": "connection cut by the endpoint",
    "UF": "endpoint not reached",
    "UH": "no healthy endpoint",
    "UR": "reset by the endpoint",
    "URX": "all tries used up",
    "UT": "endpoint too slow",
}


@dataclass(frozen=True, kw_only=True)
class LoadBalancer:
    """What is known of the global load balancer: what it asks for health, and how what it asks fared meanwhile."""

    health_check: str
    """``port 15021, /healthz/ready``; empty where no BackendConfig says so."""
    gateways: Mapping[str, tuple[int, int]]
    """By context: gateway pods that were ready in the middle of the outage, and all of them."""
    silent: tuple[str, ...] = ()
    """Contexts whose API server did not say."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What there is to judge by."""

    logs: AccessLogs
    since: datetime
    until: datetime
    service: str
    """Host name of the service, or the start of it: ``helloworld.sample``."""
    endpoints: Mapping[str, str]
    """By context: what happened to the service's endpoints, in words."""
    balancer: LoadBalancer | None = None


def attribute(evidence: Evidence) -> pd.DataFrame:
    """Return ATTRIBUTION: endpoints first, then the proxies on the way of a request, the load balancer last."""
    rows = [*_endpoints(evidence), *_proxies(evidence), *_passed(evidence), _balancer(evidence.balancer)]
    return tables.from_rows(rows, tables.ATTRIBUTION)


def _endpoints(evidence: Evidence) -> Iterator[dict[str, Any]]:
    for context, words in evidence.endpoints.items():
        yield {"layer": "mesh endpoints", "context": context, "did": words, "known_by": f"API server of {context}"}


def _proxies(evidence: Evidence) -> Iterator[dict[str, Any]]:
    inside = _during(evidence)
    ours = inside[(inside["hop"] == "outbound") & inside["service"].str.startswith(evidence.service)]
    for (role, context), lines in ours.groupby(["role", "context"], sort=True):
        known_by = evidence.logs.words if evidence.logs.counts_attempts else f"{evidence.logs.words}; best effort"
        yield {"layer": _CALLERS[str(role)], "context": context, "known_by": known_by, **_counted(lines)}
    if ours.empty:
        did = "not known: no log of theirs was read"
        yield {"layer": _CALLERS["sidecar"], "did": did, "known_by": evidence.logs.words}


def _counted(lines: pd.DataFrame) -> dict[str, Any]:
    good = (lines["code"] == 200).fillna(False).astype(bool)
    told = bool(lines["attempts"].notna().all())
    retried = int((good & (lines["attempts"] > 1).fillna(False).astype(bool)).sum())
    bad = lines[~good]
    counts: dict[str, Any] = {"at_once": int(good.sum()) - retried, "by_retry": retried} if told else {}
    words = [f"{counts['at_once']} answered at once, {retried} by a retry" if told else f"{int(good.sum())} answered"]
    words += [f"{len(bad)} not saved ({flag_words(bad['flags'].tolist())})"] if len(bad) else []
    return {
        "requests": len(lines),
        **counts,
        "not_saved": len(bad),
        "to_other": int((good & (lines["upstream"] == "other network")).sum()),
        "did": ", ".join(words),
    }


def flag_words(flags: Sequence[str]) -> str:
    """Return response flags counted and in words: ``UF endpoint not reached 3×``."""
    single = Counter(flag for one in flags for flag in (one.split(",") if one else ["no flag"]))
    return ", ".join(" ".join(filter(None, (flag, _FLAGS.get(flag, ""), f"{n}×"))) for flag, n in single.most_common())


def _passed(evidence: Evidence) -> Iterator[dict[str, Any]]:
    """Tell of east-west gateways, which see connections and no requests."""
    inside = _during(evidence)
    passed = inside[(inside["hop"] == "passthrough") & inside["service"].str.startswith(evidence.service)]
    for context, lines in passed.groupby("context", sort=True):
        broken = lines[lines["flags"] != ""]
        words = f"{len(lines)} connection{'s' if len(lines) != 1 else ''} ended in that time"
        words += f", {len(broken)} of them broken ({flag_words(broken['flags'].tolist())})" if len(broken) else ""
        known_by = "its access log; it passes TLS on and sees no requests"
        yield {"layer": "east-west gateway", "context": context, "did": words, "known_by": known_by}


def _balancer(balancer: LoadBalancer | None) -> dict[str, Any]:
    row = {"layer": "global load balancer"}
    if balancer is None or not balancer.gateways:
        return row | {"did": "not known", "known_by": "its backends were not looked at"}
    known = [f"{context} {up} of {n}" for context, (up, n) in balancer.gateways.items()]
    ready = ", ".join([*known, *(f"{context} not known, its API server was silent" for context in balancer.silent)])
    all_up = not balancer.silent and all(up == n and n for up, n in balancer.gateways.values())
    word = "had no reason to move traffic" if all_up else "may have moved traffic"
    check = balancer.health_check or "an unknown port"
    return row | {
        "did": f"{word}: it asks the ingress gateways ({check}), not the application; ready gateways: {ready}",
        "known_by": "pods and BackendConfig; its own view of health is told by its cloud, not by Kubernetes",
    }


def _during(evidence: Evidence) -> pd.DataFrame:
    frame = tables.conform(evidence.logs.frame, tables.ACCESS)
    return frame[frame["time"].between(evidence.since, evidence.until)]
