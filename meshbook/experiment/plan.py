"""What is to be done: a target, the load on it, and steps. Data, and the plans made of it; nothing is changed.

A step is one failure mode in one cluster. They go from mode to mode, each in every cluster in turn. How they are done
is in ``run``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from meshbook import analysis, gkehub, outage, probes, settings, tables
from meshbook.analysis import Capacity
from meshbook.clusters import Cluster, DeploymentState, Fleet
from meshbook.errors import ClusterError, UsageError
from meshbook.outage import Check, Safeguards
from meshbook.settings import require_in_range

APPLICATION_MODES = frozenset({"scale-to-zero", "pods-deleted", "readiness-lost", "cluster-down"})
"""Modes that stop one version for everybody; the others cut ways, so that each side misses something else."""
ANSWERED = "each source is answered by the survivor"
UNANSWERED_HINT = "stage 1 says who reaches whom; a source without a survivor would have an outage of its own"
MOST_OFFERED = 0.8
"""Share of what the survivor bears that the requests of all sources together may be: above it, they are the outage."""
BORNE = 2
"""Failed requests in spite of which an outage decides: a mesh without fault may lose one or two when a pod goes."""


@dataclass(frozen=True, kw_only=True)
class LoadProfile:
    """The requests during a trial: how many, how patient, how long; and what the service was measured to bear."""

    rate_per_s: float = 2.0
    """Of each source. A pod of the sample answers 10 to 20 requests a second; in an outage one has those of all."""
    patience_s: float = settings.OUTAGE_REQUEST_S
    """A request without a good answer until then has failed."""
    slow_after_s: float = 1.0
    """A good answer that takes longer is late, which is not failed."""
    outage_s: float = 16.0
    """Length of the outage; as long is watched before it and after it. With three sources at 2/s that is enough to
    prove at most 5 % failed requests in spite of a failure, and to compare shares."""
    loop_requests: int = 10
    """Requests of the article's own loop, in the middle of the outage."""
    sources: int = 3
    bears: Mapping[str, Capacity | None] = field(default_factory=dict)
    """By context: what the other clusters bear when the application of this one is down; empty: not measured."""
    answers: pd.DataFrame | None = field(default=None, repr=False, compare=False)
    """ANSWERS by which that was measured."""
    causes: str = ""
    """Why a cluster gave none of them to a source, as far as could be seen; empty: each gave some to all."""

    def __post_init__(self) -> None:
        names = ("rate_per_s", "patience_s", "slow_after_s", "outage_s", "loop_requests")
        require_in_range(**{name: getattr(self, name) for name in names})
        if not 0 < self.slow_after_s <= self.patience_s:
            raise UsageError(f"slow_after_s lies above 0 and not above patience_s, {self.patience_s:g} s")

    @property
    def offered_per_s(self) -> float:
        """Requests per second of all sources together."""
        return self.sources * self.rate_per_s

    @property
    def detection_limit_s(self) -> float:
        """The longest time without a good answer that one failed request leaves possible: two intervals, an answer."""
        answer_ms = max((found.busy_ms for found in self.bears.values() if found), default=0.0)
        return 2 / self.rate_per_s + answer_ms / 1000

    def __str__(self) -> str:
        rate = f"{self.rate_per_s:.3g} requests per second from each of {self.sources} sources"
        length = f"{self.outage_s:g} s of outage, detection limit {self.detection_limit_s:.2g} s"
        lines = [f"load      {rate}, {self.offered_per_s:.3g}/s in all; {length}"]
        told = ((name, found or "not known: too few of its answers came") for name, found in self.bears.items())
        return "\n".join([*lines, *(f"bears     without {name} the others {found}" for name, found in told)])


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the service must keep to, in the modes that it must survive."""

    must_survive: Sequence[str] = ("scale-to-zero",)
    max_failed_share: float = 0.05
    """Of the requests during the outage; as many may be late besides."""
    max_gap_s: float = 2.0
    gap_note: str = ""
    """Why the longest gap is what it is, where the rate leaves no choice."""

    def __post_init__(self) -> None:
        require_modes(self.must_survive, "must_survive")  # a slip of the pen would leave a mode unjudged


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

    def states(self) -> list[DeploymentState]:
        """Return how the application's Deployments are, whatever else is in their namespace."""
        found = self.fleet.deployments(self.namespace)
        return [state for state in found if state.name == self.deployments.get(state.context)]

    def wait_for_rollout(self) -> list[DeploymentState]:
        """Wait until the application's Deployments are rolled out everywhere; WaitTimeout where one is not."""

        def wait(cluster: Cluster) -> list[DeploymentState]:
            return cluster.wait_for_rollout(self.namespace, [self.deployments[cluster.name]], timeout_s=self.timeout_s)

        return [state for states in self.fleet.each(wait).values() for state in states]

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
    unsettled = [str(state) for state in target.states() if not state.settled]
    answers = probes.curl_from_here(target.outside, requests=4, timeout_s=2.0)
    bad = [str(kind) for kind in answers["error"] if kind]
    return "; ".join([*unsettled, *([f"{len(bad)} of 4 requests failed ({bad[0]})"] if bad else [])])


