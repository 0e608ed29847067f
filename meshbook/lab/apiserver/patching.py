"""Three of the four patch types as functions of data: JSON patch, JSON merge patch, strategic merge patch.

Each returns a new tree; the inputs stay as they are. The fourth, server-side apply, is in ``applying``.
"""

from __future__ import annotations

import copy
from typing import Any

import jsonpatch

from meshbook.lab.apiserver.failures import Failure, bad_request
from meshbook.lab.apiserver.kinds import Json
from meshbook.lab.apiserver.shapes import Shape

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
PLAIN_PATCHES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH)

_ORDER, _REMOVALS, _RETAIN = "$setElementOrder/", "$deleteFromPrimitiveList/", "$retainKeys"


def json_patch(obj: Json, operations: Any) -> Json:
    """Apply RFC 6902 operations."""
    if not isinstance(operations, list):
        raise bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    try:
        patched: Json = jsonpatch.apply_patch(obj, operations)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        raise Failure(
            422, "Invalid", f"the server rejected our request due to an error in our request: {error}"
        ) from error
    return patched


def merge_patch(target: Any, patch: Any) -> Any:
    """Apply RFC 7386: members merge, null removes, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def strategic_merge(target: Json, patch: Json, shape: Shape) -> Json:
    """Apply a strategic merge patch: as a merge patch, but lists merge by the keys that ``shape`` gives."""
    directive = patch.get("$patch")
    if directive == "delete":
        return {}
    members = {name: value for name, value in patch.items() if not name.startswith("$")}
    if directive == "replace":
        return copy.deepcopy(members)
    merged = dict(target)
    if _RETAIN in patch:
        merged = {name: value for name, value in merged.items() if name in patch[_RETAIN]}
    for name, value in members.items():
        _merge_member(merged, name, value, shape.child(name))
    _follow_list_directives(merged, patch, shape)
    return merged


def _merge_member(merged: Json, name: str, value: Any, shape: Shape | None) -> None:
    old = merged.get(name)
    if value is None:
        merged.pop(name, None)
    elif isinstance(value, dict) and shape is not None:
        merged[name] = strategic_merge(old if isinstance(old, dict) else {}, value, shape)
        if value.get("$patch") == "delete":
            del merged[name]
    elif isinstance(value, list) and shape is not None and not shape.atomic and shape.form == "list":
        merged[name] = _merge_list(old or [], value, shape)
    else:
        merged[name] = copy.deepcopy(value)


def _merge_list(old: list[Any], patch: list[Any], shape: Shape) -> list[Any]:
    if shape.unique:
        return old + [item for item in patch if item not in old]
    if any(item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if "$patch" not in item]
    key = next(iter(shape.keys))
    items = {item.get(key): item for item in old}
    for item in patch:
        if key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {key}")
        if item.get("$patch") == "delete":
            items.pop(item[key], None)
        else:
            items[item[key]] = strategic_merge(items.get(item[key], {}), item, shape.element)
    return list(items.values())


def _follow_list_directives(merged: Json, patch: Json, shape: Shape) -> None:
    for directive, value in patch.items():
        if directive.startswith(_REMOVALS):
            name = directive.removeprefix(_REMOVALS)
            merged[name] = [item for item in merged.get(name, []) if item not in value]
        elif directive.startswith(_ORDER):
            name = directive.removeprefix(_ORDER)
            merged[name] = _ordered(merged.get(name, []), value, shape.child(name))


def _ordered(items: list[Any], order: list[Any], shape: Shape | None) -> list[Any]:
    """Put the items that ``order`` names into its order; the others keep their places after them."""
    key = next(iter(shape.keys)) if shape and shape.keys else ""
    names = [wanted[key] if key else wanted for wanted in order]
    last = len(names)
    return sorted(items, key=lambda item: _place(item.get(key) if key else item, names, last))


def _place(name: Any, names: list[Any], last: int) -> int:
    return names.index(name) if name in names else last
