"""What parameters a notebook declares, and whether given values fit them: name, type, spelling.

A notebook's ``parameters`` cell is the declaration (``name: type = literal  # help``). papermill itself only warns
about an unknown name and then runs with the default, so all is checked here before anything starts. Nothing runs here.
"""

from __future__ import annotations

import ast
import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from meshbook.errors import UsageError
from meshbook.runs.papermilling import papermill

_SCALARS: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool}
_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True, kw_only=True)
class Declared:
    """One parameter as a notebook declares it. ``default`` is Python source text."""

    name: str
    type: str
    default: str
    help: str


def declared(notebook: Path) -> dict[str, Declared]:
    """Read the ``parameters`` cell of ``notebook``; name → declaration, in the order of the cell."""
    try:
        found: Mapping[str, Mapping[str, Any]] = papermill().inspect_notebook(str(notebook))
    except Exception as error:  # whatever papermill and nbformat raise on a file that is no notebook
        raise UsageError(f"cannot read the notebook {notebook.name}: {error}") from error
    return {
        name: Declared(name=name, type=_type_of(raw), default=str(raw["default"]), help=str(raw["help"]))
        for name, raw in found.items()
    }


def _type_of(raw: Mapping[str, Any]) -> str:
    written = str(raw["inferred_type_name"])
    if written != "None":
        return written
    return type(ast.literal_eval(str(raw["default"]))).__name__


def require_known(given: Iterable[str], known: Iterable[str], *, where: str) -> None:
    """Refuse the first name of ``given`` that is not in ``known``, and suggest what may have been meant."""
    names = sorted(set(known))
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=2, cutoff=0.6)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(names) or 'none'}"
            raise UsageError(f"unknown parameter {name!r} {where}", hint=hint)


def from_text(parameter: Declared, text: str) -> Any:
    """Read a command-line value by the declared type, so that ``007`` stays text where text is declared."""
    base = _base(parameter.type)
    if base == "str":
        return text
    if base == "bool" and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    if base == "list" and not text.lstrip().startswith("["):
        text = f"[{text}]"
    try:
        value = float(text) if base == "float" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise _mistyped(parameter, text) from error
    return checked(parameter, value)


def checked(parameter: Declared, value: Any) -> Any:
    """Return ``value`` as the declared type wants it, or refuse it. Whole numbers pass as float, nothing else bends."""
    try:
        return _fit(ast.parse(parameter.type, mode="eval").body, value)
    except TypeError as error:
        raise _mistyped(parameter, value) from error


def _mistyped(parameter: Declared, value: object) -> UsageError:
    return UsageError(
        f"parameter {parameter.name!r} wants {parameter.type}, not {value!r}",
        hint=f"{parameter.name}: {parameter.help}" if parameter.help else "",
    )


def _base(written: str) -> str:
    return written.partition("[")[0].strip()


def _fit(wanted: ast.expr, value: Any) -> Any:
    if isinstance(wanted, ast.Subscript):
        return _fit_generic(wanted, value)
    name = wanted.id if isinstance(wanted, ast.Name) else "?"
    if name in ("list", "dict"):
        return _require(isinstance(value, list if name == "list" else dict), value)
    if name == "float" and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    _require(name in _SCALARS and type(value) is _SCALARS[name], value)
    return _require(not isinstance(value, float) or math.isfinite(value), value)


def _fit_generic(wanted: ast.Subscript, value: Any) -> Any:
    outer = wanted.value.id if isinstance(wanted.value, ast.Name) else "?"
    inner = wanted.slice.elts if isinstance(wanted.slice, ast.Tuple) else [wanted.slice]
    if outer == "Optional":
        return None if value is None else _fit(inner[0], value)
    if outer == "list" and isinstance(value, list):
        return [_fit(inner[0], item) for item in value]
    if outer == "dict" and isinstance(value, dict) and len(inner) == 2:
        return {_fit(inner[0], key): _fit(inner[1], item) for key, item in value.items()}
    raise TypeError(value)


def _require(fits: bool, value: Any) -> Any:
    if not fits:
        raise TypeError(value)
    return value
