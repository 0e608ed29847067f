"""What a run must not show: gathered from the kubeconfigs, from this machine, and from what the run is about.

Files are read here, never written. How it is taken out of texts and pictures is in ``redact``.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

import yaml

_SECRET_KEYS = {
    "token", "password", "client-key-data", "client-certificate-data", "certificate-authority-data", "access-token",
    "id-token", "refresh-token", "client-secret",
}  # fmt: skip
_SECRET_NAME = re.compile("KEY|PASSWORD|SECRET|TOKEN", re.IGNORECASE)
SHORTEST_SECRET = 8
"""Characters; anything shorter would tear holes into ordinary words."""

_SECTIONS = ("clusters", "contexts", "users")
_PROJECT_OF_NAME = re.compile(
    r"(?:gke|connectgateway)_([a-z0-9.:-]+)_[^_]+_.+|.*projects/([^/]+)/.*|.*@([a-z0-9-]+)\.iam\.gserviceaccount\.com.*"
)
"""A project in the name of a cluster, context or user, as gcloud and its fleet commands give them."""


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """What one run must not show: values by the name that stands in for them."""

    values: Mapping[str, str] = field(default_factory=dict)
    """Secret value → what is shown instead."""
    folders: Mapping[str, str] = field(default_factory=dict)
    """Absolute folder → what is shown instead; longest first."""
    projects: tuple[str, ...] = ()
    contexts: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    """Context → what it is called without the user's word for it: a part of its name."""
    users: tuple[str, ...] = ()
    """What the kubeconfigs call those who ask."""
    hosts: tuple[str, ...] = ()
    """Host names of API servers, taken out with the addresses."""


def gather_secrets(
    kubeconfig: str,
    *,
    root: Path,
    contexts: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
    extra_projects: Iterable[str] = (),
) -> Secrets:
    """Gather what to take out: from the kubeconfig files of ``kubeconfig``, from this machine, from the names given."""
    files = [Path(part).expanduser().absolute() for part in kubeconfig.split(os.pathsep) if part]
    documents = [_document(file) for file in files]
    found = [
        pair for file, document in zip(files, documents, strict=True) for pair in _walk_secrets(document, file.parent)
    ]
    found += [pair for proxy in getproxies().values() for pair in _password_in(proxy)]
    values = {value: f"[{key}]" for key, value in found if len(value) >= SHORTEST_SECRET}
    entries = [entry for document in documents for section in _SECTIONS for entry in _entries(document, section)]
    projects = {project for name in (*contexts, *(name for name, _ in entries)) for project in _projects_of(name)}
    projects |= {str(extension.get("project") or "") for _, entry in entries for extension in _extensions(entry)}
    users = (entry.get("user") for name, entry in entries if name in contexts)
    hosts = {urlsplit(str(entry.get("server", ""))).hostname or "" for _, entry in entries}
    return Secrets(
        values=values,
        projects=tuple(sorted({*projects, *extra_projects} - {""})),
        folders=_folders(root),
        contexts=tuple(dict.fromkeys(contexts)),
        names=names or {},
        users=tuple(dict.fromkeys(user for user in users if isinstance(user, str) and user)),
        hosts=tuple(sorted(hosts - {""})),
    )


def _document(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}  # whoever needs the file says what is wrong with it; there is nothing in it to hide
    return loaded if isinstance(loaded, dict) else {}


def _walk_secrets(node: Any, folder: Path) -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping):
        if _SECRET_NAME.search(str(node.get("name", ""))):  # of a plugin's environment
            yield "secret", str(node.get("value", ""))
        for key, value in node.items():
            if key in _SECRET_KEYS and isinstance(value, str):
                yield key, value.strip()
            elif key in ("token-file", "tokenFile") and isinstance(value, str):
                yield from _token_in(folder / Path(value).expanduser())
            elif key == "proxy-url" and isinstance(value, str):
                yield from _password_in(value)
            else:
                yield from _walk_secrets(value, folder)
    elif isinstance(node, list):
        for item in node:
            yield from _walk_secrets(item, folder)


def _password_in(url: str) -> Iterator[tuple[str, str]]:
    """Yield a URL's password as it stands there, and as it is meant."""
    password = url.rpartition("@")[0].rpartition("://")[2].partition(":")[2]
    yield from (("password", found) for found in {password, unquote(password)})


def _token_in(path: Path) -> Iterator[tuple[str, str]]:
    try:
        yield "token", path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return


def _entries(document: Mapping[str, Any], section: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the entries of a section by name, as far as they are what they should be."""
    listed = document.get(section)
    for one in filter(lambda one: isinstance(one, dict), listed if isinstance(listed, list) else []):
        entry = one.get(section.removesuffix("s"))
        yield str(one.get("name", "")), entry if isinstance(entry, dict) else {}


def _extensions(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    listed = entry.get("extensions")
    found = [one.get("extension") for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return [one for one in found if isinstance(one, dict)]


def _projects_of(name: str) -> Iterator[str]:
    if found := _PROJECT_OF_NAME.fullmatch(name):
        yield from filter(None, found.groups())


def _folders(root: Path) -> dict[str, str]:
    home = os.path.expanduser("~")  # "~" itself where nobody knows
    named = {str(root): "[repo]", str(root.resolve()): "[repo]", home: "~", tempfile.gettempdir(): "[tmp]"}
    usable = {path: shown for path, shown in named.items() if len(path) > 1}
    return dict(sorted(usable.items(), key=lambda item: -len(item[0])))
