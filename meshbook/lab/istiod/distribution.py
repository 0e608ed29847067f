"""Writes what an Envoy watches: every file by atomic rename, and only when its content differs.

The files themselves are the memory: nothing is cached, so a restarted istiod continues where the last one ended, and a
file that somebody broke is mended by the next push.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from meshbook.lab.envoy import folders
from meshbook.lab.envoy.elements import Json
from meshbook.lab.envoy.folders import ProxyFolder
from meshbook.lab.pki import Authority, write_private

ROUTES = "rds"
"""The folder in which files that are no longer wanted are removed."""

DIGEST_LENGTH = 12


def write(folder: Path, files: Mapping[str, Json | str]) -> list[str]:
    """Bring ``folder`` to this content; return the names of the files that were changed or removed."""
    for parent in {(folder / name).parent for name in files}:
        parent.mkdir(parents=True, exist_ok=True)
    changed = [name for name in folders.in_order(files) if _replace(folder / name, _text(files[name]))]
    return changed + _remove_stale(folder, files)


def folder_of(path: Path, authority: Authority) -> ProxyFolder:
    """Return the names in a folder whose certificates come from ``authority``."""
    return ProxyFolder(path=path, root=hashlib.sha256(authority.root_pem.encode()).hexdigest()[:DIGEST_LENGTH])


def certificates(folder: ProxyFolder, identity: str, authority: Authority) -> dict[str, str]:
    """Return certificate, key and root for a workload; nothing when they are there already."""
    if all((folder.path / name).exists() for name in (folder.certificate, folder.key, folder.trusted_root)):
        return {}
    certificate, key = authority.issue_workload(identity)
    return {folder.certificate: certificate, folder.key: key, folder.trusted_root: authority.root_pem}


def _text(content: Json | str) -> str:
    return content if isinstance(content, str) else json.dumps(content, sort_keys=True, separators=(",", ":"))


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:
        return None


def _replace(path: Path, text: str) -> bool:
    if _read(path) == text:
        return False
    write_private(path, text)
    return True


def _remove_stale(folder: Path, files: Mapping[str, Json | str]) -> list[str]:
    found = [f"{ROUTES}/{path.name}" for path in sorted((folder / ROUTES).glob("*.json"))]
    stale = [name for name in found if name not in files]
    for name in stale:
        (folder / name).unlink(missing_ok=True)
    return stale
