"""What a run will do: which notebooks, each with which parameters. Everything is checked here, before anything starts.

A notebook's ``parameters`` cell is the declaration (``name: type = literal  # help``). papermill itself only warns
about an unknown name and then runs with the default, so spelling and types are refused here. Nothing is executed.
"""

from __future__ import annotations

import ast
import difflib
import json
import math
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from meshbook.errors import UsageError
from meshbook.language import of_reader
from meshbook.marks import is_read_in
from meshbook.runs.executed_copy import papermill
from meshbook.settings import AUTO, entry_kind, out_of_range

DRY_RUN = "dry_run"
"""Name of the parameter by which a notebook prints what it would do, and does not do it."""

_STAGE = re.compile(r"(\d\d)_(\w+)\.ipynb")
_SCALARS: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool}
_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True, kw_only=True)
class PlannedNotebook:
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
        return bool(_metadata(self.notebook).get("reads_only"))


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """The notebooks of a run in order. ``label`` names the environment in the run's id; empty: no file did."""

    steps: tuple[PlannedNotebook, ...]
    label: str

    def value(self, name: str, default: Any) -> Any:
        """Return parameter ``name`` as the first notebook that declares it will see it."""
        return next((step.values()[name] for step in self.steps if name in step.declared), default)

    def given(self, name: str, value: Any) -> RunPlan:
        """Return the plan with ``value`` given to each notebook that declares parameter ``name``."""
        steps = (
            replace(step, given={**step.given, name: value}) if name in step.declared else step for step in self.steps
        )
        return replace(self, steps=tuple(steps))

    def dry(self, *, reading_only: bool) -> RunPlan:
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


def plan_run(
    folder: Path, wanted: Sequence[str] = (), *, file: Path | None = None, given: Sequence[str] = ()
) -> RunPlan:
    """Plan a run of the notebooks in ``folder``: ``wanted`` stages, a parameters ``file``, ``key=value`` settings.

    A file serves every stage, so a name in it may belong to a notebook that is not selected; a ``key=value`` must be
    known to a selected one. ``key=value`` wins over the file. Raises UsageError.
    """
    chosen = _select(folder, wanted)
    if not chosen:
        raise UsageError(f"no notebook in {folder}", hint="stages are named 01_connectivity.ipynb and the like")
    known = {path: declared(path) for path in _stages(folder).values()}
    from_file = _read(file) if file else {}
    require_known(from_file, _names(known.values()), where=f"in {file}")
    pairs = dict(_pair(text) for text in given)
    of_chosen = _names(known[path] for path in chosen)
    for name in pairs.keys() - of_chosen:
        if elsewhere := [path.stem for path, one in known.items() if name in one]:
            raise UsageError(f"no stage of this run has parameter {name!r}", hint=f"known to {', '.join(elsewhere)}")
    require_known(pairs, of_chosen, where="in -p")
    for declarations in known.values():
        _values(declarations, from_file, {})  # a mistyped value is refused although its stage is not selected
    steps = (
        PlannedNotebook(notebook=path, declared=known[path], given=_values(known[path], from_file, pairs))
        for path in chosen
    )
    return RunPlan(steps=tuple(steps), label=file.stem if file else "")


def _names(declarations: Any) -> set[str]:
    return {name for one in declarations for name in one}


def _read(file: Path) -> dict[str, Any]:
    if file.exists() and not file.is_file():  # a pipe would be waited for without end
        raise UsageError(f"cannot read the parameters file {file}: it is a folder, a pipe or a device")
    try:
        loaded = yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read the parameters file {file}: {_one_line(error)}") from error
    names = loaded or {}
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{file} is not a list of name: value lines")
    return names


