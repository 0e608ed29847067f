"""Rows that a notebook keeps come back as they were, from whichever file they lie in, or it is said why not."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from stage_runs import executed, passing, run, write

from meshbook import marks, notebook, rows, tables
from meshbook.errors import RunError, UsageError
from meshbook.runs import Redactor, Secrets

BEGAN = datetime(2026, 1, 31, 9, 45, tzinfo=UTC)

KEEPING = """\
from datetime import UTC, datetime
from meshbook import notebook, tables
rows = ({{"seq": n, "source": "one", "detail": {detail!r}}} for n in range({n}))
notebook.keep_rows(tables.from_rows(rows, tables.ANSWERS))
"""


def answers(n: int) -> pd.DataFrame:
    """Return rows with what a file could lose: missing values, commas and quotes, microseconds, long numbers."""
    row = {"time": BEGAN, "seq": 1, "source": "gke_a_b", "code": 200, "time_total_ms": 0.1 + 0.2, "detail": 'a, "b"\nc'}
    few = [row, {"time": BEGAN + timedelta(microseconds=1), "seq": 2, "error": "lost", "detail": "NA"}, {"seq": 3}]
    frame = tables.from_rows(few, tables.ANSWERS)
    return tables.conform(frame.loc[[number % 3 for number in range(n)]], tables.ANSWERS)


@pytest.mark.parametrize(("n", "kind"), [(0, "csv"), (3, "csv"), (rows.MOST_IN_CSV + 1, "parquet")])
def test_rows_come_back_as_they_were_kept(tmp_path: Path, n: int, kind: str) -> None:
    kept = rows.write(answers(n), tmp_path, "one", "answers")
    assert (kept.file, kept.rows) == (f"one.answers.{kind}", n)
    pd.testing.assert_frame_equal(rows.read(kept, tmp_path), answers(n))
    assert [path.name for path in tmp_path.glob("one.*")] == [kept.file]


def test_a_table_of_truths_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    found = tables.from_rows(({"seen": seen, "true_ms": 0.5} for seen in (True, False, None)), tables.CALIBRATION)
    kept = rows.write(found, tmp_path, "one", "calibration")
    pd.testing.assert_frame_equal(rows.read(kept, tmp_path), found)


def test_a_file_of_the_other_format_does_not_stay_beside(tmp_path: Path) -> None:
    rows.write(answers(rows.MOST_IN_CSV + 1), tmp_path, "one", "answers")
    kept = rows.write(answers(3), tmp_path, "one", "answers")
    assert [path.name for path in tmp_path.glob("one.*")] == [kept.file]


def test_rows_that_are_not_there_or_are_others_are_refused(tmp_path: Path) -> None:
    kept = rows.write(answers(3), tmp_path, "one", "answers")
    rows.write(answers(2), tmp_path, "one", "answers")
    with pytest.raises(UsageError, match="not the one that was written with it"):
        rows.read(kept, tmp_path)
    with pytest.raises(UsageError, match="not beside the notebook"):
        rows.read(kept, tmp_path / "elsewhere")


def test_a_name_that_leads_elsewhere_is_refused() -> None:
    with pytest.raises(UsageError, match="beside their notebook"):
        rows.KeptRows(name="answers", file="../secrets.csv", rows=1, sha256="", columns={})


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("old")
    unfinished = contextlib.ExitStack()
    unfinished.enter_context(rows.whole_file(path)).write_text("ne")
    with pytest.raises(KeyboardInterrupt), unfinished:
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.glob(".*")) == []


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot keep 3 rows in one\.answers\.csv"):
        rows.write(answers(3), tmp_path / "file", "one", "answers")


def read_rows(executed: Path, name: str = "answers") -> pd.DataFrame:
    return rows.read(marks.marks_of(json.loads(executed.read_text())).rows[name], executed.parent)


@pytest.mark.parametrize("n", [30, rows.MOST_IN_CSV + 1])
def test_a_run_leaves_redacted_rows_beside_the_notebook_and_only_both_ends_in_it(folder: Path, n: int) -> None:
    write(folder, "01_one.ipynb", KEEPING.format(n=n, detail="token s3cret-bearer, 203.0.113.9"), passing())
    redactor = Redactor(Secrets(values={"s3cret-bearer": "[token]"}), ["addresses"])
    record = run(folder, redactor=redactor)
    assert record.outcome == "pass", record.notebooks
    found = read_rows(record.folder / "01_one.ipynb")
    assert (len(found), set(found["detail"])) == (n, {"token [token], [address 1]"})
    assert found["seq"].tolist() == list(range(n))
    text = json.dumps(executed(record, "01_one.ipynb"))
    assert f"{n} requests of 1 source: {n} good answers, kept in 01_one.answers." in text
    assert len(text) < 40_000
    made = {path.name for path in record.folder.iterdir()}
    assert made == {"run.json", "01_one.ipynb", f"01_one.answers.{'csv' if n == 30 else 'parquet'}"}


def test_the_same_rows_under_two_names_are_two_files(folder: Path) -> None:
    again = (
        'notebook.keep_rows(tables.from_rows([{"seq": 0, "source": "one", "detail": ""}], tables.ANSWERS), "again")\n'
    )
    write(folder, "01_one.ipynb", KEEPING.format(n=1, detail=""), again, passing())
    record = run(folder)
    for name in ("answers", "again"):
        assert len(read_rows(record.folder / "01_one.ipynb", name)) == 1
        assert (record.folder / f"01_one.{name}.csv").is_file()


def test_rows_whose_redaction_missed_something_are_not_left(folder: Path) -> None:
    class Blind(Redactor):
        def table(self, table: pd.DataFrame) -> pd.DataFrame:
            return table

    write(folder, "01_one.ipynb", KEEPING.format(n=9, detail="s3cret-bearer"), passing())
    record = run(folder, redactor=Blind(Secrets(values={"s3cret-bearer": "[token]"})))
    assert record.notebooks[0].state == "error"
    assert [path.name for path in record.folder.iterdir()] == ["run.json"]


def test_in_jupyterlab_rows_lie_beside_the_notebook_that_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JPY_SESSION_NAME", "/srv/meshbook/notebooks/01_connectivity.ipynb")
    notebook.keep_rows(answers(40))
    assert len(pd.read_csv(tmp_path / "01_connectivity.answers.csv")) == 40
    assert "40 requests of 2 sources from 09:45:00 to 09:45:00 UTC" in capsys.readouterr().out


def test_the_heads_of_the_load_say_whose_requests_they_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(rows.PLACE_VARIABLE, str(tmp_path / "one"))
    row = {"part": "before", "offered_per_s": 9.1, "served_per_s": 4.12}
    notebook.keep_table(tables.from_rows([row], tables.LOAD), "load")
    head = capsys.readouterr().out
    assert "sent per s by all sources" in head
    assert "answered per s by the survivor" in head


def test_files_of_rows_beside_the_notebooks_are_nothing_for_git() -> None:
    names = ["notebooks/01_connectivity.answers.csv", "notebooks/.03_failover.answers.parquet.part"]
    argv, repository = ["git", "check-ignore", *names], Path(__file__).parents[1]
    ignored = subprocess.run(argv, cwd=repository, capture_output=True, text=True, check=False)
    assert ignored.stdout.split() == names


@pytest.mark.parametrize("telling", [True, False], ids=["--inject-paths", "without"])
def test_plain_papermill_leaves_rows_beside_the_copy_or_where_a_report_finds_them(
    folder: Path, tmp_path: Path, telling: bool
) -> None:
    template = write(folder, "01_one.ipynb", KEEPING.format(n=3, detail=""), passing())
    papermill = shutil.which("papermill", path=str(Path(sys.executable).parent))
    assert papermill
    options = ["--no-progress-bar", *(["--inject-paths"] if telling else [])]
    subprocess.run(
        [papermill, *options, str(template), "copy.ipynb"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"},
        check=True,
        capture_output=True,
        timeout=60,
    )
    (kept,) = marks.marks_of(nbformat.read(tmp_path / "copy.ipynb", as_version=4)).rows.values()
    assert (kept.file == "copy.answers.csv") is telling
    assert rows.is_beside(kept, tmp_path) is telling
    assert rows.fetch(kept, tmp_path)
    assert len(rows.read(kept, tmp_path)) == 3
    (rows.PLACELESS / kept.file).unlink(missing_ok=True)


@pytest.mark.parametrize("wrong", [{"rows": "many"}, {"columns": 3}, {"file": 1}, {"name": None}])
def test_a_mark_of_nonsense_is_no_mark(wrong: dict[str, Any]) -> None:
    good: dict[str, Any] = {"name": "answers", "file": "a.csv", "rows": 1, "sha256": "", "columns": {}}
    with pytest.raises(UsageError, match="no mark of kept rows"):
        rows.KeptRows(**good | wrong)


def test_a_full_disk_says_for_which_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"run\.json"), rows.whole_file(tmp_path / "run.json"):
        raise OSError(28, "No space left on device")
