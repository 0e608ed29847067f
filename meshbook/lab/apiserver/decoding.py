"""From bytes to values, and from values to objects of a kind: the one place where what clients send is checked.

``decode`` bounds form, depth and size; ``Decoder`` reads by the schema: it drops nulls and unknown fields, as decoding
into a Go struct does, says which fields were unknown, and refuses what has another type. Behind it nobody meets an
unexpected shape. It is the one copy that an object gets on its way in. What patches make is in ``patches``. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from meshbook.lab.apiserver.errors import (
    Misfit,
    bad_option,
    bad_request,
    cause,
    invalid,
    not_supported,
    unsupported_media,
)
from meshbook.lab.apiserver.kinds import Kind
from meshbook.lab.apiserver.protobuf import PROTOBUF, decode_protobuf
from meshbook.lab.apiserver.requests import ApiRequest
from meshbook.lab.apiserver.scalars import INT64, misfit, scalar
from meshbook.lab.apiserver.schema import Schema, schema_of
from meshbook.objects import Object

YAML = "application/yaml"
BODY_TYPES = ("application/json", YAML, PROTOBUF)
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
FIELD_VALIDATION = ("", "Ignore", "Strict", "Warn")
PROPAGATION = ("Background", "Foreground", "Orphan")

LARGEST_BODY = 3 * 1024 * 1024
DEEPEST = 128
"""Levels of nesting in a body: a real server takes 10,000, no object of a known kind has more than a third of these."""
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SHOWN = {dict: "object", list: "array", str: "string", bool: "bool"}
_NO_NAME = "name must be provided"
_IN_SCHEMAS = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}


def document(request: ApiRequest) -> Any:
    """Return the value that the body holds; media types that the verb does not take are refused."""
    accepted: tuple[str, ...] = BODY_TYPES
    if request.verb == "patch":
        strategic = () if request.kind.custom else (STRATEGIC_PATCH,)
        accepted = (JSON_PATCH, MERGE_PATCH, *strategic, APPLY_PATCH)
    if request.content_type not in accepted:
        raise unsupported_media(accepted, by_router=request.verb == "patch" and not request.kind.custom)
    return decode(request.body, request.content_type)


def decode(body: bytes, media_type: str) -> Any:
    """Return the value that a JSON or YAML text, or a protobuf message, holds."""
    if media_type == PROTOBUF:
        return decode_protobuf(body)
    text = body.decode(errors="replace")
    try:
        value = bounded(json.loads(text, parse_constant=_refuse_number, parse_float=_finite))
    except RecursionError:
        raise bad_request("json parse error: exceeded max depth") from None
    except ValueError as error:
        if "yaml" not in media_type:
            raise bad_request(f"couldn't get version/kind; json parse error: {error}") from error
    else:
        return _without_surrogates(value) if _SURROGATE.search(text) else value
    return _decode_yaml(text)


def _without_surrogates(value: Any) -> Any:
    """Return ``value`` with halves of surrogate pairs, which JSON can write and UTF-8 cannot, replaced as Go does."""
    text = json.dumps(value, ensure_ascii=False)
    return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def _finite(text: str) -> float:
    number = float(text)
    return number if abs(number) != float("inf") else _refuse_number(text)


def _refuse_number(text: str) -> Any:
    raise ValueError(f"cannot unmarshal number {text} into Go value of type float64")


def _decode_yaml(text: str) -> Any:
    """Return what YAML holds, as JSON would hold it: names of members become text."""
    try:
        return json.loads(json.dumps(bounded(yaml.load(text, Loader=_JsonLikeLoader)), allow_nan=False))
    except (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # PyYAML's constructors raise whatever their parsing of a tagged scalar raises
        raise bad_request(f"error decoding the body: {error}") from error


def bounded(value: Any) -> Any:
    """Return ``value`` unless it is nested too deeply, or larger than any body: aliases of YAML multiply."""
    level, left = [value], LARGEST_BODY // 2
    for _ in range(DEEPEST):
        level = [one for one in level if isinstance(one, dict | list)]
        left -= sum(map(len, level))
        if not level:
            return value
        if left < 0:
            raise bad_request("the body holds too many values")
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    raise bad_request(f"exceeded max depth: more than {DEEPEST} levels")


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _JsonLikeLoader(_Loader):  # type: ignore[misc]  # the C loader where PyYAML has it
    """YAML without dates: a time stays the text that it is in JSON."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the base class declares it
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def delete_options(request: ApiRequest) -> Object:
    """Return DeleteOptions from the body and, over it, from the query."""
    options: Object = {}
    if request.body.strip():
        try:
            options = typed(document(request), "DeleteOptions", "v1")
        except Misfit as error:
            raise bad_request(error.why) from error
    grace, policy = request.number("gracePeriodSeconds"), request.query.get("propagationPolicy")
    options |= ({} if grace is None else {"gracePeriodSeconds": grace}) | (
        {"propagationPolicy": policy} if policy else {}
    )
    for name, value, supported in (
        ("propagationPolicy", options.get("propagationPolicy", PROPAGATION[0]), PROPAGATION),
        *(("dryRun", value, ("All",)) for value in options.get("dryRun", ())),
    ):
        if value not in supported:
            raise bad_option(request.verb, not_supported(name, value, *supported))
    return options


