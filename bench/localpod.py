"""A cluster's sleep pod, played by this machine: the pod's script runs here, under a shell of choice, as if by exec."""

from __future__ import annotations

import selectors
import subprocess
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from meshbook.clusters import Partner

_TURN_S = 0.05
"""Seconds of silence after which the partner is asked for words, as an exec's reader does."""


class LocalPod:
    """What ``probes.watch`` needs of a Cluster."""

    def __init__(self, name: str, shell: Sequence[str] = ("/bin/sh",)) -> None:
        self.name, self.shell = name, tuple(shell)

    def ready_pod(self, selector: str, namespace: str) -> str:
        return "sleep"

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        return {"spec": {"containers": [{"name": "sleep"}]}}

    def converse(self, pod: str, command: Sequence[str], partner: Partner, *, timeout_s: float, **_: str) -> Any:
        argv = [*self.shell, *command[1:]]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = subprocess.Popen(argv, start_new_session=True, bufsize=0, **pipes)  # type: ignore[call-overload]
        deadline, rest, eyes = time.monotonic() + timeout_s, b"", selectors.DefaultSelector()
        eyes.register(process.stdout, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            if eyes.select(_TURN_S):
                piece = process.stdout.read(65536)
                if not piece:
                    break
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    partner.heard(line.decode("utf-8", "replace"), datetime.now(UTC))
            if words := partner.say():
                process.stdin.write(words.encode())
        process.kill()
        process.communicate()
        return SimpleNamespace(stderr="")
