"""Who manages which field: ``metadata.managedFields`` as sets of paths, plain writes, and server-side apply. Pure.

A path is a tuple of FieldsV1 steps: ``f:name`` for a member, ``k:{…}`` for an item of a keyed list, ``v:…`` for a
member of a set; ``.`` stands for a list item itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from meshbook.lab.apiserver.errors import Failure
from meshbook.lab.apiserver.schema import Schema
from meshbook.objects import Object

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
class Manager:
    """A client in one of its ways of writing."""

    name: str
    operation: str
    subresource: str = ""


@dataclass
class Managed:
    """What one manager manages, and since when."""

    fields: set[Path]
    time: str


Managers = dict[Manager, Managed]


def flatten(obj: Object, schema: Schema) -> Flat:
    """Return path → value of all fields that a client can manage. Atomic lists and maps are one value."""
    metadata = {key: value for key, value in obj.get("metadata", {}).items() if key not in _SERVER_FIELDS}
    body = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "metadata")}
    return dict(_walk(body | ({"metadata": metadata} if metadata else {}), schema, ()))


def _walk(value: Any, schema: Schema | None, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value and not (schema and schema.atomic):
        for name, member in value.items():
            yield from _walk(member, schema.child(name) if schema else None, (*path, f"f:{name}"))
    elif isinstance(value, list) and value and schema and schema.unique:
        for item in value:
            yield (*path, f"v:{json.dumps(item)}"), True
    elif isinstance(value, list) and value and schema and schema.keys:
        for item in value:
            step = (*path, _item_step(item, schema))
            yield (*step, "."), True
            yield from _walk(item, schema.element, step)
    else:
        yield path, value


def _item_step(item: Object, schema: Schema) -> str:
    """Return the step that names ``item`` in a keyed list."""
    return "k:" + json.dumps(schema.identity(item), separators=(",", ":"), sort_keys=True)


def _read(entries: list[Object]) -> Managers:
    managers: Managers = {}
    for entry in entries:
        if entry.get("manager"):
            operation, subresource = entry.get("operation", "Update"), entry.get("subresource", "")
            manager = Manager(name=entry["manager"], operation=operation, subresource=subresource)
            managers[manager] = Managed(set(_paths(entry.get("fieldsV1", {}), ())), entry.get("time", ""))
    return managers


def _paths(trie: Any, path: Path) -> Iterator[Path]:
    """Yield the paths in FieldsV1; a client may send any JSON, of which what is none is passed over."""
    if not trie or not isinstance(trie, dict):
        yield path
        return
    for step, inner in trie.items():
        yield from _paths(inner, (*path, step))


def _written(managers: Managers, api_version: str) -> list[Object]:
    """Return ``managedFields``; who manages nothing is left out."""
    return [_entry(manager, managed, api_version) for manager, managed in managers.items() if managed.fields]


def _entry(manager: Manager, managed: Managed, api_version: str) -> Object:
    trie: Object = {}
    for path in sorted(managed.fields):
        node = trie
        for step in path:
            node = node.setdefault(step, {})
    entry: Object = {"manager": manager.name, "operation": manager.operation, "apiVersion": api_version}
    entry |= {"fieldsType": "FieldsV1", "fieldsV1": trie} | ({"time": managed.time} if managed.time else {})
    return entry | ({"subresource": manager.subresource} if manager.subresource else {})


def updated(old: Object | None, new: Object, schema: Schema, manager: Manager, now: str) -> Object:
    """Return ``new`` with its managedFields after ``manager`` wrote it over ``old``: what it changed, it manages."""
    before = flatten(old, schema) if old else {}
    after = flatten(new, schema)
    claimed = new["metadata"].get("managedFields")
    kept = claimed if claimed is not None else (old or {"metadata": {}})["metadata"].get("managedFields", [])
    managers = _read(kept)
    changed = {path for path, value in after.items() if path not in before or before[path] != value}
    gone = before.keys() - after.keys()
    for other, managed in managers.items():
        managed.fields -= gone if other == manager else gone | changed
    if changed:
        mine = managers.setdefault(manager, Managed(set(), now))
        mine.fields |= changed
        mine.time = now
    return new | {"metadata": new["metadata"] | {"managedFields": _written(managers, new["apiVersion"])}}


def apply(live: Object, wanted: Object, schema: Schema, manager: Manager, *, force: bool, now: str) -> Object:
    """Return ``live`` with what ``manager`` applies; 409 where others manage it otherwise and it is not forced.

    What it applied before and does not any more goes, unless somebody else manages it too.
    """
    managers = _read(live.get("metadata", {}).get("managedFields", []))
    flat, present = flatten(wanted, schema), flatten(live, schema)
    differing = {path for path, value in flat.items() if path in present and present[path] != value}
    contested = {other: managed.fields & differing for other, managed in managers.items() if other != manager}
    if any(contested.values()) and not force:
        raise _conflict(contested, live["apiVersion"])
    for other, paths in contested.items():
        managers[other].fields -= paths
    previous = managers.get(manager, Managed(set(), now))
    others = set().union(*(managed.fields for other, managed in managers.items() if other != manager))
    outcome = _without(_merged(live, wanted, schema), previous.fields - flat.keys() - others, schema, ())
    if previous.fields != flat.keys():
        managers[manager] = Managed(set(flat), now)
    return dict(outcome | {"metadata": outcome["metadata"] | {"managedFields": _written(managers, live["apiVersion"])}})


def _conflict(contested: dict[Manager, set[Path]], api_version: str) -> Failure:
    causes: list[Object] = []
    for manager, paths in contested.items():
        through = f' with subresource "{manager.subresource}"' if manager.subresource else ""
        message = f'conflict with "{manager.name}"{through} using {api_version}'
        causes += [{"reason": "FieldManagerConflict", "message": message, "field": _dotted(p)} for p in sorted(paths)]
    lines = [f"{cause['message']}: {cause['field']}" for cause in causes]
    head = f"Apply failed with {len(causes)} conflict{'s' if len(causes) > 1 else ''}: "
    text = lines[0] if len(lines) == 1 else "conflicts " + "".join(f"\n- {line}" for line in lines)
    return Failure(409, "Conflict", head + text, {"causes": causes})


def _dotted(path: Path) -> str:
    return "".join(_spelt(*step.split(":", 1)) for step in path if step != ".")


def _spelt(kind: str, text: str) -> str:
    """Return one step of a path as messages have it: ``.name``, ``[key="value"]`` or ``[="value"]`` of a list."""
    if kind == "f":
        return f".{text}"
    if kind == "v":
        return f"[={text}]"
    keys = json.loads(text) if kind == "k" else {}
    return f"[{','.join(f'{key}={json.dumps(value)}' for key, value in sorted(keys.items())) or text}]"


def _merged(live: Any, wanted: Any, schema: Schema | None) -> Any:
    if isinstance(wanted, dict) and isinstance(live, dict) and not (schema and schema.atomic):
        merged = dict(live)
        for name, value in wanted.items():
            child = schema.child(name) if schema else None
            merged[name] = _merged(live[name], value, child) if name in live else value
        return merged
    if isinstance(wanted, list) and isinstance(live, list) and schema:
        if schema.unique:
            return live + [item for item in wanted if item not in live]
        if schema.keys:
            return _merged_items(live, wanted, schema)
    return wanted


def _merged_items(live: list[Object], wanted: list[Object], schema: Schema) -> list[Object]:
    """Return applied items in their order, merged with the live ones; then the live ones that are not applied."""
    items = {_item_step(item, schema): item for item in live}
    merged = {}
    for item in wanted:
        step = _item_step(item, schema)
        merged[step] = _merged(items[step], item, schema.element) if step in items else item
    return list((merged | {step: item for step, item in items.items() if step not in merged}).values())


def _without(value: Any, gone: set[Path], schema: Schema | None, path: Path) -> Any:
    """Return ``value`` without the fields at the ``gone`` paths, and without the parents that this empties."""
    if not gone or (schema and schema.atomic):
        return value
    if isinstance(value, dict):
        return dict(_members_left(value, gone, schema, path))
    if isinstance(value, list) and schema and schema.unique:
        left = {step[-1] for step in gone if step[:-1] == path}
        return [item for item in value if f"v:{json.dumps(item)}" not in left]
    if isinstance(value, list) and schema and schema.keys:
        steps = [((*path, _item_step(item, schema)), item) for item in value]
        return [_without(item, gone, schema.element, step) for step, item in steps if (*step, ".") not in gone]
    return value


def _members_left(value: Object, gone: set[Path], schema: Schema | None, path: Path) -> Iterator[tuple[str, Any]]:
    for name, member in value.items():
        inner = (*path, f"f:{name}")
        if inner in gone:
            continue
        left = _without(member, gone, schema.child(name) if schema else None, inner)
        if left or left == member:
            yield name, left
