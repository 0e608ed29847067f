"""Where the files of one Envoy lie, and in which order they are written. Names only: nothing is read or written here.

An Envoy's folder is its whole interface: ``bootstrap.json`` is read once, the other JSON files are watched. A writer
replaces a file by renaming a new one over it, and does not touch a file whose content is the same.

Envoy takes an inotify instance for every file that it watches, Linux lends a user 128 of them, and an Envoy that gets
none aborts. So watched files are few: endpoints of the mesh stand in ``cds.json`` beside their clusters, where a change
concerns the one cluster that changed, and certificates are not watched but named after their root.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

BOOTSTRAP = "bootstrap.json"
LISTENERS = "lds.json"
CLUSTERS = "cds.json"
ACCESS_LOG = "access.log"
SUBFOLDERS = ("eds", "rds")
CERTIFICATE_ENDING = ".pem"

_ORDER = ("eds/", CLUSTERS, "rds/", LISTENERS)
"""What is referred to comes before what refers to it."""


@dataclass(frozen=True, kw_only=True)
class ProxyFolder:
    """The paths in one Envoy's folder. ``root`` names the root of trust (a digest): another one, other files."""

    path: Path
    root: str = ""

    def file(self, name: str) -> str:
        return str(self.path / name)

    def endpoints(self, cluster: str) -> str:
        return self.file(endpoints_file(cluster))

    @property
    def certificate(self) -> str:
        return f"cert-{self.root}{CERTIFICATE_ENDING}"

    @property
    def key(self) -> str:
        return f"key-{self.root}{CERTIFICATE_ENDING}"

    @property
    def trusted_root(self) -> str:
        return f"root-{self.root}{CERTIFICATE_ENDING}"

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
    ranks = (number for number, start in enumerate(_ORDER, start=1) if name.startswith(start))
    return 0 if name.endswith(CERTIFICATE_ENDING) else next(ranks, len(_ORDER) + 1)
