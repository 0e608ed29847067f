"""The lab of all tests, and a way to run the runbook on it as a user does: by the command line."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from accounts import bind
from stages import set_up

from meshbook import Fleet, rights
from meshbook.lab import launch

RUN_TIMEOUT_S = 220


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one ``meshbook run`` left behind."""

    exit_code: int
    said: str
    folder: Path

    @property
    def notebooks(self) -> dict[str, dict[str, Any]]:
        found = json.loads((self.folder / "verdicts.json").read_text())["notebooks"]
        return {notebook["notebook"]: notebook for notebook in found}

    def state(self, notebook: str) -> str:
        state: str = self.notebooks[notebook]["state"]
        return state

    def outcomes(self, notebook: str) -> dict[str, str]:
        """Return outcome by claim."""
        return {verdict["claim"]: verdict["outcome"] for verdict in self.notebooks[notebook]["verdicts"]}


Run = Callable[..., Outcome]
Account = Callable[[Sequence[rights.Right]], Path]


@pytest.fixture(scope="session")
def lab(shared_lab: launch.LabState) -> launch.LabState:
    return shared_lab


@pytest.fixture(scope="module")
def served(lab: launch.LabState) -> launch.LabState:
    """The lab with stages 1 and 2 done."""
    set_up(lab.kubeconfig)
    return lab


@pytest.fixture
def fleet(lab: launch.LabState) -> Iterator[Fleet]:
    fleet = Fleet.connect(["cluster1", "cluster2"], str(lab.kubeconfig))
    yield fleet
    fleet.close()


@pytest.fixture
def account(fleet: Fleet, tmp_path: Path) -> Iterator[Account]:
    """Give a service account the roles of some rights; the kubeconfig acts as it."""
    manifests: list[Path] = []

    def bound(granted: Sequence[rights.Right]) -> Path:
        manifest, kubeconfig = bind(fleet, granted, tmp_path)
        manifests.append(manifest)
        return kubeconfig

    yield bound
    for manifest in manifests:
        fleet.delete(manifest)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run ``meshbook run ARGUMENTS`` from a folder that is not the repository."""
    return functools.partial(_run, tmp_path)


def _run(folder: Path, *arguments: str, kubeconfig: Path | None = None) -> Outcome:
    argv = [sys.executable, "-m", "meshbook", "run", *arguments, "--out", str(folder / "out"), "--run-id", "run"]
    argv += ["--kubeconfig", str(kubeconfig)] if kubeconfig else []
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=RUN_TIMEOUT_S, cwd=folder, env=dict(os.environ), check=False
    )
    return Outcome(exit_code=done.returncode, said=done.stdout + done.stderr, folder=folder / "out" / "run")