def plans(
    some: Sequence[Step], target: Target, safeguards: Safeguards, load: LoadProfile, limits: Limits | None = None
) -> list[outage.Plan]:
    """Return what would be done in each step, and whether it is ready to start; reads only.

    ``limits`` adds whether the requests can decide them.
    """
    found = [(step, outage.plan(intent(step, target, safeguards))) for step in some]
    return [replace(plan, checks=(*plan.checks, *_load_checks(step, target, load, limits))) for step, plan in found]


def survivors(step: Step, target: Target) -> list[str]:
    """Return the versions that carry the service meanwhile: all, where a step stops none for everybody."""
    down = step.context if step.mode in APPLICATION_MODES else ""
    return [version for context, version in target.versions.items() if context != down]


def unanswered(answers: pd.DataFrame, target: Target, versions: Sequence[str]) -> str:
    """Return which sources got no good answer from any of ``versions``, and what they got; empty: all did."""
    known = tables.measured(answers)
    good = tables.good(known)
    answered = set(good.loc[good["version"].isin(versions), "source"])
    told = []
    for source in (probes.OUTSIDE, *(cluster.name for cluster in target.fleet)):
        if source not in answered:
            own = known[known["source"] == source]
            counts = own["error"].where(own["error"] != "", own["version"]).value_counts()
            got = ", ".join(f"{count} {word}" for word, count in counts.items()) or "nothing"
            told.append(f"{source} got none from {' or '.join(versions)} in {len(own)} requests ({got})")
    return "; ".join(told)


def _load_checks(step: Step, target: Target, load: LoadProfile, limits: Limits | None) -> Iterator[Check]:
    if load.answers is not None:
        missing = unanswered(load.answers, target, survivors(step, target))
        yield Check(
            name=ANSWERED,
            ok=not missing,
            saw=f"{load.causes} {missing}".strip() if missing else "all of them",
            hint=UNANSWERED_HINT,
        )
    capacity = load.bears.get(step.context)
    name, offered = "the survivor bears the load", f"{load.offered_per_s:.3g}/s from {load.sources} sources"
    if capacity is None:
        yield Check(name=name, ok=None, saw=f"{offered}; what it bears was not measured")
    else:
        most = MOST_OFFERED * capacity.per_s
        ok = True if load.offered_per_s <= most else None if capacity.is_least else False
        hint = f"rate_per_s: auto, or at most {most / load.sources:.2g}; or more replicas of the survivor"
        yield Check(name=name, ok=ok, saw=f"{offered}; it bears {capacity}", hint=hint)
    if limits and step.mode in limits.must_survive:
        yield from _decisions(load, limits)


def _decisions(load: LoadProfile, limits: Limits) -> Iterator[Check]:
    """Say whether so many requests, so often, can decide the limits; where not, what would."""
    limit_s, most_s = load.detection_limit_s, limits.max_gap_s
    note = f" ({limits.gap_note})" if limits.gap_note else ""
    saw = f"max_gap_s is {most_s:g} s{note}, the detection limit {limit_s:.2g} s"
    mend = f"; max_gap_s: {math.ceil(10 * limit_s) / 10:g}, or more replicas of the sample, that bear a higher rate"
    yield Check(
        name="the longest gap can be decided",
        ok=True if limit_s <= most_s else None,
        saw=saw + ("" if limit_s <= most_s else mend),
    )
    least = analysis.fewest_to_pass(limits.max_failed_share)
    count = math.floor(load.offered_per_s * load.outage_s)
    enough_s = math.ceil(analysis.fewest_to_pass(limits.max_failed_share, wrong=BORNE) / load.offered_per_s)
    yield Check(
        name="the share of failures can be decided",
        ok=True if count >= least else None,
        saw=f"{count} requests during the outage, {least} at the least"
        + ("" if count >= least else f"; outage_s: {enough_s}"),
    )
