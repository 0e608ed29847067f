"""What is found again in an executed notebook: its verdict, its rows, where it ran, and its parameters. Pure.

An executed notebook is the record of a stage, whoever executed it (``meshbook run``, papermill, JupyterLab), so the
verdict travels inside it, and the names of the files with its rows, as display data of types of their own that viewers
pass over. The verdict is the positive mark of a run to the end: a notebook without one has not passed, whatever its
cells say. What leaves these marks is ``notebook``.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from meshbook.errors import RunError
from meshbook.language import LANGUAGES
from meshbook.rows import KeptRows
from meshbook.verdict import PASS

VERDICT_TYPE = "application/vnd.meshbook.verdict.v1+json"
PLACE_TYPE = "application/vnd.meshbook.place.v1+json"
ROWS_TYPE = "application/vnd.meshbook.rows.v2+json"

BANNER_TAG = "papermill-error-cell-tag"
"""Tag of the cells in which papermill says that a cell has raised something, as that of a verdict does by design."""

Claim = dict[str, Any]
"""One ``Verdict`` as JSON data."""


def is_read_in(language: str, cell: Mapping[str, Any]) -> bool:
    """Say whether a reader of ``language`` reads this cell: whether it is not tagged with another one."""
    return not ({*LANGUAGES} - {language}).intersection(cell["metadata"].get("tags", []))


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What a reader finds in an executed notebook."""

    verdict: dict[str, Any] | None
    """``{"outcome": …, "claims": […]}``; None unless the last code cell left one."""
    complete: bool
    """Every cell ran, and nothing was raised but the last cell's word on a verdict that is not pass."""
    rows: Mapping[str, KeptRows]
    """Name → what names the file with the rows."""
    place: dict[str, Any] | None = None
    """Where it ran, as ``place_of`` returns it."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Every parameter with the value that the notebook ran with."""

    @property
    def outcome(self) -> str:
        """The verdict's outcome where there is one and the notebook is complete, else ``error``."""
        return str(self.verdict["outcome"]) if self.verdict and self.complete else "error"


def marks_of(notebook: Mapping[str, Any]) -> Marks:
    """Read the marks of an executed notebook, given as JSON data."""
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
    outputs = [(cell, output) for cell in code for output in cell.get("outputs", [])]
    data = [(cell, output.get("data", {})) for cell, output in outputs]
    verdicts = [found[VERDICT_TYPE] for cell, found in data if VERDICT_TYPE in found and cell is code[-1]]
    verdict = verdicts[-1] if verdicts else None
    skipped = [cell for cell in code if "skip-execution" in cell["metadata"].get("tags", [])]
    ran = all(cell.get("execution_count") is not None or cell in skipped for cell in code)
    raised = [(cell, output["ename"]) for cell, output in outputs if output["output_type"] == "error"]
    expected = [(code[-1], RunError.__name__)] if verdict and verdict["outcome"] != PASS else []
    rows = {name: KeptRows(**found) for name, found in row_marks(notebook).items()}
    place = next((found[PLACE_TYPE] for _, found in data if PLACE_TYPE in found), None)
    complete = ran and raised == expected
    return Marks(verdict=verdict, complete=complete, rows=rows, place=place, parameters=parameters_of(code))


def parameters_of(code: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the values of the parameters cell, and over them what papermill has injected."""
    found = {}
    for cell in code:
        if not {"parameters", "injected-parameters"} & {*cell["metadata"].get("tags", [])}:
            continue
        for node in ast.parse("".join(cell["source"])).body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            value = getattr(node, "value", None)
            if isinstance(target, ast.Name) and value is not None:
                with contextlib.suppress(ValueError):  # no literal: put in by hand
                    found[target.id] = ast.literal_eval(value)
    return found


def row_marks(notebook: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the data of each ``KeptRows`` in the notebook's outputs, by name; the last where one was used again."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    found = (output["data"][ROWS_TYPE] for output in outputs if ROWS_TYPE in output.get("data", {}))
    return {data["name"]: data for data in found}
