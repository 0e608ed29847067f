"""How an Envoy starts: the bootstrap file and the command line. What it then serves comes from watched files."""

from __future__ import annotations

from pathlib import Path

from meshbook.lab.envoy import folders
from meshbook.lab.envoy.elements import Json, address, discovery_response, watched_file
from meshbook.lab.topology import PROXY_ADMIN_PORT

DRAIN_S = 1
"""How long a draining Envoy still answers while it asks its clients to go away."""

LOG_FLUSH_MS = 100
"""Access logs are evidence: they must be on disk soon after the answer."""

EMPTY = discovery_response([])
"""First content of ``lds.json`` and ``cds.json``: nothing is served until istiod has written better ones."""


def bootstrap(*, node_id: str, admin_address: str, folder: Path) -> Json:
    """Return ``bootstrap.json``: the admin interface, and listeners and clusters from files in ``folder``."""
    files = folders.ProxyFolder(path=folder)
    return {
        "node": {"id": node_id, "cluster": "meshbook-lab"},
        "admin": {"address": address(admin_address, PROXY_ADMIN_PORT)},
        "dynamic_resources": {
            "lds_config": watched_file(files.file(folders.LISTENERS)),
            "cds_config": watched_file(files.file(folders.CLUSTERS)),
        },
    }


def arguments(envoy: str, folder: Path) -> list[str]:
    """Return the command line of an Envoy that keeps its files in ``folder``; it logs to standard error."""
    return [
        envoy,
        *("--config-path", str(folder / folders.BOOTSTRAP)),
        *("--concurrency", "1"),
        "--disable-hot-restart",
        *("--drain-strategy", "immediate"),
        *("--drain-time-s", str(DRAIN_S)),
        *("--file-flush-interval-msec", str(LOG_FLUSH_MS)),
        *("--log-level", "warning"),
        "--skip-deprecated-logs",
    ]
