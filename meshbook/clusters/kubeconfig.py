"""What a kubeconfig says of a context: its cluster's and its user's entry, checked, with absolute paths.

Nothing is asked here and no login is done: how the entries are used is in ``transport`` and ``login``.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from meshbook.errors import UsageError
from meshbook.objects import Object


def _keys(**kinds: str) -> dict[str, str]:
    return {key: kind for kind, keys in kinds.items() for key in keys.split()}


_CLUSTER = _keys(
    str="server tls-server-name certificate-authority certificate-authority-data proxy-url",
    bool="insecure-skip-tls-verify disable-compression",  # nothing is asked for compressed
    list="extensions",
)
_USER = _keys(
    str="client-certificate client-certificate-data client-key client-key-data token tokenFile username password"
    " as as-uid",
    list="as-groups extensions",
    dict="as-user-extra auth-provider exec",
)
_EXEC = _keys(str="apiVersion command installHint interactiveMode", list="args env", bool="provideClusterInfo")
_CONTEXT = _keys(str="cluster user namespace", list="extensions")
_FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
_WAY = ("server", "proxy-url", "tls-server-name")
"""Where a cluster is: private addresses are the same in many networks, and a proxy leads to one of them."""
_SECTIONS = {"contexts": "context", "clusters": "cluster", "users": "user"}


class Kubeconfig:
    """One or several files, merged as kubectl merges $KUBECONFIG: the first entry of a name wins.

    ``document`` is used in place of the files, where a kubeconfig does not lie in any.
    """

    def __init__(self, path: str, document: Object | None = None) -> None:
        self.path = path
        self._document = document
        self._entries: dict[str, dict[str, Object]] = {section: {} for section in _SECTIONS}
        if document is not None:
            self._merge(document, Path.cwd())
            return
        for part in filter(None, path.split(os.pathsep)):
            file = Path(part).expanduser().absolute()
            self._merge(_read(file), file.parent)

    def _merge(self, document: Object, folder: Path) -> None:
        for section, key in _SECTIONS.items():
            entries = document.get(section)
            for entry in entries if isinstance(entries, list) else []:
                if isinstance(entry, dict) and isinstance(entry.get(key), dict):
                    self._entries[section].setdefault(str(entry.get("name")), _absolute(entry[key], folder))

    def read_again(self) -> Kubeconfig:
        """Return what the files say by now."""
        return Kubeconfig(self.path, self._document)

    @property
    def contexts(self) -> list[str]:
        return sorted(self._entries["contexts"])

    def require(self, names: Sequence[str]) -> None:
        """Raise UsageError unless every name is a context that can be used, each with another server."""
        unknown = [name for name in names if name not in self._entries["contexts"]]
        if unknown:
            raise UsageError(
                f"no context {', '.join(map(repr, unknown))} in {self.path}",
                hint="name the contexts with contexts=[…], or set CTX_CLUSTER1 and CTX_CLUSTER2",
                contexts=", ".join(self.contexts) or "none",
            )
        seen: dict[tuple[str, ...], str] = {}
        for name in names:
            self.user(name)
            cluster = self.cluster(name)
            way = tuple(str(cluster.get(key, "")).rstrip("/") for key in _WAY)
            refuse_same_cluster(seen.setdefault(way, name), name, way[0])

    def cluster(self, context: str) -> Object:
        """Return the cluster entry that ``context`` refers to."""
        name = self._context(context).get("cluster", "")
        found = self._entries["clusters"].get(name)
        if not found or not found.get("server"):
            raise UsageError(f"context {context!r} refers to cluster {name!r}, which has no server in {self.path}")
        if "@" in str(found["server"]):  # it would stand in errors
            raise UsageError(
                f"cluster {name!r}: there is a login in the URL of its server, which no API server takes any more",
                hint="kubectl config set-cluster NAME --server=… without it, and the login in the context's user",
            )
        return self._checked(found, _CLUSTER, f"cluster {name!r}")

    def user_name(self, context: str) -> str:
        """Return the name of the user entry that ``context`` refers to."""
        return str(self._context(context).get("user", ""))

    def user(self, context: str) -> Object:
        """Return the user entry that ``context`` refers to; empty where it names none."""
        name = self.user_name(context)
        if not name:
            return {}
        if name not in self._entries["users"]:
            raise UsageError(f"context {context!r} refers to user {name!r}, who is not in {self.path}")
        found = self._checked(self._entries["users"][name], _USER, f"user {name!r}")
        if "exec" in found:
            found["exec"] = self._checked(found["exec"], _EXEC, f"exec of user {name!r}")
        return found

    def _context(self, name: str) -> Object:
        return self._checked(self._entries["contexts"][name], _CONTEXT, f"context {name!r}")

    def _checked(self, entry: Object, keys: Mapping[str, str], title: str) -> Object:
        """Return what is set of an entry; UsageError where that is of the wrong type, or a key nobody here obeys."""
        found = {key: value for key, value in entry.items() if value not in (None, "", [], {})}
        for key, value in found.items():
            if key not in keys:
                hint = "take it out of the kubeconfig, if the cluster can be reached without it"
                raise UsageError(f"{title} in {self.path} has the key {key!r}, which is not supported", hint=hint)
            if type(value).__name__ != keys[key]:
                raise UsageError(f"{key} of {title} in {self.path} is a {type(value).__name__}, and no {keys[key]}")
        return found


def extension(cluster: Object, name: str) -> Object:
    """Return what extension ``name`` of a cluster entry holds; empty when there is none."""
    for found in cluster.get("extensions") or []:
        if isinstance(found, dict) and found.get("name") == name and isinstance(found.get("extension"), dict):
            return dict(found["extension"])
    return {}


def content(entry: Object, key: str) -> bytes:
    """Return what ``key`` names: the text in ``KEY-data``, else that of the file; empty where neither is set."""
    data, file = entry.get(f"{key}-data"), entry.get(key)
    try:
        if data:
            return base64.b64decode(data, validate=True)
        return Path(file).read_bytes() if file else b""
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the kubeconfig's {key}: {error}") from error


def _absolute(entry: Object, folder: Path) -> Object:
    """Return an entry whose files, and a plugin with a slash in its name, lie where its own kubeconfig says."""

    def placed(value: Any) -> Any:
        return str(folder / value) if isinstance(value, str) and value else value

    found = {key: placed(value) if key in _FILES else value for key, value in entry.items()}
    plugin: Any = found.get("exec")
    if isinstance(plugin, dict) and os.sep in str(plugin.get("command", "")):
        found["exec"] = {**plugin, "command": placed(plugin["command"])}
    return found


def _read(path: Path) -> Object:
    if not path.exists():  # kubectl skips missing files of a list; settings saw that one is there
        return {}
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read the kubeconfig {path}: {error}") from error
    if not isinstance(document, dict):
        raise UsageError(f"{path} is no kubeconfig: it holds a {type(document).__name__}, not a mapping")
    return document


def refuse_same_cluster(first: str, second: str, sign: str) -> None:
    """Raise UsageError when two different contexts mean one cluster; ``sign`` tells how it shows."""
    if first != second:
        raise UsageError(
            f"contexts {first!r} and {second!r} are the same cluster",
            hint="name one context per cluster; a fleet needs different ones",
            both=sign,
        )
