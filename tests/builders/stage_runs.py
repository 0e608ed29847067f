"""Small stages as notebooks, a run of them, and one who writes down what the run tells.

Shared by the tests of runs; the fixture ``folder`` is where they keep their notebooks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat

from meshbook import runs
from meshbook.runs import Redactor, Secrets

PARAMETERS = """\
requests: int = 20  # calls per cluster
share: float = 0.5  # expected share
namespace: str = "sample"  # namespace of the sample
contexts: list[str] = []  # contexts of the clusters
strict: bool = True  # whether to be strict
weights: dict[str, int] = {}  # weight per version
"""

VERDICT = """\
from meshbook import notebook, verdict
notebook.leave_verdict(verdict.Verdict(claim="both answer", outcome="{outcome}", reason="10 of 20", n=20))
"""


def write(folder: Path, name: str, *cells: str, metadata: dict[str, Any] | None = None) -> Path:
    notebook = nbformat.v4.new_notebook(metadata=metadata or {})
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.cells = [nbformat.v4.new_markdown_cell("# A stage"), nbformat.v4.new_code_cell(PARAMETERS)]
    notebook.cells[1].metadata["tags"] = ["parameters"]
    notebook.cells += [nbformat.v4.new_code_cell(source) for source in cells]
    path = folder / name
    folder.mkdir(exist_ok=True)
    nbformat.write(notebook, path)
    return path


def passing() -> str:
    return VERDICT.format(outcome="pass")


class Watcher:
    """Collects what a run tells."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.on_cell: Callable[[int], None] = lambda number: None
        self.on_end: Callable[[], None] = lambda: None

    def notebook_starts(self, name: str, cells: int) -> None:
        self.told.append(f"start {name} {cells}")

    def cell_starts(self, number: int, heading: str) -> None:
        self.told.append(f"cell {number} {heading}")
        self.on_cell(number)

    def progress(self, text: str) -> None:
        self.told.append(f"progress {text}")

    def announced(self, text: str) -> None:
        self.told.append(f"announced {text}")

    def notebook_ended(self, name: str, outcome: runs.NotebookOutcome, seconds: float) -> None:
        self.told.append(f"end {name} {outcome.state}")
        self.on_end()

    def restored(self, lines: Sequence[str]) -> None:
        self.told += [f"restored {line}" for line in lines]


def run(
    folder: Path,
    *,
    given: Sequence[str] = (),
    watcher: Watcher | None = None,
    redactor: Redactor | None = None,
    restore: Callable[[Mapping[str, Any]], Sequence[str]] = lambda values: [],
    keep_going: bool = False,
    grace_s: float = 20,
    interrupts: runs.Interrupts | None = None,
) -> runs.Run:
    plan = runs.plan_run(folder, given=given)
    out = runs.new_folder(folder.parent / "outputs", plan.label, "one")
    session = runs.Session(
        plan, out, redactor or Redactor(Secrets()), watcher or Watcher(), restore, keep_going=keep_going
    )
    return session.execute(interrupts or runs.Interrupts(grace_s))


def executed(record: runs.Run, name: str) -> dict[str, Any]:
    return json.loads((record.folder / name).read_text(encoding="utf-8"))
