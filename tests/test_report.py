"""A folder of executed notebooks becomes a report: complete, valid, and loading nothing from elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jinja2
import jsonschema
import nbformat
import pandas as pd
import pytest
import yaml
from executed_runs import MATRIX, PIXEL, claim, display, executed, record

from meshbook import report, rows
from meshbook.cli import main
from meshbook.cli.console import summarise
from meshbook.errors import UsageError
from meshbook.marks import ROWS_TYPE, VERDICT_TYPE
from meshbook.place import place_of
from meshbook.report import used


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "run"
    made.mkdir()
    return made


def kept(folder: Path, **tables: dict[str, list[object]]) -> None:
    """Write an executed notebook that keeps these tables."""
    written = [rows.write(pd.DataFrame(columns), folder, "03_failover", name) for name, columns in tables.items()]
    outputs = [display({"text/plain": one.name, ROWS_TYPE: one.to_dict()}) for one in written]
    cells = [nbformat.v4.new_markdown_cell("# Stage"), nbformat.v4.new_code_cell("probe()", outputs=outputs)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "03_failover.ipynb")


def test_every_file_of_a_report_is_written(folder: Path) -> None:
    executed(folder, "01_connectivity", claim())
    record(folder, **{"01_connectivity": "pass", "02_external_access": "skipped"})
    found = report.write(folder)
    assert found.outcome == "pass"
    assert sorted(path.name for path in folder.iterdir()) == [
        "01_connectivity.answers.csv",
        "01_connectivity.html",
        "01_connectivity.ipynb",
        "index.html",
        "junit.xml",
        "run.json",
        "verdicts.json",
    ]


def test_a_copy_that_nobody_has_run_is_no_stage_of_a_folder_without_a_record(folder: Path) -> None:
    executed(folder, "01_connectivity", claim())
    cells = [nbformat.v4.new_code_cell("probe()")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "03_failover.ipynb")
    found = report.collect(folder)
    assert (found.outcome, [stage.name for stage in found.stages]) == ("pass", ["01_connectivity"])


def test_a_run_without_a_record_is_told_by_its_notebooks_and_no_time_that_is_not_known(folder: Path) -> None:
    place = {**place_of([]), "meshbook": "1.2.3", "python": "3.11.9", "time": "2026-01-31T18:45:00+00:00"}
    executed(folder, "01_connectivity", error="ClusterError", place=place)
    report.write(folder)
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "in 1 of 1 notebook</dd>" in page
    assert "no claim was reached" in page
    assert "meshbook 1.2.3 · Python 3.11.9 · 2026-01-31 18:45:00 UTC" in page


@pytest.mark.parametrize("there", ["nothing", "another"])
def test_a_notebook_without_its_rows_is_reported_all_the_same_and_that_is_said(folder: Path, there: str) -> None:
    executed(folder, "01_connectivity", claim())
    file = folder / "01_connectivity.answers.csv"
    file.unlink() if there == "nothing" else file.write_text("time,code\n")
    assert report.write(folder).outcome == "pass"
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert "The 2 rows of answers are not here: 01_connectivity.answers.csv was not copied" in text
    assert 'href="01_connectivity.answers.csv"' not in text


def test_rows_of_a_notebook_that_did_not_know_its_place_are_fetched(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed(folder, "01_connectivity", claim())
    monkeypatch.setattr(rows, "PLACELESS", folder.parent / "placeless")
    rows.PLACELESS.mkdir()
    (folder / "01_connectivity.answers.csv").rename(rows.PLACELESS / "01_connectivity.answers.csv")
    report.write(folder)
    assert (folder / "01_connectivity.answers.csv").read_text() == "time,code\n1,200\n2,503\n"
    assert 'href="01_connectivity.answers.csv"' in (folder / "index.html").read_text(encoding="utf-8")


def test_pages_load_nothing_from_elsewhere(folder: Path) -> None:
    executed(folder, "01_connectivity", claim())
    report.write(folder)
    for page in folder.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        loads = re.findall(r"""<(?:script|link|img|iframe)[^>]*\b(?:src|href)\s*=\s*["']?((?!data:)[^"'> ]+)""", text)
        assert loads == []
        assert re.findall(r"@import|url\(\s*[\"']?(?:https?:)?//", text) == []
        assert re.findall(r"""(?:import|from|require)\s*\(?\s*['"]https?:""", text) == []


def test_the_index_shows_verdicts_figures_and_what_the_words_mean(folder: Path) -> None:
    executed(folder, "01_connectivity", claim(), claim("fail", claim="no request is lost"))
    executed(folder, "02_external_access", claim("inconclusive"))
    report.write(folder)
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert "50 % (29 to 71)" in text
    assert "10 of 20 &amp; &lt;both&gt;" in text
    assert "Stage 01_connectivity · Shares" in text
    assert text.count(PIXEL) == 2
    for word in ("pass", "fail", "inconclusive", "error", "interval", "limit"):
        assert f">{word}<" in text or word in text
    assert re.search(r'<a href="01_connectivity.answers.csv">', text)


@pytest.mark.parametrize(
    ("language", "shown", "hidden"), [("en", "Shares", "応答の割合"), ("ja", "応答の割合", "Shares")]
)
def test_pages_show_one_language_and_notebooks_keep_both(folder: Path, language: str, shown: str, hidden: str) -> None:
    executed(folder, "01_connectivity", claim())
    kept = (folder / "01_connectivity.ipynb").read_text(encoding="utf-8")
    assert main(["report", str(folder), "--language", language]) == 0
    for name in ("01_connectivity.html", "index.html"):
        text = (folder / name).read_text(encoding="utf-8")
        assert f'<html lang="{language}">' in text
        assert shown in text
        assert hidden not in text
    assert (folder / "01_connectivity.ipynb").read_text(encoding="utf-8") == kept


def test_every_text_of_a_page_is_there_in_japanese_and_no_other() -> None:
    folder = Path(report.__file__).parent / "templates"
    words = yaml.safe_load((folder / "ja.yaml").read_text(encoding="utf-8"))
    templates: Any = jinja2.Environment(extensions=["jinja2.ext.i18n"])
    templates.policies["ext.i18n.trimmed"] = True
    templates.newstyle_gettext = True
    found = [
        texts if isinstance(texts, str) else [text for text in texts if text][-1]
        for file in folder.glob("*.j2")
        for _, _, texts in templates.extract_translations(file.read_text(encoding="utf-8"))
    ]
    assert set(found) == set(words)
    for text, told in words.items():
        assert sorted(re.findall(r"%\(\w+\)s", text)) == sorted(re.findall(r"%\(\w+\)s", told))


def test_who_answered_whom_is_drawn_before_all_verdicts(folder: Path) -> None:
    executed(folder, "01_connectivity", claim())
    report.write(folder)
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert text.index(MATRIX) < text.index("10 of 20") < text.index(PIXEL)


@pytest.mark.parametrize(
    ("claims", "error", "expected"),
    [
        ([claim()], "", "pass"),
        ([claim("fail")], "RunError", "fail"),
        ([claim("inconclusive")], "RunError", "inconclusive"),
        ([claim()], "ValueError", "error"),
        ([claim("fail")], "", "error"),
        ([], "", "error"),
        ([], "RunError", "error"),
    ],
)
def test_the_state_of_a_notebook_run_by_hand_is_read_from_its_marks(
    folder: Path, claims: list[dict[str, Any]], error: str, expected: str
) -> None:
    executed(folder, "01_connectivity", *claims, error=error)
    assert report.write(folder).outcome == expected


def test_a_record_that_says_pass_makes_no_pass_of_a_notebook_that_says_fail(folder: Path) -> None:
    executed(folder, "01_connectivity", claim("fail"), error="RunError")
    executed(folder, "02_external_access", claim())
    record(folder, **{"01_connectivity": "pass", "02_external_access": "fail"})
    assert [stage.state for stage in report.write(folder).stages] == ["fail", "fail"]


@pytest.mark.parametrize(
    ("kind", "mark"),
    [
        (ROWS_TYPE, {"name": "answers", "colour": "red"}),
        (ROWS_TYPE, ["answers"]),
        (VERDICT_TYPE, ["pass"]),
        (VERDICT_TYPE, {"outcome": "pass", "claims": [{"claim": "all is well"}]}),
    ],
)
def test_a_notebook_whose_marks_nobody_can_read_is_named(folder: Path, kind: str, mark: Any) -> None:
    executed(folder, "01_connectivity", claim())
    path = folder / "01_connectivity.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            output["data"] |= {kind: mark} if kind in output["data"] else {}
    path.write_text(json.dumps(notebook), encoding="utf-8")
    with pytest.raises(UsageError, match=r"cannot read what 01_connectivity\.ipynb left"):
        report.write(folder)


def test_only_requests_count_as_requests_and_an_empty_table_has_no_link(folder: Path) -> None:
    answers: dict[str, list[object]] = {"seq": [1, 2], "source": ["outside"] * 2, "code": [200, 503]}
    kept(folder, answers=answers, phases={"mode": ["a"], "phase": ["b"]}, calibration={"fault": [], "true_ms": []})
    report.write(folder)
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert "<dd>requests: 2, in 1 of 1 notebook</dd>" in text
    assert "phases (csv)" in text
    assert "calibration (csv)" not in text


def test_a_range_without_an_estimate_is_shown_as_a_range_with_its_unit(folder: Path) -> None:
    executed(folder, "03_failover", claim(estimate=None, low=0, high=0.14, unit="s", limit="at most 1 s"))
    report.write(folder)
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert '<td class="measured">0 to 0.14 s' in text
    assert "<circle" not in text
    assert text.count('class="limit"/>') == 1
    assert "<dt>worst number</dt><dd>0 to 0.14 s, limit at most 1 s: v1 and v2 answer cluster1</dd>" in text


@pytest.mark.parametrize(
    ("changed", "share"),
    [
        ({"low": 0, "high": 2, "limit": "at most 10 %"}, 0.2),
        ({"low": 40, "high": 70, "limit": "25 to 75 %"}, 0.8),
        ({"low": 0, "high": 3, "unit": "s", "limit": "at most 2 s"}, 1.5),
        ({"limit": "above 0 %"}, None),
        ({"low": None, "high": None, "limit": "at most 10 %"}, None),
    ],
)
def test_the_worst_number_is_the_one_nearest_to_its_limit(changed: dict[str, Any], share: float | None) -> None:
    assert used(claim(**changed)) == (pytest.approx(share) if share is not None else None)


def test_what_did_not_pass_stands_first_and_says_where_it_ran(folder: Path) -> None:
    executed(folder, "01_connectivity", claim())
    cluster = {"context": "a", "user": "", "lab": True, "provider": "", "kubernetes": "v1.36.0", "mesh": ["r"]}
    lost = claim("fail", claim="no request is lost")
    executed(folder, "02_external_access", claim(), lost, error="RunError", place=place_of([cluster]))
    report.write(folder)
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert "<dd>LAB (emulated clusters on this machine): a · Kubernetes 1.36.0, mesh r</dd>" in text
    assert text.index('id="02_external_access"') < text.index('id="01_connectivity"')
    assert text.index("<b>no request is lost</b>") < text.index("<b>v1 and v2 answer cluster1</b>")


def test_verdicts_json_follows_its_schema(folder: Path) -> None:
    executed(folder, "01_connectivity", claim(), claim("inconclusive", estimate=None, low=None, high=None))
    record(folder, **{"01_connectivity": "inconclusive", "03_failover": "skipped"})
    report.write(folder)
    found = json.loads((folder / "verdicts.json").read_text(encoding="utf-8"))
    schema = json.loads((Path(__file__).parents[1] / "docs" / "verdicts.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(found, schema)
    assert found["outcome"] == "inconclusive"
    assert [entry["state"] for entry in found["notebooks"]] == ["inconclusive", "skipped"]


def test_a_terminal_gets_what_did_not_pass_first_with_its_reason(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    executed(folder, "01_connectivity", claim(), claim("fail", claim="no request is lost", n=0), error="RunError")
    executed(folder, "02_external_access", claim("inconclusive"), error="RunError")
    record(folder, **{"01_connectivity": "fail", "02_external_access": "inconclusive", "03_failover": "skipped"})
    summarise(report.write(folder), "outputs/r1")
    told = capsys.readouterr().out.splitlines()
    assert told == [
        "fail          01_connectivity     no request is lost: 50 % (29 to 71)",
        "              10 of 20 & <both>",
        "inconclusive  02_external_access  v1 and v2 answer cluster1: 50 % (29 to 71), n = 20",
        "              10 of 20 & <both>",
        "pass          01_connectivity     v1 and v2 answer cluster1: 50 % (29 to 71), n = 20",
        "skipped       03_failover",
        "              why",
        "",
        "FAIL, 1 of 3 claims passed (1 fail, 1 inconclusive); open outputs/r1/index.html",
    ]


def test_junit_counts_what_did_not_pass(folder: Path) -> None:
    executed(folder, "01_connectivity", claim(), claim("fail", reason="bell \x07 rang"), error="RunError")
    executed(folder, "02_external_access", error="ClusterError")
    record(folder, **{"01_connectivity": "fail", "02_external_access": "error", "03_failover": "skipped"})
    report.write(folder)
    root = ElementTree.parse(folder / "junit.xml").getroot()
    assert {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
    }


def test_the_code_of_a_page_is_folded_away_but_there(folder: Path) -> None:
    executed(folder, "01_connectivity", claim())
    report.write(folder)
    page = (folder / "01_connectivity.html").read_text(encoding="utf-8")
    assert "show-code" in page
    assert "leave_verdict" in page


@pytest.mark.parametrize("content", [None, "", "[]", "{"])
def test_a_folder_without_a_run_is_refused(folder: Path, content: str | None) -> None:
    if content is not None:
        (folder / "01_connectivity.ipynb").write_text(content)
    with pytest.raises(UsageError):
        report.write(folder)


def test_a_report_written_twice_is_the_same(folder: Path) -> None:
    executed(folder, "01_connectivity", claim())
    report.write(folder)
    first = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    report.write(folder)
    assert first == {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


@pytest.mark.parametrize("told", ['{"notebooks": [1]}', '{"notebooks": 7}', '{"notebooks": [{"notebook": 1}]}'])
def test_a_record_that_is_none_is_refused_in_one_line(tmp_path: Path, told: str) -> None:
    (tmp_path / "run.json").write_text(told)
    with pytest.raises(UsageError, match=r"^run\.json is not the record of a run: [^\n]*$"):
        report.write(tmp_path)


def test_a_plan_that_was_only_drawn_is_no_pass_on_any_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    executed(folder, "00_preflight", claim())
    executed(folder, "03_failover", claim(planned=True, n=0, claim="an outage is planned"))
    summarise(report.write(folder, of_many=True), "outputs/r1")
    told = capsys.readouterr().out
    assert "\ndry run       03_failover         an outage is planned" in told
    assert told.endswith(
        "DRY RUN: nothing was taken down, 1 plan drawn; PASS, 1 of 1 claim passed; open outputs/r1/index.html\n"
    )
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert '<h1><span class="word dry run">dry run</span>' in text
    assert '<a href="#03_failover"><span class="word dry run">' in text
    assert '<a href="#00_preflight"><span class="word pass">' in text
    many = (folder.parent / "index.html").read_text(encoding="utf-8")
    assert '<span class="word dry run">' in many
    assert "1 / 1" in many
    suites = ElementTree.parse(folder / "junit.xml").getroot()
    assert [suites.get(name) for name in ("tests", "failures", "skipped")] == ["2", "0", "1"]


@pytest.mark.parametrize("planned", [{}, {"planned": ["01_connectivity", "03_failover"]}])
def test_a_run_whose_process_was_killed_between_two_stages_has_not_passed(
    folder: Path, planned: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    executed(folder, "01_connectivity", claim())
    record(folder, **{"01_connectivity": "pass"})
    told = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    (folder / "run.json").write_text(json.dumps({**told, **planned, "finished": None}), encoding="utf-8")
    assert main(["report", str(folder)]) == 1
    assert "INTERRUPTED, 1 of 1 claim passed" in (said := capsys.readouterr().out)
    assert ("interrupted   03_failover\n              Not started: the run ended early" in said) is bool(planned)


def test_a_stage_that_was_skipped_has_its_title_in_japanese(folder: Path) -> None:
    executed(folder, "01_connectivity", claim("fail"), error="RunError")
    record(folder, **{"01_connectivity": "fail", "99_cleanup": "skipped"})
    report.write(folder, language="ja")
    text = (folder / "index.html").read_text(encoding="utf-8")
    assert "<h3>後片付け</h3>" in text
    assert "Cleanup" not in text
