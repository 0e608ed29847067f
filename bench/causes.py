"""Is the cause named first? All faults of ``planted`` on a mesh, one after the other, and all of ``healthy``.

Without ``--contexts`` on a lab of its own, with what stages 1 and 2 make; with them on two clusters of the kubeconfig
in use. There, what only a lab can break is left out, unless ``--hook NAME ON OFF`` gives the commands; what is asked
from outside needs stage 2. A fault that leaves requests alone for now is looked for as preflight does. Exit code 1
unless each fault is named first and no healthy variant has a cause.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from ground import REVISION, Ground
from healthy import HEALTHY, TAG
from planted import FAULTS, INGRESS, Fault

from meshbook import Fleet, gkehub, mesh, preflight, probes, tables
from meshbook.errors import MeshbookError, UsageError
from meshbook.lab import launch
from meshbook.lab.faults import FaultClient
from meshbook.mesh import Finding

URL = "http://helloworld.sample:5000/hello"
OUTSIDE = "outside"
FAST = launch.Choice(fast=True)
_PATIENCE_S = 60.0
"""Longest wait for an answer where somebody is slow."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The mesh, how it is asked, and how long an effect may take."""

    ground: Ground
    vip: str
    effect_s: float
    timeout_s: float

    def ask(self, requests: int = 12, timeout_s: float = 0.0) -> pd.DataFrame:
        asked = {"requests": requests, "timeout_s": timeout_s or self.timeout_s}
        return mesh.looked_up(self.ground.fleet, "sample", probes.curl_from_pods, self.ground.fleet, URL, **asked)

    def heard(self, answers: pd.DataFrame) -> set[str]:
        """Return the directions in which answers came."""
        good = tables.good(answers)
        return {f"{source} → {cluster}" for source, cluster in zip(good["source"], good["cluster"], strict=True)}

    def wait(self, ways: set[str], *, silent: bool, timeout_s: float = 0.0) -> pd.DataFrame | None:
        """Ask until none (or each) of the directions is heard; None where that does not come about in time."""
        deadline = time.monotonic() + self.effect_s
        while time.monotonic() < deadline:
            answers = self.ask(timeout_s=timeout_s)
            found = self.heard(answers)
            if not ways & found if silent else ways <= found:
                return answers
        return None

    def why(self, fault: Fault) -> list[Finding]:
        """Return what is found while the fault is there; only of the direction that it is about."""
        if fault.way == OUTSIDE:
            return self.why_outside()
        way = self.ground.ways[fault.way]
        answers = self.wait({way}, silent=True) if fault.silent else self.ask(timeout_s=_PATIENCE_S)
        found = mesh.between(self.ground.fleet) if answers is None else mesh.why(self.ground.fleet, URL, answers)
        return sorted((one for one in found if str(one.direction) == way), key=lambda one: one.state not in ("cause",))

    def why_outside(self) -> list[Finding]:
        entry = mesh.Entry(url=f"http://{self.vip}/hello", clusters=(self.ground.second.name,))
        asked = {"requests": 20, "timeout_s": self.timeout_s}
        answers = mesh.looked_up(self.ground.fleet, "sample", probes.curl_from_here, [entry], **asked)
        where = {"namespace": "sample", "gateway_namespace": self.ground.gateways}
        found = mesh.why_outside(self.ground.fleet, [entry], answers, **where)
        return [one for one in found if one.state in ("cause", "as configured")]

    def named_first(self, name: str) -> tuple[str, float, str]:
        """Plant a fault and return whether it is named first, how long that took, and what was said."""
        fault = FAULTS[name]
        if fault.way == OUTSIDE and not self.vip:
            return "not planted", 0.0, "stage 2 was not done"
        try:
            with fault.plant(self.ground):
                begun = time.monotonic()
                found = self.why(fault)
                took_s = time.monotonic() - begun
        except UsageError as error:
            return "not planted", 0.0, error.message
        mended = self.wait(set(self.ground.ways.values()), silent=False) is not None
        words = fault.seen.format(first=self.ground.first.name, second=self.ground.second.name)
        first = found[0] if found else None
        right = first is not None and first.look == fault.look and words in first.seen
        said = str(first) if first else "nothing"
        return "first" if right else "NOT FIRST", took_s, said + ("" if mended else " (NOT MENDED)")

    def false_causes(self, name: str) -> list[str]:
        """Plant a healthy variant and return the causes that are seen in it, all of them false."""
        with HEALTHY[name](self.ground):
            both = set(self.ground.ways.values())
            expected = mesh.expected_share(self.ground.fleet, URL)
            near = any(one.fails_over for one in expected.values())
            settled = self.wait(set() if near else both, silent=False, timeout_s=_PATIENCE_S)
            answers = self.ask(40, timeout_s=_PATIENCE_S)
            found = [*mesh.why(self.ground.fleet, URL, answers), *mesh.between(self.ground.fleet)]
            revision = TAG if name == "revision tag" else REVISION
            injected = preflight.pods_injected(self.ground.fleet, "sample", revision)
        if name != "an unrelated Deployment unready" and injected.outcome != "pass":
            return [injected.reason]
        causes = [str(one) for one in found if one.state == "cause"]
        return causes if settled is not None else [*causes, "not all directions were heard"]


