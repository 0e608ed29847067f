"""Shapes of objects: reads ``notation`` and takes incoming objects in.

``conform`` is the one copy that an object gets on its way in: it drops nulls and unknown fields, as decoding into a
Go struct does, and says which fields were unknown. Merging and ownership ask shapes how a list is keyed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Literal

from meshbook.lab.apiserver.failures import Cause, Misfit, required
from meshbook.lab.apiserver.kinds import Json
from meshbook.lab.apiserver.notation import NOTATION

Form = Literal["any", "scalar", "struct", "map", "list"]
_GO_TYPES = {"str": "string", "int": "int32", "bool": "bool", "num": "float64", "qty": "resource.Quantity"}
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "num": (int, float), "bool": (bool,)}
_QUANTITY = re.compile(r"([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)")
_TYPE = re.compile(r"(?P<atomic>\*?)(?P<base>\w+)(?P<suffix>\{\}|\[[^\]]*\])?(?P<required>!?)")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How one value looks. ``keys`` tells items of a list apart: key → value that a missing key means."""

    form: Form
    name: str = "any"
    atomic: bool = False
    required: bool = False
    unique: bool = False
    """A list that is a set of scalars."""
    keys: dict[str, str | None] = field(default_factory=dict)

    @cached_property
    def fields(self) -> dict[str, Shape]:
        return {name: _typed(text) for name, text in _lines().get(self.name, {}).items()}

    @cached_property
    def element(self) -> Shape:
        """Shape of the items of a list or the values of a map."""
        return _typed(self.name)

    def child(self, name: str) -> Shape | None:
        """Return the shape of a member; None when a struct has no such field."""
        if self.form == "struct":
            return self.fields.get(name) or self.fields.get("*")
        return self.element if self.form == "map" else ANY

    def identity(self, item: Json) -> Json:
        """Return the keys that tell ``item`` of this list apart."""
        return {key: item.get(key, default) for key, default in self.keys.items() if key in item or default}


ANY = Shape(form="any")


@cache
def _lines() -> dict[str, dict[str, str]]:
    text = NOTATION.replace("\n  ", " ")
    types = {}
    for line in filter(None, text.splitlines()):
        name, *members = line.split()
        pairs = [(m if ":" in m else (m[:-1] + ":str!" if m.endswith("!") else m + ":str")).split(":") for m in members]
        types[name] = {member: kind for member, kind in pairs}
    return types


@cache
def _typed(text: str) -> Shape:
    match = _TYPE.fullmatch(text)
    assert match, text
    base, suffix, atomic = match["base"], match["suffix"] or "", bool(match["atomic"])
    needed = bool(match["required"])
    if suffix == "{}":
        return Shape(form="map", name=base, atomic=atomic, required=needed)
    if suffix:
        inner = suffix[1:-1]
        parts = [part.partition("=") for part in inner.split(",")] if inner not in ("", "=") else []
        keys = {key: default or None for key, _, default in parts}
        return Shape(form="list", name=base, atomic=not inner, required=needed, unique=inner == "=", keys=keys)
    if base == "any":
        return Shape(form="any", required=needed)
    return Shape(form="struct" if base in _lines() else "scalar", name=base, atomic=atomic, required=needed)


def shape_of(name: str) -> Shape:
    """Return the shape that ``notation`` calls ``name``."""
    return _typed(name)


@dataclass
class Intake:
    """Takes one object in; ``unknown`` gathers the paths of fields that its kind does not have."""

    kind: str
    version: str
    unknown: list[str] = field(default_factory=list)

    def conform(self, obj: Json, shape: Shape) -> Json:
        """Return ``obj`` as a tree of its own without nulls and unknown fields; refuse wrong types."""
        head = {"apiVersion": obj.get("apiVersion"), "kind": obj.get("kind")}
        body = {key: value for key, value in obj.items() if key not in head}
        taken: Json = head | self._take(body, shape, "", "")
        taken["metadata"] = {name: value for name, value in taken.get("metadata", {}).items() if value not in ({}, [])}
        return taken

    def _take(self, value: Any, shape: Shape, path: str, owner: str) -> Any:
        if shape.form in ("struct", "map"):
            self._expect(isinstance(value, dict), value, shape, path, owner)
            return dict(self._members(value, shape, path, shape.name if shape.form == "struct" else owner))
        if shape.form == "list":
            self._expect(isinstance(value, list), value, shape, path, owner)
            items = enumerate(value)
            return [self._take(item, shape.element, f"{path}[{i}]", owner) for i, item in items if item is not None]
        return without_nulls(value) if shape.form == "any" else self._scalar(value, shape, path, owner)

    def _members(self, value: Json, shape: Shape, path: str, owner: str) -> Iterator[tuple[str, Any]]:
        for name, member in value.items():
            inner = f"{path}.{name}" if path else name
            child = shape.child(name)
            if child is None:
                self.unknown.append(inner)
            elif member is not None:
                yield name, self._take(member, child, inner, owner)

    def _scalar(self, value: Any, shape: Shape, path: str, owner: str) -> Any:
        if shape.name == "qty":
            self._expect(isinstance(value, str | int | float), value, shape, path, owner)
            if not _QUANTITY.fullmatch(str(value)):
                why = f"quantities must match the regular expression '^{_QUANTITY.pattern}$'"
                raise Misfit(self.kind, self.version, why)
            return str(value)
        fits = isinstance(value, _PYTHON_TYPES[shape.name]) and isinstance(value, bool) == (shape.name == "bool")
        self._expect(fits, value, shape, path, owner)
        return value

    def _expect(self, fits: bool, value: Any, shape: Shape, path: str, owner: str) -> None:
        if fits:
            return
        shown = {dict: "object", list: "array", str: "string", bool: "bool"}.get(type(value), "number")
        wanted = _GO_TYPES.get(shape.name, f"v1.{shape.name}") if shape.form == "scalar" else shape.form
        where = f"Go struct field {owner}.{path} of type {wanted}"
        raise Misfit(self.kind, self.version, f"json: cannot unmarshal {shown} into {where}")


def without_nulls(value: Any) -> Any:
    """Return a copy of a JSON tree without members that are null."""
    if isinstance(value, dict):
        return {key: without_nulls(member) for key, member in value.items() if member is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def missing(value: Any, shape: Shape, path: str = "") -> Iterator[Cause]:
    """Yield a cause for each required field that is absent or empty."""
    if shape.form == "list":
        for i, item in enumerate(value):
            yield from missing(item, shape.element, f"{path}[{i}]")
    elif shape.form == "struct":
        for name, child in shape.fields.items():
            inner = f"{path}.{name}" if path else name
            if name in value:
                yield from missing(value[name], child, inner)
            if child.required and value.get(name) in (None, "", [], {}):
                yield required(inner)
