"""What a patch makes of the live object: JSON, merge and strategic merge patches, and server-side apply. Pure.

What comes out is decoded like any other body (``decoding``). Who manages which field is in ``managedfields``.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonpatch

from meshbook.lab.apiserver.decoding import JSON_PATCH, LARGEST_BODY, MERGE_PATCH, decoded, without_nulls
from meshbook.lab.apiserver.errors import Failure, Misfit, bad_option, bad_patch, bad_request, not_allowed, required
from meshbook.lab.apiserver.managedfields import Manager, apply
from meshbook.lab.apiserver.requests import ApiRequest
from meshbook.lab.apiserver.schema import Schema, schema_of
from meshbook.lab.apiserver.store import encode
from meshbook.objects import Object, timestamp

MOST_OPERATIONS = 10_000
_LIBRARY = (AttributeError, LookupError, TypeError, ValueError)
"""What jsonpatch lets through where an operation does not suit the document."""


def applied(request: ApiRequest, body: object, live: Object | None) -> Object:
    """Return ``live``, or a new object, with what a server-side apply brings."""
    if not request.query.get("fieldManager"):
        raise bad_option(request.verb, required("fieldManager", "is required for apply patch"))
    try:
        wanted = decoded(request, body)
    except Misfit as error:
        what = f"{request.namespace}/{request.name}; {request.api_version}, Kind={request.kind.kind}"
        raise Failure(500, "", f"failed to create typed patch object ({what}): {error.why}") from error
    if wanted["metadata"].pop("managedFields", None):
        raise bad_request("metadata.managedFields must be nil")
    if not request.subresource:
        wanted.pop("status", None)
    identity = {name: value for name, value in wanted["metadata"].items() if name in ("name", "namespace")}
    blank = {"apiVersion": wanted["apiVersion"], "kind": wanted["kind"], "metadata": identity}
    manager = Manager(name=request.manager, operation="Apply", subresource=request.subresource)
    schema, force = schema_of(request.kind.kind), request.flag("force")
    return dict(without_nulls(apply(live or blank, wanted, schema, manager, force=force, now=timestamp())))


def patched(request: ApiRequest, body: object, live: Object) -> Object:
    """Return ``live`` with the patch in ``body``, of the type that the request's Content-Type says."""
    if request.query.get("force"):
        raise bad_option(request.verb, not_allowed("force", "may not be specified for non-apply patch"))
    outcome = merged(request, body, live | {"apiVersion": request.api_version}, schema_of(request.kind.kind))
    try:
        return decoded(request, outcome)
    except Misfit as error:
        raise bad_patch(json.dumps(body), error.why) from error


def merged(request: ApiRequest, body: object, shown: Object, schema: Schema) -> Any:
    """Return ``shown`` changed by a JSON, merge or strategic merge patch, not yet decoded."""
    if request.content_type == JSON_PATCH:
        return json_patch(shown, body)
    if not isinstance(body, dict):
        raise bad_request("the patch must be an object")
    if request.content_type == MERGE_PATCH:
        return merge_patch(shown, body)
    return strategic_merge(shown, body, schema)


def json_patch(obj: Object, operations: Any) -> Object:
    """Apply RFC 6902 operations; how many, and how much they copy, is bounded as in a real server."""
    if not isinstance(operations, list) or not all(isinstance(operation, dict) for operation in operations):
        raise bad_request("json: cannot unmarshal the patch into Go value of type jsonpatch.Patch")
    if len(operations) > MOST_OPERATIONS:
        raise _too_large(f"the allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {len(operations)}")
    outcome, copied = copy.deepcopy(obj), 0
    try:
        for operation in operations:
            if operation.get("op") == "copy":
                copied += len(encode(jsonpatch.JsonPointer(operation["from"]).resolve(outcome)))
                if copied > LARGEST_BODY:
                    raise _too_large(f"the accumulated size increase of copy is {copied}, the limit {LARGEST_BODY}")
            outcome = jsonpatch.JsonPatch([operation]).apply(outcome, in_place=True)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, *_LIBRARY) as error:
        message = f"the server rejected our request due to an error in our request: {error}"
        raise Failure(422, "Invalid", message) from error
    if not isinstance(outcome, dict):
        raise Failure(422, "Invalid", "the server rejected our request due to an error in our request: not an object")
    return outcome


