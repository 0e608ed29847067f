"""Read a folder of executed notebooks into one ``Report``. The only module of this package that reads files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from meshbook.errors import NoRunError, UsageError
from meshbook.language import LANGUAGES
from meshbook.marks import BANNER_TAG, Claim, Marks, is_read_in, marks_of
from meshbook.rows import KeptRows
from meshbook.settings import RUN_FILE
from meshbook.verdict import FAIL, PASS, WORST_FIRST, Verdict, is_plan, numbers_text, shown, worst, worst_first

_OF_ANSWERS = {"seq", "source", "code"}
"""Columns by which a table of answers is known: one row is one request."""

_NOT_REACHED = {
    "state": "interrupted",
    "message": "Not started: the run ended early, with its process, or is going on still.",
}
"""What is told of a notebook that the record names among the planned ones, and says no more of."""

_COVERAGE = 'class="coverage"'
"""What the HTML has that shows who was answered by whom."""
_HALF_WIDTH = 720
"""Pixels up to which two pictures stand side by side."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One picture of a notebook: the heading that it stands below, and its PNG in base64; or the HTML of a matrix."""

    caption: str
    png: str = ""
    width: int = _HALF_WIDTH
    coverage: str = ""
    """Who was answered by whom, as HTML: what a reader of the report sees first."""

    @property
    def is_wide(self) -> bool:
        return self.width > _HALF_WIDTH


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One notebook of the run, executed or not."""

    name: str
    title: str
    state: str
    """pass, fail, inconclusive, error, interrupted or skipped."""
    seconds: float | None
    message: str
    claims: tuple[Claim, ...] = ()
    rows: tuple[KeptRows, ...] = ()
    """What names the files of its rows, which may lie beside it or not."""
    figures: tuple[Figure, ...] = ()
    place: Mapping[str, Any] | None = None
    """Where, when and by whom it was executed, as ``place`` tells it."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Every parameter with the value that it ran with."""
    notebook: Mapping[str, Any] | None = None
    """The executed notebook as JSON data; None when there is none."""

    @property
    def short_title(self) -> str:
        return self.title.partition(":")[0]

    @property
    def shown(self) -> str:
        """The word for its state: a plan that was drawn is no pass."""
        return shown(self.state, self.claims)

    @property
    def severity(self) -> int:
        """Its place where what did not pass is read first."""
        return WORST_FIRST.index(self.state) if self.state in WORST_FIRST else len(WORST_FIRST)


@dataclass(frozen=True, kw_only=True)
class Report:
    """A whole run. ``run`` is the content of ``run.json``, empty where papermill was used by hand."""

    run_id: str
    outcome: str
    stages: tuple[Stage, ...]
    run: Mapping[str, Any]
    language: str = LANGUAGES[0]
    """What its titles and captions are in."""

    @property
    def claims(self) -> list[Claim]:
        """Every claim of the run, what is down still before all others."""
        return [*self.down, *(claim for stage in self.stages for claim in stage.claims)]

    @property
    def down(self) -> list[Claim]:
        """The claim that all was restored, where that is known to be false."""
        left = [str(line) for line in self.run.get("not_restored") or []]
        if not left:
            return []
        claim = "everything that was taken down is restored"
        return [Verdict(claim=claim, outcome=FAIL, reason=f"Down still: {'; '.join(left)}").to_dict()]

    @property
    def shown(self) -> str:
        """The word for its outcome: with a plan that was drawn it is no pass."""
        return shown(self.outcome, self.claims)

    @property
    def plans(self) -> int:
        """How many of the claims are only what a dry run has planned."""
        return sum(map(is_plan, self.claims))

    @property
    def judged(self) -> int:
        return len(self.claims) - self.plans

    @property
    def passed(self) -> int:
        return sum(claim["outcome"] == PASS and not is_plan(claim) for claim in self.claims)

    @property
    def place(self) -> Mapping[str, Any] | None:
        """Where the first of its notebooks ran that tells it."""
        return next((stage.place for stage in self.stages if stage.place), None)

    @property
    def parameters(self) -> dict[str, Any]:
        """Every parameter of its notebooks; where they differ, of the last."""
        return {name: value for stage in self.stages for name, value in stage.parameters.items()}

    @property
    def seconds(self) -> float | None:
        """How long its notebooks took; None where one that was executed does not tell, as from JupyterLab."""
        times = [stage.seconds for stage in self.stages if stage.notebook is not None]
        told = [seconds for seconds in times if seconds is not None]
        return sum(told) if len(told) == len(times) else None

    @property
    def requests(self) -> int:
        """How many requests the tables of answers tell of; other tables count none."""
        return sum(kept.rows for stage in self.stages for kept in stage.rows if _OF_ANSWERS.issubset(kept.columns))

    @property
    def figures(self) -> list[Figure]:
        """Every picture, with the stage before its heading."""
        return [
            one if one.caption == stage.title else replace(one, caption=f"{stage.short_title} · {one.caption}")
            for stage in self.stages
            for one in stage.figures
        ]


