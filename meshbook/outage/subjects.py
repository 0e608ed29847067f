"""One object that an outage changes: read it, write the record on it, take the record off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from meshbook.clusters import Cluster, Object
from meshbook.errors import ClusterError, OutageError
from meshbook.outage.intent import Intent
from meshbook.outage.records import ALL, MODE, OF, RUN, SINCE, notes_on


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A Deployment or Service of one cluster."""

    cluster: Cluster
    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, cluster: Cluster, kind: str, found: Object) -> Subject:
        metadata = found["metadata"]
        return cls(cluster=cluster, kind=kind, namespace=metadata["namespace"], name=metadata["name"])

    def __str__(self) -> str:
        return f"{self.cluster.name}: {self.kind} {self.name} in {self.namespace}"

    def read(self) -> Object:
        return self.cluster.get(self.kind, self.name, self.namespace)

    def patch(self, change: Object) -> Object:
        return self.cluster.patch(self.kind, self.name, change, namespace=self.namespace)

    def record(self, found: Object, intent: Intent, more: Mapping[str, str] | None = None) -> None:
        """Write whose outage this is and how it was before; refused when somebody changed the object meanwhile."""
        since = datetime.now(UTC).isoformat(timespec="seconds")
        values = {RUN: intent.run, SINCE: since, MODE: intent.mode, OF: intent.namespace, **(more or {})}
        version = found["metadata"]["resourceVersion"]
        try:
            self.patch({"metadata": {"annotations": values, "resourceVersion": version}})
        except ClusterError as error:
            if error.code == 409:
                raise OutageError(f"{self} is being changed by someone else", hint="try again") from error
            raise

    def forget(self) -> None:
        """Take the record off."""
        self.patch({"metadata": {"annotations": dict.fromkeys(ALL)}})

    def is_of(self, run: str) -> bool:
        """Tell whether the record on the object is that of ``run``."""
        return notes_on(self.read()).get(RUN) == run
