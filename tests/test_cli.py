"""The command answers with the promised exit codes, on the promised streams, and never with a traceback."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from meshbook import outage, report, runs
from meshbook.cli import main
from meshbook.cli.console import coloured
from meshbook.cli.run import restore_left_down
from meshbook.clusters import Fleet
from meshbook.errors import LeftToRunError
from meshbook.lab import launch

VERDICT = (
    "from meshbook import notebook, verdict\n"
    'notebook.leave_verdict(verdict.Verdict(claim="all is well", outcome="{outcome}", reason="looked", n=3))'
)
Meshbook = Callable[..., subprocess.CompletedProcess[str]]

BAD_INPUT = "from meshbook import UsageError\nraise UsageError('no such context', hint='x')"


@pytest.fixture
def meshbook(tmp_path: Path) -> Meshbook:
    """Run the command in a folder of its own, as a user would."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "meshbook", *arguments],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.fixture
def notebooks(tmp_path: Path) -> Path:
    folder = tmp_path / "notebooks"
    folder.mkdir()
    return folder


def write(folder: Path, name: str, *cells: str) -> None:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    parameters = nbformat.v4.new_code_cell(
        "contexts: list[str] = []  # contexts\nkubeconfig: str = ''  # path\nrequests: int = 1  # how many"
    )
    parameters.metadata["tags"] = ["parameters"]
    notebook.cells = [nbformat.v4.new_markdown_cell(f"# {name}"), parameters]
    notebook.cells += [nbformat.v4.new_code_cell(source) for source in cells]
    nbformat.write(notebook, folder / f"{name}.ipynb")


@pytest.fixture
def cluster(scripted: Any, kubeconfig: Callable[..., str]) -> str:
    """Return a kubeconfig with one context, whose API server answers just enough to be connected to."""
    scripted.script["GET /api/v1/namespaces/kube-system"] = [{"metadata": {"uid": "u1"}}]
    return kubeconfig({"one": scripted.url})


def test_help_comes_at_once(meshbook: Meshbook) -> None:
    began = time.monotonic()
    found = meshbook("--help")
    assert (found.returncode, time.monotonic() - began < 1.0) == (0, True)
    assert {"run", "restore", "report", "list", "lab", "completion"} <= set(
        re.findall(r"^    (\w+)", found.stdout, re.MULTILINE)
    )


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, meshbook.cli; meshbook.cli.parser(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"pandas", "matplotlib", "scipy", "papermill", "kubernetes", "yaml", "aiohttp", "IPython"}
    assert heavy & set(loaded) == set()


def test_a_run_that_passes_exits_with_0_and_says_where_the_report_is(
    meshbook: Meshbook, notebooks: Path, cluster: str, tmp_path: Path
) -> None:
    connect = "from meshbook.clusters import Fleet\nFleet.connect(contexts, kubeconfig)\nFleet.connect(contexts)"
    write(notebooks, "01_one", connect, VERDICT.format(outcome="pass"))
    named = {
        "KUBECONFIG": f"none:{Path(cluster).name}"
    }  # relative paths mean the same in a notebook, in its own folder
    given = ["-p", "contexts=one", "-p", f"kubeconfig=./{Path(cluster).name}"]
    found = meshbook("run", "--notebooks", "notebooks", "--run-id", "r", *given, **named)
    assert found.returncode == 0, found.stderr
    assert "PASS, 1 of 1 claim passed; open outputs/r/index.html" in found.stdout
    assert re.search(r"^01_one +pass +\d+\.\d s$", found.stderr, re.MULTILINE)
    assert (tmp_path / "outputs" / "r" / "index.html").exists()
    assert re.match(r"one · Kubernetes 1.33.1 · 20\d\d-\d\d-\d\d .* · by \S+ · meshbook ", found.stderr)
    found = meshbook("report", "outputs/r", "--json")
    assert (found.returncode, json.loads(found.stdout)["outcome"]) == (0, "pass")


