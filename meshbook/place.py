"""Where and when a run took place, and who ran it: as data that travels in a notebook, and as one line of text.

Which clusters these are is told by ``mesh.places``. ``notebook`` keeps and shows it, and ``cli`` before the first one.
"""

from __future__ import annotations

import getpass
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Any


def place_of(clusters: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what tells where, when and by whom this runs; ``clusters`` are ``mesh.Place`` as data."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        user = f"user {os.getuid()}"
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    versions = {"meshbook": version("meshbook"), "python": platform.python_version()}
    return {**versions, "time": now, "user": user, "clusters": [dict(one) for one in clusters]}


def place_text(place: Mapping[str, Any]) -> str:
    """Return all of it in one line."""
    versions = f"meshbook {place['meshbook']}, Python {place['python']}"
    return " · ".join((clusters_text(place), moment_text(place["time"]), f"by {place['user']}", versions))


def clusters_text(place: Mapping[str, Any]) -> str:
    """Return which clusters these are; what is true of all of them is said once."""
    clusters = place["clusters"]
    facts = {str(one.get("name") or one["context"]): _facts(one) for one in clusters}
    if len(set(facts.values())) == 1:
        told = " · ".join(filter(None, (", ".join(facts), *set(facts.values()))))
    else:
        told = ", ".join(f"{name} ({fact})" if fact else name for name, fact in facts.items())
    return f"{LAB}: {told}" if clusters and all(one["lab"] for one in clusters) else told


LAB = "LAB (emulated clusters on this machine)"


def _facts(cluster: Mapping[str, Any]) -> str:
    provider = "" if cluster["lab"] else str(cluster["provider"])
    kubernetes = cluster["kubernetes"] and f"Kubernetes {cluster['kubernetes'].removeprefix('v')}"
    mesh = cluster["mesh"] and f"mesh {', '.join(cluster['mesh'])}"
    user = cluster["user"] and f"as {cluster['user']}"
    return ", ".join(filter(None, (provider, kubernetes, mesh, user)))


def moment_text(stamp: str) -> str:
    """Return an ISO time with its zone as people write it: ``2026-01-31 18:45:00 UTC+09:00``."""
    moment = datetime.fromisoformat(stamp)
    zone = moment.strftime("%z")
    return f"{moment:%Y-%m-%d %H:%M:%S}" + (
        "" if not zone else " UTC" if zone == "+0000" else f" UTC{zone[:3]}:{zone[3:]}"
    )