@dataclass
class Decoder:
    """Decodes one object; ``unknown`` gathers the paths of fields that its kind does not have."""

    kind: str
    version: str
    custom: Kind | None = None
    """A kind that is checked as the schema of its CustomResourceDefinition says, not as a Go struct."""
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
            self._expect((dict,), value, schema, path, owner)
            return dict(self._members(value, schema, path, schema.name if schema.form == "struct" else owner))
        if schema.form == "list":
            self._expect((list,), value, schema, path, owner)
            items = enumerate(value)
            return [self._value(item, schema.element, f"{path}[{i}]", owner) for i, item in items if item is not None]
        return without_nulls(value) if schema.form == "any" else self._scalar(value, schema, path, owner)

    def _members(self, value: Object, schema: Schema, path: str, owner: str) -> Iterator[tuple[str, Any]]:
        for name, member in value.items():
            inner = f"{path}.{name}" if path else name
            child = schema.child(name)
            if child is None:
                self.unknown.append(inner)
            elif member is not None and not (member == "" and child.alternatives):
                yield name, self._value(member, child, inner, owner)

    def _scalar(self, value: Any, schema: Schema, path: str, owner: str) -> Any:
        self._expect(scalar(schema.name).json, value, schema, path, owner)
        if why := misfit(schema.name, value):
            where = f" into Go struct field {owner}.{path} of type {scalar(schema.name).go}"
            raise Misfit(self.kind, self.version, why + (where if why.startswith("json") else ""))
        return str(value) if schema.name == "qty" else value

    def _expect(self, types: tuple[type, ...], value: Any, schema: Schema, path: str, owner: str) -> None:
        if isinstance(value, types) and isinstance(value, bool) <= (bool in types):
            return
        if self.custom and not path.startswith("metadata"):
            found, wanted = _IN_SCHEMAS[type(value)], _IN_SCHEMAS[types[0]]
            why = f'Invalid value: "{found}": {path} in body must be of type {wanted}: "{found}"'
            raise invalid(self.custom, "", cause(path, "FieldValueTypeInvalid", why))
        wanted = scalar(schema.name).go if schema.form == "scalar" else schema.form
        number = f"number {value}" if isinstance(value, float) else "number"
        where = f"Go struct field {owner}.{path} of type {wanted}"
        raise Misfit(self.kind, self.version, f"json: cannot unmarshal {_SHOWN.get(type(value), number)} into {where}")


def typed(body: object, kind: str, version: str) -> Object:
    """Return ``body`` as what a request brings besides objects that are kept: options, reviews, a Scale, a Binding."""
    if not isinstance(body, dict):
        raise bad_request(f"the object provided is unrecognized (must be of type {kind})")
    name = body.get("kind") or kind
    if name != kind:
        raise bad_request(f"the object provided is unrecognized (must be of type {kind}): it is of kind {name}")
    return Decoder(kind, version).decode(body, schema_of(kind))


def without_nulls(value: Any) -> Any:
    """Return a copy of a JSON tree without members that are null; numbers are those that Go's JSON holds exactly."""
    if isinstance(value, dict):
        return {key: without_nulls(member) for key, member in value.items() if member is not None}
    if type(value) is int and value not in INT64:
        raise bad_request(f"json: cannot unmarshal number {value} into Go value of type int64")
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
    if (kind.custom or request.content_type == APPLY_PATCH) and not (body.get("kind") and body.get("apiVersion")):
        raise bad_request(
            f"the object provided is unrecognized (must be of type {kind.kind}): Object 'Kind' is missing"
        )
    decoder = Decoder(kind.kind, request.version, kind if kind.custom else None)
    obj = decoder.decode(bounded(body), schema_of(kind.kind)) | {"apiVersion": kind.api_version, "kind": kind.kind}
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
    name = metadata.get("name", "")
    if request.name and not name:
        raise bad_request(f"the name of the object ({request.name} based on URL) was undeterminable: {_NO_NAME}")
    if request.name and name != request.name:
        raise bad_request(f"the name of the object ({name}) does not match the name on the URL ({request.name})")
    metadata |= {"name": name} if name else {}
    metadata.pop("namespace", None)
    metadata |= {"namespace": request.namespace} if request.namespace else {}
