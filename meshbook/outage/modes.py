"""How part of a cluster can be taken down, by name, from the kindest way to the worst.

A mode says which targets it takes down and what must hold for that; how one target goes down and is restored is in
``targets``. A new way to take something down is a class in ``MODES``.
"""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import ClassVar

from meshbook.clusters import Cluster
from meshbook.errors import ClusterError, OutageError, UsageError, WaitTimeout
from meshbook.objects import EAST_WEST, SYSTEM_NAMESPACE, Object, is_active, is_ready
from meshbook.outage.lab import OWNER, Lab
from meshbook.outage.lease import BEATS
from meshbook.outage.records import SCALE_TO_ZERO, Check, Intent, Outage
from meshbook.outage.rollback import Rollback, insist, roll_back
from meshbook.outage.targets import (
    SELECTOR_KEY,
    DeploymentTarget,
    OutageTarget,
    ServiceTarget,
    leads_to,
    replicas_of,
)
from meshbook.verdict import counted

ENDPOINTS_S = 3.0
"""Right after a rollout, endpoints follow the pods by a moment."""
LOOK_S = 0.1
"""Seconds between two looks for the replacements of deleted pods."""
_JOIN_S = 5.0
"""Seconds that the last of these may take when the API server does not answer; its news is not waited for longer."""


class Mode(ABC):
    """One way to take something down. Made for an intent; reads only, until ``begin``."""

    about: ClassVar[str]
    stops: ClassVar[bool] = True
    """Whether the cluster's application answers nobody; else a way is cut, and each side misses something else."""
    lasts: ClassVar[bool] = True
    """Whether it does so until it is restored; else it comes back at once, by itself."""
    ends_pods: ClassVar[bool] = False
    """Whether no pod is left that could answer, once it is down."""
    silences: ClassVar[bool] = False
    """Whether those who ask from the cluster are down as well."""
    restored_by: str = ""
    """Who restores it, where it is not this process by the records; a watchdog cannot help then."""

    def __init__(self, intent: Intent) -> None:
        self.intent = intent
        self.targets: tuple[OutageTarget, ...] = tuple(self.find_targets())
        self._begun = False
        self._recorded: dict[OutageTarget, Object] = {}

    def find_targets(self) -> Iterable[OutageTarget]:
        """Return what is recorded and changed."""
        return ()

    @abstractmethod
    def changes(self) -> list[str]:
        """Return what ``begin`` will change, one line each."""

    @abstractmethod
    def checks(self) -> list[Check]:
        """Return what must hold for this mode, besides what must hold for all."""

    def begin(self, outage: Outage) -> None:
        """Record every target, request all of them down, wait until they are; fills in the times."""
        self._begun = True
        for target in self.targets:
            self._recorded[target] = target.record(self.intent)
        found = list(self._recorded.values())
        self.request_down(outage, found)
        self.wait_until_down(found)
        outage.down = datetime.now(UTC)

    def request_down(self, outage: Outage, found: Sequence[Object]) -> None:
        outage.down_requested = datetime.now(UTC)
        for target in self.targets:
            target.request_down(self.intent.run)
        outage.down_accepted = datetime.now(UTC)

    def wait_until_down(self, found: Sequence[Object]) -> None:
        for target, before in zip(self.targets, found, strict=True):
            target.wait_until_down(before, self.intent.timeout_s, self.require_down)

    def require_down(self) -> None:
        """Raise OutageError where somebody else has restored something, or deleted it."""
        if said := self.undone():
            raise OutageError(
                f"{self.intent}: the outage did not last: {said}",
                hint="have a GitOps controller or an autoscaler leave it alone meanwhile; nothing is concluded from it",
            )

    def undone(self) -> str:
        """Say what somebody else has restored meanwhile, and who; empty: nothing."""
        return "; ".join(filter(None, (target.undone(self.intent.run) for target in self.targets)))

    def end(self, outage: Outage) -> None:
        """Restore what the records of this run tell of, wait until it is ready, clear the records."""
        if not self._begun:
            return

        def accepted() -> None:
            outage.restore_accepted = datetime.now(UTC)

        asked = datetime.now(UTC)
        # all of them: a record whose writing was cut short is not known here
        ways = [Rollback(target=one, run=self.intent.run, found=self._recorded.get(one)) for one in self.targets]
        if roll_back(ways, self.intent.timeout_s, accepted=accepted):
            outage.restore_requested, outage.ready_again = asked, datetime.now(UTC)