def test_a_notebook_without_a_verdict_is_named_beside_the_claims_of_the_others(
    meshbook: Meshbook, notebooks: Path, cluster: str
) -> None:
    write(notebooks, "01_one", VERDICT.format(outcome="pass"))
    write(notebooks, "02_two", "1 / 0")
    found = meshbook("run", "--notebooks", "notebooks", "-p", "contexts=one", "--kubeconfig", cluster)
    assert found.returncode == 1
    assert "ERROR, 1 of 1 claim passed, 02_two did not reach its verdict; open" in found.stdout


def test_a_dry_run_prints_the_plan_and_takes_no_notebook_that_changes_something(
    meshbook: Meshbook, notebooks: Path, cluster: str
) -> None:
    write(notebooks, "01_change", VERDICT.format(outcome="pass"))
    refused = VERDICT.format(outcome="pass").replace(
        ", n=3", ", planned=True, details=({verdict.REFUSED: 'web: it is allowed? no'},)"
    )
    write(notebooks, "02_outage", "print('the plan' if dry_run else 'bang')", refused)
    notebook = nbformat.read(notebooks / "02_outage.ipynb", as_version=4)
    notebook.cells[1].source += "\ndry_run: bool = False  # do nothing"
    notebook.cells[2].metadata["tags"] = ["announce"]
    nbformat.write(notebook, notebooks / "02_outage.ipynb")
    found = meshbook("run", "--dry-run", "--notebooks", "notebooks", "-p", "contexts=one", "--kubeconfig", cluster)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("the plan\n")
    assert found.stdout.endswith("\nstill refused: web: it is allowed? no\n")
    assert "\nDRY RUN: nothing was taken down, 1 plan drawn; open outputs/" in found.stdout
    assert "PASS" not in found.stdout
    assert "01_change" not in found.stdout + found.stderr


