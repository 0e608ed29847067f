"""Read a kubeconfig: which contexts it has, which server each means, and extensions of its cluster entries.

Credentials are left to the official client (``connection``), which also runs login plugins.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from meshbook.errors import UsageError


class Kubeconfig:
    """One or several files, merged as kubectl merges $KUBECONFIG: the first entry of a name wins."""

    def __init__(self, path: str) -> None:
        self.path = path
        documents = [_read(Path(part).expanduser()) for part in path.split(os.pathsep) if part]
        self._contexts = _entries(documents, "contexts", "context")
        self._clusters = _entries(documents, "clusters", "cluster")

    @property
    def contexts(self) -> list[str]:
        return sorted(self._contexts)

    def require(self, names: Sequence[str]) -> None:
        """Raise UsageError unless every name is a context that leads to a cluster, each to another server."""
        unknown = [name for name in names if name not in self._contexts]
        if unknown:
            known = ", ".join(self.contexts) or "none"
            raise UsageError(
                f"no context {', '.join(map(repr, unknown))} in {self.path}",
                hint="name the contexts with contexts=[…], or set CTX_CLUSTER1 and CTX_CLUSTER2",
                contexts=known,
            )
        seen: dict[str, str] = {}
        for name in names:
            server = self.server(name)
            if other := seen.setdefault(server, name):
                refuse_same_cluster(other, name, server)

    def server(self, context: str) -> str:
        """Return the URL of the context's API server."""
        return str(self.cluster(context).get("server", "")).rstrip("/")

    def cluster(self, context: str) -> dict[str, Any]:
        """Return the cluster entry that ``context`` refers to."""
        name = self._contexts[context].get("cluster", "")
        found = self._clusters.get(name)
        if not found or not found.get("server"):
            raise UsageError(f"context {context!r} refers to cluster {name!r}, which has no server in {self.path}")
        return found

    def extension(self, context: str, name: str) -> dict[str, Any]:
        """Return what extension ``name`` of the context's cluster entry holds; empty when there is none."""
        for found in self.cluster(context).get("extensions") or []:
            if found.get("name") == name and isinstance(found.get("extension"), dict):
                return dict(found["extension"])
        return {}


def refuse_same_cluster(first: str, second: str, sign: str) -> None:
    """Raise UsageError when two different contexts mean one cluster; ``sign`` tells how it shows."""
    if first != second:
        raise UsageError(
            f"contexts {first!r} and {second!r} are the same cluster",
            hint="name one context per cluster; a fleet needs different ones",
            both=sign,
        )


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():  # kubectl skips missing files of a list; settings saw that one is there
        return {}
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read the kubeconfig {path}: {error}") from error
    if not isinstance(document, dict):
        raise UsageError(f"{path} is no kubeconfig: it holds a {type(document).__name__}, not a mapping")
    return document


def _entries(documents: list[dict[str, Any]], section: str, key: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for document in documents:
        for entry in document.get(section) or []:
            if isinstance(entry, dict) and isinstance(entry.get(key), dict):
                found.setdefault(str(entry.get("name")), entry[key])
    return found
