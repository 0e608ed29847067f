"""The whole runbook on a lab, as users run it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from meshbook import preflight, rights, settings
from meshbook.lab import launch

Run = Callable[..., Any]

pytestmark = [pytest.mark.envoy, pytest.mark.rehearsal, pytest.mark.timeout(240)]

NOTEBOOKS_FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = ("00_preflight", "01_connectivity", "02_external_access", "03_failover", "99_cleanup")
EXTERNAL_LOAD = re.compile(r"""(?:src|href)\s*=\s*["'](?:https?:)?//[^"']+\.(?:js|css|woff2?|png|svg)|@import""")


def test_all_stages_pass_with_the_rights_that_are_printed_and_leave_a_whole_record(run: Run, account: Any) -> None:
    kubeconfig = account(rights.needed(preflight.RUNBOOK))
    split = ("-p", "tolerance=0.35", "-p", "requests=60")  # so that chance fails one run of a thousand, not of thirty
    failover = ("-p", "rate_per_s=5", "-p", "outage_s=6", "-p", "max_outage_failed_share=0.2")
    outcome = run(*failover, *split, kubeconfig=kubeconfig)  # all else as a user has it
    assert outcome.exit_code == 0, outcome.said
    assert {name: outcome.state(name) for name in NOTEBOOKS} == dict.fromkeys(NOTEBOOKS, "pass")
    made = {path.name for path in outcome.folder.iterdir()}
    assert {"index.html", "verdicts.json", "junit.xml", "01_connectivity.answers.csv"} <= made
    assert {f"{name}.{kind}" for name in NOTEBOOKS for kind in ("ipynb", "html")} <= made
    for copy in outcome.folder.glob("*.ipynb"):
        _holds_nothing_private(copy.read_text())
        nbformat.validate(nbformat.read(copy, as_version=4))
    for page in outcome.folder.glob("*.html"):
        text = page.read_text()
        _holds_nothing_private(text)
        assert not EXTERNAL_LOAD.search(text), f"{page.name} loads something from outside"


def test_where_nothing_names_a_cluster_a_run_has_a_lab_of_its_own(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KUBECONFIG", *settings.CONTEXT_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    outcome = run("0")
    assert outcome.exit_code == 0, outcome.said
    assert "lab ready after" in outcome.said
    assert "LAB (emulated clusters on this machine): cluster1, cluster2" in outcome.said


def _holds_nothing_private(text: str) -> None:
    assert str(Path.home()) not in text
    assert "meshbook-lab-" not in text, "the lab's folder"
    assert "BEGIN CERTIFICATE" not in text
    assert "Bearer " not in text


def test_plain_papermill_runs_a_stage_with_a_parameters_file(lab: launch.LabState, tmp_path: Path) -> None:
    papermill = shutil.which("papermill", path=str(Path(sys.executable).parent))
    assert papermill
    parameters, copy = str(NOTEBOOKS_FOLDER / "params" / "lab.yaml"), str(tmp_path / "01.ipynb")
    done = subprocess.run(
        [papermill, "--no-progress-bar", "-f", parameters, str(NOTEBOOKS_FOLDER / "01_connectivity.ipynb"), copy],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "KUBECONFIG": str(lab.kubeconfig)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "every source is answered by pods of cluster1 (v1) and cluster2 (v2)" in Path(copy).read_text()
