"""What is to be done: a target, the load on it, and steps. Data; nothing is changed.

A step is one failure mode in one cluster. They go from mode to mode, each in every cluster in turn. What must hold
before one starts is in ``checks``, how they are done in ``run``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from meshbook import entries, mesh, outage, probes, settings
from meshbook.analysis import Capacity, ExpectedShares, SplitTest
from meshbook.clusters import Cluster, DeploymentState, Fleet
from meshbook.errors import UsageError, WaitTimeout
from meshbook.mesh import Entry
from meshbook.outage import SCALE_TO_ZERO
from meshbook.settings import require_in_range
from meshbook.verdict import counted

NOT_KNOWN = "what the survivor bears is not known: too few of its answers came"


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
    """Length of the outage."""
    around_s: float = 12.0
    """Seconds that are watched before the outage, and after all is ready again."""
    loop_requests: int = 10
    """Requests of the article's own loop, in the middle of the outage."""
    sources: int = 3
    bears: Mapping[str, Capacity | None] = field(default_factory=dict)
    """By context: what the other clusters bear when the application of this one is down; empty: not measured."""
    answers: pd.DataFrame | None = field(default=None, repr=False, compare=False)
    """ANSWERS by which that was measured."""
    split_tests: Mapping[str, SplitTest] = field(default_factory=dict, repr=False)
    """By context: how its share of the answers is compared with the expected one, once all is restored."""
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
        rate = f"{self.rate_per_s:.3g} requests per second from each of {counted(self.sources, 'source')}"
        length = f"{self.outage_s:g} s of outage, detection limit {self.detection_limit_s:.2g} s"
        lines = [f"load      {rate}, {self.offered_per_s:.3g}/s in all; {length}"]
        for name, found in self.bears.items():
            lines.append(f"bears     without {name}{f' the others {found}' if found else f': {NOT_KNOWN}'}")
        lines += dict.fromkeys(f"shares    afterwards {test}" for test in self.split_tests.values())
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the service must keep to, in the modes that it must survive."""

    must_survive: Sequence[str] = (SCALE_TO_ZERO,)
    max_failed_share: float = 0.05
    """Of each source's requests from the outage's begin until all is ready again; as many may be late besides."""
    max_gap_s: float = 2.0
    gap_note: str = ""
    """Why the longest gap is what it is, where the rate leaves no choice."""
    share_tolerance: float = 0.25
    """How far a cluster's share of a source's answers may be from the expected one, once all is restored."""

    def __post_init__(self) -> None:
        require_modes(self.must_survive, "must_survive")  # a slip of the pen would leave a mode unjudged


@dataclass(frozen=True, kw_only=True)
class Target:
    """What the experiment acts on: the application in every cluster, and how it is reached."""

    fleet: Fleet
    outside: Sequence[Entry]
    """The addresses by which requests from outside come in."""
    namespace: str
    gateway_namespace: str
    versions: Mapping[str, str]
    """By context: the version of the application there."""
    deployments: Mapping[str, str]
    """By context: the Deployment of the application there."""
    service: str = "helloworld"
    port: int = 5000
    timeout_s: float = 300.0
    """Longest wait for the outage, and for its end."""

    @property
    def inside(self) -> str:
        """URL inside the mesh."""
        return f"http://{self.service}.{self.namespace}:{self.port}/hello"

    def ask(self, loop: probes.ClosedLoop, outside: Sequence[Entry] = ()) -> pd.DataFrame:
        """Return ANSWERS to ``loop`` from the pods of every cluster, and from here to ``outside`` where it is given."""
        asked = (self.fleet, outside, self.inside)
        return mesh.looked_up(self.fleet, self.namespace, probes.send_many, *asked, loop=loop, namespace=self.namespace)

    def states(self) -> list[DeploymentState]:
        """Return how the application's Deployments are, whatever else is in their namespace."""
        found = self.fleet.deployments(self.namespace)
        return [state for state in found if state.name == self.deployments.get(state.context)]

    def wait_for_rollout(self) -> list[DeploymentState]:
        """Wait until the application's Deployments are rolled out everywhere; WaitTimeout where one is not."""

        def wait(cluster: Cluster) -> list[DeploymentState]:
            return cluster.wait_for_rollout(self.namespace, [self.deployments[cluster.name]], timeout_s=self.timeout_s)

        return [state for states in self.fleet.each(wait).values() for state in states]

    @cached_property
    def expected(self) -> Mapping[str, ExpectedShares]:
        """By source: what share of its answers each cluster should give, as the mesh was configured when first asked.

        From outside that is what the ingress gateways are configured to do.
        """
        places = {"namespace": self.namespace, "gateway_namespace": self.gateway_namespace}
        inside = mesh.expected_share(self.fleet, self.inside, namespace=self.namespace)
        at_gateways = mesh.expected_share(self.fleet, self.outside[0].url, **places)
        return {**mesh.expected_by(self.outside, at_gateways), **inside}

    @property
    def sources(self) -> list[str]:
        return [*(entry.source for entry in self.outside), *(cluster.name for cluster in self.fleet)]

    def starts_in(self, source: str) -> tuple[str, ...]:
        """Return the clusters in which a source's requests enter the mesh: its own, or of the ingress gateways."""
        return next((entry.clusters for entry in self.outside if entry.source == source), (source,))

    def __str__(self) -> str:
        places = (f"{name}: {self.deployments[name]} ({version})" for name, version in self.versions.items())
        return "\n".join([f"{self.service} in {self.namespace}", *map(str, self.outside), *places])


def find_target(
    fleet: Fleet,
    namespace: str,
    gateway_namespace: str,
    entry: str = settings.FLEET,
    *,
    service: str = "helloworld",
    timeout_s: float = 300.0,
) -> Target:
    """Find the Deployments behind ``service``, one in each cluster, and the addresses from outside (``entries.find``).

    UsageError where it is not clear which Deployment, version or entry is meant, WaitTimeout where one has no address.
    """
    found = fleet.each(lambda cluster: _deployment(cluster, service, namespace))
    versions = {context: version for context, (_, version) in found.items()}
    if len(versions) < 2 or "" in versions.values():
        told = ", ".join(f"{context}: {version or 'none'}" for context, version in versions.items())
        raise UsageError(
            f"{service} runs in two clusters or more, and its pods are labelled with a version ({told})",
            hint="label `version` in each cluster, as in manifests/connectivity",
        )
    outside = entries.find(fleet, entry, gateway_namespace, timeout_s=timeout_s)
    if lacking := next((one for one in outside if one.trouble), None):
        raise WaitTimeout(str(lacking), hint="stage 2 says more about it")
    return Target(
        fleet=fleet,
        outside=outside,
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
