"""Is everything restored? Kill the runner of an outage at random moments, run ``meshbook restore``, and compare.

``--runner notebook`` runs stage 3 of the runbook by ``meshbook run``; ``--runner modes`` takes down by every mode, one
after the other. The moments are spread from a second before the first change to a second after the last. Runner and
kernel are killed together (SIGKILL), as when the machine goes down. Then ``meshbook restore`` runs in a new process.
Everything that an outage may touch is compared with how it was: specs, labels and annotations of Deployments, Services
and autoscalers, Leases, ready replicas and ready endpoints. Exit code 1 unless all rounds came back. ``--rounds 20``
takes about ten minutes.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from meshbook import Fleet
from meshbook.lab import launch

REPOSITORY = Path(__file__).parents[1]
NAMESPACE = "sample"
PATIENCE_S = 60.0
SHORT = ("outage_s=6",)
MODES = ("scale-to-zero", "pods-deleted", "readiness-lost", "east-west-down", "cluster-down")
LOOP = """
import sys, time
from meshbook import Fleet, outage
fleet = Fleet.connect()
given = {"cluster": fleet["cluster1"], "deployment": "helloworld-v1", "namespace": "sample", "survivors": tuple(fleet)}
for mode in sys.argv[1:]:
    with outage.outage(outage.Intent(**given, mode=mode, timeout_s=30)):
        time.sleep(1)
"""
RECORD = "meshbook.io/"
LEASE = "coordination.k8s.io/v1/Lease"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runner", choices=["notebook", "modes"], default="notebook")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), metavar="MODE", help="default: all")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="meshbook-bench-") as out, launch.running_lab() as lab:
        environment = {**os.environ, "KUBECONFIG": str(lab.kubeconfig)}
        environment |= {"CTX_CLUSTER1": "cluster1", "CTX_CLUSTER2": "cluster2"}
        _meshbook(environment, "run", "0", "1", "2", "--out", out)
        fleet = Fleet.connect(["cluster1", "cluster2"], lab.kubeconfig)
        argv = _argv(arguments.runner, arguments.modes, out)
        span_s = _span(fleet, argv, environment)
        _say(f"runs are killed between {span_s[0]:.1f} s and {span_s[1]:.1f} s after their start")
        delays = _delays(arguments.rounds, span_s, arguments.seed)
        results = Counter(_round(fleet, argv, environment, delay_s) for delay_s in delays)
        fleet.close()
    good = sum(count for (_, back), count in results.items() if back)
    for (down, back), count in sorted(results.items()):
        when = "while something was down" if down else "while nothing was down"
        _say(f"{count:3} killed {when}: {'as before' if back else 'NOT as before'}")
    _say(f"{good} of {arguments.rounds} back as before")
    return 0 if good == arguments.rounds else 1


def _argv(runner: str, modes: list[str], out: str) -> list[str]:
    if runner == "modes":
        return [sys.executable, "-c", LOOP, *modes]
    parameters = [word for one in SHORT for word in ("-p", one)]
    return [sys.executable, "-m", "meshbook", "run", "3", "--out", out, *parameters]


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _delays(rounds: int, span_s: tuple[float, float], seed: int) -> Iterator[float]:
    """Yield random moments of a run: one in each of ``rounds`` equal parts of ``span_s``, in random order."""
    dice = random.Random(seed)
    first_s, last_s = span_s
    parts = [first_s + (number + dice.random()) * (last_s - first_s) / rounds for number in range(rounds)]
    dice.shuffle(parts)
    yield from parts


def _round(fleet: Fleet, argv: list[str], environment: dict[str, str], delay_s: float) -> tuple[bool, bool]:
    """Kill one run after ``delay_s`` and restore; return (was something down, is all as before)."""
    before = _settled(fleet, None)
    runner = subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(delay_s)
    _kill_tree(runner)
    told = _meshbook(environment, "restore", "-A").strip()
    after = _settled(fleet, before)
    differences = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    _say(f"killed after {delay_s:5.1f} s: {told or 'restore failed'}")
    for name in differences:
        _say(f"  differs: {name}\n    before {before.get(name)}\n    after  {after.get(name)}")
    return not told.startswith("nothing to restore"), bool(told) and not differences


def _recorded(fleet: Fleet) -> Iterator[str]:
    """Yield what carries the record of an outage."""
    for kind in ("Deployment", "Service"):
        for one in fleet["cluster1"].list(kind):
            if any(RECORD in key for key in one["metadata"].get("annotations") or {}):
                yield f"{kind} {one['metadata']['name']}"


def _kill_tree(runner: subprocess.Popen[bytes]) -> None:
    """Kill the runner and all that it has started, the youngest last, so that nobody has time to tidy up."""
    family = [runner.pid]
    for pid in family:
        family += [child for child in _children(pid) if child not in family]
    for pid in family:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    runner.wait()


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, tasks.read_text().split())
        except OSError:
            continue
    return found


def _settled(fleet: Fleet, wanted: dict[str, Any] | None) -> dict[str, Any]:
    """Return the state of all clusters: endpoints follow pods by a moment, so ``wanted`` is waited for, bounded."""
    deadline = time.monotonic() + PATIENCE_S / 6
    while True:
        state = _state(fleet)
        if wanted is None or state == wanted or time.monotonic() > deadline:
            return state
        time.sleep(0.2)


def _state(fleet: Fleet) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for cluster in fleet:
        for kind in ("Deployment", "Service", "HorizontalPodAutoscaler"):
            for found in cluster.list(kind):
                metadata, status = found["metadata"], found.get("status") or {}
                notes = {key: value for key, value in (metadata.get("annotations") or {}).items() if RECORD in key}
                name = f"{cluster.name} {kind} {metadata['namespace']}/{metadata['name']}"
                ready = status.get("readyReplicas", 0) if kind == "Deployment" else None
                state[name] = (found["spec"], metadata.get("labels"), notes, ready)
        for found in cluster.list(LEASE, NAMESPACE):
            state[f"{cluster.name} Lease {found['metadata']['name']}"] = True
        for found in cluster.list("EndpointSlice"):
            metadata = found["metadata"]
            service = (metadata.get("labels") or {}).get("kubernetes.io/service-name", "")
            key = f"{cluster.name} endpoints {metadata['namespace']}/{service}"
            ready = [one for one in found.get("endpoints") or [] if (one.get("conditions") or {}).get("ready", True)]
            state[key] = state.get(key, 0) + len(ready)
    return state


def _span(fleet: Fleet, argv: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Run once undisturbed; return when it changes the first thing and when all is restored, with a second around."""
    begun, down = time.monotonic(), []
    with subprocess.Popen(argv, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as runner:
        while runner.poll() is None:
            if any(_recorded(fleet)):
                down.append(time.monotonic() - begun)
            time.sleep(0.1)
        code = runner.wait()
    if code not in (0, 1) or not down:  # 1: so short an outage may prove too little
        raise SystemExit(f"the undisturbed run ended with exit code {code}, or took nothing down")
    return max(0.0, down[0] - 1.0), down[-1] + 1.0


def _meshbook(environment: dict[str, str], *words: str) -> str:
    argv = [sys.executable, "-m", "meshbook", *words]
    found = subprocess.run(
        argv, env=environment, capture_output=True, text=True, timeout=300, check=False, cwd=REPOSITORY
    )
    if found.returncode:
        _say(found.stderr)
        return ""
    return found.stdout


if __name__ == "__main__":
    sys.exit(main())
