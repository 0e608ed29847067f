"""What a run will do: which notebooks, each with which checked parameters. Refuses before anything starts."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from meshbook.errors import UsageError
from meshbook.runs.parameters import Declared, checked, declared, from_text, require_known
from meshbook.runs.selection import select, stages

DRY_RUN = "dry_run"
"""Name of the parameter by which a notebook prints what it would do, and does not do it."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One notebook of a plan."""

    notebook: Path
    declared: Mapping[str, Declared]
    given: Mapping[str, Any]
    """Only what differs from the notebook's own cell: this is what papermill injects."""

    @property
    def name(self) -> str:
        return self.notebook.stem

    def values(self) -> dict[str, Any]:
        """Return every parameter's value, given or default."""
        defaults = {name: ast.literal_eval(parameter.default) for name, parameter in self.declared.items()}
        return defaults | dict(self.given)

    @property
    def has_dry_run(self) -> bool:
        return DRY_RUN in self.declared

    @property
    def reads_only(self) -> bool:
        """Say whether the notebook's own metadata promise that it changes nothing."""
        metadata = json.loads(self.notebook.read_text(encoding="utf-8"))["metadata"]
        return bool(metadata.get("meshbook", {}).get("reads_only"))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The notebooks of a run in order. ``label`` names the environment in the run's id."""

    steps: tuple[Step, ...]
    label: str

    def value(self, name: str, default: Any) -> Any:
        """Return parameter ``name`` as the first notebook that declares it will see it."""
        return next((step.values()[name] for step in self.steps if name in step.declared), default)

    def dry(self, *, reading_only: bool) -> Plan:
        """Return the plan with every dry run asked for, ``reading_only`` without the notebooks that have none.

        Those that only read stay. UsageError when no notebook of the plan has a dry run.
        """
        if not any(step.has_dry_run for step in self.steps):
            raise UsageError("none of these stages has a dry run", hint="stage 3 (failover) has one")
        steps = [
            replace(step, given={**step.given, DRY_RUN: True}) if step.has_dry_run else step
            for step in self.steps
            if step.has_dry_run or step.reads_only or not reading_only
        ]
        return replace(self, steps=tuple(steps))


def plan(folder: Path, wanted: Sequence[str] = (), *, file: Path | None = None, given: Sequence[str] = ()) -> Plan:
    """Plan a run of the notebooks in ``folder``: ``wanted`` stages, a parameters ``file``, ``key=value`` settings.

    A file serves every stage, so a name in it may belong to a notebook that is not selected; a ``key=value`` must be
    known to a selected one. ``key=value`` wins over the file. Raises UsageError.
    """
    chosen = select(folder, wanted)
    if not chosen:
        raise UsageError(f"no notebook in {folder}", hint="stages are named 01_connectivity.ipynb and the like")
    known = {path: declared(path) for path in stages(folder).values()}
    from_file = _read(file) if file else {}
    require_known(from_file, _names(known.values()), where=f"in {file}")
    pairs = dict(_pair(text) for text in given)
    require_known(pairs, _names(known[path] for path in chosen), where="in -p")
    for declarations in known.values():
        _values(declarations, from_file, {})  # a mistyped value is refused although its stage is not selected
    steps = (Step(notebook=path, declared=known[path], given=_values(known[path], from_file, pairs)) for path in chosen)
    return Plan(steps=tuple(steps), label=file.stem if file else "lab")


def _names(declarations: Any) -> set[str]:
    return {name for one in declarations for name in one}


def _read(file: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read the parameters file {file}: {error}") from error
    if not isinstance(loaded or {}, dict):
        raise UsageError(f"{file} is not a list of name: value lines")
    return loaded or {}


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise UsageError(f"cannot read -p {text}", hint="-p name=value")
    return name, value


def _values(
    declarations: Mapping[str, Declared], from_file: Mapping[str, Any], pairs: Mapping[str, str]
) -> dict[str, Any]:
    values = {name: checked(declarations[name], value) for name, value in from_file.items() if name in declarations}
    return values | {name: from_text(declarations[name], text) for name, text in pairs.items() if name in declarations}
