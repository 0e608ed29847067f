"""The two lists of dependencies say the same."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
CONDA_NAMES = {"kubernetes": "python-kubernetes"}
"""Names on conda-forge where they differ from those in pyproject.toml."""
BY_PIP = {"matplotlib-fontja"}
"""What conda leaves to pip, which installs it with the package."""


def _bounds(requirements: list[str]) -> dict[str, str]:
    found = (re.fullmatch(r"([\w.-]+)(>=[\d.]+)?", requirement) for requirement in requirements)
    return {match[1].lower(): match[2] or "" for match in found if match}


def _project() -> dict[str, object]:
    project: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


def _conda() -> list[object]:
    listed: list[object] = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    return listed


def test_conda_environment_lists_the_same_dependencies_and_bounds() -> None:
    project = _project()
    wanted = {
        CONDA_NAMES.get(name, name): bound
        for name, bound in _bounds(project["dependencies"]).items()
        if name not in BY_PIP
    }
    listed = _bounds([entry for entry in _conda() if isinstance(entry, str)])
    assert listed.pop("python") == project["requires-python"]
    listed.pop("pip")
    assert listed == wanted


def test_conda_environment_installs_the_package_with_lab_and_gke() -> None:
    (pip,) = [entry["pip"] for entry in _conda() if isinstance(entry, dict)]
    assert pip == ["-e .[lab,gke]"]


def test_the_user_s_five_tools_are_plain_dependencies() -> None:
    names = set(_bounds(_project()["dependencies"]))
    assert {"jupyterlab", "papermill", "kubernetes", "pandas", "matplotlib"} <= names
