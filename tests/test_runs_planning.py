"""A run refuses what does not fit before it starts: values by their declared type, stages by number or word."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from stage_runs import passing, write

from meshbook import runs
from meshbook.errors import UsageError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("requests=7", 7),
        ("share=1", 1.0),
        ("namespace=007", "007"),
        ("namespace=true", "true"),
        ("contexts=[a, b]", ["a", "b"]),
        ("contexts=a,b", ["a", "b"]),
        ("strict=no", False),
        ("weights={v1: 3}", {"v1": 3}),
    ],
)
def test_a_command_line_value_is_read_by_the_declared_type(folder: Path, text: str, value: object) -> None:
    write(folder, "01_one.ipynb", passing())
    name = text.partition("=")[0]
    found = runs.plan_run(folder, given=[text]).steps[0].given[name]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "text",
    [
        "requests=many",
        "requests=1.5",
        "requests=true",
        "share=nan",
        "share=x",
        "strict=2",
        "contexts=[1]",
        "share=1.1",
        "share=-0.1",
        "requests=0",
        "requests=-3",
        "requests=1000000000",
        "rate_per_s=0",
        "rate_per_s=1e9",
        "outage_s=0",
        "outage_s=1000000000",
        "patience_s=1e9",
        "share=" + "9" * 6000,
        "requests=" + "9" * 6000,
        "contexts=" + "[" * 5000,
        "weights={a: b}",
        "namespace=\udcff",
    ],
)
def test_a_value_of_another_type_or_out_of_range_is_refused(folder: Path, text: str) -> None:
    path = write(folder, "01_one.ipynb", passing())
    more = 'rate_per_s: str = \\"auto\\"\\noutage_s: str = \\"auto\\"\\npatience_s: float = 15.0'
    path.write_text(path.read_text().replace("strict: bool = True", f"{more}\\nstrict: bool = True"))
    with pytest.raises(UsageError, match="must be") as caught:
        runs.plan_run(folder, given=[text])
    assert len(str(caught.value)) < 400


def test_a_time_is_above_0_unless_0_is_the_default(folder: Path) -> None:
    path = write(folder, "01_one.ipynb", passing())
    path.write_text(path.read_text().replace("share: float = 0.5", "outage_s: float = 9.0"))
    with pytest.raises(UsageError, match=r"must be 0\.1 to 1000, not 0\.0"):
        runs.plan_run(folder, given=["outage_s=0"])
    path.write_text(path.read_text().replace("outage_s: float = 9.0", "outage_s: float = 0.0"))
    assert runs.plan_run(folder, given=["outage_s=0"]).steps[0].given == {"outage_s": 0.0}


def test_an_unknown_name_is_refused_with_what_may_have_been_meant(folder: Path) -> None:
    write(folder, "01_one.ipynb", passing())
    with pytest.raises(UsageError, match="did you mean namespace"):
        runs.plan_run(folder, given=["namespcae=sample"])


def test_a_file_may_name_what_only_an_unselected_notebook_knows_but_no_more(folder: Path) -> None:
    write(folder, "01_one.ipynb", passing())
    other = write(folder, "02_two.ipynb", passing())
    other.write_text(other.read_text().replace("namespace: str", "gateway: str"))
    file = folder / "lab.yaml"
    file.write_text("gateway: g\nrequests: 5\n")
    chosen = runs.plan_run(folder, ["1"], file=file).steps
    assert [step.given for step in chosen] == [{"requests": 5}]
    with pytest.raises(UsageError, match=r"no stage of this run has parameter 'gateway'[\s\S]*known to 02_two"):
        runs.plan_run(folder, ["1"], given=["gateway=g"])
    file.write_text("gatewy: g\n")
    with pytest.raises(UsageError, match="gatewy"):
        runs.plan_run(folder, file=file)


def test_a_parameters_file_that_is_none_is_refused_and_not_waited_for(folder: Path, tmp_path: Path) -> None:
    write(folder, "01_one.ipynb", passing())
    os.mkfifo(tmp_path / "pipe")
    for file in (tmp_path / "pipe", tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError, match="cannot read the parameters file"):
            runs.plan_run(folder, file=file)


NONSENSE = [
    "[" * 5000,
    "1: 2",
    "null: 2",
    "? [a]\n: 2",
    "requests: " + "9" * 6000,
    "a: &a [*a]",
    "requests: 2001-02-30",
]


@pytest.mark.parametrize(
    "content", [*NONSENSE, "requests: '5'", "contexts: one", "requests: 5.0", "- a", "{", "strict: 1"]
)
def test_a_file_that_does_not_fit_is_refused(folder: Path, content: str) -> None:
    write(folder, "01_one.ipynb", passing())
    file = folder / "lab.yaml"
    file.write_text(content)
    with pytest.raises(UsageError) as caught:
        runs.plan_run(folder, file=file)
    assert len(caught.value.message) < 500


def test_a_key_that_is_given_twice_is_refused_with_its_line(folder: Path) -> None:
    write(folder, "01_one.ipynb", passing())
    file = folder / "lab.yaml"
    for content in (
        "requests: 5\nshare: 0.5\nrequests: 6\n",
        "share: 0.5\nweights:\n  {v1: 1, requests: 2, requests: 3}\n",
    ):
        file.write_text(content)
        with pytest.raises(UsageError, match=r"requests is given twice \(line 3\)"):
            runs.plan_run(folder, file=file)
    with pytest.raises(UsageError, match="weights"):
        runs.plan_run(folder, given=["weights={v1: 1, v1: 2}"])


@pytest.mark.parametrize("word", ["1", "01", "one", "01_one", "01_one.ipynb", "notebooks/01_one.ipynb"])
def test_a_stage_is_named_by_number_or_word(folder: Path, word: str) -> None:
    write(folder, "01_one.ipynb", passing())
    write(folder, "02_two.ipynb", passing())
    assert [step.name for step in runs.plan_run(folder, [word]).steps] == ["01_one"]


def test_a_dry_run_leaves_out_what_changes_something_and_has_no_dry_run(folder: Path) -> None:
    for name in ("00_look", "01_change", "02_outage", "03_more"):
        write(folder, f"{name}.ipynb", passing(), metadata={"meshbook": {"reads_only": name == "00_look"}})
    outage = folder / "02_outage.ipynb"
    outage.write_text(outage.read_text().replace("strict: bool", "dry_run: bool"))
    plan = runs.plan_run(folder)
    assert [step.name for step in plan.dry(reading_only=True).steps] == ["00_look", "02_outage"]
    everything = plan.dry(reading_only=False)
    assert [step.given for step in everything.steps] == [{}, {}, {"dry_run": True}, {}]


def test_stages_without_a_dry_run_are_not_run_in_one(folder: Path) -> None:
    write(folder, "01_one.ipynb", passing())
    with pytest.raises(UsageError, match="none of these stages has a dry run"):
        runs.plan_run(folder).dry(reading_only=False)


def test_an_optional_stage_is_run_only_when_named(folder: Path) -> None:
    write(folder, "03_one.ipynb", passing())
    write(folder, "04_more.ipynb", passing(), metadata={"meshbook": {"optional": True}})
    assert [step.name for step in runs.plan_run(folder).steps] == ["03_one"]
    assert [step.name for step in runs.plan_run(folder, ["4"]).steps] == ["04_more"]


def test_an_unknown_stage_is_refused(folder: Path) -> None:
    write(folder, "01_connectivity.ipynb", passing())
    with pytest.raises(UsageError, match="did you mean connectivity"):
        runs.plan_run(folder, ["conectivity"])


def test_two_runs_never_share_a_folder(tmp_path: Path) -> None:
    assert runs.new_folder(tmp_path, "lab").name != runs.new_folder(tmp_path, "lab").name
    runs.new_folder(tmp_path, "lab", "example")
    with pytest.raises(UsageError, match="already"):
        runs.new_folder(tmp_path, "lab", "example")
