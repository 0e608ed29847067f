"""A cluster's sleep pod, played by this machine: the pod's script runs here, under a shell of choice, as if by exec."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from meshbook.clusters import ExecStreams

_TURN_S = 0.05
"""Seconds of silence after which the streams are asked for input, as an exec's reader does."""


class LocalPod:
    """What ``probes.watch`` needs of a Cluster."""

    def __init__(self, name: str, shell: Sequence[str] = ("/bin/sh",)) -> None:
        self.name, self.shell = name, tuple(shell)

    def ready_pod(self, selector: str, namespace: str) -> str:
        return "sleep"

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        return {"spec": {"containers": [{"name": "sleep"}]}}

    def exec_interactive(
        self, pod: str, command: Sequence[str], streams: ExecStreams, *, timeout_s: float, **_: str
    ) -> Any:
        argv = [*self.shell, *command[1:]]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
        with subprocess.Popen(argv, start_new_session=True, **pipes) as process:
            try:
                _talk(process, streams, time.monotonic() + timeout_s)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        return SimpleNamespace(stderr="")


def _talk(process: subprocess.Popen[bytes], streams: ExecStreams, deadline: float) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    rest = b""
    with selectors.DefaultSelector() as eyes:
        eyes.register(process.stdout, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            if eyes.select(_TURN_S):
                piece = process.stdout.read(65536)
                if not piece:
                    return
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    streams.on_line(line.decode("utf-8", "replace"), datetime.now(UTC))
            if words := streams.stdin():
                process.stdin.write(words.encode())
