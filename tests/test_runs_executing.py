"""A run tells a verdict from a breakdown: only a notebook that reached its verdict has one."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from stage_runs import VERDICT, Watcher, executed, passing, run, write

from meshbook.marks import marks_of


def test_a_notebook_that_leaves_its_verdict_passes(folder: Path) -> None:
    write(folder, "01_one.ipynb", "print(requests)", passing())
    watcher = Watcher()
    record = run(folder, given=["requests=7"], watcher=watcher)
    notebook = executed(record, "01_one.ipynb")
    assert record.outcome == "pass"
    assert watcher.told == ["start 01_one 4", *(f"cell {n} A stage" for n in (1, 2, 3, 4)), "end 01_one pass"]
    assert notebook["cells"][3]["outputs"][0]["text"] == ["7\n"]
    assert notebook["metadata"]["papermill"]["output_path"] == "01_one.ipynb"
    assert json.loads((record.folder / "run.json").read_text())["outcome"] == "pass"


def test_what_a_cell_announces_is_told_at_once_and_without_secrets(folder: Path) -> None:
    path = write(folder, "01_one.ipynb", "print('plan for projects/secret-1')", "print('quiet')", passing())
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].metadata["tags"] = ["announce"]
    notebook.cells.insert(2, nbformat.v4.new_markdown_cell("# 段階", metadata={"tags": ["ja"]}))
    nbformat.write(notebook, path)
    watcher = Watcher()
    run(folder, watcher=watcher)
    told = [line for line in watcher.told if line.startswith(("announced", "cell"))]
    assert told[1:3] == ["cell 2 A stage", "announced plan for projects/[project]\n"]
    assert "quiet" not in "".join(told)


TELLING = """\
import time
from meshbook import progress
progress.watch(get_ipython(), print)
with progress.waiting("pods of projects/secret-1 there", 60) as tell:
    time.sleep(1.05)
    tell("0 of 1 ready")
    progress.step("done")
    progress.command("kubectl get pods")
"""


def test_what_a_cell_waits_for_is_told_as_it_goes_on_and_leaves_one_text_and_the_commands(folder: Path) -> None:
    write(folder, "01_one.ipynb", TELLING, passing())
    watcher = Watcher()
    record = run(folder, watcher=watcher)
    told = [line for line in watcher.told if line.startswith("progress")]
    assert told[0] == "progress pods of projects/[project] there, 59 s left at most: 0 of 1 ready"
    text, commands = executed(record, "01_one.ipynb")["cells"][2]["outputs"]
    steps = [line.partition(" ")[2] for line in "".join(text["data"]["text/plain"]).splitlines()]
    assert steps == ["done", "pods of projects/[project] there: took 1 s"]
    assert commands["text"] == ["kubectl get pods\n"]


@pytest.mark.parametrize("outcome", ["fail", "inconclusive"])
def test_a_verdict_that_does_not_pass_is_no_breakdown(folder: Path, outcome: str) -> None:
    write(folder, "01_one.ipynb", VERDICT.format(outcome=outcome))
    record = run(folder)
    notebook = executed(record, "01_one.ipynb")
    assert record.outcome == outcome
    assert marks_of(notebook).verdict is not None
    assert not any("Exception was encountered" in "".join(cell["source"]) for cell in notebook["cells"])
    assert "1 of 1 claims did not pass" in json.dumps(notebook)


@pytest.mark.parametrize(
    ("cells", "error"),
    [
        (["1 / 0", passing()], "ZeroDivisionError"),
        ([passing(), "1 / 0"], "ZeroDivisionError"),
        (["import sys; sys.exit(0)", passing()], "RunError"),
        (["import sys; sys.exit(3)", passing()], "SystemExit"),
        (["import os; os._exit(1)", passing()], "DeadKernelError"),
        (["print('done')"], "RunError"),
        ([passing(), "print('a cell too much')"], "RunError"),
    ],
    ids=["raises", "raises after", "exit 0", "exit 3", "kernel dies", "no mark", "mark not last"],
)
def test_what_does_not_reach_its_verdict_is_an_error(folder: Path, cells: list[str], error: str) -> None:
    write(folder, "01_one.ipynb", *cells)
    record = run(folder)
    assert (record.notebooks[0].state, record.notebooks[0].error) == ("error", error)
    notebook = executed(record, "01_one.ipynb")
    ran = [cell for cell in notebook["cells"] if cell["cell_type"] == "code" and cell["execution_count"]]
    status = [cell["metadata"]["papermill"]["status"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert status == ["completed"] * (len(ran) - 1) + ["failed"] + ["pending"] * (len(status) - len(ran))


def test_a_cell_past_its_deadline_is_interrupted_and_its_finally_runs(folder: Path, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    source = f"import time\ntry:\n    time.sleep(30)\nfinally:\n    open({str(proof)!r}, 'w').close()"
    path = write(folder, "01_one.ipynb", source, passing())
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].metadata["meshbook"] = {"timeout_s": 1}
    nbformat.write(notebook, path)
    record = run(folder)
    assert record.notebooks[0].error == "CellTimeout"
    assert proof.exists()


def test_later_stages_are_skipped_after_one_that_did_not_pass(folder: Path) -> None:
    write(folder, "01_one.ipynb", "1 / 0")
    write(folder, "02_two.ipynb", passing())
    record = run(folder)
    assert [ended.state for ended in record.notebooks] == ["error", "skipped"]
    assert record.notebooks[1].message == "not started: 01_one did not pass"


def test_keep_going_runs_them_all_the_same(folder: Path) -> None:
    write(folder, "01_one.ipynb", "1 / 0")
    write(folder, "02_two.ipynb", passing())
    assert [ended.state for ended in run(folder, keep_going=True).notebooks] == ["error", "pass"]
