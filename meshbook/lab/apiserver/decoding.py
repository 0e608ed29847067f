"""From a request's body to the object that it proposes: decoded by its kind's schema, or patched onto the live one.

Decoding is the one copy that an object gets on its way in: it drops nulls and unknown fields, as decoding into a Go
struct does, and says which fields were unknown. Server-side apply merges in ``managedfields``. Pure.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jsonpatch
import yaml

from meshbook.lab.apiserver.errors import (
    Failure,
    Misfit,
    bad_option,
    bad_patch,
    bad_request,
    not_allowed,
    not_supported,
    required,
    unsupported_media,
)
from meshbook.lab.apiserver.managedfields import Manager, apply
from meshbook.lab.apiserver.protobuf import MAGIC, PROTOBUF, decode_protobuf
from meshbook.lab.apiserver.requests import ApiRequest
from meshbook.lab.apiserver.schema import Schema, schema_of
from meshbook.objects import Object, timestamp

BODY_TYPES = ("application/json", "application/yaml", PROTOBUF)
JSON_PATCH = "application/json-patch+json"
_MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
FIELD_VALIDATION = ("", "Ignore", "Strict", "Warn")
PROPAGATION = ("Background", "Foreground", "Orphan")

_GO_TYPES = {"str": "string", "int": "int32", "bool": "bool", "num": "float64", "qty": "resource.Quantity"}
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "num": (int, float), "bool": (bool,)}
_QUANTITY = re.compile(r"([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)")


def document(request: ApiRequest) -> Any:
    """Return the value that the body holds; media types that the verb does not take are refused."""
    accepted: tuple[str, ...] = BODY_TYPES
    if request.verb == "patch":
        strategic = () if request.kind.custom else (STRATEGIC_PATCH,)
        accepted = (JSON_PATCH, _MERGE_PATCH, *strategic, APPLY_PATCH)
    if request.content_type not in accepted:
        raise unsupported_media(accepted, by_router=request.verb == "patch" and not request.kind.custom)
    return decode(request.body)


def decode(body: bytes) -> Any:
    """Return the value that a JSON or YAML text, or a protobuf message, holds."""
    if body.startswith(MAGIC):
        return decode_protobuf(body)
    try:
        return json.loads(body)
    except ValueError:
        pass
    try:
        return yaml.load(body, Loader=_JsonLikeLoader)
    except yaml.YAMLError as error:
        raise bad_request(f"error decoding the body: {error}") from error


class _JsonLikeLoader(yaml.SafeLoader):
    """YAML without dates: a time stays the text that it is in JSON."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the base class declares it
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def delete_options(request: ApiRequest) -> Object:
    """Return DeleteOptions from the body and, over it, from the query."""
    options: Object = decode(request.body) if request.body.strip() else {}
    if not isinstance(options, dict):
        raise bad_request("DeleteOptions: expected an object")
    grace, policy = request.number("gracePeriodSeconds"), request.query.get("propagationPolicy")
    options |= ({} if grace is None else {"gracePeriodSeconds": grace}) | (
        {"propagationPolicy": policy} if policy else {}
    )
    if options.get("propagationPolicy") not in (None, *PROPAGATION):
        cause = not_supported("propagationPolicy", options["propagationPolicy"], *PROPAGATION)
        raise bad_option(request.verb, cause)
    return options


@dataclass
class Decoder:
    """Decodes one object; ``unknown`` gathers the paths of fields that its kind does not have."""

    kind: str
    version: str
    unknown: list[str] = field(default_factory=list)

    def decode(self, obj: Object, schema: Schema) -> Object:
        """Return ``obj`` as a tree of its own without nulls and unknown fields; refuse wrong types."""
        head = {"apiVersion": obj.get("apiVersion"), "kind": obj.get("kind")}
        body = {key: value for key, value in obj.items() if key not in head}
        taken: Object = head | self._value(body, schema, "", "")
        taken["metadata"] = {name: value for name, value in taken.get("metadata", {}).items() if value not in ({}, [])}
        return taken

    def _value(self, value: Any, schema: Schema, path: str, owner: str) -> Any:
        if schema.form in ("struct", "map"):
            self._expect(isinstance(value, dict), value, schema, path, owner)
            return dict(self._members(value, schema, path, schema.name if schema.form == "struct" else owner))
        if schema.form == "list":
            self._expect(isinstance(value, list), value, schema, path, owner)
            items = enumerate(value)
            return [self._value(item, schema.element, f"{path}[{i}]", owner) for i, item in items if item is not None]
        return without_nulls(value) if schema.form == "any" else self._scalar(value, schema, path, owner)

    def _members(self, value: Object, schema: Schema, path: str, owner: str) -> Iterator[tuple[str, Any]]:
        for name, member in value.items():
            inner = f"{path}.{name}" if path else name
            child = schema.child(name)
            if child is None:
                self.unknown.append(inner)
            elif member is not None:
                yield name, self._value(member, child, inner, owner)

    def _scalar(self, value: Any, schema: Schema, path: str, owner: str) -> Any:
        if schema.name == "qty":
            self._expect(isinstance(value, str | int | float), value, schema, path, owner)
            if not _QUANTITY.fullmatch(str(value)):
                why = f"quantities must match the regular expression '^{_QUANTITY.pattern}$'"
                raise Misfit(self.kind, self.version, why)
            return str(value)
        fits = isinstance(value, _PYTHON_TYPES[schema.name]) and isinstance(value, bool) == (schema.name == "bool")
        self._expect(fits, value, schema, path, owner)
        return value

    def _expect(self, fits: bool, value: Any, schema: Schema, path: str, owner: str) -> None:
        if not fits:
            shown = {dict: "object", list: "array", str: "string", bool: "bool"}.get(type(value), "number")
            wanted = _GO_TYPES[schema.name] if schema.form == "scalar" else schema.form
            where = f"Go struct field {owner}.{path} of type {wanted}"
            raise Misfit(self.kind, self.version, f"json: cannot unmarshal {shown} into {where}")


