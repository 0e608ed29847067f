"""Who owns which field: ``metadata.managedFields`` as sets of paths, and how a plain write moves ownership.

A path is a tuple of FieldsV1 steps: ``f:name`` for a member, ``k:{…}`` for an item of a keyed list, ``v:…`` for a
member of a set; ``.`` stands for a list item itself. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from meshbook.lab.apiserver.kinds import Json
from meshbook.lab.apiserver.shapes import Shape

Path = tuple[str, ...]
Flat = dict[Path, Any]

_SERVER_FIELDS = (
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generateName",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
)


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A client in one of its ways of writing."""

    manager: str
    operation: str
    subresource: str = ""


@dataclass
class Share:
    """What one owner owns, and since when."""

    fields: set[Path]
    time: str


Shares = dict[Owner, Share]


def flatten(obj: Json, shape: Shape) -> Flat:
    """Return path → value of all fields that a client can own. Atomic lists and maps are one value."""
    metadata = {key: value for key, value in obj.get("metadata", {}).items() if key not in _SERVER_FIELDS}
    body = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "metadata")}
    return dict(_walk(body | ({"metadata": metadata} if metadata else {}), shape, ()))


def _walk(value: Any, shape: Shape | None, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value and not (shape and shape.atomic):
        for name, member in value.items():
            yield from _walk(member, shape.child(name) if shape else None, (*path, f"f:{name}"))
    elif isinstance(value, list) and value and shape and shape.unique:
        for item in value:
            yield (*path, f"v:{json.dumps(item)}"), True
    elif isinstance(value, list) and value and shape and shape.keys:
        for item in value:
            step = (*path, item_step(item, shape))
            yield (*step, "."), True
            yield from _walk(item, shape.element, step)
    else:
        yield path, value


def item_step(item: Json, shape: Shape) -> str:
    """Return the step that names ``item`` in a keyed list."""
    return "k:" + json.dumps(shape.identity(item), separators=(",", ":"), sort_keys=True)


def read_shares(entries: list[Json]) -> Shares:
    """Return the shares that ``managedFields`` tells of."""
    shares: Shares = {}
    for entry in entries:
        if entry.get("manager"):
            names = (entry["manager"], entry.get("operation", "Update"), entry.get("subresource", ""))
            owner = Owner(manager=names[0], operation=names[1], subresource=names[2])
            paths = set(_paths(entry.get("fieldsV1") or {}, ()))
            shares[owner] = Share(paths, entry.get("time", ""))
    return shares


def _paths(trie: Json, path: Path) -> Iterator[Path]:
    if not trie:
        yield path
    for step, inner in trie.items():
        yield from _paths(inner, (*path, step))


def write_shares(shares: Shares, api_version: str) -> list[Json]:
    """Return ``managedFields``; who owns nothing is left out."""
    return [_entry(owner, share, api_version) for owner, share in shares.items() if share.fields]


def _entry(owner: Owner, share: Share, api_version: str) -> Json:
    trie: Json = {}
    for path in sorted(share.fields):
        node = trie
        for step in path:
            node = node.setdefault(step, {})
    entry: Json = {"manager": owner.manager, "operation": owner.operation, "apiVersion": api_version}
    entry |= {"time": share.time, "fieldsType": "FieldsV1", "fieldsV1": trie}
    return entry | ({"subresource": owner.subresource} if owner.subresource else {})


def shares_after(old: Json | None, new: Json, shape: Shape, owner: Owner, now: str) -> Shares:
    """Return the shares after ``owner`` turned ``old`` into ``new`` by a plain write: what it changed, it owns."""
    before = flatten(old, shape) if old else {}
    after = flatten(new, shape)
    claimed = new["metadata"].get("managedFields")
    kept = claimed if claimed is not None else (old or {"metadata": {}})["metadata"].get("managedFields", [])
    shares = read_shares(kept)
    changed = {path for path, value in after.items() if path not in before or before[path] != value}
    gone = before.keys() - after.keys()
    for other, share in shares.items():
        share.fields -= gone if other == owner else gone | changed
    if changed:
        mine = shares.setdefault(owner, Share(set(), now))
        mine.fields |= changed
        mine.time = now
    return shares
