"""Label and field selectors: text or object → a predicate over objects. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from meshbook.lab.apiserver.failures import bad_request
from meshbook.lab.apiserver.kinds import Json, Kind

Predicate = Callable[[Json], bool]
Requirement = Callable[[Mapping[str, str]], bool]

_SET = re.compile(r"^(?P<key>\S+)\s+(?P<operator>in|notin)\s*\((?P<values>[^)]*)\)$")
_EQUAL = re.compile(r"^(?P<key>[^=!\s]+)\s*(?P<operator>==|=|!=)\s*(?P<value>[^=!]*)$")
_EXISTS = re.compile(r"^(?P<absent>!?)\s*(?P<key>[A-Za-z0-9][-\w./]*)$")
_COMMA = re.compile(r",(?![^(]*\))")


def label_predicate(text: str) -> Predicate | None:
    """Return the predicate of a label selector as in ``kubectl -l``; None when it selects everything."""
    requirements = [_label_requirement(part.strip()) for part in _COMMA.split(text) if part.strip()]
    if not requirements:
        return None
    return lambda obj: _all_hold(requirements, obj["metadata"].get("labels") or {})


def selector_matches(selector: Json | None, labels: Mapping[str, str] | None) -> bool:
    """Say whether a LabelSelector object (matchLabels, matchExpressions) matches; an empty one matches everything."""
    selector, labels = selector or {}, labels or {}
    equal = (selector.get("matchLabels") or {}).items() <= dict(labels).items()
    return equal and _all_hold([_expression(e) for e in selector.get("matchExpressions") or []], labels)


def _all_hold(requirements: list[Requirement], labels: Mapping[str, str]) -> bool:
    return all(requirement(labels) for requirement in requirements)


def _label_requirement(text: str) -> Requirement:
    if match := _SET.match(text):
        values = [value.strip() for value in match["values"].split(",")]
        return _membership(match["key"], match["operator"] == "in", values)
    if match := _EQUAL.match(text):
        return _membership(match["key"], match["operator"] != "!=", [match["value"].strip()])
    if match := _EXISTS.match(text):
        key, present = match["key"], not match["absent"]
        return lambda labels: (key in labels) == present
    raise bad_request(f'unable to parse requirement: found "{text}", expected: in, notin, =, ==, !=, or a key')


def _membership(key: str, wanted: bool, values: list[str]) -> Requirement:
    if wanted:
        return lambda labels: labels.get(key) in values
    return lambda labels: key not in labels or labels[key] not in values


def _expression(expression: Json) -> Requirement:
    key, operator = expression["key"], expression["operator"]
    if operator in ("In", "NotIn"):
        return _membership(key, operator == "In", expression.get("values") or [])
    if operator in ("Exists", "DoesNotExist"):
        return lambda labels: (key in labels) == (operator == "Exists")
    raise bad_request(f'"{operator}" is not a valid label selector operator')


def field_predicate(text: str, kind: Kind) -> Predicate | None:
    """Return the predicate of a field selector; a path that the kind does not offer is refused."""
    terms = [_field_term(part.strip(), kind) for part in text.split(",") if part.strip()]
    if not terms:
        return None
    return lambda obj: all((value_at(obj, path) == value) == equal for path, value, equal in terms)


def _field_term(text: str, kind: Kind) -> tuple[str, str, bool]:
    match = _EQUAL.match(text)
    if not match:
        raise bad_request(f"invalid field selector: '{text}'; can't understand '{text}'")
    if match["key"] not in kind.selectable:
        raise bad_request(f"field label not supported: {match['key']}")
    return match["key"], match["value"], match["operator"] != "!="


def value_at(obj: Any, path: str) -> str:
    """Return the scalar at a dotted path as text, empty when it is absent."""
    for name in path.split("."):
        obj = obj.get(name) if isinstance(obj, dict) else None
    if obj is None:
        return ""
    return str(obj).lower() if isinstance(obj, bool) else str(obj)


def both(first: Predicate | None, second: Predicate | None) -> Predicate:
    """Return the predicate that holds when each of the given ones holds."""
    parts = [predicate for predicate in (first, second) if predicate]
    return lambda obj: all(predicate(obj) for predicate in parts)
