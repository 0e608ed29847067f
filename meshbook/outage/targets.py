"""What an outage changes: a Deployment or a Service. Each kind says here how it is taken down and how it is restored.

A target is recorded before it is changed, and restored by its record alone, by whomever, as often as they like
(``rollback``). Which targets, and when, is for ``modes`` and ``session``.
"""

from __future__ import annotations

import json
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from meshbook.clusters import Cluster
from meshbook.errors import ClusterError, OutageError
from meshbook.objects import (
    SERVICE_LABEL,
    Object,
    annotations_of,
    describe_pod,
    is_active,
    is_ready,
    labels_of,
    last_writer,
    ready_endpoints,
    selector_text,
    selects,
    timestamp,
)
from meshbook.outage.records import MODE, OF, RECORD, REPLICAS, RUN, SINCE, Intent, is_recorded
from meshbook.verdict import counted

TRIES = 10
"""Times that a record is written or taken off again when the object has changed meanwhile, as by its controller."""
SELECTOR_KEY = "meshbook.io/down"
"""Key that no pod carries: in a Service's selector it leaves the Service without endpoints."""


@dataclass(frozen=True, kw_only=True)
class OutageTarget(ABC):
    """One object of a cluster, with or without a record on it."""

    kind: ClassVar[str]
    resource: ClassVar[str]
    """As ``kubectl auth can-i`` takes it."""
    part: ClassVar[str]
    """What of its spec is changed."""
    cluster: Cluster
    namespace: str
    name: str

    @classmethod
    def of(cls, cluster: Cluster, found: Object) -> Self:
        return cls(cluster=cluster, namespace=found["metadata"]["namespace"], name=found["metadata"]["name"])

    def __str__(self) -> str:
        return f"{self.cluster.name}: {self.kind} {self.name} in {self.namespace}"

    @property
    def where(self) -> dict[str, str]:
        return {"context": self.cluster.name, "namespace": self.namespace, "kind": self.kind, "name": self.name}

    def read(self) -> Object:
        return self.cluster.get(self.kind, self.name, self.namespace)

    def find(self) -> Object | None:
        return self.cluster.find(self.kind, self.name, self.namespace)

    def patch(self, change: Object) -> Object:
        return self.cluster.patch(self.kind, self.name, change, namespace=self.namespace)

    @abstractmethod
    def before(self, found: Object) -> dict[str, str]:
        """Return what its record must say, besides whose outage it is, for it to be restored."""

    @abstractmethod
    def request_down(self, run: str) -> None: ...

    @abstractmethod
    def wait_until_down(self, before: Object, timeout_s: float, require: Callable[[], None]) -> None:
        """Wait until one that was so ``before`` is down; ``require`` ends the wait when it is restored meanwhile."""

    @abstractmethod
    def is_down(self, found: Object) -> bool:
        """Tell whether one that was found so is still as the outage left it; if not, somebody else restored it."""

    @abstractmethod
    def state(self, found: Object) -> str:
        """Return how one that was found so is when it is restored."""

    @abstractmethod
    def request_restore(self, found: Object) -> None: ...

    @abstractmethod
    def wait_until_restored(self, found: Object, timeout_s: float) -> None:
        """Wait until one that was found so, down or not, is ready."""

    @abstractmethod
    def restoring_patch(self, found: Object) -> list[Object]:
        """Return the steps of a JSON patch that restores it, once it is down, to how it was found."""

    @abstractmethod
    def restoring_command(self, found: Object | None) -> list[str]:
        """Return what ``kubectl`` is told to restore one that was found so, or was not seen."""

    def by_hand(self, found: Object | None) -> str:
        """Return the shell commands that restore one that was found so with its record, or was not seen at all."""
        kubectl = ["kubectl", *self.cluster.kubectl_options, "-n", self.namespace]
        what = f"{self.kind.lower()}/{self.name}"
        try:
            down = found is None or self.is_down(found)
        except OutageError:  # its record cannot be read
            down = True
        steps = [self.restoring_command(found)] if down else []
        steps.append(["annotate", what, *(f"{key}-" for key in RECORD)])
        return " && ".join(shlex.join([*kubectl, *step]) for step in steps)

    def undone(self, run: str) -> str:
        """Say who has restored it although the outage of ``run`` is not over; empty: nobody."""
        found = self.find()
        if found is None:
            return f"{self} was deleted"
        if annotations_of(found).get(RUN) != run:
            return f"the record of {self} was taken off, as its watchdog does, and meshbook restore --force"
        if self.is_down(found):
            return ""
        state = self.state(found)
        return f"{self} was restored{state and f' to {state}'} by {last_writer(found, self.part)}"

    def record(self, intent: Intent) -> Object:
        """Write whose outage this is and how it was before; return the object with its record.

        Refused when it carries a record already: what it says would be lost.
        """
        whose = {RUN: intent.run, SINCE: timestamp(), MODE: intent.mode, OF: intent.namespace}
        found = self.read()
        for _ in range(TRIES):
            if is_recorded(found):
                raise self._changed_by_others(
                    "let that run end, or meshbook restore if it is dead",
                    run=annotations_of(found).get(RUN),
                    since=annotations_of(found).get(SINCE),
                )
            if written := self._annotate(found, whose | self.before(found)):
                return written
            found = self.read()
            if annotations_of(found).get(RUN) == intent.run:
                return found  # it was the answer that got lost, not the record
        raise self._changed_by_others("try again")

    def clear_record(self, run: str) -> None:
        """Take the record of ``run`` off; that of another run, which has come since, stays."""
        for _ in range(TRIES):
            found = self.find()
            if found is None or annotations_of(found).get(RUN) != run:
                return
            if self._annotate(found, dict.fromkeys(RECORD)):
                return
        raise self._changed_by_others("meshbook restore takes the record off")

    def _annotate(self, found: Object, values: dict[str, Any]) -> Object | None:
        """Write annotations and return the object; None when it is not as it was ``found`` any more."""
        version = found["metadata"]["resourceVersion"]
        try:
            return self.patch({"metadata": {"annotations": values, "resourceVersion": version}})
        except ClusterError as error:
            if error.code != 409:
                raise
            return None

    def _changed_by_others(self, hint: str, **evidence: object) -> OutageError:
        return OutageError(f"{self} is being changed by someone else", hint=hint, **evidence)


