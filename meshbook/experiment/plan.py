"""What is to be done: a target, the load on it, and steps. Data, and the plans made of it; nothing is changed.

A step is one failure mode in one cluster. They go from mode to mode, each in every cluster in turn. How they are done
is in ``run``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from meshbook import gkehub, outage, probes
from meshbook.clusters import Cluster, Fleet
from meshbook.errors import ClusterError, UsageError
from meshbook.outage import Safeguards

APPLICATION_MODES = frozenset({"scale-to-zero", "pods-deleted", "readiness-lost", "cluster-down"})
"""Modes that stop one version for everybody; the others cut ways, so that each side misses something else."""


@dataclass(frozen=True, kw_only=True)
class LoadProfile:
    """The requests during a trial: how many, how patient, how long."""

    rate_per_s: float = 2.0
    """Of each source. A pod of the sample answers 10 to 20 requests a second; in an outage one has those of all."""
    timeout_s: float = 1.0
    outage_s: float = 16.0
    """Length of the outage; as long is watched before it and after it. With three sources at 2/s that is enough to
    prove at most 5 % failed requests in spite of a failure, and to compare shares."""
    loop_requests: int = 10
    """Requests of the article's own loop, in the middle of the outage."""

    def __post_init__(self) -> None:
        if self.outage_s <= 0 or self.loop_requests < 1:
            raise UsageError("an outage lasts longer than 0 s, and has one request in its middle at least")


@dataclass(frozen=True, kw_only=True)
class Target:
    """What the experiment acts on: the application in every cluster, and how it is reached."""

    fleet: Fleet
    config: Cluster
    """The cluster with the MultiClusterIngress."""
    outside: str
    """URL through the load balancer."""
    namespace: str
    gateway_namespace: str
    versions: Mapping[str, str]
    """By context: the version of the application there."""
    deployments: Mapping[str, str]
    """By context: the Deployment of the application there."""
    service: str = "helloworld"
    port: int = 5000
    share_margin: float = 0.3
    """How far the share of a version may be from what it was to count as unchanged."""
    timeout_s: float = 300.0
    """Longest wait for the outage, and for its end."""

    @property
    def inside(self) -> str:
        """URL inside the mesh."""
        return f"http://{self.service}.{self.namespace}:{self.port}/hello"

    def __str__(self) -> str:
        places = (f"{name}: {self.deployments[name]} ({version})" for name, version in self.versions.items())
        return "\n".join([f"{self.service} in {self.namespace}, from outside {self.outside}", *places])


def find_target(
    fleet: Fleet, namespace: str, gateway_namespace: str, *, service: str = "helloworld", timeout_s: float = 300.0
) -> Target:
    """Find the Deployments behind ``service``, one in each cluster, and the load balancer's address.

    UsageError where it is not clear which Deployment, version or MultiClusterIngress is meant.
    """
    found = fleet.each(lambda cluster: _deployment(cluster, service, namespace))
    versions = {context: version for context, (_, version) in found.items()}
    if len(set(versions.values())) < max(2, len(versions)) or "" in versions.values():
        told = ", ".join(f"{context}: {version or 'none'}" for context, version in versions.items())
        raise UsageError(
            f"answers cannot tell the clusters apart by the versions of {service} ({told})",
            hint="another label `version` in each cluster, as in manifests/connectivity",
        )
    config, ingress = _ingress(fleet, gateway_namespace)
    return Target(
        fleet=fleet,
        config=config,
        outside=f"http://{gkehub.wait_for_vip(config, gateway_namespace, ingress, timeout_s=timeout_s)}/hello",
        namespace=namespace,
        gateway_namespace=gateway_namespace,
        versions=versions,
        deployments={context: deployment for context, (deployment, _) in found.items()},
        service=service,
        timeout_s=timeout_s,
    )


def _deployment(cluster: Cluster, service: str, namespace: str) -> tuple[str, str]:
    """Return name and version of the one Deployment behind a Service."""
    selector = (cluster.get("Service", service, namespace)["spec"].get("selector") or {}).items()
    labels = {
        str(found["metadata"]["name"]): found["spec"]["template"]["metadata"].get("labels") or {}
        for found in cluster.list("Deployment", namespace)
    }
    behind = [(name, str(some.get("version", ""))) for name, some in labels.items() if selector <= some.items()]
    if len(behind) != 1:
        names = ", ".join(name for name, _ in behind) or "none"
        raise UsageError(
            f"{cluster.name}: one Deployment is behind Service {service} in {namespace}, not {len(behind)} ({names})",
            hint="run stage 1 first (manifests/connectivity)",
        )
    return behind[0]


def _ingress(fleet: Fleet, namespace: str) -> tuple[Cluster, str]:
    """Return the one MultiClusterIngress of a namespace, and the cluster that has it."""

    def names(cluster: Cluster) -> list[str]:
        try:
            return [str(found["metadata"]["name"]) for found in cluster.list("MultiClusterIngress", namespace)]
        except ClusterError as error:
            if error.code != 404:  # only the config cluster has this kind
                raise
            return []

    found = [(fleet[context], name) for context, some in fleet.each(names).items() for name in some]
    if len(found) != 1:
        told = ", ".join(f"{name} in {cluster.name}" for cluster, name in found) or "none"
        raise UsageError(f"there is one MultiClusterIngress in {namespace}, not: {told}", hint="run stage 2 first")
    return found[0]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One failure mode in one cluster."""

    mode: str
    context: str

    def __str__(self) -> str:
        return f"{self.mode} at {self.context}"


def steps(fleet: Fleet, modes: Sequence[str], contexts: Sequence[str] = ()) -> list[Step]:
    """Return the steps of an experiment; ``contexts`` empty means the first cluster. UsageError for unknown names."""
    require_modes(modes, "modes")
    where = [fleet[name].name for name in contexts] or [fleet.clusters[0].name]
    return [Step(mode=mode, context=name) for mode in modes for name in where]


def require_modes(modes: Iterable[str], parameter: str) -> None:
    """Raise UsageError for a mode that does not exist; ``parameter`` is where it was named."""
    if unknown := sorted(set(modes) - set(outage.MODES)):
        raise UsageError(
            f"{parameter}: there is no mode {', '.join(unknown)}", hint=f"one of {', '.join(outage.MODES)}"
        )


def intent(step: Step, target: Target, safeguards: Safeguards) -> outage.Intent:
    """Return what ``outage`` is asked for; whether all is well is asked before it starts and after its end."""
    return outage.Intent(
        cluster=target.fleet[step.context],
        deployment=target.deployments[step.context],
        namespace=target.namespace,
        mode=step.mode,
        survivors=target.fleet.clusters,
        safeguards=safeguards,
        timeout_s=target.timeout_s,
        steady=lambda: _unsteady(target) and _unsteady(target),  # one bad moment is no state
    )


def _unsteady(target: Target) -> str:
    """Return what is not as it should be: Deployments that are not settled, requests without a good answer."""
    unsettled = [str(state) for state in target.fleet.deployments(target.namespace) if not state.settled]
    answers = probes.curl_from_here(target.outside, requests=4, timeout_s=2.0)
    bad = [str(kind) for kind in answers["error"] if kind]
    return "; ".join([*unsettled, *([f"{len(bad)} of 4 requests failed ({bad[0]})"] if bad else [])])


def plans(some: Sequence[Step], target: Target, safeguards: Safeguards) -> list[outage.Plan]:
    """Return what would be done in each step, and whether it is ready to start; reads only."""
    return [outage.plan(intent(step, target, safeguards)) for step in some]
