"""The notebooks keep their shape, declare what they need, and share their parameters by name and type."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

from meshbook import notebook, runs
from meshbook.errors import UsageError
from meshbook.language import LANGUAGES
from meshbook.runs.parameters import checked, declared

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
FILES = sorted((FOLDER / "params").glob("*.yaml"))

JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
QUOTED = re.compile(r"「[^」]*」")
"""What the article calls it, in either language."""

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str = "code") -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def test_the_runbook_has_its_notebooks_in_order() -> None:
    stages = ["00_preflight", "01_connectivity", "02_external_access", "03_failover"]
    assert [path.stem for path in NOTEBOOKS] == [*stages, "04_experiments", "99_cleanup"]
    assert [step.name for step in runs.plan_run(FOLDER).steps] == [*stages, "99_cleanup"]


@each
def test_it_is_valid_and_committed_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert all(not cell.outputs and cell.execution_count is None for cell in cells(path))
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


@each
def test_its_cells_are_few_and_short_and_define_nothing(path: Path) -> None:
    code = cells(path)
    assert len(code) <= 12
    for cell in code:
        if "parameters" not in cell.metadata.get("tags", []):
            assert len(cell.source.splitlines()) <= 10, cell.source
        tree = ast.parse(cell.source)
        defining = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Try, ast.Await, ast.AsyncWith)
        assert not [node for node in ast.walk(tree) if isinstance(node, defining)]


@each
def test_it_says_what_it_asks_first_and_leaves_its_verdict_last(path: Path) -> None:
    first, code = cells(path, "markdown")[0].source, cells(path)
    for word in ("The question", "What you should see", "What a failure means", "How long"):
        assert f"**{word}.**" in first
    assert "fleet = notebook.begin(contexts, kubeconfig, names)" in code[1].source
    assert code[-1].source.startswith("notebook.leave_verdict(")


@each
def test_what_is_tagged_english_stands_in_japanese_next_to_it(path: Path) -> None:
    found = nbformat.read(path, as_version=4).cells
    tags = [[tag for tag in cell.metadata.get("tags", []) if tag in LANGUAGES] for cell in found]
    pairs = [(found[i], found[i + 1]) for i, tagged in enumerate(tags) if tagged == ["en"]]
    assert [cell for pair in pairs for cell in pair] == [cell for cell in found if cell.cell_type == "markdown"]
    for english, japanese in pairs:
        assert japanese.metadata.tags == ["ja"]
        assert japanese.id == f"{english.id}-ja"
        assert not JAPANESE.search(QUOTED.sub("", english.source)), english.source
        for part in japanese.source.split("\n"):
            assert not part or JAPANESE.search(part), part
        for what in (r"^#+ ", r"^- \*\*", r"`[^`]+`", r"\]\([^)]+\)", QUOTED.pattern):
            both = [sorted(re.findall(what, cell.source, re.MULTILINE)) for cell in (english, japanese)]
            assert both[0] == both[1], english.id


@each
def test_every_parameter_is_seen_typed_and_explained(path: Path) -> None:
    tagged = [cell for cell in cells(path) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert tagged[0] == cells(path)[0]
    written = [node.target.id for node in ast.parse(tagged[0].source).body if isinstance(node, ast.AnnAssign)]
    found = declared(path)
    assert list(found) == written
    assert all(parameter.help and parameter.type != "None" for parameter in found.values())
    assert len(found) <= 20


@each
def test_every_default_fits_its_own_type(path: Path) -> None:
    chosen = runs.plan_run(FOLDER, [path.stem]).steps[0]
    for name, value in chosen.values().items():
        assert checked(chosen.declared[name], value) == value


def test_what_is_auto_or_a_number_takes_both_and_nothing_else() -> None:
    rate = declared(FOLDER / "03_failover.ipynb")["rate_per_s"]
    assert [checked(rate, given) for given in ("auto", 2, 2.5, "2.5")] == ["auto", "2", "2.5", "2.5"]
    for wrong in ("fast", "-1", True, [1]):
        with pytest.raises(UsageError, match="'rate_per_s' must be auto or a number, not"):
            checked(rate, wrong)


@each
def test_no_parameter_is_a_secret(path: Path) -> None:
    assert not [name for name in declared(path) if any(word in name for word in ("token", "secret", "password", "key"))]


def test_a_shared_parameter_means_the_same_everywhere() -> None:
    seen: dict[str, Any] = {}
    for path in NOTEBOOKS:
        for name, parameter in declared(path).items():
            assert seen.setdefault(name, parameter) == parameter or seen[name].type == parameter.type
            assert seen[name].default == parameter.default, f"{name} in {path.stem}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_parameters_file_fits_the_notebooks(file: Path) -> None:
    chosen = runs.plan_run(FOLDER, ["0", "1", "2", "3", "4", "99"], file=file)
    assert chosen.label == file.stem
    assert set(yaml.safe_load(file.read_text())) <= {name for step in chosen.steps for name in step.declared}


def test_the_articles_file_holds_the_articles_values() -> None:
    found = yaml.safe_load((FOLDER / "params" / "article.yaml").read_text())
    assert (found["mesh_requests"], found["vip_requests"], found["revision"]) == (20, 10, "asm-1175-9")
    assert (found["namespace"], found["gateway_namespace"]) == ("sample", "nifc-istio-gateway")
    assert found["memberships"] == ["global/nifc-anthosbm-cls", "us-central1/nifc-anthosgke-cls"]


def test_manifests_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (notebook.manifests_folder() / "connectivity" / "sleep.yaml").is_file()
    assert not notebook.manifests_folder().is_absolute()
    with pytest.raises(UsageError, match="no manifests in elsewhere"):
        notebook.manifests_folder("elsewhere")


def test_an_interrupted_failover_is_known_to_need_a_restore() -> None:
    assert promising("disrupts") == ["03_failover", "04_experiments"]


def test_a_dry_run_takes_the_notebooks_that_change_nothing() -> None:
    assert promising("reads_only") == ["00_preflight"]
    dry = runs.plan_run(FOLDER).dry(reading_only=True)
    assert [step.name for step in dry.steps] == ["00_preflight", "03_failover"]


@pytest.mark.parametrize("name", ["03_failover", "04_experiments"])
def test_the_plan_of_an_outage_is_seen_before_it_starts(name: str) -> None:
    found = cells(FOLDER / f"{name}.ipynb")
    assert [cell.id for cell in found if "announce" in cell.metadata.get("tags", [])] == ["plan"]


@pytest.mark.parametrize("file", [None, *FILES], ids=lambda file: file.stem if file else "defaults")
def test_stage_3_asks_as_often_and_as_long_as_one_pod_of_the_sample_bears(file: Path | None) -> None:
    for step in runs.plan_run(FOLDER, ["3", "4"], file=file).steps:
        assert [step.values()[name] for name in ("rate_per_s", "outage_s", "max_gap_s")] == ["auto"] * 3


def promising(word: str) -> list[str]:
    """Return the notebooks whose metadata say ``word``."""
    found = {path.stem: nbformat.read(path, as_version=4).metadata.get("meshbook", {}) for path in NOTEBOOKS}
    return [stem for stem, words in found.items() if words.get(word)]