class ScaledToZero(Mode):
    """The application's Deployment at 0 replicas: pods end in order and finish what they have begun."""

    about = "scale the application to 0: pods end in order (the article's way)"
    ends_pods = True

    def find_targets(self) -> Iterable[DeploymentTarget]:
        one = self.intent
        return [DeploymentTarget(cluster=one.cluster, namespace=one.namespace, name=one.deployment)]

    def changes(self) -> list[str]:
        return [f"{target}: {replicas_of(target.read())} → 0 replicas" for target in self.targets]

    def checks(self) -> list[Check]:
        counts = {str(target): replicas_of(target.read()) for target in self.targets}
        told = ", ".join(f"{name} has {counted(count, 'replica')}" for name, count in counts.items())
        empty = [f"{name} has 0 replicas already" for name, count in counts.items() if not count]
        return [Check(name="there is something to take down", ok=not empty, saw=", ".join(empty) or told)]


class EastWestDown(ScaledToZero):
    """The east-west gateways of the cluster at 0 replicas: no mesh request gets in from other clusters."""

    about = "scale the cluster's east-west gateway to 0: mesh requests from other clusters find nobody"
    stops, ends_pods = False, False

    def find_targets(self) -> Iterable[DeploymentTarget]:
        cluster = self.intent.cluster
        found = [
            DeploymentTarget.of(cluster, deployment)
            for service in cluster.list("Service", SYSTEM_NAMESPACE, labels=EAST_WEST)
            for deployment in cluster.list("Deployment", SYSTEM_NAMESPACE)
            if leads_to(service, deployment)
        ]
        if not found:
            raise OutageError(
                f"{cluster.name}: no Deployment in {SYSTEM_NAMESPACE} is behind a Service labelled {EAST_WEST}",
                hint="is the east-west gateway of part 3 of the article installed?",
            )
        return dict.fromkeys(found)


class PodsDeleted(ScaledToZero):
    """The application's pods deleted with grace 0, as when a machine goes down; their ReplicaSet replaces them.

    Once, and not again and again until the outage ends: that would be ``scale-to-zero`` with less grace. How long they
    take to be replaced is what this mode is for, so a thread of its own watches when that is. Nothing has to be undone:
    the record only says whose outage it is.
    """

    about = "delete the application's pods without grace, once: they are replaced at once"
    lasts, ends_pods = False, False
    restored_by = "by their ReplicaSet, at once"

    def __init__(self, intent: Intent) -> None:
        super().__init__(intent)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._replaced: datetime | None = None
        self._replaced_ready: datetime | None = None

    def changes(self) -> list[str]:
        where = f"{self.intent.cluster.name}: Pod {{}} in {self.intent.namespace}: deleted, grace 0"
        return [where.format(pod["metadata"]["name"]) for pod in self._pods()]

    def request_down(self, outage: Outage, found: Sequence[Object]) -> None:
        self._deleted = self._pods()
        name, count = f"replacement in {self.intent.cluster.name}", sum(map(replicas_of, found))
        self._thread = threading.Thread(target=self._watch_replacement, args=(count,), name=name, daemon=True)
        self._thread.start()
        outage.down_requested = datetime.now(UTC)
        for pod in self._deleted:
            self.intent.cluster.delete_object("Pod", pod["metadata"]["name"], self.intent.namespace, grace_s=0)
        outage.down_accepted = datetime.now(UTC)

    def wait_until_down(self, found: Sequence[Object]) -> None:
        one = self.intent
        for pod in self._deleted:
            name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
            one.cluster.wait_for_deletion("Pod", name, one.namespace, uid, one.timeout_s)

    def undone(self) -> str:
        """Nobody has to restore what is replaced at once."""
        return ""

    def end(self, outage: Outage) -> None:
        """Wait for the replacements; the times of their return are those at which they were first seen."""
        self._ended.set()
        if self._thread:
            self._thread.join(_JOIN_S)
        super().end(outage)
        outage.restore_requested = outage.restore_accepted = self._replaced or outage.restore_accepted
        outage.ready_again = self._replaced_ready or outage.ready_again

    def _pods(self) -> list[Object]:
        (target,) = self.find_targets()
        return [pod for pod in target.pods(target.read()) if is_active(pod)]

    def _watch_replacement(self, count: int) -> None:
        old = {pod["metadata"]["uid"] for pod in self._deleted}
        while self._replaced_ready is None and not self._ended.wait(LOOK_S):
            try:
                pods = [pod for pod in self._pods() if pod["metadata"]["uid"] not in old]
            except ClusterError:
                continue
            now = datetime.now(UTC)
            if self._replaced is None and len(pods) >= count:
                self._replaced = now
            if self._replaced and sum(map(is_ready, pods)) >= count:
                self._replaced_ready = now


