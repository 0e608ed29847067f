"""A cluster's prober pod, played by this machine: what is run in it by exec runs here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from meshbook.clusters import ExecStreams
from meshbook.probes import run_here


class LocalPod:
    """What ``probes.watch`` needs of a Cluster; ``python`` is the pod's ``python3``."""

    def __init__(self, name: str, python: str = sys.executable) -> None:
        self.name, self.python = name, python

    def ready_pod(self, selector: str, namespace: str) -> str:
        return "prober"

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        return {"spec": {"containers": [{"name": "prober"}]}}

    def exec_interactive(
        self, pod: str, command: Sequence[str], streams: ExecStreams, *, timeout_s: float, **_: str
    ) -> Any:
        argv = [self.python if word == "python3" else word for word in command]
        return SimpleNamespace(exit_code=run_here(argv, streams, timeout_s), stderr="")
