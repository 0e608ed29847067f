"""Runs beside each other: all of a folder on one page, two of them compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from executed_runs import claim, executed, record

from meshbook import report
from meshbook.cli import main
from meshbook.place import place_of


def place(**changed: Any) -> dict[str, Any]:
    cluster = {"context": "a", "user": "", "lab": True, "provider": "", "kubernetes": "v1.36.0", "mesh": ["r"]}
    return place_of([{**cluster, **changed}])


def gap(low: float, high: float, **changed: Any) -> dict[str, Any]:
    words = {"claim": "the service is never unavailable for more than 2 s", "unit": "s", "limit": "at most 2 s"}
    return claim(**{**words, "estimate": None, "low": low, "high": high, **changed})


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    return folders


def changes(two: list[Path]) -> list[report.Change]:
    return report.changes(*(report.collect(folder) for folder in two))


def test_the_same_run_twice_has_no_change(two: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    for folder in two:
        executed(folder, "03_failover", claim(), gap(0, 0.11))
    assert main(["compare", *map(str, two)]) == 0
    assert capsys.readouterr().out.endswith("0 of 3 verdicts changed, 0 got worse\n")


def test_what_got_worse_comes_first_and_exits_with_1(two: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    executed(two[0], "03_failover", claim(), gap(0, 0.11))
    executed(two[1], "03_failover", claim(), gap(2.1, 3.0, outcome="fail"), error="RunError")
    files = [str(folder / "03_failover.ipynb") for folder in two]
    assert main(["compare", *files]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0].split(":")[0] == "pass → fail             03_failover as a whole"
    assert told[1].endswith("more than 2 s: 0 to 0.11 s → 2.1 to 3 s, changed")
    assert told[-1] == "2 of 3 verdicts changed, 2 got worse"


@pytest.mark.parametrize(
    ("one", "other", "numbers"),
    [
        (gap(0, 0.11), gap(0, 0.112), "detection limit 0.11 → 0.112 s, not told apart"),
        (claim(), claim(estimate=55, low=34, high=74), "50 % (29 to 71) → 55 % (34 to 74), not told apart"),
        (claim(), claim(estimate=90, low=80, high=96), "50 % (29 to 71) → 90 % (80 to 96), changed"),
    ],
)
def test_numbers_stand_side_by_side_with_their_intervals(
    two: list[Path], one: dict[str, Any], other: dict[str, Any], numbers: str
) -> None:
    for folder, found in zip(two, (one, other), strict=True):
        executed(folder, "03_failover", found)
    assert [change.numbers for change in changes(two) if change.claim] == [numbers]


def test_a_claim_whose_limit_was_changed_is_the_same_claim(two: list[Path]) -> None:
    for folder, limit_s in zip(two, (2, 6.3), strict=True):
        text = f"the service is never unavailable for more than {limit_s:g} s (seen by cluster1)"
        executed(folder, "03_failover", gap(0, 1, claim=text), gap(0, 1, claim=text.replace("cluster1", "cluster2")))
    assert [(change.before, change.after) for change in changes(two)] == [("pass", "pass")] * 3


@pytest.mark.parametrize(
    ("before", "after", "told", "count"),
    [
        ("at most 2 s", "at most 2.3 s", ", looser limit at most 2 s → at most 2.3 s", "1 had a looser limit"),
        ("at most 2.3 s", "at most 2 s", ", limit at most 2.3 s → at most 2 s", "0 got worse"),
        ("25 to 75 s", "30 to 80 s", ", looser limit 25 to 75 s → 30 to 80 s", "1 had a looser limit"),
    ],
)
def test_a_limit_that_differs_is_told_with_both_and_whether_it_is_looser(
    two: list[Path], before: str, after: str, told: str, count: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, limit in zip(two, (before, after), strict=True):
        executed(folder, "03_failover", gap(0, 1, limit=limit))
    assert main(["compare", *map(str, two)]) == 0
    printed = capsys.readouterr().out
    assert (told in printed, printed.splitlines()[-1].endswith(count)) == (True, True)


def test_a_cluster_that_is_called_otherwise_is_the_same_cluster(two: list[Path]) -> None:
    for folder, name in zip(two, ("GKE 東京", "prod"), strict=True):
        where = place(name=name)
        executed(folder, "01_connectivity", claim(claim=f"each source gets answers from {name} (v1)"), place=where)
    assert [(change.before, change.after) for change in changes(two)] == [("pass", "pass")] * 2


def test_a_stage_that_was_not_reached_is_worse_and_one_that_was_not_asked_is_not(two: list[Path]) -> None:
    executed(two[0], "01_connectivity", claim())
    executed(two[0], "03_failover", claim())
    executed(two[1], "03_failover", error="ClusterError")
    assert {change.stage for change in changes(two) if change.is_worse} == {"03_failover"}


def test_parameters_and_versions_that_differ_are_told(two: list[Path]) -> None:
    executed(two[0], "01_connectivity", claim(), place=place(), parameters="requests: int = 20\ntolerance: float = 0.2")
    executed(
        two[1],
        "01_connectivity",
        claim(),
        place=place(kubernetes="v1.37.0"),
        parameters="requests: int = 100\ntolerance: float = 0.2",
    )
    told = report.differences(*(report.collect(folder) for folder in two))
    assert told == ["cluster 1 Kubernetes: v1.36.0 → v1.37.0", "parameter requests: 20 → 100"]


def test_all_runs_are_on_one_page_the_newest_first(two: list[Path]) -> None:
    executed(two[0], "01_connectivity", claim(), place={**place(), "time": "2026-01-31T18:30:00+09:00"})
    executed(two[1], "01_connectivity", claim("fail", claim="no request is lost"), error="RunError")
    record(two[1], **{"01_connectivity": "fail"})
    (two[0].parent / "notes").mkdir()
    work = two[0].parent / "work"
    for name in ("copies", "stepped"):
        (work / name).mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("probe()")]), work / "copies" / "01.ipynb")
    executed(work / "stepped", "01_connectivity", claim("pass"))
    report.write(two[1], of_many=True)
    page = (two[0].parent / "index.html").read_text(encoding="utf-8")
    assert "copies" not in page
    assert '<a href="work/stepped/index.html">' in page
    assert page.index('<a href="one/index.html">one</a>') > page.index("no request is lost: fail")
    assert "2026-01-31 18:30:00 UTC+09:00" in page
    assert "LAB (emulated clusters on this machine): a" in page
    assert '<a href="../index.html">all runs</a>' in (two[1] / "index.html").read_text(encoding="utf-8")


def test_the_page_over_all_runs_is_made_of_the_notebooks_where_their_verdicts_are_older(two: list[Path]) -> None:
    executed(two[0], "01_connectivity", claim())
    report.write(two[0])
    old = json.loads((two[0] / "verdicts.json").read_text(encoding="utf-8"))
    (two[0] / "verdicts.json").write_text(json.dumps({**old, "outcome": "fail"}), encoding="utf-8")
    assert '<span class="word fail">' in report.write_history(two[0].parent).read_text(encoding="utf-8")
    executed(two[0], "01_connectivity", claim())
    assert '<span class="word pass">' in report.write_history(two[0].parent).read_text(encoding="utf-8")


def test_what_is_no_run_is_not_on_the_page_over_all_runs(two: list[Path]) -> None:
    executed(two[0], "01_connectivity", claim())
    for foreign in (
        "1",
        "[]",
        '{"notebooks": [{"verdicts": null}]}',
        '{"notebooks": [], "outcome": "pass", "started": 1}',
    ):
        (two[1] / "verdicts.json").write_text(foreign, encoding="utf-8")
        page = report.write_history(two[0].parent).read_text(encoding="utf-8")
        assert ("1 run, the newest first" in page, "two/index.html" in page) == (True, False)


def test_a_run_whose_notebook_is_cut_off_is_on_the_page_over_all_runs_with_its_state(two: list[Path]) -> None:
    executed(two[0], "01_connectivity", claim())
    whole = (two[0] / "01_connectivity.ipynb").read_bytes()
    (two[1] / "01_connectivity.ipynb").write_bytes(whole[: len(whole) // 2])
    page = report.write_history(two[0].parent).read_text(encoding="utf-8")
    assert '<span class="word error">error</span></td>\n<td><b>two</b>' in page
    assert "cannot read 01_connectivity.ipynb" in page


def test_the_page_over_all_runs_says_why_a_run_is_no_pass_and_once(two: list[Path]) -> None:
    missed = gap(2.1, 3.0, outcome="fail")
    executed(two[0], "03_failover", missed, claim(low=20, high=80, limit="15 to 85 %"), error="RunError")
    executed(two[1], "01_connectivity", error="ClusterError")
    page = report.write_history(two[0].parent).read_text(encoding="utf-8")
    assert page.count(missed["claim"]) == 1
    assert "2.1 to 3 s, limit at most 2 s" in page
    assert "v1 and v2 answer cluster1" not in page
    assert "0 / 0" not in page
    assert "ClusterError: it broke" in page


def test_a_dry_run_is_no_better_and_no_worse_than_an_outage_that_was_done(two: list[Path]) -> None:
    executed(two[0], "03_failover", claim())
    executed(two[1], "03_failover", claim(planned=True))
    found = changes(two)
    assert [(one.before, one.after, one.is_worse) for one in found] == [("pass", "dry run", False)] * 2
