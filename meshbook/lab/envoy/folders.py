"""Where the files of one Envoy lie, and in which order they are written. Names only: nothing is read or written here.

An Envoy's folder is its whole interface: ``bootstrap.json`` is read once, everything else is watched. A writer replaces
a file by renaming a new one over it; a file with the same content is not touched, so that a change of endpoints is a
change of one EDS file and leaves listeners, clusters and connections alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

BOOTSTRAP = "bootstrap.json"
LISTENERS = "lds.json"
CLUSTERS = "cds.json"
ACCESS_LOG = "access.log"
CERTIFICATE, KEY, ROOT = "cert.pem", "key.pem", "root.pem"
SUBFOLDERS = ("eds", "rds", "sds")

_ORDER = (CERTIFICATE, KEY, ROOT, "sds/", "eds/", CLUSTERS, "rds/", LISTENERS)
"""What is referred to comes before what refers to it."""


@dataclass(frozen=True, kw_only=True)
class ProxyFolder:
    """The paths in one Envoy's folder."""

    path: Path

    def file(self, name: str) -> str:
        return str(self.path / name)

    def endpoints(self, cluster: str) -> str:
        return self.file(endpoints_file(cluster))

    def routes(self, name: str) -> str:
        return self.file(routes_file(name))

    @property
    def access_log(self) -> str:
        return self.file(ACCESS_LOG)


def endpoints_file(cluster: str) -> str:
    """Return the name of the file with ``cluster``'s endpoints, relative to the folder."""
    return f"eds/{cluster.replace('|', '_.')}.json"


def routes_file(name: str) -> str:
    return f"rds/{name}.json"


def in_order(names: Iterable[str]) -> list[str]:
    """Sort file names so that Envoy never meets a reference to a file that is not written yet.

    Files that are no longer wanted are removed last, after all others are written.
    """
    return sorted(names, key=lambda name: (_rank(name), name))


def _rank(name: str) -> int:
    ranks = (number for number, start in enumerate(_ORDER) if name.startswith(start))
    return next(ranks, len(_ORDER))
