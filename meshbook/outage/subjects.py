"""One object that an outage changes: read it, write the record on it, take the record off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from meshbook.clusters import Cluster, Object
from meshbook.errors import ClusterError, OutageError
from meshbook.outage.intent import Intent
from meshbook.outage.records import ALL, MODE, OF, RUN, SINCE, Restored, is_recorded, notes_on

TRIES = 10
"""Times that a record is written or taken off again when the object has changed meanwhile, as by its controller."""

Notes = Callable[["Subject", Object], Mapping[str, str]]
"""Annotations that tell how an object was, for a mode to bring it back by."""


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

    def find(self) -> Object | None:
        return self.cluster.find(self.kind, self.name, self.namespace)

    def patch(self, change: Object) -> Object:
        return self.cluster.patch(self.kind, self.name, change, namespace=self.namespace)

    def restored(self, *, away: bool, state: str = "") -> Restored:
        """Return what is told of it when it was ``away``, or had been brought back by somebody else."""
        return Restored(
            context=self.cluster.name,
            namespace=self.namespace,
            kind=self.kind,
            name=self.name,
            outcome="restored" if away else "was already restored",
            state=state,
        )

    def record(self, intent: Intent, notes: Notes) -> Object:
        """Write whose outage this is and how it was before; return the object as it was.

        Refused when it carries a record already: what it says would be lost.
        """
        found = self.read()
        for _ in range(TRIES):
            self._refuse_second_record(found)
            if self._annotate(found, _record_of(intent) | dict(notes(self, found))):
                return found
            before, found = found, self.read()
            if notes_on(found).get(RUN) == intent.run:
                return before  # it was the answer that got lost, not the record
        raise self._busy("try again")

    def forget(self, run: str | None) -> None:
        """Take the record of ``run`` off; that of another run, which has come since, stays."""
        for _ in range(TRIES):
            found = self.find()
            if found is None or notes_on(found).get(RUN) != run or self._annotate(found, dict.fromkeys(ALL)):
                return
        raise self._busy("meshbook restore takes the record off")

    def _annotate(self, found: Object, values: Mapping[str, str | None]) -> bool:
        """Write annotations; False when the object is not as it was ``found`` any more."""
        version = found["metadata"]["resourceVersion"]
        try:
            self.patch({"metadata": {"annotations": values, "resourceVersion": version}})
        except ClusterError as error:
            if error.code != 409:
                raise
            return False
        return True

    def _refuse_second_record(self, found: Object) -> None:
        if is_recorded(found):
            notes = notes_on(found)
            raise self._busy(
                "let that run end, or meshbook restore if it is dead", run=notes.get(RUN), since=notes.get(SINCE)
            )

    def _busy(self, hint: str, **evidence: object) -> OutageError:
        return OutageError(f"{self} is being changed by someone else", hint=hint, **evidence)


def _record_of(intent: Intent) -> dict[str, str]:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return {RUN: intent.run, SINCE: since, MODE: intent.mode, OF: intent.namespace}
