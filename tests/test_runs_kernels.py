"""A kernel that was started ahead is a kernel like any other, only sooner; and none outlives its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest
from stage_runs import executed, passing, run, write

LOOK = "import os, sys\nprint('mailbox' in sys.modules, os.getcwd(), os.environ['MESHBOOK_ROWS'].rpartition('/')[2])"


def _printed(notebook: dict[str, Any]) -> list[str]:
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    return ["".join(output["text"]) for output in outputs if output["output_type"] == "stream"]


def _children() -> list[str]:
    found = psutil.Process().children(recursive=True)
    return [" ".join(child.cmdline()) for child in found if child.status() != psutil.STATUS_ZOMBIE]


def test_imports_of_the_next_notebook_are_done_before_it_starts(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("01_one.ipynb", "02_two.ipynb"):
        write(folder, name, LOOK, "import mailbox", passing())
    record = run(folder)
    assert record.outcome == "pass", record.notebooks
    first, second = (_printed(executed(record, name)) for name in ("01_one.ipynb", "02_two.ipynb"))
    assert (first, second) == ([f"False {folder} 01_one\n"], [f"True {folder} 02_two\n"])
    assert capfd.readouterr() == ("", ""), "a kernel says nothing on the run's own streams"


def test_an_import_that_fails_fails_in_its_own_cell(folder: Path) -> None:
    write(folder, "01_one.ipynb", passing())
    write(folder, "02_two.ipynb", "print('here')", "import not_installed_anywhere", passing())
    record = run(folder)
    assert [ended.error for ended in record.notebooks] == ["", "ModuleNotFoundError"]
    assert _printed(executed(record, "02_two.ipynb")) == ["here\n"]


def test_a_kernel_that_nobody_needs_ends_with_the_run(folder: Path) -> None:
    before = _children()
    write(folder, "01_one.ipynb", "1 / 0")
    write(folder, "02_two.ipynb", passing())
    assert [ended.state for ended in run(folder).notebooks] == ["error", "skipped"]
    assert [child for child in _children() if "ipykernel" in child] == [one for one in before if "ipykernel" in one]


def test_temporary_files_of_a_kernel_go_with_the_run(folder: Path) -> None:
    for name in ("01_one.ipynb", "02_two.ipynb"):
        write(folder, name, "import tempfile\nprint(tempfile.mkstemp()[1])", passing())
    record = run(folder)
    files = [Path(_printed(executed(record, name))[0].strip()) for name in ("01_one.ipynb", "02_two.ipynb")]
    assert len({file.parent for file in files}) == 1
    assert not files[0].parent.exists()
