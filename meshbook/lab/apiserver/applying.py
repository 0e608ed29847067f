"""Server-side apply as a function of data: merge, conflicts with other owners, removal of what is no longer applied."""

from __future__ import annotations

from typing import Any

from meshbook.lab.apiserver.failures import Failure
from meshbook.lab.apiserver.kinds import Json
from meshbook.lab.apiserver.ownership import (
    Flat,
    Owner,
    Path,
    Share,
    Shares,
    flatten,
    item_step,
    read_shares,
    write_shares,
)
from meshbook.lab.apiserver.shapes import Shape


def apply(live: Json, applied: Json, shape: Shape, owner: Owner, *, force: bool, now: str) -> Json:
    """Return ``live`` with what ``owner`` applies, and the new ``managedFields``; 409 where others own it otherwise."""
    shares = read_shares(live.get("metadata", {}).get("managedFields", []))
    wanted, present = flatten(applied, shape), flatten(live, shape)
    contested = _contested(shares, owner, wanted, present)
    if contested and not force:
        raise _conflict(contested, live["apiVersion"])
    for other, paths in contested.items():
        shares[other].fields -= paths
    merged = _merge(live, applied, shape)
    previous = shares.get(owner, Share(set(), now))
    others = set().union(*(share.fields for other, share in shares.items() if other != owner))
    merged = _without(merged, previous.fields - wanted.keys() - others, shape, ())
    if previous.fields != wanted.keys():
        shares[owner] = Share(set(wanted), now)
    metadata = merged["metadata"] | {"managedFields": write_shares(shares, live["apiVersion"])}
    result: Json = merged | {"metadata": metadata}
    return result


def _contested(shares: Shares, owner: Owner, wanted: Flat, present: Flat) -> dict[Owner, set[Path]]:
    differing = {path for path, value in wanted.items() if path in present and present[path] != value}
    found = {other: share.fields & differing for other, share in shares.items() if other != owner}
    return {other: paths for other, paths in found.items() if paths}


def _conflict(contested: dict[Owner, set[Path]], api_version: str) -> Failure:
    causes: list[Json] = []
    for owner, paths in contested.items():
        with_subresource = f' with subresource "{owner.subresource}"' if owner.subresource else ""
        message = f'conflict with "{owner.manager}"{with_subresource} using {api_version}'
        causes += [{"reason": "FieldManagerConflict", "message": message, "field": _dotted(p)} for p in sorted(paths)]
    plural = "s" if len(causes) > 1 else ""
    lines = [f"{cause['message']}: {cause['field']}" for cause in causes]
    head = f"Apply failed with {len(causes)} conflict{plural}: "
    text = lines[0] if len(lines) == 1 else "conflicts " + "".join(f"\n- {line}" for line in lines)
    return Failure(409, "Conflict", head + text, {"causes": causes})


def _dotted(path: Path) -> str:
    return "".join(f".{step[2:]}" if step.startswith("f:") else f"[{step[2:]}]" for step in path if step != ".")


def _merge(live: Any, applied: Any, shape: Shape | None) -> Any:
    if isinstance(applied, dict) and isinstance(live, dict) and not (shape and shape.atomic):
        merged = dict(live)
        for name, value in applied.items():
            child = shape.child(name) if shape else None
            merged[name] = _merge(live[name], value, child) if name in live else value
        return merged
    if isinstance(applied, list) and isinstance(live, list) and shape:
        if shape.unique:
            return live + [item for item in applied if item not in live]
        if shape.keys:
            return _merge_items(live, applied, shape)
    return applied


def _merge_items(live: list[Json], applied: list[Json], shape: Shape) -> list[Json]:
    """Applied items in their order, merged with the live ones; then the live ones that are not applied."""
    items = {item_step(item, shape): item for item in live}
    merged = {}
    for item in applied:
        step = item_step(item, shape)
        merged[step] = _merge(items[step], item, shape.element) if step in items else item
    return list((merged | {step: item for step, item in items.items() if step not in merged}).values())


def _without(value: Any, gone: set[Path], shape: Shape | None, path: Path) -> Any:
    """Return ``value`` without the fields at the ``gone`` paths, and without the parents that this empties."""
    if not gone or (shape and shape.atomic):
        return value
    if isinstance(value, dict):
        return dict(_members_left(value, gone, shape, path))
    if isinstance(value, list) and shape and shape.unique:
        left = {step[-1] for step in gone if step[:-1] == path}
        return [item for item in value if f'v:"{item}"' not in left]
    if isinstance(value, list) and shape and shape.keys:
        steps = [((*path, item_step(item, shape)), item) for item in value]
        kept = [(step, item) for step, item in steps if (*step, ".") not in gone]
        return [_without(item, gone, shape.element, step) for step, item in kept]
    return value


def _members_left(value: Json, gone: set[Path], shape: Shape | None, path: Path) -> Any:
    for name, member in value.items():
        inner = (*path, f"f:{name}")
        if inner in gone:
            continue
        left = _without(member, gone, shape.child(name) if shape else None, inner)
        if left or left == member:
            yield name, left
