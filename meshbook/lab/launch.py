"""Start, find and stop the lab's process from outside. Synchronous and light: nothing of the lab itself is imported.

The lab runs in a process of its own (``python -m meshbook.lab``) that keeps everything in one folder. A lab that
belongs to a run holds a lifeline, a pipe from its owner: when the owner is gone, however it went, the lab goes too.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from meshbook.errors import LabError
from meshbook.lab.topology import FLEET_EXTENSION, LabFolder

_START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0
_POLL_S = 0.02
LOGGER = "meshbook.lab"
"""Who says in the log why a lab ended."""
LOG_LINES = 15
LEAST_FREE = 16 << 20
"""Bytes of disk: what a runbook's lab writes, thrice."""

APISERVERS = ("emulated", "real")
"""Whose API servers a lab runs on: its own, or kube-apiserver and etcd as they are installed here."""

SIDECARS = ("native", "plain")
"""How the proxy is injected: as an init container that goes on running, or beside the application."""

NOT_INHERITED = ("KUBECONFIG", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a user may choose of a lab; the lab's process is given it as JSON."""

    apiserver: str = APISERVERS[0]
    """One of ``APISERVERS``."""
    fast: bool = False
    """Whatever takes time in a real mesh takes next to none; the sample application costs no CPU."""
    pod_start_s: float | None = None
    """Before the first container of a pod starts; None: as long as the lab's pace says."""
    sidecars: str = SIDECARS[0]
    """One of ``SIDECARS``."""


_DEFAULT = Choice()


@dataclass(frozen=True, kw_only=True)
class LabState:
    """A lab that is up."""

    root: Path
    pid: int
    start_ticks: int
    """Start of the process in clock ticks after boot: together with the pid it names one process for ever."""
    kubeconfig: Path
    contexts: tuple[str, ...]
    fleet_url: str
    control_url: str
    """Where faults are asked for; see ``meshbook.lab.faults``."""
    ready_s: float
    """Time from the start of the process until both clusters were ready."""

    @property
    def alive(self) -> bool:
        return start_ticks(self.pid) == self.start_ticks


def default_root() -> Path:
    """Return the folder of the lab that ``meshbook lab up`` starts."""
    return Path.home() / ".meshbook"


def start_ticks(pid: int) -> int:
    """Return when process ``pid`` started (clock ticks after boot), or 0 where there is none or it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def state(root: Path) -> LabState | None:
    """Return the lab that runs in ``root``, or None."""
    try:
        found = json.loads(LabFolder(root=root).state_file.read_text())
    except (OSError, ValueError):
        return None
    paths = {"root": root, "kubeconfig": Path(found["kubeconfig"])}
    lab = LabState(**{**found, **paths, "contexts": tuple(found["contexts"])})
    return lab if lab.alive else None


def start(root: Path, choice: Choice = _DEFAULT) -> LabState:
    """Start a lab that stays up until ``stop``; return when both clusters are ready.

    Raises ``LabError`` when one is up there already, or when it does not get ready in time.
    """
    running = state(root)
    if running is not None:
        raise LabError(f"a lab is up already (process {running.pid})", hint="meshbook lab status, meshbook lab down")
    process = _spawn(root, choice, lifeline=False)
    try:
        ready = _await_ready(root, process)
    except BaseException:
        remove_files(root)
        raise
    process.returncode = 0  # it outlives us on purpose: without this, Popen would warn
    return ready


def stop(root: Path) -> bool:
    """Take the lab in ``root`` down and remove what it made there; return whether one was up."""
    running = state(root)
    if running is not None:
        _end(running)
    remove_files(root)
    return running is not None


@contextlib.contextmanager
def running_lab(choice: Choice = _DEFAULT) -> Iterator[LabState]:
    """Give a lab of its own, in a temporary folder, for the length of a ``with`` block."""
    root = Path(tempfile.mkdtemp(prefix="meshbook-lab-"))
    process = _spawn(root, choice, lifeline=True)
    try:
        yield _await_ready(root, process)
    finally:
        _release(process)
        remove_files(root)


def shell_environment(kubeconfig: Path, contexts: Sequence[str]) -> dict[str, str]:
    """Return what kubectl and gcloud, and the article's commands, must find in their environment to reach a lab."""
    clusters = json.loads(kubeconfig.read_text())["clusters"]
    extensions = {entry["name"]: entry["extension"] for entry in clusters[0]["cluster"]["extensions"]}
    fleet = extensions[FLEET_EXTENSION]
    return {
        "KUBECONFIG": str(kubeconfig),
        **{f"CTX_CLUSTER{number}": name for number, name in enumerate(contexts, start=1)},
        "CLOUDSDK_CORE_PROJECT": fleet["project"],
        "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": fleet["token-file"],
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_GKEHUB": fleet["endpoint"] + "/",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_SERVICEUSAGE": fleet["endpoint"] + "/",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
    }


def remove_files(root: Path) -> None:
    """Remove what a lab makes in its folder, and the folder when nothing else is in it."""
    for path in LabFolder(root=root).everything:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        root.rmdir()


def _spawn(root: Path, choice: Choice, *, lifeline: bool) -> subprocess.Popen[bytes]:
    _make_folder(root)
    environment = {name: value for name, value in os.environ.items() if name.upper() not in NOT_INHERITED}
    options: dict[str, Any] = {"stdin": subprocess.PIPE if lifeline else subprocess.DEVNULL}
    argv = [sys.executable, "-m", "meshbook.lab", str(root), json.dumps(asdict(choice)), json.dumps(lifeline)]
    with LabFolder(root=root).log.open("ab") as log:
        return subprocess.Popen(
            argv, stdout=log, stderr=log, env=environment, cwd="/", start_new_session=True, **options
        )


def _make_folder(root: Path) -> None:
    """Make an empty folder that has room for a lab, or leave none."""
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        remove_files(root)
        root.mkdir(exist_ok=True, mode=0o700)
        free = shutil.disk_usage(root).free
    except OSError as error:
        raise LabError(f"the lab's folder {root} cannot be made: {error.strerror}") from error
    if free < LEAST_FREE:
        with contextlib.suppress(OSError):
            root.rmdir()
        raise LabError(
            f"a lab needs {LEAST_FREE >> 20} MiB, and the disk of {root} has {free >> 10} KiB left",
            hint="make room, or let HOME (of `lab up`) or TMPDIR (of a run) lie on another disk",
        )


def _await_ready(root: Path, process: subprocess.Popen[bytes]) -> LabState:
    deadline = time.monotonic() + _START_TIMEOUT_S
    try:
        while time.monotonic() < deadline:
            ready = state(root)
            if ready is not None:
                return ready
            if process.poll() is not None:
                raise _ended(process.returncode, _log_tail(root))
            time.sleep(_POLL_S)
        raise LabError(f"the lab was not ready after {_START_TIMEOUT_S:g} s", log=_log_tail(root))
    except BaseException:
        _release(process)
        raise


def _release(process: subprocess.Popen[bytes]) -> None:
    """Ask our own child to stop, and wait for it."""
    if process.stdin is not None:
        process.stdin.close()
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end(lab: LabState) -> None:
    os.kill(lab.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while lab.alive:
        if time.monotonic() > deadline:
            os.kill(lab.pid, signal.SIGKILL)
            deadline += STOP_TIMEOUT_S
        time.sleep(_POLL_S)


def _ended(code: int, log: str) -> LabError:
    """Return the error in the words that the lab left in its log, or with the log where it left none."""
    evidence = r"(?:\n  (?!try: )(\w+): ([\s\S]*?))?"
    said = re.search(rf" ERROR {re.escape(LOGGER)}: (.*){evidence}(?:\n  try: (.*))?\Z", log.rstrip())
    if said is None:
        return LabError(f"the lab ended with exit code {code}", log=log)
    message, name, seen, hint = said.groups(default="")
    return LabError(message, hint=hint, **({name: seen} if name else {}))


def _log_tail(root: Path) -> str:
    try:
        return "\n".join(LabFolder(root=root).log.read_text(errors="replace").splitlines()[-LOG_LINES:])
    except OSError:
        return ""
