"""What was seen of a cluster, moment by moment, and between which two moments it changed. Pure.

A list proves how things were at some moment between asking and answer. So a change lies between the asking of the last
list that still showed the old state, and the answer to the first one that showed the new.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise, zip_longest
from typing import Literal

from meshbook.objects import Object, is_deleting, is_ready, ready_endpoints

Subject = Literal["endpoints", "pods", "api"]

REACHABLE, UNREACHABLE = ("reachable",), ("unreachable",)
"""States of the subject ``api``."""
READY, NOT_READY, TERMINATING = "ready", "not ready", "terminating"


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One sight of one subject in one cluster. Times are of this machine's clock."""

    context: str
    subject: Subject
    state: tuple[str, ...]
    """What it was like: names of ready endpoints; ``name: ready`` of pods."""
    asked: datetime
    answered: datetime


@dataclass(frozen=True, kw_only=True)
class Change:
    """A subject was ``before`` at ``not_before`` and ``after`` at ``not_after``: it changed in between."""

    context: str
    subject: Subject
    before: tuple[str, ...]
    after: tuple[str, ...]
    not_before: datetime
    not_after: datetime


def endpoint_names(slices: Iterable[Object]) -> tuple[str, ...]:
    """Return the pods (or addresses, where no pod is named) that a Service's EndpointSlices call ready."""
    named = ((one.get("targetRef") or {}).get("name") or one["addresses"][0] for one in ready_endpoints(slices))
    return tuple(sorted(set(named)))


def pod_states(pods: Iterable[Object]) -> tuple[str, ...]:
    """Return ``name: state`` for each pod."""

    def state(pod: Object) -> str:
        return TERMINATING if is_deleting(pod) else READY if is_ready(pod) else NOT_READY

    return tuple(sorted(f"{pod['metadata']['name']}: {state(pod)}" for pod in pods))


def unready(changes: Iterable[Change], contexts: Iterable[str]) -> list[tuple[datetime, datetime]]:
    """Return when one of these clusters had no ready endpoint: lost at the earliest, and back at the latest."""
    found = []
    for context in contexts:
        own = [change for change in changes if change.context == context and change.subject == "endpoints"]
        for lost, back in zip_longest(own, own[1:]):
            if not lost.after:
                found.append((lost.not_before, back.not_after if back else datetime.max.replace(tzinfo=UTC)))
    return found


def changes(observations: Iterable[Observation]) -> list[Change]:
    """Return the changes that ``observations`` prove, in the order in which they were seen."""
    by_subject: dict[tuple[str, str], list[Observation]] = {}
    for one in sorted(observations, key=lambda one: one.answered):
        by_subject.setdefault((one.context, one.subject), []).append(one)
    found = [change for some in by_subject.values() for change in _of_one(some)]
    return sorted(found, key=lambda change: change.not_after)


def _of_one(observations: Sequence[Observation]) -> list[Change]:
    return [
        Change(
            context=one.context,
            subject=one.subject,
            before=last.state,
            after=one.state,
            not_before=last.asked,
            not_after=one.answered,
        )
        for last, one in pairwise(observations)
        if one.state != last.state
    ]
