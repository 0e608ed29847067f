"""Is everything restored although the API server cannot be reached in the middle of the way back? Try it, and count.

A lab's cluster is reached through a proxy (``troubled_proxy``) that refuses, cuts or holds every request for 5 to 90
seconds from the moment at which the application is to be restored. ``--rounds 20`` takes about twenty minutes. Exit
code 1 unless all rounds came back as before.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from troubled_proxy import TROUBLES, TroubledProxy

from meshbook import Fleet, outage
from meshbook.clusters import Cluster
from meshbook.errors import MeshbookError
from meshbook.lab import launch

NAMESPACE, APPLICATION = "sample", "helloworld-v1"
MODES = ("scale-to-zero", "readiness-lost", "east-west-down")
MANIFESTS = Path(__file__).parents[1] / "manifests" / "connectivity"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest", type=float, default=90.0, help="seconds of the longest trouble; default: 90")
    arguments = parser.parse_args()
    loop, dice = asyncio.new_event_loop(), random.Random(arguments.seed)
    threading.Thread(target=loop.run_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="meshbook-bench-") as folder, launch.running_lab() as lab:
        straight = Fleet.connect(lab.contexts, lab.kubeconfig)
        straight.create_namespace(NAMESPACE, revision="asm-1175-9")
        for cluster, other in zip(straight, ("v2", "v1"), strict=True):
            cluster.apply(MANIFESTS, NAMESPACE, f"version!={other}")
        straight.wait_for_rollout(NAMESPACE, timeout_s=60)
        proxy = TroubledProxy(straight.clusters[0].connection.server)
        asyncio.run_coroutine_threadsafe(proxy.start(), loop).result(10)
        way = Fleet.named(lab.contexts, _through(proxy, lab, Path(folder)))
        seconds = [
            5 + number * (arguments.longest - 5) / max(1, arguments.rounds - 1) for number in range(arguments.rounds)
        ]
        dice.shuffle(seconds)
        good = 0
        for number, length_s in enumerate(seconds):
            trouble, mode = TROUBLES[number % len(TROUBLES)], MODES[number // len(TROUBLES) % len(MODES)]
            good += _round(straight.clusters[0], way, proxy, (mode, trouble, length_s))
    _say(f"{good} of {arguments.rounds} restored, all as before")
    return 0 if good == arguments.rounds else 1


def _through(proxy: TroubledProxy, lab: launch.LabState, folder: Path) -> Path:
    """Write a kubeconfig that leads to the first cluster through the proxy."""
    document = json.loads(lab.kubeconfig.read_text())
    for entry in document["clusters"]:
        if entry["name"] == lab.contexts[0]:
            entry["cluster"] = {"server": proxy.url}
    path = folder / "kubeconfig"
    path.write_text(json.dumps(document))
    return path


def _round(straight: Cluster, way: Fleet, proxy: TroubledProxy, planned: tuple[str, str, float]) -> bool:
    mode, trouble, length_s = planned
    before, told = _shape(straight), ""
    cluster = way.clusters[0]
    given = {"deployment": APPLICATION, "namespace": NAMESPACE, "survivors": tuple(way), "timeout_s": 60.0}
    begun = time.monotonic()
    proxy.plan("", 0.0)
    try:
        with outage.outage(outage.Intent(cluster=cluster, mode=mode, **given)):
            proxy.plan(trouble, length_s, lambda method, path, _: method == "PATCH" and "leases" not in path)
            begun = time.monotonic()
    except MeshbookError as error:
        told = str(error)
    took_s, back = time.monotonic() - begun, _shape(straight) == before
    ended = "restored" if back else "NOT restored"
    _say(f"{mode:15} {trouble:6} {length_s:5.1f} s: {ended} after {took_s:5.1f} s {told}")
    return back and not told


def _shape(cluster: Cluster) -> dict[str, Any]:
    found = [(kind, one) for kind in ("Deployment", "Service") for one in cluster.list(kind)]
    return {
        f"{kind} {one['metadata']['namespace']}/{one['metadata']['name']}": (
            one["spec"],
            {key for key in one["metadata"].get("annotations") or {} if key.startswith("meshbook.io/")},
        )
        for kind, one in found
    }


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
