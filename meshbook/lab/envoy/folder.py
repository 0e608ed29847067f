"""The folder that is an Envoy's whole interface: how the Envoy starts from it, and how what it serves is replaced.

``bootstrap.json`` is read once, the other JSON files are watched: a writer replaces a file by renaming a new one over
it, and does not touch a file whose content is the same. Nothing is remembered elsewhere, so a restarted writer goes on
where the last one ended, and a file that somebody broke is mended by the next write.

Envoy takes an inotify instance for every file that it watches, Linux lends a user 128 of them, and an Envoy that gets
none aborts. So watched files are few: endpoints of the mesh stand in ``cds.json`` beside their clusters, where a change
concerns the one cluster that changed, and certificates are not watched but named after their root.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshbook.lab.pki import write_private
from meshbook.lab.topology import PROXY_ADMIN_PORT

BOOTSTRAP = "bootstrap.json"
LISTENERS, CLUSTERS = "lds.json", "cds.json"
ROUTES, ENDPOINTS = "rds", "eds"
"""Folders with a file for each route configuration, and for each cluster whose endpoints are watched by themselves."""

DRAIN_S = 1
"""How long a draining Envoy still answers while it asks its clients to go away."""

LOG_FLUSH_MS = 100
"""Access logs are evidence: they must be there soon after the answer."""


@dataclass(frozen=True, kw_only=True)
class ProxyFolder:
    """Names in one Envoy's folder. ``root`` names the root of trust (a digest): another one, other files."""

    path: Path
    root: str = ""

    @property
    def certificate(self) -> str:
        return f"cert-{self.root}.pem"

    @property
    def key(self) -> str:
        return f"key-{self.root}.pem"

    @property
    def trusted_root(self) -> str:
        return f"root-{self.root}.pem"

    def watched(self, name: str) -> dict[str, Any]:
        """Return a configuration source: Envoy reads the file again whenever one is renamed to it."""
        return {"path_config_source": {"path": str(self.path / name)}, "resource_api_version": "V3"}


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one Envoy is to serve, however it learns of it; routes and endpoints by name."""

    listeners: Sequence[dict[str, Any]] = ()
    clusters: Sequence[dict[str, Any]] = ()
    routes: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    endpoints: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def files(self) -> dict[str, str]:
        """Return file names and contents; what is referred to comes before what refers to it."""
        return {
            **{f"{ENDPOINTS}/{name}.json": _response([one]) for name, one in self.endpoints.items()},
            CLUSTERS: _response(self.clusters),
            **{f"{ROUTES}/{name}.json": _response([one]) for name, one in self.routes.items()},
            LISTENERS: _response(self.listeners),
        }


def write_resources(folder: Path, resources: Resources, certificates: Mapping[str, str] | None = None) -> list[str]:
    """Bring ``folder`` to this content, certificates first; return the names of the files that changed or went."""
    wanted = {**(certificates or {}), **resources.files()}
    changed = [name for name, text in wanted.items() if _replace(folder / name, text)]
    for path in sorted(path for kind in (ROUTES, ENDPOINTS) for path in (folder / kind).glob("[!.]*")):
        name = f"{path.parent.name}/{path.name}"
        if name not in wanted:
            path.unlink()
            changed.append(name)
    return changed


def prepare_envoy(program: str | Path, folder: Path, node_id: str, admin_address: str) -> list[str]:
    """Make what an Envoy must find when it starts, and return its command line; it logs to standard error.

    What has been written for it already stays: istiod may be faster than who starts it.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for kind in (ROUTES, ENDPOINTS):
        (folder / kind).mkdir(exist_ok=True)
    names = ProxyFolder(path=folder)
    bootstrap = {
        "node": {"id": node_id, "cluster": "meshbook-lab"},
        "admin": {"address": {"socket_address": {"address": admin_address, "port_value": PROXY_ADMIN_PORT}}},
        "dynamic_resources": {"lds_config": names.watched(LISTENERS), "cds_config": names.watched(CLUSTERS)},
    }
    (folder / BOOTSTRAP).write_text(json.dumps(bootstrap))
    for name in (LISTENERS, CLUSTERS):
        with contextlib.suppress(FileExistsError), (folder / name).open("x") as file:
            file.write(_response([]))
    return [
        str(program),
        *("--config-path", str(folder / BOOTSTRAP)),
        *("--concurrency", "1"),
        "--disable-hot-restart",
        *("--drain-strategy", "immediate"),
        *("--drain-time-s", str(DRAIN_S)),
        *("--file-flush-interval-msec", str(LOG_FLUSH_MS)),
        *("--log-level", "warning"),
        "--skip-deprecated-logs",
    ]


def _response(resources: Sequence[dict[str, Any]]) -> str:
    """Return a DiscoveryResponse, which is what a file source holds."""
    return json.dumps({"resources": resources}, sort_keys=True, separators=(",", ":"))


def _replace(path: Path, text: str) -> bool:
    if path.exists() and path.read_bytes() == text.encode():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, text)
    return True
