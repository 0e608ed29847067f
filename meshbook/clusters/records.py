"""What work on clusters returns: frozen records, plain enough for ``pandas.DataFrame(records)``.

No I/O and no Kubernetes objects here; ``cluster.py`` and its neighbours fill these in.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

Object = dict[str, Any]
"""A Kubernetes object as plain JSON data."""

Objects = list[Object]

Outcome = Literal["created", "configured", "unchanged", "deleted", "not found"]


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What happened to one object of a manifest."""

    context: str
    kind: str
    name: str
    namespace: str
    """Empty for kinds that have none."""
    outcome: Outcome

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.context}: {self.kind} {self.name}{where} {self.outcome}"


@dataclass(frozen=True, kw_only=True)
class DeploymentState:
    """Replica counts of one Deployment, as in ``kubectl get deploy``."""

    context: str
    namespace: str
    name: str
    desired: int
    ready: int
    updated: int
    available: int
    settled: bool
    """The latest specification is rolled out and every replica of it is available."""

    @classmethod
    def of(cls, context: str, deployment: Object) -> DeploymentState:
        """Return the state that ``deployment`` (an apps/v1 Deployment) reports."""
        metadata, status = deployment["metadata"], deployment.get("status") or {}
        desired = int(deployment.get("spec", {}).get("replicas", 1))
        total, updated = int(status.get("replicas") or 0), int(status.get("updatedReplicas") or 0)
        available = int(status.get("availableReplicas") or 0)
        seen = int(status.get("observedGeneration") or 0) >= int(metadata.get("generation") or 0)
        return cls(
            context=context,
            namespace=metadata["namespace"],
            name=metadata["name"],
            desired=desired,
            ready=int(status.get("readyReplicas") or 0),
            updated=updated,
            available=available,
            settled=seen and updated == desired and total == desired and available == desired,
        )

    def __str__(self) -> str:
        counts = f"{self.ready}/{self.desired} ready, {self.updated} updated, {self.available} available"
        return f"{self.context}: {self.name} {counts}"


@dataclass(frozen=True, kw_only=True)
class ExecResult:
    """A command that ran to its end in a pod. Times are UTC, of this machine's clock."""

    context: str
    pod: str
    command: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str
    started: datetime
    """When the command was asked for; it began a little later."""
    finished: datetime


@dataclass(frozen=True, kw_only=True)
class Access:
    """Whether the user of a context may do something."""

    context: str
    verb: str
    resource: str
    namespace: str
    allowed: bool
    reason: str