def replicas_of(deployment: Object) -> int:
    return int(deployment["spec"].get("replicas", 1))


class DeploymentTarget(OutageTarget):
    """Down: scaled to 0. An autoscaler leaves a target at 0 alone, and goes on when it is restored."""

    kind, resource, part = "Deployment", "deployments.apps", "replicas"

    def before(self, found: Object) -> dict[str, str]:
        return {REPLICAS: str(replicas_of(found))}

    def request_down(self, run: str) -> None:
        self.cluster.scale(self.name, 0, self.namespace)

    def wait_until_down(self, before: Object, timeout_s: float, require: Callable[[], None]) -> None:
        def look() -> tuple[bool | None, str]:
            require()
            pods = self.pods(before)
            return (None if pods else True), "; ".join(map(describe_pod, pods))

        self.cluster.wait_until(f"pods of {self.name} gone", look, timeout_s)

    def pods(self, found: Object) -> list[Object]:
        return self.cluster.list("Pod", self.namespace, labels=selector_text(found["spec"]["selector"]))

    def _replicas_before(self, found: Object) -> int:
        recorded = annotations_of(found).get(REPLICAS, "")
        if not recorded.isdigit():
            raise OutageError(f"{self}: cannot read its annotation {REPLICAS}: {recorded!r}", hint="scale it by hand")
        return int(recorded)

    def is_down(self, found: Object) -> bool:
        return self._replicas_before(found) > 0 and replicas_of(found) == 0

    def state(self, found: Object) -> str:
        return counted(self._replicas_before(found) if self.is_down(found) else replicas_of(found), "replica")

    def request_restore(self, found: Object) -> None:
        self.cluster.scale(self.name, self._replicas_before(found), self.namespace)

    def wait_until_restored(self, found: Object, timeout_s: float) -> None:
        """Wait until its replicas are ready, however many somebody else or its autoscaler wants by now."""
        self.cluster.wait_for_rollout(self.namespace, [self.name], timeout_s=timeout_s)

    def restoring_command(self, found: Object | None) -> list[str]:
        count = annotations_of(found).get(REPLICAS, "") if found else ""
        return ["scale", f"deployment/{self.name}", f"--replicas={count if count.isdigit() else 'N'}"]

    def restoring_patch(self, found: Object) -> list[Object]:
        path = "/spec/replicas"
        return [{"op": "test", "path": path, "value": 0}, {"op": "replace", "path": path, "value": replicas_of(found)}]