def _too_large(why: str) -> Failure:
    return Failure(413, "RequestEntityTooLarge", f"Request entity too large: {why}")


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


_ORDER, _REMOVALS, _RETAIN = "$setElementOrder/", "$deleteFromPrimitiveList/", "$retainKeys"


def strategic_merge(target: Object, patch: Object, schema: Schema) -> Object:
    """Apply a strategic merge patch: as a merge patch, but lists merge by the keys that ``schema`` gives."""
    directive = _directive(patch)
    if directive == "delete":
        return {}
    members = {name: value for name, value in patch.items() if not name.startswith("$")}
    if directive == "replace":
        return copy.deepcopy(members)
    retained = _list(patch.get(_RETAIN, list(target)), _RETAIN)
    merged = {name: value for name, value in target.items() if name in retained}
    for name, value in members.items():
        _merge_member(merged, name, value, schema.child(name))
    for name, value in patch.items():
        kind, _, member = name.partition("/")
        old = merged.get(member, [])
        if not isinstance(old, list):
            continue
        if f"{kind}/" == _REMOVALS:
            gone = _list(value, name)
            merged[member] = [item for item in old if item not in gone]
        elif f"{kind}/" == _ORDER:
            merged[member] = _ordered(old, _list(value, name), schema.child(member))
    return merged


def _directive(patch: Object) -> object:
    directive = patch.get("$patch", "merge")
    if directive not in ("delete", "merge", "replace"):
        raise bad_request(f"unknown patch type: {directive} in map: {patch}")
    return directive


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise bad_request(f"invalid JSON document: {name} must be a list")
    return value


def _merge_member(merged: Object, name: str, value: Any, schema: Schema | None) -> None:
    old = merged.get(name)
    if value is None or (isinstance(value, dict) and value.get("$patch") == "delete"):
        merged.pop(name, None)
    elif isinstance(value, dict) and schema is not None:
        merged[name] = strategic_merge(old if isinstance(old, dict) else {}, value, schema)
    elif isinstance(value, list) and schema is not None and schema.form == "list" and not schema.atomic:
        merged[name] = _merge_list(old or [], value, schema)
    else:
        merged[name] = copy.deepcopy(value)


def _merge_list(old: list[Any], patch: list[Any], schema: Schema) -> list[Any]:
    if schema.unique:
        return old + [item for item in patch if item not in old]
    if not all(isinstance(item, dict) for item in patch):
        raise bad_request("invalid JSON document: the items of a list that merges by a key must be objects")
    if any(_directive(item) == "replace" for item in patch):
        return [item for item in patch if "$patch" not in item]
    key = next(iter(schema.keys))
    items = {item.get(key): item for item in old}
    for item in patch:
        if not isinstance(item.get(key), str | int):
            raise bad_request(f"map: {item} does not contain declared merge key: {key}")
        if item.get("$patch") == "delete":
            items.pop(item[key], None)
        else:
            items[item[key]] = strategic_merge(items.get(item[key], {}), item, schema.element)
    return list(items.values())


def _ordered(items: list[Any], order: list[Any], schema: Schema | None) -> list[Any]:
    """Put the items that ``order`` names into its order; the others keep their places after them."""
    key = next(iter(schema.keys)) if schema and schema.keys else ""

    def name(item: Any) -> str:
        return json.dumps(item.get(key) if key and isinstance(item, dict) else item)

    places = {name(wanted): place for place, wanted in enumerate(order)}
    return sorted(items, key=lambda item: places.get(name(item), len(places)))
