"""How a Deployment gets from its old pods to its new ones: sizes of ReplicaSets. Pure arithmetic, no API objects made.

The rules are those of ``maxSurge`` and ``maxUnavailable``: never more pods than replicas and surge together, never
fewer available ones than replicas less the unavailable.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshbook.lab.controllers.objects import Object, annotations_of, labels_of, scaled_value

HASH_LABEL = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"


def size(replica_set: Object) -> int:
    """Return how many pods a ReplicaSet is asked to have."""
    replicas: int = replica_set["spec"].get("replicas", 1)
    return replicas


def count(replica_set: Object | None, name: str) -> int:
    """Return one of the numbers in a ReplicaSet's status; 0 where it is not there yet."""
    number: int = ((replica_set or {}).get("status") or {}).get(name) or 0
    return number


def revision(obj: Object) -> int:
    return int(annotations_of(obj).get(REVISION, "0"))


def is_template_of(replica_set: Object, deployment: Object) -> bool:
    """Whether a ReplicaSet's pods are those that the Deployment asks for; the hash label does not count."""
    template = replica_set["spec"]["template"]
    metadata = template.get("metadata") or {}
    labels = {name: value for name, value in (metadata.get("labels") or {}).items() if name != HASH_LABEL}
    plain = {**template, "metadata": {**metadata, "labels": labels}}
    return _normal(plain) == _normal(deployment["spec"]["template"])


def _normal(template: Object) -> Object:
    metadata = template.get("metadata") or {}
    return {**template, "metadata": {name: value for name, value in metadata.items() if value}}


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """One Deployment with its ReplicaSets: that of its template, if there is one, and the old ones (oldest first)."""

    deployment: Object
    new: Object | None
    old: tuple[Object, ...]

    @property
    def replicas(self) -> int:
        return size(self.deployment)

    @property
    def recreates(self) -> bool:
        strategy: str = (self.deployment["spec"].get("strategy") or {}).get("type", "RollingUpdate")
        return strategy == "Recreate"

    @property
    def paused(self) -> bool:
        return bool(self.deployment["spec"].get("paused"))

    @property
    def sets(self) -> tuple[Object, ...]:
        return (*self.old, self.new) if self.new else self.old

    @property
    def max_surge(self) -> int:
        return 0 if self.recreates else self._limit("maxSurge", up=True)

    @property
    def max_unavailable(self) -> int:
        if self.recreates or self.replicas == 0:
            return 0
        limit = self._limit("maxUnavailable", up=False)
        if limit == 0 and self.max_surge == 0:
            return 1
        return min(limit, self.replicas)

    def _limit(self, name: str, *, up: bool) -> int:
        rolling = (self.deployment["spec"].get("strategy") or {}).get("rollingUpdate") or {}
        return scaled_value(rolling.get(name, "25%"), self.replicas, up=up)

    def total(self, name: str) -> int:
        """Return the sum of one status number over all ReplicaSets."""
        return sum(count(found, name) for found in self.sets)

    def new_size(self) -> int:
        """Return the size that the new ReplicaSet may have now."""
        present = size(self.new) if self.new else 0
        if self.recreates or present >= self.replicas:
            return self.replicas
        room = self.replicas + self.max_surge - sum(size(found) for found in self.sets)
        return present + max(0, min(room, self.replicas - present))

    def old_sizes(self) -> list[tuple[Object, int]]:
        """Return the old ReplicaSets that must shrink now, each with its next size."""
        if self.recreates:
            return [(found, 0) for found in self.old if size(found)]
        least = self.replicas - self.max_unavailable
        starting = size(self.new) - count(self.new, "availableReplicas") if self.new else 0
        removable = sum(size(found) for found in self.sets) - least - starting
        sizes = {found["metadata"]["uid"]: size(found) for found in self.old}
        for found in self.old:
            broken = size(found) - count(found, "availableReplicas")
            taken = max(0, min(broken, removable))
            sizes[found["metadata"]["uid"]] -= taken
            removable -= taken
        spare = min(removable, self.total("availableReplicas") - least)
        for found in self.old:
            taken = max(0, min(sizes[found["metadata"]["uid"]], spare))
            sizes[found["metadata"]["uid"]] -= taken
            spare -= taken
        return [
            (found, sizes[found["metadata"]["uid"]])
            for found in self.old
            if sizes[found["metadata"]["uid"]] < size(found)
        ]

    @property
    def next_revision(self) -> int:
        return max((revision(found) for found in self.old), default=0) + 1

    @property
    def spent(self) -> list[Object]:
        """Old ReplicaSets beyond the revision history: empty ones, oldest revision first."""
        limit = self.deployment["spec"].get("revisionHistoryLimit", 10)
        empty = [found for found in self.old if not size(found) and not count(found, "replicas")]
        surplus = max(0, len(self.old) - limit)
        return sorted(empty, key=revision)[:surplus]


def split(deployment: Object, owned: list[Object], hash_of_template: str) -> Rollout:
    """Tell the new ReplicaSet from the old ones. ``owned`` comes oldest first."""
    same = [found for found in owned if is_template_of(found, deployment)]
    same = same or [found for found in owned if labels_of(found).get(HASH_LABEL) == hash_of_template]
    new = same[0] if same else None
    return Rollout(deployment=deployment, new=new, old=tuple(found for found in owned if found is not new))