def without_nulls(value: Any) -> Any:
    """Return a copy of a JSON tree without members that are null."""
    if isinstance(value, dict):
        return {key: without_nulls(member) for key, member in value.items() if member is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def decoded(request: ApiRequest, body: object, *, from_webhook: bool = False) -> Object:
    """Return ``body`` as an object of the request's kind in the stored version; refuse what does not fit the path.

    What a webhook adds that no field of the kind is, is dropped: its author is not who asks.
    """
    if not isinstance(body, dict):
        raise bad_request("the body must be an object")
    kind = request.kind
    version, name = body.get("apiVersion") or request.api_version, body.get("kind") or kind.kind
    if name != kind.kind:
        raise bad_request(f'{name} in version "{version}" cannot be handled as a {kind.kind}')
    if version not in map(kind.version_string, kind.versions):
        expected = f"does not match the expected API version ({request.api_version})"
        raise bad_request(f"the API version in the data ({version}) {expected}")
    decoder = Decoder(kind.kind, request.version)
    obj = decoder.decode(body, schema_of(kind.schema)) | {"apiVersion": kind.api_version, "kind": kind.kind}
    if not from_webhook:
        _report_unknown(request, decoder.unknown)
    _match_path(request, obj["metadata"])
    return obj


def _report_unknown(request: ApiRequest, paths: list[str]) -> None:
    kind, wish = request.kind.kind, request.query.get("fieldValidation") or "Warn"
    if wish not in FIELD_VALIDATION:
        raise bad_option(request.verb, not_supported("fieldValidation", wish, *FIELD_VALIDATION))
    if paths and request.content_type == APPLY_PATCH:
        raise Misfit(kind, request.version, ", ".join(f".{path}: field not declared in schema" for path in paths))
    unknown = [f'unknown field "{path}"' for path in paths]
    if unknown and wish == "Strict":
        raise Misfit(kind, request.version, "strict decoding error: " + ", ".join(unknown))
    if wish == "Warn":
        request.warnings.extend(unknown)


def _match_path(request: ApiRequest, metadata: Object) -> None:
    if (metadata.get("namespace") or request.namespace) != request.namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    name = metadata.get("name") or request.name
    if request.name and name != request.name:
        raise bad_request(f"the name of the object ({name}) does not match the name on the URL ({request.name})")
    metadata |= {"name": name} if name else {}
    metadata.pop("namespace", None)
    metadata |= {"namespace": request.namespace} if request.namespace else {}


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
    schema, force = schema_of(request.kind.schema), request.flag("force")
    return dict(without_nulls(apply(live or blank, wanted, schema, manager, force=force, now=timestamp())))


def patched(request: ApiRequest, body: object, live: Object) -> Object:
    """Return ``live`` with the patch in ``body``, of the type that the request's Content-Type says."""
    if request.query.get("force"):
        raise bad_option(request.verb, not_allowed("force", "may not be specified for non-apply patch"))
    outcome = merged(request, body, live | {"apiVersion": request.api_version}, schema_of(request.kind.schema))
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
    if request.content_type == _MERGE_PATCH:
        return merge_patch(shown, body)
    return strategic_merge(shown, body, schema)


def json_patch(obj: Object, operations: Any) -> Object:
    """Apply RFC 6902 operations."""
    if not isinstance(operations, list):
        raise bad_request("json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    try:
        return dict(jsonpatch.apply_patch(obj, operations))
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        message = f"the server rejected our request due to an error in our request: {error}"
        raise Failure(422, "Invalid", message) from error


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
    if patch.get("$patch") == "delete":
        return {}
    members = {name: value for name, value in patch.items() if not name.startswith("$")}
    if patch.get("$patch") == "replace":
        return copy.deepcopy(members)
    merged = {name: value for name, value in target.items() if name in patch.get(_RETAIN, target)}
    for name, value in members.items():
        _merge_member(merged, name, value, schema.child(name))
    for directive, value in patch.items():
        name = directive.partition("/")[2]
        if directive.startswith(_REMOVALS):
            merged[name] = [item for item in merged.get(name, []) if item not in value]
        elif directive.startswith(_ORDER):
            merged[name] = _ordered(merged.get(name, []), value, schema.child(name))
    return merged


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
    if any(item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if "$patch" not in item]
    key = next(iter(schema.keys))
    items = {item.get(key): item for item in old}
    for item in patch:
        if key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {key}")
        if item.get("$patch") == "delete":
            items.pop(item[key], None)
        else:
            items[item[key]] = strategic_merge(items.get(item[key], {}), item, schema.element)
    return list(items.values())


def _ordered(items: list[Any], order: list[Any], schema: Schema | None) -> list[Any]:
    """Put the items that ``order`` names into its order; the others keep their places after them."""
    key = next(iter(schema.keys)) if schema and schema.keys else ""
    names = [wanted[key] if key else wanted for wanted in order]
    identities = [item.get(key) if key else item for item in items]
    places = [names.index(name) if name in names else len(names) for name in identities]
    return [items[i] for i in sorted(range(len(items)), key=places.__getitem__)]
