"""A workload of meshbook's own, asked and frozen in the application's place: a calibration that harms nobody.

Its manifests are in ``manifests/scratch``: one server in the first cluster, its Service everywhere, and a path of its
own at the sample's Gateway. It is taken away again however the block ends; what a crash left behind is used or taken
away by the next one. How it is frozen is in ``holding``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd

from meshbook import notebook, probes
from meshbook.analysis import Fault
from meshbook.clusters import Cluster, Object, describe_pod
from meshbook.errors import MeshbookError, OutageError, UsageError
from meshbook.experiment.freezing import Freezable
from meshbook.experiment.holding import SCRIPT, Hold
from meshbook.experiment.rungs import Scene
from meshbook.objects import is_ready
from meshbook.outage import signals_deferred, sigterm_unwinds
from meshbook.preflight import INJECTION_NOTE

NAME, VERSION, CONTAINER, PORT = "meshbook-scratch", "scratch", "server", 5000
GATEWAY = "helloworld-gateway"
KINDS = ("Deployment", "Service", "VirtualService")
_SERVER, _OTHERS = "app.kubernetes.io/component=server", "app.kubernetes.io/component!=server"
_MINE = ("app.kubernetes.io/managed-by", "meshbook")
_SLACK_S = 15.0
_REMOVAL_S = 60.0
_BATCH = 6
"""Requests of each source that must all be answered before anything is measured."""


@contextmanager
def scratch(scene: Scene) -> Iterator[Freezable]:
    """Give the workload, rolled out and answering by every path, for the length of a ``with`` block."""
    folder = notebook.manifests_folder() / "scratch"
    scene.fleet.each(lambda cluster: _require_room(cluster, scene.namespace))
    with sigterm_unwinds():
        try:
            yield _set_up(scene, folder)
        finally:
            with signals_deferred():
                _remove(scene, folder)


def _require_room(cluster: Cluster, namespace: str) -> None:
    """Refuse to begin where the Gateway is missing, or somebody else's objects have these names."""
    if cluster.find("Gateway", GATEWAY, namespace) is None:
        raise UsageError(
            f"{cluster.name}: no Gateway {GATEWAY} in {namespace}, so the scratch workload has no way from outside",
            hint="run stage 2 first (kubectl apply -k manifests/routing)",
        )
    for kind in KINDS:
        found = cluster.find(kind, NAME, namespace)
        if found is not None and (found["metadata"].get("labels") or {}).get(_MINE[0]) != _MINE[1]:
            raise UsageError(
                f"{cluster.name}: {kind} {NAME} in {namespace} was not made by meshbook and is left alone",
                hint=f"rename or delete it: its label {_MINE[0]} is not {_MINE[1]}",
            )


def _set_up(scene: Scene, folder: Path) -> Freezable:
    home, namespace = scene.fleet.clusters[0], scene.namespace
    for other in scene.fleet.clusters[1:]:
        other.delete(folder, namespace, _SERVER)  # left by a crash, it would answer while the one at home is frozen
    scene.fleet.each(lambda cluster: cluster.apply(folder, namespace, "" if cluster is home else _OTHERS))
    home.wait_for_rollout(namespace, [NAME], timeout_s=scene.timeout_s)
    pod = _only_pod(scene, home)
    _require_sidecar(pod, home, namespace)
    found = Freezable(
        outside=urlsplit(scene.outside)._replace(path=f"/{NAME}", query="").geturl(),
        inside=f"http://{NAME}.{namespace}:{PORT}/",
        freeze=lambda length_s: _frozen(home, pod, length_s),
    )
    _wait_until_answered(scene, home, found)
    return found


def _only_pod(scene: Scene, home: Cluster) -> Object:
    """Wait until one pod of the workload is left in all clusters, and is ready; return it."""

    def look() -> tuple[Object | None, str]:
        pods = scene.fleet.each(lambda cluster: cluster.list("Pod", scene.namespace, labels=f"app={NAME}"))
        found = [pod for some in pods.values() for pod in some]
        fine = len(found) == 1 and is_ready(found[0])
        return (found[0] if fine else None), "; ".join(map(describe_pod, found)) or "no pod"

    return home.wait_until(f"one pod of {NAME} alone, and ready,", look, scene.timeout_s)


def _require_sidecar(pod: Object, home: Cluster, namespace: str) -> None:
    if INJECTION_NOTE not in (pod["metadata"].get("annotations") or {}):
        raise UsageError(
            f"{home.name}: the mesh has put no sidecar into {pod['metadata']['name']}, so it is not in the mesh",
            hint=f"label the namespace {namespace} with the mesh's revision (istio.io/rev), as stage 1 does",
        )


def _wait_until_answered(scene: Scene, home: Cluster, found: Freezable) -> None:
    """Wait until requests from everywhere are answered by the workload; WaitTimeout names the paths that are not."""

    def look() -> tuple[bool | None, str]:
        mesh = probes.curl_from_pods(scene.fleet, found.inside, _BATCH, namespace=scene.namespace, timeout_s=2.0)
        rows = pd.concat([mesh, probes.curl_from_here(found.outside, _BATCH, timeout_s=2.0)])
        bad = rows[(rows["error"] != "") | (rows["version"] != VERSION)]
        last = bad.drop_duplicates(["source", "path"], keep="last")
        told = [
            f"{source} by {path}: {error or 'another application answers'} {detail}".rstrip()
            for source, path, error, detail in last[["source", "path", "error", "detail"]].itertuples(index=False)
        ]
        return (None if told else True), "; ".join(told)

    hint = f"look at the VirtualService {NAME}, and at other VirtualServices of {GATEWAY}"
    home.wait_until("the scratch workload answers by every path,", look, scene.timeout_s, hint)


def _frozen(home: Cluster, pod: Object, length_s: float) -> Fault:
    """Stop the server for ``length_s``, and return when that was in truth."""
    hold, metadata = Hold(length_s), pod["metadata"]
    where = {"namespace": metadata["namespace"], "container": CONTAINER}
    argv = ["/bin/sh", "-c", SCRIPT]
    result = home.exec_interactive(metadata["name"], argv, hold, **where, timeout_s=length_s + _SLACK_S)
    if result.exit_code:
        raise OutageError(
            f"{home.name}: the server in {metadata['name']} could not be frozen (exit code {result.exit_code})",
            saw=result.stderr.strip()[-300:],
        )
    return hold.fault(f"scratch frozen for {length_s:g} s")


def _remove(scene: Scene, folder: Path) -> None:
    try:
        scene.fleet.delete(folder, scene.namespace, timeout_s=_REMOVAL_S)
    except MeshbookError as error:
        raise OutageError(
            f"the scratch workload could not be taken away from {scene.namespace}; it serves nobody and harms nobody",
            hint=f"kubectl delete -k manifests/scratch -n {scene.namespace}, or 99_cleanup",
            saw=error,
        ) from error
