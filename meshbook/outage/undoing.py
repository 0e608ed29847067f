"""How changed objects come back: by their records alone, all of them together, and as far as each of them can.

What that is for one kind of object is an ``Undoing``, said beside the mode that changes it (``scaling``,
``endpoints``). Whose objects are brought back, and when, is for ``recorded`` and ``restoring`` to say.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from meshbook.clusters import Object
from meshbook.errors import MeshbookError, OutageError
from meshbook.outage.records import RUN, Restored, notes_on
from meshbook.outage.subjects import Subject

LAST_LOOK_S = 1.0
"""Seconds that an object gets at least, when those before it have used the time up."""


@dataclass(frozen=True, kw_only=True)
class Undoing:
    """How one kind of object comes back. Everything may be done again, by whomever."""

    tell: Callable[[Subject, Object], Restored]
    """Say what is to be done to an object as it was found. Nothing is changed."""
    order: Callable[[Subject, Object], None]
    """Give the order to come back to one that is away."""
    wait: Callable[[Subject, Object, float], None]
    """Wait until one that was found so is back, for so many seconds at most."""


def bring_back(
    what: Iterable[tuple[Subject, Undoing]], timeout_s: float, ordered: Callable[[], None] = lambda: None
) -> list[Restored]:
    """Order every recorded object back, then wait for each and take its record off; ``ordered`` is called in between.

    One that fails keeps none of the others away; what failed is raised at the end.
    """
    failures: dict[str, MeshbookError] = {}
    on_their_way = []
    for subject, undoing in what:
        with _noted(failures, subject):
            on_their_way.append((subject, undoing, *_order(subject, undoing)))
    ordered()
    deadline, back = time.monotonic() + timeout_s, []
    for subject, undoing, found, restored in on_their_way:
        with _noted(failures, subject):
            undoing.wait(subject, found, max(LAST_LOOK_S, deadline - time.monotonic()))
            subject.forget(notes_on(found).get(RUN))
            back.append(restored)
    _raise(failures, back)
    return back


def _order(subject: Subject, undoing: Undoing) -> tuple[Object, Restored]:
    found = subject.find()
    if found is None:
        raise OutageError(
            f"{subject} was deleted meanwhile, and what it was like went with it", hint="apply its manifest again"
        )
    restored = undoing.tell(subject, found)
    if restored.outcome == "restored":
        undoing.order(subject, found)
    return found, restored


@contextmanager
def _noted(failures: dict[str, MeshbookError], subject: Subject) -> Iterator[None]:
    try:
        yield
    except MeshbookError as error:
        failures[str(subject)] = error


def _raise(failures: dict[str, MeshbookError], back: list[Restored]) -> None:
    if not failures:
        return
    first, *more = failures.values()
    if not more:
        raise first
    told = {subject: str(error).removeprefix(f"{subject}: ") for subject, error in failures.items()}
    raise OutageError(
        f"{len(failures)} of {len(failures) + len(back)} objects did not come back",
        **told,
        hint="mend what is said of each, then meshbook restore",
    ) from first
