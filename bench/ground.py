"""Two clusters on which something is planted: the sample as stage 1 leaves it, and objects changed for a while.

v1 runs in the first cluster and v2 in the second. What the API alone cannot do, such as cutting the link, is done by a
lab's faults, or by a command that is given for that name. What is wrong with a mesh is ``planted``'s, what only looks
unusual ``healthy``'s.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshbook.clusters import Cluster, Fleet
from meshbook.errors import UsageError
from meshbook.lab.faults import FaultClient, FaultSpec
from meshbook.objects import SYSTEM_NAMESPACE

CONNECTIVITY = Path(__file__).parents[1] / "manifests" / "connectivity"
HOST = "helloworld.sample.svc.cluster.local"
SERVER = "helloworld-v2"
REVISION = "asm-1175-9"
Planted = AbstractContextManager[None]


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Two clusters, and who breaks what their API cannot."""

    fleet: Fleet
    lab: FaultClient | None = None
    hooks: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """By a fault's name: the commands that plant and mend it."""
    namespace: str = "sample"
    gateways: str = "nifc-istio-gateway"
    rollout_s: float = 60.0

    @property
    def first(self) -> Cluster:
        return self.fleet.clusters[0]

    @property
    def second(self) -> Cluster:
        return self.fleet.clusters[1]

    @property
    def ways(self) -> dict[str, str]:
        """Return the names of the two directions between them."""
        one, other = self.first.name, self.second.name
        return {"there": f"{one} → {other}", "back": f"{other} → {one}"}

    def deploy(self) -> None:
        """Leave the sample as stage 1 does."""
        self.fleet.create_namespace(self.namespace, revision=REVISION)
        for part in ("sleep.yaml", "prober.yaml"):
            self.fleet.apply(CONNECTIVITY / part, self.namespace)
        self.fleet.apply(CONNECTIVITY / "helloworld.yaml", self.namespace, "service=helloworld")
        for cluster, version in zip(self.fleet, ("v1", "v2"), strict=True):
            cluster.apply(CONNECTIVITY / "helloworld.yaml", self.namespace, f"version={version}")
        self.fleet.wait_for_rollout(self.namespace, timeout_s=self.rollout_s)

    def broken(self, name: str, spec: FaultSpec) -> AbstractContextManager[object]:
        """Break it by the command that is given for ``name``, else by the lab."""
        if name in self.hooks:
            return _by_command(*self.hooks[name])
        if self.lab is None:
            raise UsageError(f"{name} cannot be planted by the API alone", hint="--hook NAME ON OFF")
        return self.lab.injected(spec)


@contextmanager
def _by_command(on: str, off: str) -> Iterator[None]:
    subprocess.run(on, shell=True, check=True, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        subprocess.run(off, shell=True, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def deleted(cluster: Cluster, kind: str, name: str) -> Iterator[None]:
    """An object of the system namespace is gone."""
    kept = cluster.get(kind, name, SYSTEM_NAMESPACE)
    cluster.delete_object(kind, name, SYSTEM_NAMESPACE)
    try:
        yield
    finally:
        metadata = {key: kept["metadata"][key] for key in ("name", "namespace", "labels") if key in kept["metadata"]}
        cluster.create(kind, {**kept, "metadata": metadata})


@contextmanager
def created(clusters: Fleet | list[Cluster], kind: str, namespace: str, **content: Any) -> Iterator[None]:
    """Clusters have one more object."""
    with contextlib.ExitStack() as stack:
        for cluster in clusters:
            cluster.create(kind, {"metadata": {"name": "planted", "namespace": namespace}, **content})
            stack.callback(cluster.delete_object, kind, "planted", namespace)
        yield


@contextmanager
def patched(
    cluster: Cluster, kind: str, name: str, namespace: str, change: Mapping[str, Any], back: Mapping[str, Any]
) -> Iterator[None]:
    """An object is changed."""
    cluster.patch(kind, name, dict(change), namespace=namespace)
    try:
        yield
    finally:
        cluster.patch(kind, name, dict(back), namespace=namespace)
        if kind == "Deployment":
            cluster.wait_for_rollout(namespace, [name], timeout_s=120)


@contextmanager
def scaled(cluster: Cluster, name: str, namespace: str, replicas: int) -> Iterator[None]:
    """A Deployment has another number of pods."""
    back = int(cluster.get("Deployment", name, namespace)["spec"].get("replicas", 1))
    counts = ({"spec": {"replicas": count}} for count in (replicas, back))
    with patched(cluster, "Deployment", name, namespace, *counts):
        cluster.wait_for_rollout(namespace, [name], timeout_s=180)
        yield


def template(cluster: Cluster, name: str, namespace: str, labels: Mapping[str, str]) -> Planted:
    """A Deployment's pods are made anew with these labels."""
    nothing: dict[str, str | None] = dict.fromkeys(labels)
    changes = ({"spec": {"template": {"metadata": {"labels": dict(values)}}}} for values in (labels, nothing))
    return patched(cluster, "Deployment", name, namespace, *changes)


def container(cluster: Cluster, name: str, namespace: str, **changes: Any) -> Planted:
    """A Deployment's first container is another, and its pods are made anew, the old ones first."""
    spec = cluster.get("Deployment", name, namespace)["spec"]
    before = spec["template"]["spec"]["containers"]
    after = [{**before[0], **changes}, *before[1:]]
    strategies: Iterator[Any] = iter(({"type": "Recreate", "rollingUpdate": None}, spec["strategy"]))
    specs = (
        {"spec": {"strategy": next(strategies), "template": {"spec": {"containers": some}}}} for some in (after, before)
    )
    return patched(cluster, "Deployment", name, namespace, *specs)
