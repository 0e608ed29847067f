"""What the ladder consists of: which failure, where, which time. Data, and the plans made of it; nothing is changed.

A rung is one outage to come. The order is from mode to mode, each in every cluster in turn, each as often as wanted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from meshbook import outage, probes
from meshbook.clusters import Cluster, Fleet
from meshbook.errors import UsageError
from meshbook.outage import Safeguards

APPLICATION_MODES = frozenset({"scale-to-zero", "pods-deleted", "readiness-lost", "cluster-down"})
"""Modes that take one version away from everybody; the others cut ways, so that each side misses something else."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How it is measured: rate and time-out of requests, and how long before, during and after an outage."""

    rate_per_s: float = 3.0
    """Of each source. A pod of the sample answers 10 to 20 requests a second; in an outage one has those of all."""
    timeout_s: float = 1.0
    before_s: float = 10.0
    outage_s: float = 15.0
    after_s: float = 12.0
    """With three sources: 5 % failed requests can be told from some single ones, and the shares compared."""
    loop_requests: int = 10
    """Requests of the article's own loop, in the middle of the outage."""

    def __post_init__(self) -> None:
        if self.loop_requests < 1:
            raise UsageError("the loop in the middle of the outage has one request at least")
        if min(self.before_s, self.outage_s, self.after_s) <= 0:
            raise UsageError("the times before, during and after an outage are above 0 s")

    @property
    def loop_parallel(self) -> int:
        """Curls that share the article's loop: as few as end within half the outage where every request hangs."""
        return math.ceil(2 * self.loop_requests * self.timeout_s / self.outage_s)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Where it happens: clusters, the application in them, and how it is reached."""

    fleet: Fleet
    config: Cluster
    """The cluster with the MultiClusterIngress."""
    outside: str
    """URL through the load balancer."""
    namespace: str
    gateway_namespace: str
    versions: Mapping[str, str]
    """By context: the version of the application there."""
    service: str = "helloworld"
    port: int = 5000
    deployments: Mapping[str, str] = field(default_factory=dict)
    """By context: the Deployment of the application; ``<service>-<version>`` where none is named."""
    margin: float = 0.2
    """How far a share may be from what it was, and be the same."""
    timeout_s: float = 300.0
    """Bounds each way, the going and the coming back."""

    @property
    def inside(self) -> str:
        """URL inside the mesh."""
        return f"http://{self.service}.{self.namespace}:{self.port}/hello"

    def deployment(self, context: str) -> str:
        return self.deployments.get(context) or f"{self.service}-{self.versions[context]}"


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One outage to come."""

    mode: str
    context: str
    repeat: int

    def __str__(self) -> str:
        return f"{self.mode} at {self.context}, no. {self.repeat}"


def by_context(fleet: Fleet, values: Sequence[str]) -> dict[str, str]:
    """Return ``values``, given in the order of the contexts, by context; an empty list is an empty mapping."""
    names = [cluster.name for cluster in fleet]
    if values and len(values) != len(names):
        raise UsageError(f"{len(values)} values for {len(names)} clusters", hint=f"one for each of {', '.join(names)}")
    return dict(zip(names, values, strict=False))


def rungs(fleet: Fleet, modes: Sequence[str], contexts: Sequence[str], repeats: int) -> list[Rung]:
    """Return the rungs of a ladder; ``contexts`` empty means the first cluster. UsageError for what does not exist."""
    require_known(modes, "modes")
    if not modes or repeats < 1:
        raise UsageError(f"{len(modes)} modes, {repeats} times each, are no outage", hint="one mode and once at least")
    where = [fleet[name].name for name in contexts] or [fleet.clusters[0].name]
    times = range(1, repeats + 1)
    return [Rung(mode=mode, context=name, repeat=time) for mode in modes for name in where for time in times]


def require_known(modes: Iterable[str], parameter: str) -> None:
    """Raise UsageError for a mode that does not exist; ``parameter`` is where it was named."""
    unknown = sorted(set(modes) - set(outage.MODES))
    if unknown:
        raise UsageError(
            f"{parameter}: there is no mode {', '.join(unknown)}", hint=f"one of {', '.join(outage.MODES)}"
        )


def intent(rung: Rung, scene: Scene, safeguards: Safeguards) -> outage.Intent:
    """Return what ``outage`` is asked for; whether all is well is asked before it starts and after its end."""
    deployment = scene.deployment(rung.context)
    return outage.Intent(
        cluster=scene.fleet[rung.context],
        deployment=deployment,
        namespace=scene.namespace,
        mode=rung.mode,
        survivors=scene.fleet.clusters,
        safeguards=safeguards,
        timeout_s=scene.timeout_s,
        steady=lambda: unsteady(scene),
    )


def unsteady(scene: Scene) -> str:
    """Return what is not as it should be: Deployments that are not settled, requests without a good answer."""
    states = [str(state) for state in scene.fleet.deployments(scene.namespace) if not state.settled]
    answers = probes.curl_from_here(scene.outside, requests=4, timeout_s=2.0)
    bad = [str(kind) for kind in answers["error"] if kind]
    return "; ".join([*states, *([f"{len(bad)} of 4 requests failed ({bad[0]})"] if bad else [])])


def plans(ladder: Sequence[Rung], scene: Scene, safeguards: Safeguards) -> list[outage.Plan]:
    """Return what would be done, once for each mode and cluster; reads only."""
    first = [rung for rung in ladder if rung.repeat == 1]
    return [outage.plan(intent(rung, scene, safeguards)) for rung in first]
