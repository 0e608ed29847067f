"""A desk at which an SRE sits: one namespace of a lab, a folder for files, and a Deployment to start from."""

from __future__ import annotations

import itertools
import re
import time
from pathlib import Path
from typing import Any

WAIT_S = 20.0
_numbers = itertools.count(1)

APP = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: app, labels: {app: app}, annotations: {note: first}}
spec:
  replicas: 1
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
        - {name: app, image: curlimages/curl, args: [sleep, infinity], env: [{name: A, value: b}]}
"""


class Desk:
    """One namespace of ``cluster1``, and a folder for files."""

    def __init__(self, shell: Any, folder: Path) -> None:
        self.shell, self.folder, self.namespace = shell, folder, f"desk-{next(_numbers)}"
        assert shell(f"kubectl create namespace {self.namespace}").code == 0

    def __call__(self, arguments: str, *, after: str = "") -> Any:
        return self.shell(f"kubectl -n {self.namespace} {arguments} {after}", cwd=self.folder)

    def write(self, text: str, name: str = "app.yaml") -> str:
        (self.folder / name).write_text(text)
        return name

    def app(self) -> None:
        """Have one Deployment of one pod, rolled out."""
        self.write(APP)
        assert self("apply -f app.yaml").lines == ["deployment.apps/app created"]
        self.rolled_out()

    def rolled_out(self) -> None:
        done = self("rollout status deployment app --timeout=20s")
        assert done.lines[-1] == 'deployment "app" successfully rolled out', done

    def pod(self) -> str:
        return str(self("get pods -o jsonpath='{.items[-1:].metadata.name}'").out)

    def until(self, arguments: str, seen: str) -> str:
        deadline, last = time.monotonic() + WAIT_S, ""
        while time.monotonic() < deadline:
            last = self(arguments).out
            if re.search(seen, last):
                return last
            time.sleep(0.1)
        raise AssertionError(f"kubectl {arguments}: nothing like {seen!r} in {WAIT_S:g} s; last: {last}")