@pytest.mark.parametrize(
    ("cells", "code"),
    [
        ([VERDICT.format(outcome="fail")], 1),
        ([BAD_INPUT], 2),
    ],
    ids=["fail", "usage error in a cell"],
)
def test_a_run_that_does_not_pass_says_so_and_still_reports(
    meshbook: Meshbook, notebooks: Path, cluster: str, tmp_path: Path, cells: list[str], code: int
) -> None:
    write(notebooks, "01_one", *cells)
    found = meshbook("run", "--notebooks", "notebooks", "-p", "contexts=one", "--run-id", "r", "--kubeconfig", cluster)
    assert found.returncode == code, found.stderr
    assert "Traceback" not in found.stderr + found.stdout
    assert {"index.html", "junit.xml", "verdicts.json"} <= {path.name for path in (tmp_path / "outputs/r").iterdir()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "reqeusts=3"], "did you mean requests"),
        (["-p", "requests=many"], "must be int"),
        (["-f", "absent.yaml"], "cannot read the parameters file"),
        (["9"], "no stage '9'"),
        (["--redact", "names"], "cannot redact names"),
        (["-p", "contexts=two"], "two"),
        (["-p", "contexts=one", "--kubeconfig", "absent"], "absent"),
        (["--run-id", "../x", "-p", "contexts=one"], "name of a folder"),
    ],
)
def test_nothing_starts_when_the_input_is_at_fault(
    notebooks: Path,
    cluster: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    write(notebooks, "01_one", VERDICT.format(outcome="pass"))
    monkeypatch.chdir(notebooks.parent)
    monkeypatch.setenv("KUBECONFIG", cluster)
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process keeps its handlers
    assert main(["run", "--notebooks", "notebooks", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(notebooks.parent.glob("outputs/*/*.ipynb"))


def test_a_cluster_that_does_not_answer_is_the_environments_fault(
    meshbook: Meshbook, notebooks: Path, kubeconfig: Callable[..., str]
) -> None:
    write(notebooks, "01_one", VERDICT.format(outcome="pass"))
    path = kubeconfig({"one": "http://127.0.0.1:9"})
    found = meshbook("run", "--notebooks", "notebooks", "-p", "contexts=one", "--kubeconfig", path)
    assert found.returncode == 2
    assert "nothing was started" in found.stderr


@pytest.mark.parametrize(
    "numbers",
    [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT], [signal.SIGHUP]],
    ids=["once", "twice", "terminal closed"],
)
def test_an_interrupted_run_says_so_reports_and_exits_with_130(
    notebooks: Path, cluster: str, tmp_path: Path, numbers: list[signal.Signals]
) -> None:
    began = tmp_path / "began"
    sleep = "try:\n    time.sleep(60)\nfinally:\n    time.sleep(1)"
    write(notebooks, "03_one", f"import time\nopen({str(began)!r}, 'w').close()\n{sleep}")
    arguments = ["run", "--notebooks", "notebooks", "-p", "contexts=one", "--run-id", "r", "--kubeconfig", cluster]
    hung_up, (master, terminal) = numbers == [signal.SIGHUP], os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "meshbook", *arguments],
        cwd=tmp_path,
        stdout=terminal if hung_up else subprocess.PIPE,
        stderr=terminal if hung_up else subprocess.PIPE,
        text=True,
    ) as process:
        os.close(terminal)
        deadline = time.monotonic() + 30
        while not began.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.close(master)
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.5)
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130, stderr
    if not hung_up:
        assert "Traceback" not in stderr
        assert stderr.count("what is down is restored, whatever comes") == 1
        assert "INTERRUPTED, no claim was reached" in stdout
    assert (tmp_path / "outputs" / "r" / "index.html").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["-f", "mine.yaml"], "or --lab, for a lab"),
        (["--kubeconfig", "config"], "or --lab, for a lab"),
        (["--lab", "-p", "contexts=one"], "--lab is for a lab, and contexts were named"),
    ],
)
def test_where_an_environment_is_named_no_lab_is_started_in_silence(
    notebooks: Path,
    cluster: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    message: str,
) -> None:
    write(notebooks, "01_one", VERDICT.format(outcome="pass"))
    monkeypatch.chdir(notebooks.parent)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    Path("mine.yaml").write_text("contexts: []\n")
    Path("config").write_text(Path(cluster).read_text())
    assert main(["run", "--notebooks", "notebooks", *given]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "starting a lab" not in told


def test_a_run_for_a_lab_uses_the_one_that_is_up(
    notebooks: Path, cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(notebooks, "01_one", VERDICT.format(outcome="pass"))
    words: dict[str, Any] = {"pid": 7, "start_ticks": 1, "fleet_url": "", "control_url": "", "ready_s": 1.0}
    up = launch.LabState(root=tmp_path, kubeconfig=Path(cluster), contexts=("one",), **words)
    monkeypatch.setattr(launch, "state", lambda root: up)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs" / "r").mkdir(parents=True)
    assert main(["run", "--notebooks", "notebooks", "--run-id", "r"]) == 2
    told = capsys.readouterr().err
    assert "using the lab that is up (process 7)\nLAB (emulated clusters on this machine): one · " in told
    assert "there is a run r in outputs already" in told


def test_a_full_disk_does_not_hide_what_is_down_still(
    notebooks: Path, cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def execute(session: runs.Session, _: object) -> None:
        session.run.not_restored.append("one: kubectl scale deployment/web --replicas=2")
        full()

    write(notebooks, "01_one", VERDICT.format(outcome="pass"))
    monkeypatch.setattr(runs.Session, "execute", execute)
    monkeypatch.setattr(report, "write", full)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    words: dict[str, Any] = {"pid": 7, "start_ticks": 1, "fleet_url": "", "control_url": "", "ready_s": 1.0}
    up = launch.LabState(root=tmp_path, kubeconfig=Path(cluster), contexts=("one",), **words)
    monkeypatch.setattr(launch, "state", lambda root: up)
    assert main(["run", "--notebooks", "notebooks"]) == 3
    told = capsys.readouterr().err.splitlines()
    assert told[-1] == "NOT RESTORED one: kubectl scale deployment/web --replicas=2"
    assert "No space left on device" in told[-2]


def test_each_fault_is_explained_and_each_stage_listed(meshbook: Meshbook) -> None:
    told = meshbook("lab", "fault", "--help").stdout
    assert "freeze        stop the processes of pods' applications (SIGSTOP)" in told
    assert meshbook("--version").stdout.startswith("meshbook 0.")
    assert "04_experiments       Experiments: which failures does the service survive?   (only when named)" in (
        meshbook("list").stdout
    )


def test_who_calls_it_in_a_program_keeps_its_own_handler_of_signals() -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert main(["list"]) == 0
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_shell_is_told_every_verb_and_where_a_file_is_wanted(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    shtab = pytest.importorskip("shtab")
    assert main(["completion", shell]) == 0
    told = capsys.readouterr().out
    assert all(word in told for word in ("restore", "fault", "--all-namespaces", shtab.FILE[shell]))


@pytest.mark.parametrize(("no_color", "red"), [("", True), ("1", False)])
def test_a_terminal_is_coloured_unless_it_asks_not_to_be(
    monkeypatch: pytest.MonkeyPatch, no_color: str, red: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    assert coloured("fail", "FAIL", stream) == "FAIL"
    monkeypatch.setattr(stream, "isatty", lambda: True)
    assert coloured("fail", "FAIL", stream) == ("\x1b[31mFAIL\x1b[0m" if red else "FAIL")


def test_the_report_of_a_folder_without_a_run_is_refused(meshbook: Meshbook, tmp_path: Path) -> None:
    found = meshbook("report", str(tmp_path / "notebooks-of-nobody"))
    assert found.returncode == 2
    assert "is not a folder" in found.stderr


def test_status_says_when_no_lab_is_up(meshbook: Meshbook) -> None:
    found = meshbook("lab", "status")
    assert (found.returncode, found.stdout) == (1, "no lab is up; meshbook lab up starts one\n")


def test_restore_with_nothing_away_says_so(meshbook: Meshbook, scripted: Any, cluster: str) -> None:
    deployments = {"resources": [{"name": "deployments", "kind": "Deployment", "namespaced": True}]}
    services = {"resources": [{"name": "services", "kind": "Service", "namespaced": True}]}
    scripted.script |= {"GET /apis/apps/v1": [deployments], "GET /api/v1": [services]}
    for namespace in ("sample", "istio-system"):
        scripted.script[f"GET /apis/apps/v1/namespaces/{namespace}/deployments"] = [{"items": []}]
        scripted.script[f"GET /api/v1/namespaces/{namespace}/services"] = [{"items": []}]
    found = meshbook("restore", "--kubeconfig", cluster, "--contexts", "one")
    assert (found.returncode, found.stdout) == (0, "nothing to restore in namespace sample\n"), found.stderr
    found = meshbook("restore", "--dry-run", "--kubeconfig", cluster, "--contexts", "one")
    assert (found.returncode, found.stdout) == (0, "nothing to restore in namespace sample\n"), found.stderr


def test_what_is_left_to_the_run_that_took_it_down_is_down_still(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def left(*_: object, **__: object) -> None:
        raise LeftToRunError("it is of run 7, which is alive", hint="that run restores it itself")

    monkeypatch.setattr(outage, "restore", left)
    monkeypatch.setattr(Fleet, "named", lambda *_: ())
    assert main(["restore"]) == 3
    assert "that run restores it itself" in capsys.readouterr().err


def test_a_dry_run_that_breaks_brings_nothing_back() -> None:
    assert restore_left_down({"dry_run": True, "contexts": ["nowhere"]}) == []


def test_the_environment_is_said_of_a_lab_that_is_up_only(meshbook: Meshbook) -> None:
    found = meshbook("lab", "env")
    assert (found.returncode, found.stdout) == (2, "")
    assert "no lab is up" in found.stderr


@pytest.mark.parametrize(
    ("out", "told"),
    [(url, f"is a folder of this machine, not {url}") for url in ("s3://bucket/reports", "gs://bucket")]
    + [("", "names no folder")],
)
def test_what_is_no_folder_is_not_written_into(out: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "0", "--out", out]) == 2
    assert capsys.readouterr().err.startswith(f"meshbook: --out {told}\n")


def test_an_error_and_its_hint_are_told_in_the_language_that_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "1", "-p", "reqeusts=3", "--language", "ja"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "meshbook: -pのパラメータ'reqeusts'はどのノートブックにもありません"
    assert told[1].startswith("  対処: requests")
