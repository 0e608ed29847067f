"""What must not leave this machine: gathered from the kubeconfigs of a run, and from the machine itself.

Only reads. Taking it out of documents is the work of ``redaction``.
"""

from __future__ import annotations

import ipaddress
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

_SECRET_KEYS = {
    "token", "password", "client-key-data", "client-certificate-data", "certificate-authority-data", "access-token",
    "id-token", "refresh-token", "client-secret",
}  # fmt: skip
_SHORTEST_SECRET = 8
"""Characters; anything shorter would tear holes into ordinary words."""


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """What one run must not show: values by the name that stands in for them."""

    values: Mapping[str, str] = field(default_factory=dict)
    """Secret value → what is shown instead."""
    folders: Mapping[str, str] = field(default_factory=dict)
    """Absolute folder → what is shown instead; longest first."""
    projects: tuple[str, ...] = ()
    contexts: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    """Host names of API servers, taken out with the addresses."""


def gather(kubeconfig: str, *, root: Path, contexts: Sequence[str] = (), extra_projects: Iterable[str] = ()) -> Secrets:
    """Gather what to take out: from the kubeconfig files of ``kubeconfig``, from this machine, from the names given."""
    documents = [_document(Path(part).expanduser()) for part in kubeconfig.split(os.pathsep) if part]
    found = [pair for document in documents for pair in _walk_secrets(document)]
    values = {value: f"[{key}]" for key, value in found if len(value) >= _SHORTEST_SECRET}
    projects = {project for document in documents for project in _projects(document)}
    servers = [str(entry["cluster"].get("server", "")) for document in documents for entry in _clusters(document)]
    hosts = {urlsplit(server).hostname or "" for server in servers} - {""}
    return Secrets(
        values=values,
        projects=tuple(sorted({*projects, *extra_projects} - {""})),
        folders=_folders(root),
        contexts=tuple(dict.fromkeys(contexts)),
        hosts=tuple(sorted(host for host in hosts if not _is_address(host))),
    )


def _document(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}  # whoever needs the file says what is wrong with it; there is nothing in it to hide
    return loaded if isinstance(loaded, dict) else {}


def _walk_secrets(node: Any) -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key in _SECRET_KEYS and isinstance(value, str):
                yield key, value.strip()
            elif key in ("token-file", "tokenFile") and isinstance(value, str):
                yield from _token_in(Path(value).expanduser())
            else:
                yield from _walk_secrets(value)
    elif isinstance(node, list):
        for item in node:
            yield from _walk_secrets(item)


def _token_in(path: Path) -> Iterator[tuple[str, str]]:
    try:
        yield "token", path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return


def _projects(document: Mapping[str, Any]) -> Iterator[str]:
    for entry in _clusters(document):
        for extension in entry["cluster"].get("extensions") or []:
            project = (extension.get("extension") or {}).get("project")
            if isinstance(project, str) and project:
                yield project
    for entry in _clusters(document):
        parts = str(entry.get("name", "")).split("_")  # gcloud's own names: gke_PROJECT_LOCATION_CLUSTER
        if parts[0] == "gke" and len(parts) >= 4:
            yield parts[1]


def _clusters(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for entry in document.get("clusters") or []:
        if isinstance(entry, dict) and isinstance(entry.get("cluster"), dict):
            yield entry


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _folders(root: Path) -> dict[str, str]:
    home = str(Path.home())
    named = {str(root): "[repo]", str(root.resolve()): "[repo]", home: "~", tempfile.gettempdir(): "[tmp]"}
    usable = {path: shown for path, shown in named.items() if len(path) > 1}
    return dict(sorted(usable.items(), key=lambda item: -len(item[0])))
