"""Watch a service in every cluster's API server while something happens to it: threads in, sightings out.

For each cluster a thread follows each kind by list and watch, and one more lists again and again: a watch tells news
at once, a list proves when they were not yet true. What the sightings mean is for ``phases``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from meshbook.analysis import (
    REACHABLE,
    UNREACHABLE,
    Change,
    Observation,
    Subject,
    changes,
    changes_frame,
    pod_states,
    ready_endpoints,
    replica_counts,
)
from meshbook.clusters import Cluster, Fleet, Scope
from meshbook.errors import ClusterError, UsageError

LEG_S = 1
"""Seconds that one watch lasts before the next one goes on where it ended: so long can ``stop`` take."""
POLL_S = 0.25
"""Seconds between two lists of the same kind: so far before its sight a change can lie."""
SHORTEST_LEG_S = 0.05
"""A watch that ends sooner was cut by somebody in between, who is not asked again without a pause."""
SILENCE_S = 1.0
"""Seconds after which a cluster that does not answer is called silent."""
_FIRST_S = 10.0


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One subject of one cluster: what to ask for, and how to read it."""

    subject: Subject
    scope: Scope
    read: Callable[[Iterable[dict[str, Any]]], tuple[str, ...]]
    polled: bool = True


class Observer:
    """What happens to one Service, its pods and its Deployments in every cluster. A context manager.

    Made when every cluster has been seen once, or called silent; from then on nothing is missed while a cluster
    answers. ``changes`` and ``frame`` may be read at any time.
    """

    def __init__(self, fleet: Fleet, service: str, namespace: str) -> None:
        self.service, self.namespace = service, namespace
        self._looks: list[Observation] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        parts = fleet.each(lambda cluster: _parts(cluster, service, namespace))
        self._threads = [
            threading.Thread(target=task, args=(cluster, some), name=f"observe {cluster.name}", daemon=True)
            for cluster in fleet
            for task, some in self._tasks(parts[cluster.name])
        ]
        for thread in self._threads:
            thread.start()
        self._wait_for_first({cluster.name: len(parts[cluster.name]) for cluster in fleet})

    def _tasks(self, parts: list[_Part]) -> list[tuple[Callable[..., None], Any]]:
        return [*((self._follow, part) for part in parts), (self._poll, [part for part in parts if part.polled])]

    def _wait_for_first(self, wanted: Mapping[str, int]) -> None:
        deadline = time.monotonic() + _FIRST_S
        while time.monotonic() < deadline:
            with self._lock:
                seen = {(look.context, look.subject): look.state for look in self._looks}
            counts = {name: sum(context == name and subject != "api" for context, subject in seen) for name in wanted}
            silent = {name for name in wanted if seen.get((name, "api")) == UNREACHABLE}
            if all(counts[name] >= wanted[name] or name in silent for name in wanted):
                return
            self._stopped.wait(0.01)

    @property
    def looks(self) -> list[Observation]:
        """All sightings so far, as they came."""
        with self._lock:
            return list(self._looks)

    @property
    def changes(self) -> list[Change]:
        """The changes that the sightings so far prove."""
        return changes(self.looks)

    @property
    def frame(self) -> pd.DataFrame:
        """The changes so far as ``tables.CHANGES``."""
        return changes_frame(self.changes)

    def stop(self) -> None:
        """Look no more; returns when the threads have ended, or are as good as that."""
        self._stopped.set()
        deadline = time.monotonic() + LEG_S + SILENCE_S + 1
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def __enter__(self) -> Observer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _see(self, cluster: Cluster, subject: Subject, state: tuple[str, ...], asked: datetime | None = None) -> None:
        look = Observation(context=cluster.name, subject=subject, state=state, asked=asked, answered=datetime.now(UTC))
        with self._lock:
            self._looks.append(look)

    def _list(self, cluster: Cluster, part: _Part) -> dict[str, Any] | None:
        """List once and note what was seen, silence too."""
        asked = datetime.now(UTC)
        try:
            found = cluster.list_once(part.scope, SILENCE_S)
        except ClusterError as error:
            if not error.code:
                self._see(cluster, "api", UNREACHABLE, asked)
            return None
        self._see(cluster, part.subject, part.read(found.get("items") or []), asked)
        self._see(cluster, "api", REACHABLE, asked)
        return found

    def _poll(self, cluster: Cluster, parts: list[_Part]) -> None:
        while not self._stopped.wait(POLL_S):
            for part in parts:
                self._list(cluster, part)

    def _follow(self, cluster: Cluster, part: _Part) -> None:
        while not self._stopped.is_set():
            found = self._list(cluster, part)
            if found is None:
                self._stopped.wait(POLL_S)
                continue
            objects = {_key(one): one for one in found.get("items") or []}
            version = str((found.get("metadata") or {}).get("resourceVersion", ""))
            while version and not self._stopped.is_set():
                began = time.monotonic()
                version = self._leg(cluster, part, objects, version)
                if time.monotonic() - began < SHORTEST_LEG_S:
                    self._stopped.wait(POLL_S)

    def _leg(self, cluster: Cluster, part: _Part, objects: dict[str, Any], version: str) -> str:
        """Watch for one leg and return the version to go on from; empty when it is to be listed again."""
        try:
            for event in cluster.watch(part.scope, version, LEG_S):
                verb, found = event["type"], event["object"]
                version = str(found["metadata"].get("resourceVersion") or version)
                if verb == "DELETED":
                    objects.pop(_key(found), None)
                elif verb != "BOOKMARK":
                    objects[_key(found)] = found
                if verb != "BOOKMARK":
                    self._see(cluster, part.subject, part.read(objects.values()))
        except ClusterError:  # the connection broke, or what came after ``version`` is forgotten
            self._stopped.wait(POLL_S)
            return ""
        return version


def _key(found: dict[str, Any]) -> str:
    return str(found["metadata"]["name"])


def _template_labels(deployment: dict[str, Any]) -> dict[str, str]:
    return deployment["spec"]["template"]["metadata"].get("labels") or {}


def _parts(cluster: Cluster, service: str, namespace: str) -> list[_Part]:
    """Return what to follow: the Service's slices, and the pods and Deployments behind its selector."""
    selector = (cluster.get("Service", service, namespace)["spec"].get("selector")) or {}
    if not selector:
        raise UsageError(f"{cluster.name}: Service {service} in {namespace} has no selector, so its pods are unknown")
    labels = ",".join(f"{key}={value}" for key, value in selector.items())
    slices = Scope(kind="EndpointSlice", namespace=namespace, labels=f"kubernetes.io/service-name={service}")
    pods = Scope(kind="Pod", namespace=namespace, labels=labels)
    deployments = Scope(kind="Deployment", namespace=namespace)

    def replicas(found: Iterable[dict[str, Any]]) -> tuple[str, ...]:
        return replica_counts(one for one in found if selector.items() <= _template_labels(one).items())

    parts = [
        _Part(subject="endpoints", scope=slices, read=ready_endpoints),
        _Part(subject="pods", scope=pods, read=pod_states),
        _Part(subject="replicas", scope=deployments, read=replicas, polled=False),
    ]
    for part in parts:  # what may not be read would be told as unchanged
        cluster.list(part.scope.kind, namespace, labels=part.scope.labels)
    return parts