@contextlib.contextmanager
def own_lab() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="meshbook-bench-") as out, launch.running_lab(FAST) as lab:
        fleet = Fleet.connect(lab.contexts, lab.kubeconfig)
        ground = Ground(fleet=fleet, lab=FaultClient.of(lab.root))
        ground.deploy()
        argv = [sys.executable, "-m", "meshbook", "run", "2", "--out", out, "--kubeconfig", str(lab.kubeconfig)]
        # what it leaves is what counts, not how it judges that
        subprocess.run(argv, check=False, capture_output=True, env=dict(os.environ))
        yield Bench(ground=ground, vip=_vip(ground), effect_s=15.0, timeout_s=0.5)
        fleet.close()


@contextlib.contextmanager
def on_contexts(contexts: list[str], hooks: dict[str, tuple[str, str]]) -> Iterator[Bench]:
    ground = Ground(fleet=Fleet.connect(contexts), hooks=hooks, rollout_s=180.0)
    ground.deploy()
    yield Bench(ground=ground, vip=_vip(ground), effect_s=120.0, timeout_s=1.0)
    ground.fleet.close()


def _vip(ground: Ground) -> str:
    with contextlib.suppress(MeshbookError):
        return gkehub.wait_for_vip(ground.second, ground.gateways, INGRESS, timeout_s=1.0)
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--contexts", default="", help="two contexts, a,b, of the kubeconfig in use")
    parser.add_argument("--hook", nargs=3, action="append", default=[], metavar=("NAME", "ON", "OFF"))
    parser.add_argument("--only", nargs="*", choices=[*FAULTS, *HEALTHY], metavar="NAME", help="default: all")
    arguments = parser.parse_args()
    hooks = {name: (on, off) for name, on, off in arguments.hook}
    wanted = set(arguments.only or [*FAULTS, *HEALTHY])
    wrong = 0
    with on_contexts(arguments.contexts.split(","), hooks) if arguments.contexts else own_lab() as bench:
        for name in (one for one in FAULTS if one in wanted):
            named, took_s, said = bench.named_first(name)
            wrong += named == "NOT FIRST" or said.endswith("(NOT MENDED)")
            _say(f"{name:38} {named:11} {took_s:5.1f} s  {said}")
        for name in (one for one in HEALTHY if one in wanted):
            try:
                causes = bench.false_causes(name)
            except UsageError as error:
                _say(f"{name:38} not planted: {error.message}")
                continue
            wrong += len(causes)
            _say(f"{name:38} {len(causes)} false causes  {'; '.join(causes)}")
    return 1 if wrong else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
