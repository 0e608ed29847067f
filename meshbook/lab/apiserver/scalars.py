"""The scalar types of schemas: what Go type each is, what JSON may hold it, and which of its values are refused. Pure.

A value that does not fit its Go type makes the body unreadable (``misfit``, HTTP 400); one that fits and is out of its
bounds makes the object invalid (``Scalar.rule``, HTTP 422). ``A/B/C`` is a string that is one of these.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from meshbook.objects import moment_of

Rule = Callable[[Any], str]
"""Says what is wrong with a value; nothing where all is well."""

_QUANTITY = re.compile(r"([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_PERCENT = re.compile(r"[0-9]+%")
_PERCENT_RULE = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for "
    f"validation is '{_PERCENT.pattern}')"
)
_PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9](-?[a-z0-9]){0,14}")
_PORT_RULE = "must be between 1 and 65535, inclusive"
_NAME_RULE = "must be a port's number or its name: at most 15 of a-z, 0-9 and '-', at least one letter among them"
INT64 = range(-(1 << 63), 1 << 63)
_RANGES = {"int32": range(-(1 << 31), 1 << 31), "int64": INT64}


def _at_least_0(value: int) -> str:
    return "" if value >= 0 else "must be greater than or equal to 0"


def _is_port(value: int) -> str:
    return "" if 1 <= value <= 65535 else _PORT_RULE


def _is_share(value: int | str) -> str:
    if isinstance(value, int):
        return _at_least_0(value)
    return "" if _PERCENT.fullmatch(value) and len(value) <= 11 else _PERCENT_RULE


def _is_target(value: int | str) -> str:
    return _is_port(value) if isinstance(value, int) else "" if _PORT_NAME.fullmatch(value) else _NAME_RULE


@dataclass(frozen=True)
class Scalar:
    """One scalar type."""

    go: str
    json: tuple[type, ...] = (str,)
    rule: Rule = lambda _: ""


SCALARS = {
    "str": Scalar("string"),
    "bool": Scalar("bool", (bool,)),
    "num": Scalar("float64", (int, float)),
    "int": Scalar("int32", (int,)),
    "long": Scalar("int64", (int,)),
    "count": Scalar("int32", (int,), _at_least_0),
    "port": Scalar("int32", (int,), _is_port),
    "share": Scalar("int32", (int, str), _is_share),
    "target": Scalar("int32", (int, str), _is_target),
    "qty": Scalar("resource.Quantity", (str, int, float)),
    "time": Scalar("Time"),
    "bytes": Scalar("[]uint8"),
}
"""``count`` is not negative, ``share`` a count or a percentage, ``target`` the number or name of a port, ``qty`` a
quantity, ``time`` one of RFC 3339, ``bytes`` are base64."""


def scalar(name: str) -> Scalar:
    """Return the type of a name; a list of alternatives is a string."""
    return SCALARS["str" if "/" in name else name]


def misfit(name: str, value: Any) -> str:
    """Say why ``value``, of a JSON type that is right, cannot be read as a ``name``; nothing where it can."""
    go = scalar(name).go
    if isinstance(value, int) and value not in _RANGES.get(go, (value,)):
        return f"json: cannot unmarshal number {value}"
    if name == "qty" and not _QUANTITY.fullmatch(str(value)):
        return f"quantities must match the regular expression '^{_QUANTITY.pattern}$'"
    try:
        if name == "bytes":
            base64.b64decode(value, validate=True)
        if name == "time" and (not _TIME.fullmatch(value) or moment_of(value) is None):
            raise ValueError
    except binascii.Error:
        return "illegal base64 data at input byte 0"
    except (ValueError, OverflowError):
        return f'parsing time "{value}" as "2006-01-02T15:04:05Z07:00": cannot parse "{value}" as "2006"'
    return ""
