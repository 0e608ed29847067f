"""Where settings come from, and what waits and retries are bounded by.

Order of precedence everywhere: parameter, then environment, then file. No cluster is asked anything here; that is
``clusters``. Tables' columns are in ``tables``, the notebooks' parameters in the notebooks.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from meshbook.errors import UsageError

FIELD_MANAGER = "meshbook"
"""Owner of the fields that meshbook sets by server-side apply."""

OWNER_LABEL = {"app.kubernetes.io/managed-by": FIELD_MANAGER}
"""Marks what meshbook made, and so may delete."""

RUN_FILE = "run.json"
"""The record of a run in its folder, which ``runs`` writes and ``report`` reads."""

CONTEXT_VARIABLES = ("CTX_CLUSTER1", "CTX_CLUSTER2")
"""The article's own variables."""

DEFAULT_CONTEXTS = ("cluster1", "cluster2")
"""The lab's contexts."""

REQUEST_S = 5.0
"""Seconds after which a request of stages 1 and 2 has failed: half of what Istio's proxies take to connect (10 s).

Nothing is broken there on purpose. An answer that came only because a proxy waited in vain for the other cluster, and
then went elsewhere, would be no proof that the other cluster is reached.
"""

OUTAGE_REQUEST_S = 15.0
"""Seconds after which a request has failed while something is broken on purpose: more than Istio's 10 s to connect.

There such a late answer is what the mesh saves; that it came late is a claim of its own.
"""

HUB_PROJECT_VARIABLE = "CLOUDSDK_CORE_PROJECT"
"""gcloud's own variable for the project."""

FLEET, LOAD_BALANCER, OWN_ADDRESS = "fleet", "load-balancer", "own address"
"""Ways in for requests from outside: a fleet's MultiClusterIngress, a Service of each cluster, what exists already."""


def entry_kind(entry: str) -> str:
    """Return which way in the parameter ``entry`` names: FLEET, LOAD_BALANCER, or OWN_ADDRESS where it is a URL."""
    if entry in (FLEET, LOAD_BALANCER):
        return entry
    try:
        parts = urlsplit(entry)
        fits = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
        fits = fits and not re.search(r"[\s@?#]", entry)
    except (AttributeError, TypeError, ValueError):  # no text, or what is no URL
        fits = False
    if not fits:
        shown = re.search("[@?#]", str(entry)) is None
        told = f"is {entry!r}" if shown else "has a login or a query, which every answer would show"
        raise UsageError(f"entry {told}", hint=f"{FLEET}, {LOAD_BALANCER}, or http://ADDRESS of your own")
    return OWN_ADDRESS


AUTO = "auto"
"""Value of a parameter, declared as text, that is this word or a number."""

_DAY_S = 86_400.0
RANGES: Mapping[str, tuple[float, float]] = {
    r"(.*_)?share|tolerance": (0, 1),
    r"(.*_)?requests": (1, 1_000_000),
    r"repeats": (1, 1_000),
    r"rate_per_s": (0.01, 200),
    r"patience_s|slow_after_s": (0.01, 300),
    r"outage_s": (0.1, 1_000),
    r"watchdog_s": (3, _DAY_S),
    r".*_s": (0.001, _DAY_S),
}
"""Names of parameters, as patterns, and the least and the greatest value of each; the first that fits counts."""


def out_of_range(name: str, number: float) -> str:
    """Return the range that ``number`` misses as a value of parameter ``name``; empty where it lies within."""
    low, high = next((ends for pattern, ends in RANGES.items() if re.fullmatch(pattern, name)), (-math.inf, math.inf))
    return "" if low <= number <= high else f"{low:.10g} to {high:.10g}"


def require_usable(parameters: Mapping[str, Any]) -> None:
    """Raise UsageError for the first parameter of a notebook that is no number in its range, where its name has one.

    0, which may be a word for none, and ``auto`` are left to their notebook.
    """
    for name, value in parameters.items():
        if any(re.fullmatch(pattern, name) for pattern in RANGES):
            for one in value if isinstance(value, list) else [value]:
                try:
                    number = 0.0 if one == AUTO else float(one)
                except (TypeError, ValueError) as error:
                    raise UsageError(f"{name} must be a number, not {one!r}") from error
                if number:
                    require_in_range(**{name: number})


