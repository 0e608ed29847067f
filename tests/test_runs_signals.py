"""A run that is broken off lets its cell clean up, restores what was disrupted, and starts nothing more."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from stage_runs import Watcher, executed, passing, run, write

from meshbook import report, runs
from meshbook.errors import LeftToRunError, NotRestoredError, OutageError
from meshbook.runs import Redactor, Secrets


def interrupting(number: int, times: int = 1, wait_s: float = 0.7) -> Watcher:
    """Return a watcher that sends this process a signal, soon after code cell 2 has started.

    All are sent before the run ends: one that came later would end the tests themselves.
    """
    watcher = Watcher()

    def send() -> None:
        for _ in range(times):
            time.sleep(wait_s)
            os.kill(os.getpid(), number)

    sender = threading.Thread(target=send, daemon=True)
    watcher.on_cell = lambda cell: sender.start() if cell == 2 else None
    watcher.on_end = sender.join
    return watcher


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_cell_clean_up_then_restores_and_starts_nothing_more(
    folder: Path, tmp_path: Path, number: int
) -> None:
    proof = tmp_path / "proof"
    source = (
        "import sys, time\ntry:\n    time.sleep(30)\nfinally:\n    time.sleep(1)\n"
        f"    open({str(proof)!r}, 'w').close()\n"
        "    print('web is back', file=sys.stderr)"
    )
    write(folder, "03_one.ipynb", source, passing(), metadata={"meshbook": {"disrupts": True}})
    write(folder, "99_two.ipynb", passing())
    seen: list[Mapping[str, Any]] = []

    def restore(values: Mapping[str, Any]) -> list[str]:
        seen.append(values)
        return ["helloworld-v1 back to 1"]

    before = signal.getsignal(signal.SIGTERM)
    watcher = interrupting(number)
    began = time.monotonic()
    record = run(folder, watcher=watcher, restore=restore)
    assert time.monotonic() - began < 15
    assert proof.exists()
    assert [ended.state for ended in record.notebooks] == ["interrupted", "interrupted"]
    assert (record.outcome, record.restored) == ("interrupted", ["web is back", "helloworld-v1 back to 1"])
    assert seen[0]["namespace"] == "sample"
    assert executed(record, "03_one.ipynb")["metadata"]["meshbook"]["state"] == "interrupted"
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_run_that_is_interrupted_between_two_notebooks_has_not_passed(folder: Path) -> None:
    write(folder, "03_one.ipynb", passing())
    write(folder, "99_two.ipynb", passing())
    interrupts, watcher = runs.Interrupts(), Watcher()
    watcher.on_end = lambda: setattr(interrupts, "asked", True)
    record = run(folder, watcher=watcher, interrupts=interrupts)
    assert [ended.state for ended in record.notebooks] == ["pass", "interrupted"]
    assert record.outcome == "interrupted"


def test_a_second_signal_breaks_off_at_once(folder: Path) -> None:
    source = "import time\ntry:\n    time.sleep(30)\nfinally:\n    time.sleep(30)"
    write(folder, "03_one.ipynb", source, passing())
    began = time.monotonic()
    record = run(folder, watcher=interrupting(signal.SIGINT, times=2))
    assert record.outcome == "interrupted"
    assert time.monotonic() - began < 15


def test_the_first_signal_is_answered_once_and_at_once(folder: Path) -> None:
    write(folder, "03_one.ipynb", "import time\ntry:\n    time.sleep(30)\nfinally:\n    time.sleep(1)", passing())
    heard: list[float] = []
    watcher = interrupting(signal.SIGINT)
    interrupts = runs.Interrupts(told=lambda: heard.append(time.monotonic()))
    run(folder, watcher=watcher, interrupts=interrupts)
    assert len(heard) == 1
    assert time.monotonic() - heard[0] > 1, "before the cell had cleaned up"


def test_a_cell_that_swallows_the_interrupt_is_broken_off_after_the_grace_period(folder: Path) -> None:
    source = "import time\nwhile True:\n    try:\n        time.sleep(30)\n    except KeyboardInterrupt:\n        pass"
    write(folder, "03_one.ipynb", source, passing())
    record = run(folder, watcher=interrupting(signal.SIGINT), grace_s=1)
    assert record.outcome == "interrupted"


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (OutageError("no answer from cluster1"), "no answer from cluster1: meshbook restore"),
        (
            LeftToRunError("no answer from cluster1", hint="its run restores it"),
            "no answer from cluster1: its run restores it",
        ),
    ],
    ids=["by meshbook restore", "by the run that is alive"],
)
def test_a_restore_that_fails_is_told_and_the_run_still_recorded(folder: Path, error: OutageError, left: str) -> None:
    write(folder, "03_one.ipynb", "1 / 0", metadata={"meshbook": {"disrupts": True}})

    def restore(values: Mapping[str, Any]) -> list[str]:
        raise error

    record = run(folder, restore=restore)
    assert "no answer from cluster1" in record.restored[0]
    assert left.rpartition(": ")[2] in record.restored[0]
    assert record.not_restored == [left]


def test_what_is_down_still_is_the_first_claim_of_the_report_with_its_commands(folder: Path) -> None:
    write(folder, "03_one.ipynb", "1 / 0", metadata={"meshbook": {"disrupts": True}})

    def restore(values: Mapping[str, Any]) -> list[str]:
        command = "kubectl --context gke_acme_us_one scale deployment/web"
        raise NotRestoredError("web is down", by_hand={"cluster1: Deployment web": command})

    record = run(folder, restore=restore, redactor=Redactor(Secrets(projects=("acme",))))
    assert record.not_restored == ["cluster1: Deployment web: kubectl --context gke_acme_us_one scale deployment/web"]
    found = report.write(record.folder)
    assert (found.claims[0]["outcome"], found.passed) == ("fail", 0)
    for name in ("index.html", "junit.xml", "verdicts.json"):
        assert "kubectl --context gke_[project]_us_one scale deployment/web" in (record.folder / name).read_text()


def test_signals_do_not_cut_the_restoring(folder: Path) -> None:
    write(folder, "03_one.ipynb", "import time\ntime.sleep(30)", passing(), metadata={"meshbook": {"disrupts": True}})

    def restore(values: Mapping[str, Any]) -> list[str]:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(number)
        return ["helloworld-v1 back to 1"]

    record = run(folder, watcher=interrupting(signal.SIGINT, times=2, wait_s=0.3), restore=restore)
    assert (record.outcome, record.restored) == ("interrupted", ["helloworld-v1 back to 1"])


def test_rows_that_a_killed_run_left_go_with_the_next_run_and_those_of_a_living_one_stay(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed, living, being_made = (tmp_path / f"meshbook-run-{name}" for name in ("killed", "living", "made"))
    for left in (killed, living, being_made):
        left.mkdir()
        (left / "01_one.answers.csv").write_text("of 192.0.2.7")
    for left in (killed, living):
        os.utime(left, (0, 0))
    write(folder, "01_one.ipynb", passing())
    held = os.open(living, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        run(folder)
    finally:
        os.close(held)
    assert sorted(tmp_path.glob("meshbook-run-*")) == [living, being_made]


def test_what_is_down_is_restored_although_the_notebook_cannot_be_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def full(source: Path, target: Path) -> None:
        if target.suffix == ".ipynb":
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    write(folder, "03_one.ipynb", "raise SystemExit", passing(), metadata={"meshbook": {"disrupts": True}})
    monkeypatch.setattr(os, "replace", full)
    record = run(folder, restore=lambda values: ["helloworld-v1 back to 1"])
    assert (record.outcome, record.restored) == ("error", ["helloworld-v1 back to 1"])
    assert "No space left" in record.notebooks[0].message
