"""The mode that deletes pods without grace: processes are killed at once, as when a machine goes down.

Once, and not again and again until the outage ends: that would be ``scale-to-zero`` with less grace, while deleted once
they come back by their ReplicaSet, and how long that takes is what this mode is for. Nothing has to be undone, so the
record on the Deployment only says whose outage it is.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime

from meshbook.clusters import Object
from meshbook.errors import ClusterError
from meshbook.objects import is_active, is_ready, selector_text
from meshbook.outage.intent import Intent
from meshbook.outage.records import Outage
from meshbook.outage.scaling import ScaledToZero, replicas_of
from meshbook.outage.subjects import Subject

LOOK_S = 0.1
"""Seconds between two looks for the replacements."""
LAST_LOOK_S = 5.0
"""Seconds that the last look may take when the API server does not answer; its news is not waited for longer."""


class PodsDeleted(ScaledToZero):
    """The application's pods deleted with grace 0; their ReplicaSet replaces them."""

    about = "delete the application's pods without grace, once: they are replaced at once"
    undone = "by their ReplicaSet, at once"

    def __init__(self, intent: Intent) -> None:
        super().__init__(intent)
        self.watch = _Return(self, intent)
        self._gone: list[Object] = []

    def changes(self) -> list[str]:
        names = [str(pod["metadata"]["name"]) for pod in self.pods()]
        return [
            f"{self.intent.cluster.name}: Pod {name} in {self.intent.namespace}: deleted, grace 0" for name in names
        ]

    def notes(self, subject: Subject, found: Object) -> dict[str, str]:
        return {}

    def prepare(self, found: Sequence[Object]) -> None:
        self._gone = self.pods()
        self.watch.begin({str(pod["metadata"]["uid"]) for pod in self._gone}, sum(map(replicas_of, found)))

    def order(self, subject: Subject) -> None:
        for pod in self._gone:
            subject.cluster.delete_object("Pod", pod["metadata"]["name"], subject.namespace, grace_s=0)

    def wait_until_gone(self, subject: Subject, before: Object) -> None:
        for pod in self._gone:
            name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
            subject.cluster.wait_for_deletion("Pod", name, subject.namespace, uid, self.intent.timeout_s)

    def bring_back(self, outage: Outage) -> None:
        """Wait for the replacements; the times of their return are those at which they were first seen."""
        seen = self.watch.end()
        super().bring_back(outage)
        outage.restore_requested = outage.restore_accepted = seen.there or outage.restore_accepted
        outage.ready_again = seen.ready or outage.ready_again

    def pods(self) -> list[Object]:
        """Return the pods that are there and not on their way out."""
        (subject,) = self.subjects
        found = subject.cluster.list("Pod", subject.namespace, labels=selector_text(subject.read()["spec"]["selector"]))
        return [pod for pod in found if is_active(pod)]


class _Return:
    """Watches from a thread of its own when the replacements are there, and when they are ready."""

    def __init__(self, mode: PodsDeleted, intent: Intent) -> None:
        self._mode = mode
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=f"return in {intent.cluster.name}", daemon=True)
        self.there: datetime | None = None
        self.ready: datetime | None = None

    def begin(self, old: set[str], count: int) -> None:
        self._old, self._count = old, count
        self._thread.start()

    def end(self) -> _Return:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(LAST_LOOK_S)
        return self

    def _watch(self) -> None:
        while self.ready is None and not self._stop.wait(LOOK_S):
            try:
                pods = [pod for pod in self._mode.pods() if pod["metadata"]["uid"] not in self._old]
            except ClusterError:
                continue
            now = datetime.now(UTC)
            if self.there is None and len(pods) >= self._count:
                self.there = now
            if self.there and sum(map(is_ready, pods)) >= self._count:
                self.ready = now