def leads_to(service: Object, deployment: Object) -> bool:
    """Tell whether a Service selects a Deployment's pods, or will when it is restored."""
    selector = _own_selector(service)
    return bool(selector) and selects({"matchLabels": selector}, labels_of(deployment["spec"]["template"]))


def _own_selector(service: Object) -> dict[str, str]:
    return {key: value for key, value in (service["spec"].get("selector") or {}).items() if key != SELECTOR_KEY}


class ServiceTarget(OutageTarget):
    """Down: without endpoints, by one more key in its selector, while the pods behind it run on.

    A pod's own Ready condition belongs to its kubelet, which writes it again within seconds; probes and labels cannot
    be changed without new pods. With this key the endpoints go from the EndpointSlices as they do when pods are not
    ready, and come back when it goes.
    """

    kind, resource, part = "Service", "services", "selector"

    def before(self, found: Object) -> dict[str, str]:
        return {}

    def request_down(self, run: str) -> None:
        self.patch({"spec": {"selector": {SELECTOR_KEY: run}}})

    def wait_until_down(self, before: Object, timeout_s: float, require: Callable[[], None]) -> None:
        self.wait_for_endpoints(0, timeout_s, require)

    def wait_for_endpoints(self, least: int, timeout_s: float, require: Callable[[], None] = lambda: None) -> None:
        """Wait until there are ``least`` ready endpoints or more; for 0 until there is none."""

        def look() -> tuple[bool | None, str]:
            require()
            count = self.ready_endpoints()
            return (True if (count >= least if least else not count) else None), f"{count} ready endpoints"

        self.cluster.wait_until(f"Service {self.name} with {least or 'no'} ready endpoints", look, timeout_s)

    def ready_endpoints(self) -> int:
        """Return how many of its endpoints are ready in its own cluster."""
        labels = f"{SERVICE_LABEL}={self.name}"
        return len(ready_endpoints(self.cluster.list("EndpointSlice", self.namespace, labels=labels)))

    def is_down(self, found: Object) -> bool:
        """Tell whether its selector has the key, of the run that its record names if it has one."""
        by = (found["spec"].get("selector") or {}).get(SELECTOR_KEY)
        return by is not None and by == annotations_of(found).get(RUN, by)

    def state(self, found: Object) -> str:
        return ""

    def request_restore(self, found: Object) -> None:
        if self.is_down(self.patch({"spec": {"selector": {SELECTOR_KEY: None}}})):
            raise OutageError(f"{self}: its selector keeps {SELECTOR_KEY}", hint="take it out by hand")

    def wait_until_restored(self, found: Object, timeout_s: float) -> None:
        """Wait until all ready pods behind the Service are ready endpoints, however many there are by now."""
        labels = selector_text({"matchLabels": _own_selector(found)})

        def look() -> tuple[bool | None, str]:
            pods = self.cluster.list("Pod", self.namespace, labels=labels) if labels else []
            active = [pod for pod in pods if is_active(pod)]
            ready, count = sum(map(is_ready, active)), self.ready_endpoints()
            told = f"{count} ready endpoints, {ready} of {len(active)} pods ready"
            return (True if count >= ready and (ready or not active) else None), told

        self.cluster.wait_until(f"Service {self.name} with its endpoints", look, timeout_s)

    def restoring_command(self, found: Object | None) -> list[str]:
        patch = json.dumps({"spec": {"selector": {SELECTOR_KEY: None}}})
        return ["patch", f"service/{self.name}", "--type=merge", "-p", patch]

    def restoring_patch(self, found: Object) -> list[Object]:
        return [{"op": "remove", "path": f"/spec/selector/{json_pointer(SELECTOR_KEY)}"}]


def json_pointer(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


TARGETS: dict[str, type[OutageTarget]] = {one.kind: one for one in (DeploymentTarget, ServiceTarget)}
"""All that an outage may have changed."""
