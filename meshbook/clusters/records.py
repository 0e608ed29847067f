"""What the verbs of a cluster return, for tables and for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from meshbook.objects import Object

ApplyOutcome = Literal["created", "configured", "unchanged", "deleted", "not found", "left alone"]


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What happened to one object of a manifest."""

    context: str
    kind: str
    name: str
    namespace: str
    """Empty for kinds that have none."""
    outcome: ApplyOutcome
    """What is to be deleted and was not made by meshbook is left alone."""
    left: str = ""
    """Fields that stay as another owner has set them."""

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        left = f", but for {self.left}, which another owner has set" if self.left else ""
        return f"{self.context}: {self.kind} {self.name}{where} {self.outcome}{left}"


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
    obstacle: str = ""
    """What stands in the way where it was waited for in vain: refused replicas, and what its pods say."""

    @classmethod
    def of(cls, context: str, deployment: Object) -> DeploymentState:
        """Return the state that ``deployment`` (an apps/v1 Deployment) reports."""
        metadata, status = deployment["metadata"], deployment.get("status") or {}
        desired = int(deployment.get("spec", {}).get("replicas", 1))
        total, ready, updated, available = (
            int(status.get(key) or 0) for key in ("replicas", "readyReplicas", "updatedReplicas", "availableReplicas")
        )
        seen = int(status.get("observedGeneration") or 0) >= int(metadata.get("generation") or 0)
        return cls(
            context=context,
            namespace=metadata["namespace"],
            name=metadata["name"],
            desired=desired,
            ready=ready,
            updated=updated,
            available=available,
            settled=seen and updated == desired and total == desired and available == desired,
        )

    def __str__(self) -> str:
        counts = f"{self.ready}/{self.desired} ready, {self.updated} updated, {self.available} available"
        return f"{self.context}: {self.name} {counts}"