class _Loader(yaml.SafeLoader):
    """Plain YAML, but for a key that is given twice: which of the two was meant?"""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set[str]()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value} is given twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _one_line(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"{error.problem} (line {error.problem_mark.line + 1})"
    return "it is nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:300]


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


def runbook_folder() -> Path:
    """Return the repository's ``notebooks`` folder, which lies beside the installed package."""
    folder = Path(__file__).resolve().parents[2] / "notebooks"
    if not folder.is_dir():
        raise UsageError(
            "no notebooks beside the installed package",
            hint="install from a clone: git clone …, then pip install -e .",
            looked_at=folder,
        )
    return folder


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One notebook of the runbook, for a list of them."""

    name: str
    title: str
    """Its first heading."""
    optional: bool
    """A run takes it only where it is named."""


def stages(folder: Path) -> list[Stage]:
    """Return the stages of the runbook in ``folder``, in reading order."""
    return [
        Stage(name=name, title=_title(path), optional=bool(_metadata(path).get("optional")))
        for name, path in _stages(folder).items()
    ]


def _title(notebook: Path) -> str:
    """Return the first heading of a notebook that its reader reads; empty where it has none."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    read = (cell for cell in cells if cell["cell_type"] == "markdown" and is_read_in(of_reader(), cell))
    lines = (line for cell in read for line in "".join(cell["source"]).splitlines())
    return next((line.lstrip("# ") for line in lines if line.startswith("# ")), "")


def _stages(folder: Path) -> dict[str, Path]:
    """Return every stage of the runbook in reading order: ``01_connectivity`` → its notebook."""
    return {path.stem: path for path in sorted(folder.glob("*.ipynb")) if _STAGE.fullmatch(path.name)}


def _select(folder: Path, wanted: Sequence[str]) -> list[Path]:
    """Return the notebooks that ``wanted`` names (``1``, ``01``, ``connectivity``, ``01_connectivity``).

    With none named, all but those whose own metadata call them optional.
    """
    known = _stages(folder)
    if not wanted:
        return [path for path in known.values() if not _metadata(path).get("optional")]
    chosen = {_stage(known, word) for word in wanted}
    return [path for stem, path in known.items() if stem in chosen]


def _metadata(notebook: Path) -> dict[str, Any]:
    """Return what a notebook's metadata say to meshbook; empty where there is none, or no notebook."""
    try:
        found = json.loads(notebook.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # ``declared`` says what is wrong with it
    return dict(found.get("metadata", {}).get("meshbook", {})) if isinstance(found, dict) else {}


def _stage(known: dict[str, Path], word: str) -> str:
    word = word.removesuffix(".ipynb").rpartition("/")[2]
    for stem in known:
        number, _, name = stem.partition("_")
        if word in (stem, number, name) or (word.isdigit() and int(word) == int(number)):
            return stem
    near = difflib.get_close_matches(word, [stem.partition("_")[2] for stem in known], n=1)
    raise UsageError(
        f"no stage {word!r} in the runbook",
        hint=f"did you mean {near[0]}?" if near else "",
        stages=", ".join(known),
    )


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
    base = parameter.type.partition("[")[0]
    if base == "str":
        return checked(parameter, text)
    if base == "bool" and text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    if base == "list" and not text.lstrip().startswith("["):
        text = f"[{text}]"
    try:
        value = float(text) if base == "float" else yaml.load(text, _Loader)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise _mistyped(parameter, text) from error
    return checked(parameter, value)


def checked(parameter: Declared, value: Any) -> Any:
    """Return ``value`` as the declared type wants it, or refuse it.

    Whole numbers pass as float, and any number as text where that is ``auto`` by default; nothing else bends. What a
    name measures has a range (``settings.RANGES``), which its default need not keep to: 0 may be a word for none.
    """
    default = ast.literal_eval(parameter.default)
    try:
        if default == AUTO:
            text = _auto_or_number(value)
            if text != AUTO and (allowed := out_of_range(parameter.name, float(text))):
                raise _refused(parameter, f"{AUTO} or {allowed}", value)
            return text
        fitting = _fit(parameter.type, value)
    except (TypeError, ValueError, OverflowError) as error:
        raise _mistyped(parameter, value) from error
    if parameter.name == "entry":
        entry_kind(fitting)
    for number in fitting if isinstance(fitting, list) else [fitting]:
        is_number = type(number) in (int, float) and number != default
        if is_number and (allowed := out_of_range(parameter.name, number)):
            raise _refused(parameter, allowed, value)
    return fitting


def _auto_or_number(value: Any) -> str:
    if isinstance(value, bool) or not re.fullmatch(rf"{AUTO}|[0-9]+(\.[0-9]+)?", str(value)):
        raise TypeError(value)
    return str(value)


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def _mistyped(parameter: Declared, value: object) -> UsageError:
    is_auto = ast.literal_eval(parameter.default) == AUTO
    return _refused(parameter, f"{AUTO} or a number" if is_auto else parameter.type, value)


def _refused(parameter: Declared, wanted: str, value: object) -> UsageError:
    return UsageError(
        f"parameter {parameter.name!r} must be {wanted}, not {_SHORT.repr(value)}",
        meaning=parameter.help,
    )


def _fit(written: str, value: Any) -> Any:
    """Return ``value`` as the type ``written`` (``dict[str, float]``) wants it; TypeError where it does not fit."""
    outer, _, inner = written.strip().removesuffix("]").partition("[")
    if outer == "list" and isinstance(value, list):
        return [_fit(inner, item) for item in value] if inner else value
    if outer == "dict" and isinstance(value, dict):
        of_keys, _, of_values = inner.partition(",")
        return {_fit(of_keys, key): _fit(of_values, item) for key, item in value.items()} if inner else value
    if isinstance(value, str):
        value.encode()  # no notebook can hold half a sign, as a shell or a YAML escape can give it
    if outer == "float" and type(value) is int:
        value = float(value)
    if type(value) is not _SCALARS.get(outer) or (isinstance(value, float) and not math.isfinite(value)):
        raise TypeError(value)
    return value