def require_in_range(**values: float) -> None:
    """Raise UsageError for the first of ``values``, by the names of their parameters, that is out of its range."""
    for name, number in values.items():
        if allowed := out_of_range(name, number):
            raise UsageError(f"{name} must be {allowed}, not {number:g}")


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long one request may take and how often it is tried. Waits for conditions take a deadline of their own."""

    connect_s: float = 5.0
    """Seconds to reach a server; two clouds and a VPN answer in well under one."""
    read_s: float = 30.0
    """Seconds without a byte before a request is given up; an API server's own limit is 60."""
    attempts: int = 4
    """Tries of a request that may be repeated safely: 4 ride out a restart of a load balancer."""
    pause_s: float = 0.2
    """Seconds before the second try; doubles each time."""
    longest_pause_s: float = 5.0
    """Seconds that a server's Retry-After may hold a request back at most."""
    poll_s: float = 0.05
    """Seconds between the first two looks of a wait; grows to ``slowest_poll_s`` to be gentle to a real cluster."""
    slowest_poll_s: float = 1.0
    absent_s: float = 10.0
    """Seconds that a rollout waits for a Deployment that is not there: it does not come by itself."""
    rollback_s: float = 300.0
    """Seconds that a rollback goes on at least after its first failure: a login, a control plane's upgrade, or a quota
    is mended within minutes, and until then something is down."""
    stuck_s: float = 30.0
    """Seconds that a rollout waits for a pod without its image, or whose containers end again and again."""
    unscheduled_s: float = 120.0
    """Seconds that a rollout waits for a pod without a node: an autoscaler brings one in a minute or two."""
    lease_s: float = 8.0
    """Seconds without a renewal after which the run of an outage counts as dead; it renews four times as often."""
    login_s: float = 60.0
    """Seconds that a login plugin may take: one that fetches a token takes one, a person in a browser half a minute."""
    login_apart_s: float = 5.0
    """Seconds between two calls of a login plugin at least: it may fail, or hand out the last moments of a token."""


def kubeconfig_path(kubeconfig: str | Path = "", environment: Mapping[str, str] | None = None) -> str:
    """Return the kubeconfig to read: ``kubeconfig``, else $KUBECONFIG, else the lab's, else kubectl's default.

    May name several files, separated as in $KUBECONFIG; all are absolute, so that they mean the same in a notebook,
    which has another working directory. Raises UsageError when none of them exists.
    """
    environment = os.environ if environment is None else environment
    chosen = str(kubeconfig) or environment.get("KUBECONFIG", "") or _default_kubeconfig(environment)
    try:
        files = [str(Path(part).expanduser().absolute()) for part in chosen.split(os.pathsep) if part]
    except RuntimeError as error:  # a ~ where nobody knows the home
        raise UsageError(f"there is no kubeconfig at {chosen}: {error}") from error
    if not any(Path(file).is_file() for file in files):
        raise UsageError(
            f"there is no kubeconfig at {chosen}",
            hint="meshbook lab up (a lab on this machine), or set KUBECONFIG to a file with a context per cluster",
        )
    return os.pathsep.join(files)


def _default_kubeconfig(environment: Mapping[str, str]) -> str:
    home = environment.get("HOME") or "~"
    lab, default = f"{home}/.meshbook/kubeconfig", f"{home}/.kube/config"
    return lab if Path(os.path.expanduser(lab)).exists() else default


def context_names(contexts: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the contexts to work on: ``contexts``, else the article's two variables, else the lab's names."""
    environment = os.environ if environment is None else environment
    if isinstance(contexts, str):
        raise UsageError(f"contexts is a list of names, not the text {contexts!r}", hint=f"[{contexts!r}]")
    article = {variable: environment.get(variable, "") for variable in CONTEXT_VARIABLES}
    unset = [variable for variable, name in article.items() if not name]
    if not contexts and len(unset) == 1:
        raise UsageError(f"{unset[0]} is not set, but the other one is", hint="set both, or pass contexts=[…]")
    names = tuple(contexts) or (DEFAULT_CONTEXTS if unset else tuple(article.values()))
    if not all(name and isinstance(name, str) for name in names):
        raise UsageError(f"a context has no name: {list(names)}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"context named twice: {', '.join(twice)}", hint="name each cluster's context once")
    return names