def collect(folder: Path, language: str = LANGUAGES[0]) -> Report:
    """Return what ``folder`` (or one executed notebook) tells about its run; NoRunError when it holds no run.

    Without a record, as where somebody steps through copies by hand, a notebook of which no cell has run is none of it.
    Of its notebooks' text what readers of ``language`` read.
    """
    alone = folder.is_file() and folder.suffix == ".ipynb"
    if not folder.is_dir() and not alone:
        raise UsageError(f"{folder} is not a folder, nor an executed notebook")
    run = _json(folder / RUN_FILE) if not alone and (folder / RUN_FILE).exists() else {}
    found = [folder] if alone else sorted(folder.glob("*.ipynb"))
    notebooks = {path.stem: notebook for path in found if _was_run(notebook := _json(path)) or run or alone}
    told = _told(run)
    planned = run.get("planned") if isinstance(run.get("planned"), list) else []
    names = list(dict.fromkeys([*map(str, planned or []), *told, *notebooks]))
    if not names:
        raise NoRunError(f"{folder} holds no executed notebook", hint="meshbook run, or papermill, fills such a folder")
    missing = {name: _NOT_REACHED for name in names if name not in notebooks}
    told = {**missing, **told}
    stages = tuple(_stage(name, notebooks.get(name), told.get(name, {}), language) for name in names)
    unknown = ["interrupted"] if "planned" not in run and run.get("finished", "") is None else []
    outcome = worst((*(stage.state for stage in stages), *unknown), "error")
    run_id = str(run.get("run_id") or folder.resolve().name)
    return Report(run_id=run_id, outcome=outcome, stages=stages, run=run, language=language)


def _was_run(notebook: Mapping[str, Any]) -> bool:
    cells = notebook.get("cells")
    if not isinstance(cells, list) or "papermill" in notebook.get("metadata", {}):
        return True
    return any(cell.get("execution_count") or cell.get("outputs") for cell in cells if isinstance(cell, dict))


def _told(run: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what the record tells of each notebook; UsageError where it is no record, whoever wrote it."""
    entries = run.get("notebooks", [])
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise UsageError(f"{RUN_FILE} is not the record of a run: its notebooks are no list of objects")
    for one in entries:
        fits = isinstance(one.get("notebook"), str) and isinstance(one.get("seconds", 0.0), int | float | None)
        if not fits:
            raise UsageError(f"{RUN_FILE} is not the record of a run: one of its notebooks has no name, or no time")
    return {one["notebook"]: one for one in entries}


def _json(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UsageError(f"cannot read {path.name}: {error}") from error
    if not isinstance(loaded, dict):
        raise UsageError(f"{path.name} is neither a notebook nor the record of a run")
    return loaded


def _stage(name: str, notebook: dict[str, Any] | None, told: Mapping[str, Any], language: str) -> Stage:
    if notebook is None:
        return Stage(
            name=name,
            title=_words(name),
            state=str(told.get("state", "error")),
            seconds=told.get("seconds"),
            message=str(told.get("message", "")),
        )
    marks = _marks(name, notebook)
    kept = (cell for cell in notebook["cells"] if BANNER_TAG not in cell["metadata"].get("tags", []))
    notebook = {**notebook, "cells": [cell for cell in kept if is_read_in(language, cell)]}
    headings = [line for text in _markdown(notebook) for line in text.splitlines() if line.startswith("# ")]
    return Stage(
        name=name,
        title=headings[0].lstrip("# ") if headings else _words(name),
        state=_state(str(told.get("state") or marks.outcome), marks.outcome),
        seconds=told.get("seconds") or notebook["metadata"].get("papermill", {}).get("duration"),
        message=str(told.get("message") or "" if told else _error(notebook, marks.outcome)),
        claims=tuple(worst_first(marks.verdict["claims"])) if marks.verdict else (),
        rows=tuple(marks.rows.values()),
        place=marks.place,
        parameters=marks.parameters,
        figures=tuple(_figures(notebook)),
        notebook=notebook,
    )


def _state(told: str, left: str) -> str:
    """Return the worse of what the record told and what the notebook itself left: neither makes a pass of the other."""
    return told if told == "skipped" else worst({told, left if left in WORST_FIRST else "error"}, "error")


def _marks(name: str, notebook: Mapping[str, Any]) -> Marks:
    """Read what a notebook left of itself, whose files may come from anywhere."""
    try:
        marks = marks_of(notebook)
        for claim in marks.verdict["claims"] if marks.verdict else ():
            numbers_text(claim)
    except (AttributeError, KeyError, TypeError, ValueError, UsageError) as error:
        raise UsageError(
            f"cannot read what {name}.ipynb left for a report: {type(error).__name__}: {error}",
            hint="it was changed by hand, or executed with another meshbook",
        ) from error
    return marks


def _words(name: str) -> str:
    return name.partition("_")[2].replace("_", " ").capitalize() or name


def _markdown(notebook: Mapping[str, Any]) -> Iterator[str]:
    yield from ("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")


def _error(notebook: Mapping[str, Any], outcome: str) -> str:
    if outcome != "error":
        return ""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    errors = [output for output in outputs if output["output_type"] == "error"]
    return f"{errors[0]['ename']}: {errors[0]['evalue']}" if errors else "ended without a verdict in its last cell"


def _figures(notebook: Mapping[str, Any]) -> Iterator[Figure]:
    heading = ""
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            lines = [line for line in "".join(cell["source"]).splitlines() if line.startswith("#")]
            heading = lines[-1].lstrip("# ") if lines else heading
        for output in cell.get("outputs", []):
            data, sizes = output.get("data", {}), output.get("metadata", {}).get("image/png", {})
            if "image/png" in data:
                png = "".join(data["image/png"]).replace("\n", "")
                yield Figure(caption=heading, png=png, width=sizes.get("width", _HALF_WIDTH))
            elif _COVERAGE in (html := "".join(data.get("text/html", ""))):
                yield Figure(caption=heading, coverage=html)
