"""Several clusters as one: the same work on each, at once, and all outcomes gathered.

What one cluster can do is in ``cluster``; how the threads end is in ``concurrency``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from meshbook.clusters.cluster import Cluster
from meshbook.clusters.concurrency import gather
from meshbook.clusters.kubeconfig import Kubeconfig, refuse_same_cluster
from meshbook.clusters.names import as_word, display_names
from meshbook.clusters.records import Applied, DeploymentState
from meshbook.errors import UsageError
from meshbook.settings import Patience, context_names, kubeconfig_path

T = TypeVar("T")


class Fleet:
    """Clusters in the order in which their contexts were named."""

    def __init__(self, clusters: Sequence[Cluster]) -> None:
        self.clusters = tuple(clusters)

    @classmethod
    def connect(
        cls,
        contexts: Sequence[str] = (),
        kubeconfig: str | Path = "",
        names: Mapping[str, str] | None = None,
        *,
        patience: Patience | None = None,
    ) -> Fleet:
        """Return the fleet of ``contexts``, once each has answered and all are known to be different clusters.

        Empty parameters mean $CTX_CLUSTER1 and $CTX_CLUSTER2 (else ``cluster1``, ``cluster2``), and $KUBECONFIG (else
        the lab's, else kubectl's default). ``names`` are what people call the clusters, by context; by default a short
        form of it. UsageError names what exists when they do not fit.
        """
        fleet = cls.named(contexts, kubeconfig, names, patience=patience)
        seen: dict[str, str] = {}
        for name, uid in fleet.each(Cluster.uid).items():
            if uid:
                refuse_same_cluster(seen.setdefault(uid, name), name, f"namespace uid {uid}")
        return fleet

    @classmethod
    def named(
        cls,
        contexts: Sequence[str] = (),
        kubeconfig: str | Path = "",
        names: Mapping[str, str] | None = None,
        *,
        patience: Patience | None = None,
    ) -> Fleet:
        """Return the fleet as ``connect`` does, but ask no cluster: one of them may be down."""
        chosen = context_names(contexts)
        read = Kubeconfig(kubeconfig_path(kubeconfig))
        read.require(chosen)
        return cls([Cluster(read, context, patience, name) for context, name in display_names(chosen, names).items()])

    def close(self) -> None:
        """Close the connections that are kept open; the fleet can go on being used."""
        for cluster in self:
            cluster.connection.close()

    def __repr__(self) -> str:
        return f"Fleet({', '.join(cluster.name for cluster in self)})"

    def __iter__(self) -> Iterator[Cluster]:
        return iter(self.clusters)

    def __len__(self) -> int:
        return len(self.clusters)

    def __getitem__(self, name: str) -> Cluster:
        """Return the cluster of this name, or of this context."""
        for cluster in self:
            if name == cluster.context or as_word(name) == cluster.name:
                return cluster
        known = ", ".join(cluster.name for cluster in self)
        raise UsageError(f"no cluster {name!r} in this fleet", hint=f"one of {known}")

    def each(self, task: Callable[[Cluster], T]) -> dict[str, T]:
        """Do ``task`` on every cluster at once; return the results by name.

        Every cluster is left to finish; GatheredError then tells which failed, and holds the results of the others.
        """
        return gather({cluster.name: partial(task, cluster) for cluster in self})

    def _all(self, task: Callable[[Cluster], list[T]]) -> list[T]:
        return [found for results in self.each(task).values() for found in results]

    def create_namespace(self, name: str, *, revision: str = "", take_over: bool = False) -> list[Applied]:
        """Create namespace ``name`` everywhere, with sidecar injection by the mesh's ``revision``."""
        return self._all(lambda cluster: [cluster.create_namespace(name, revision=revision, take_over=take_over)])

    def delete_namespace(self, name: str, *, timeout_s: float = 180) -> list[Applied]:
        """Delete a namespace that meshbook made everywhere, and wait until it is gone."""
        return self._all(lambda cluster: [cluster.delete_namespace(name, timeout_s=timeout_s)])

    def apply(
        self, path: str | Path, namespace: str = "", selector: str = "", *, take_over: bool = False
    ) -> list[Applied]:
        """Apply a manifest file or folder on every cluster; see ``Cluster.apply``."""
        return self._all(lambda cluster: cluster.apply(path, namespace, selector, take_over=take_over))

    def delete(
        self, path: str | Path, namespace: str = "", selector: str = "", *, timeout_s: float = 120
    ) -> list[Applied]:
        """Delete what a manifest file or folder describes on every cluster; see ``Cluster.delete``."""
        return self._all(lambda cluster: cluster.delete(path, namespace, selector, timeout_s=timeout_s))

    def deployments(self, namespace: str) -> list[DeploymentState]:
        """Return the Deployments of a namespace on every cluster."""
        for cluster in self:
            cluster.tell_kubectl("get", "deployments", namespace=namespace)
        return self._all(lambda cluster: cluster.deployments(namespace))

    def rollout_status(self, applied: Iterable[Applied], *, timeout_s: float = 180) -> list[DeploymentState]:
        """Wait on every cluster until the Deployments among ``applied`` are rolled out; return how far they are.

        No other Deployment is looked at, and one that is not rolled out is no error: see ``Cluster.rollout_status``.
        """
        names: dict[str, dict[str, list[str]]] = {}
        for one in applied:
            if one.kind == "Deployment":
                names.setdefault(one.context, {}).setdefault(one.namespace, []).append(one.name)

        def follow(cluster: Cluster) -> list[DeploymentState]:
            deadline = time.monotonic() + timeout_s
            return [
                state
                for namespace, some in names.get(cluster.name, {}).items()
                for state in cluster.rollout_status(namespace, some, timeout_s=max(0.0, deadline - time.monotonic()))
            ]

        return self._all(follow)

    def wait_for_rollout(self, namespace: str, *, timeout_s: float = 180) -> list[DeploymentState]:
        """Wait on every cluster until the namespace's Deployments are rolled out and available."""
        return self._all(lambda cluster: cluster.wait_for_rollout(namespace, timeout_s=timeout_s))
