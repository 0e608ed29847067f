"""Writes what an Envoy watches: every file by atomic rename, and only when its content differs.

The files themselves are the memory: nothing is cached, so a restarted istiod continues where the last one ended, and a
file that somebody broke is mended by the next push.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from meshbook.lab.envoy import folders
from meshbook.lab.envoy.elements import Json
from meshbook.lab.kubeconfig import write_private
from meshbook.lab.pki import Authority

WATCHED = ("eds", "rds")
"""Folders in which files that are no longer wanted are removed."""


def write(folder: Path, files: Mapping[str, Json | str]) -> list[str]:
    """Bring ``folder`` to this content; return the names of the files that were changed or removed."""
    for name in folders.SUBFOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    changed = [name for name in folders.in_order(files) if _replace(folder / name, _text(files[name]))]
    return changed + _remove_stale(folder, files)


def certificates(folder: Path, identity: str, authority: Authority) -> dict[str, str]:
    """Return certificate, key and root for a workload; nothing when ``folder`` has them from this authority."""
    if _read(folder / folders.ROOT) == authority.root_pem and (folder / folders.KEY).exists():
        return {}
    certificate, key = authority.issue_workload(identity)
    return {folders.CERTIFICATE: certificate, folders.KEY: key, folders.ROOT: authority.root_pem}


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
    found = [f"{sub}/{path.name}" for sub in WATCHED for path in sorted((folder / sub).glob("*.json"))]
    stale = [name for name in found if name not in files]
    for name in stale:
        (folder / name).unlink(missing_ok=True)
    return stale
