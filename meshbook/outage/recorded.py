"""What all modes have in common that change objects: record, order, wait until it is gone; and back by the records.

A mode says what it changes, what it notes besides, and how to tell that it is away; how that is undone is its
``undoing``. The modes are in ``scaling``, ``deleting`` and ``endpoints``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from meshbook.clusters import Object
from meshbook.outage import undoing
from meshbook.outage.intent import Intent
from meshbook.outage.records import RUN, Outage, notes_on
from meshbook.outage.subjects import Subject
from meshbook.outage.undoing import Undoing


class Recorded(ABC):
    """A mode that writes its record on every object before it changes one."""

    undoing: Undoing

    def __init__(self, intent: Intent) -> None:
        self.intent = intent
        self.subjects = tuple(self.find_subjects())

    @abstractmethod
    def find_subjects(self) -> Iterable[Subject]:
        """Return what is to be changed."""

    def notes(self, subject: Subject, found: Object) -> Mapping[str, str]:
        """Return annotations that tell how the object was, besides whose outage it is."""
        return {}

    def prepare(self, found: Sequence[Object]) -> None:  # noqa: B027 - most have nothing to get ready
        """Get ready for the order; ``found`` are the subjects as they were."""

    @abstractmethod
    def order(self, subject: Subject) -> None:
        """Give the order to go away."""

    @abstractmethod
    def wait_until_gone(self, subject: Subject, before: Object) -> None:
        """Wait until it is away."""

    def take(self, outage: Outage) -> None:
        found = [subject.record(self.intent, self.notes) for subject in self.subjects]
        self.prepare(found)
        outage.down_requested = datetime.now(UTC)
        for subject in self.subjects:
            self.order(subject)
        outage.down_accepted = datetime.now(UTC)
        for subject, before in zip(self.subjects, found, strict=True):
            self.wait_until_gone(subject, before)
        outage.down = datetime.now(UTC)

    def bring_back(self, outage: Outage) -> None:
        mine = [subject for subject in self.subjects if _is_of(outage.run, subject.find())]
        if not mine:
            return

        def ordered() -> None:
            outage.restore_accepted = datetime.now(UTC)

        outage.restore_requested = datetime.now(UTC)
        undoing.bring_back([(subject, self.undoing) for subject in mine], self.intent.timeout_s, ordered)
        outage.ready_again = datetime.now(UTC)


def _is_of(run: str, found: Object | None) -> bool:
    """Tell whether an object carries the record of ``run``; one that was deleted meanwhile may have."""
    return found is None or notes_on(found).get(RUN) == run