class ReadinessLost(Mode):
    """The Services that lead to the application have no endpoints in this cluster, as if no pod were ready."""

    about = "take the application's pods from their Service's endpoints, while they run on"

    def find_targets(self) -> list[ServiceTarget]:
        cluster, namespace = self.intent.cluster, self.intent.namespace
        deployment = cluster.get("Deployment", self.intent.deployment, namespace)
        return [
            ServiceTarget.of(cluster, one) for one in cluster.list("Service", namespace) if leads_to(one, deployment)
        ]

    def changes(self) -> list[str]:
        return [f"{target}: selector gets {SELECTOR_KEY}={self.intent.run}, so no endpoints" for target in self.targets]

    def checks(self) -> list[Check]:
        services, cluster, app = self.find_targets(), self.intent.cluster, self.intent.deployment
        for service in services:
            with contextlib.suppress(WaitTimeout):
                service.wait_for_endpoints(1, ENDPOINTS_S)
        counts = {service.name: service.ready_endpoints() for service in services}
        told = ", ".join(f"Service {name} has {count} ready endpoints" for name, count in counts.items())
        found = [service.read() for service in services]
        others = [
            str(one["metadata"]["name"])
            for one in cluster.list("Deployment", self.intent.namespace)
            if one["metadata"]["name"] != app and any(leads_to(service, one) for service in found)
        ]
        alone = f"also behind it: {', '.join(others)}" if others else f"only {app} is behind it"
        return [
            Check(
                name="there is something to take down",
                ok=any(counts.values()),
                saw=told or f"no Service selects {app}",
            ),
            Check(name="nothing else goes down with it", ok=not others, saw=alone),
        ]


class ClusterDown(Mode):
    """The whole cluster down, API server and pods: requests get no answer. Only a lab can do that, and only a lab may.

    The lab is asked for its fault ``cluster-down`` with a short lease, renewed as long as this process lives.
    """

    about = "let the whole cluster fall silent, API server and pods (a lab only)"
    silences = True

    def __init__(self, intent: Intent) -> None:
        super().__init__(intent)
        self._lab, self._lease_s = Lab(intent.cluster), intent.cluster.connection.patience.lease_s
        self.restored_by = f"at the end however it comes, and by the lab {self._lease_s:g} s after this process is gone"
        self._ended = threading.Event()
        self._fault = ""

    def changes(self) -> list[str]:
        return [f"{self.intent.cluster.name}: API server and all pods fall silent"]

    def checks(self) -> list[Check]:
        possible = self._lab.is_there
        saw = "the lab can do it" if possible else "no API can take a whole cluster down: only a lab can"
        return [Check(name="it can be done here", ok=possible, saw=saw)]

    def begin(self, outage: Outage) -> None:
        outage.down_requested = datetime.now(UTC)
        wanted = {"kind": "cluster-down", "context": self._lab.cluster, "for_s": self._lease_s, "by": OWNER}
        self._fault = self._lab.ask("POST", "/faults", wanted)["id"]
        outage.down_accepted = outage.down = datetime.now(UTC)
        threading.Thread(target=self._renew, args=(self._fault,), name=f"lease of {self._fault}", daemon=True).start()

    def end(self, outage: Outage) -> None:
        """End this run's own fault; one whose beginning was cut short ends by itself."""
        self._ended.set()
        outage.restore_requested = datetime.now(UTC)
        if self._fault:
            self._lab.ask("DELETE", f"/faults/{self._fault}")
        outage.restore_accepted = datetime.now(UTC)
        one = self.intent

        def rolled_out(cluster: Cluster, left_s: float) -> object:
            return cluster.wait_for_rollout(one.namespace, [one.deployment], timeout_s=left_s)

        insist(str(one), one.cluster, rolled_out, one.timeout_s)
        outage.ready_again = datetime.now(UTC)

    def _renew(self, fault: str) -> None:
        while not self._ended.wait(self._lease_s / BEATS):
            try:
                self._lab.ask("POST", f"/faults/{fault}/renew", {"for_s": self._lease_s})
            except OutageError:
                return  # the lab has ended it, or is gone


MODES: Mapping[str, type[Mode]] = {
    SCALE_TO_ZERO: ScaledToZero,
    "pods-deleted": PodsDeleted,
    "readiness-lost": ReadinessLost,
    "east-west-down": EastWestDown,
    "cluster-down": ClusterDown,
}


def mode_of(intent: Intent) -> Mode:
    """Return the mode that an intent names, made for it."""
    if intent.mode not in MODES:
        raise UsageError(f"there is no mode {intent.mode!r}", hint=f"one of {', '.join(MODES)}")
    return MODES[intent.mode](intent)
