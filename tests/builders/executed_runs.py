"""Executed notebooks as papermill leaves them, and the record of a run, written by hand into a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd

from meshbook import rows
from meshbook.marks import PLACE_TYPE, ROWS_TYPE, VERDICT_TYPE

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="

MATRIX = '<div class="coverage"><table><tr><td>proven</td></tr></table></div>'


def claim(outcome: str = "pass", **changed: Any) -> dict[str, Any]:
    return {
        "claim": "v1 and v2 answer cluster1",
        "outcome": outcome,
        "n": 20,
        "estimate": 50.0,
        "low": 29.0,
        "high": 71.0,
        "limit": "above 0 %",
        "unit": "%",
        "reason": "10 of 20 & <both>",
        **changed,
    }


def executed(
    folder: Path,
    name: str,
    *claims: dict[str, Any],
    error: str = "",
    place: dict[str, Any] | None = None,
    parameters: str = "",
) -> None:
    """Write an executed notebook as papermill leaves it; with ``error`` its last cell raised."""
    table = pd.DataFrame({"time": [1, 2], "code": [200, 503]})
    data: dict[str, Any] = {"text/plain": "rows", ROWS_TYPE: rows.write(table, folder, name, "answers").to_dict()}
    cells = [
        nbformat.v4.new_markdown_cell(f"# Stage {name}"),
        nbformat.v4.new_code_cell("probe()", execution_count=1, outputs=[display(data)]),
        nbformat.v4.new_markdown_cell("## Shares", metadata={"tags": ["en"]}),
        nbformat.v4.new_markdown_cell("## 応答の割合", metadata={"tags": ["ja"]}),
        nbformat.v4.new_code_cell("draw()", execution_count=2, outputs=[display({"image/png": PIXEL})]),
        nbformat.v4.new_code_cell("cover()", execution_count=3, outputs=[display({"text/html": MATRIX})]),
        nbformat.v4.new_code_cell("notebook.leave_verdict()", execution_count=4, outputs=[]),
    ]
    if claims:
        worst = "fail" if any(one["outcome"] == "fail" for one in claims) else claims[0]["outcome"]
        verdict: dict[str, Any] = {VERDICT_TYPE: {"outcome": worst, "claims": list(claims)}, "text/plain": "verdict"}
        cells[-1].outputs.append(display(verdict))
    if place:
        cells[1].outputs.append(display({"text/plain": "place", PLACE_TYPE: place}))
    if parameters:
        cells.insert(1, nbformat.v4.new_code_cell(parameters, execution_count=1, metadata={"tags": ["parameters"]}))
    if error:
        cells[-1].outputs.append(
            nbformat.v4.new_output("error", ename=error, evalue="it broke", traceback=["it broke"])
        )
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbformat.write(notebook, folder / f"{name}.ipynb")


def display(data: dict[str, Any]) -> Any:
    return nbformat.v4.new_output("display_data", data=data)


def record(folder: Path, **states: str) -> None:
    entries = [
        {"notebook": name, "state": state, "seconds": 1.5, "error": "", "message": "why" if state != "pass" else ""}
        for name, state in states.items()
    ]
    content = {"run_id": "r1", "outcome": "pass", "started": "2026-01-31T09:45:00+00:00", "notebooks": entries}
    (folder / "run.json").write_text(json.dumps({**content, "parameters": {"requests": 20}, "restored": []}))
