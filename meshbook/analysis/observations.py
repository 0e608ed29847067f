"""What was seen of a cluster, moment by moment, and between which two moments it changed. Pure.

A list proves how things were at some moment after it was asked for; an event of a watch proves that they are so by now.
So a change lies between the asking of the last list that still showed the old state, and the first sight of the new.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from meshbook.objects import Object, is_deleting, is_ready

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
    answered: datetime
    asked: datetime | None = None
    """When it was asked for; None for a watch's news."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A subject was ``before`` at ``not_before`` and ``after`` at ``not_after``: it changed in between."""

    context: str
    subject: Subject
    before: tuple[str, ...]
    after: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    seen_by: Literal["watch", "list"]


def ready_endpoints(slices: Iterable[Object]) -> tuple[str, ...]:
    """Return the pods (or addresses, where no pod is named) that a Service's EndpointSlices call ready."""
    found = {
        str((endpoint.get("targetRef") or {}).get("name") or endpoint["addresses"][0])
        for one in slices
        for endpoint in one.get("endpoints") or []
        if (endpoint.get("conditions") or {}).get("ready", True)
    }
    return tuple(sorted(found))


def pod_states(pods: Iterable[Object]) -> tuple[str, ...]:
    """Return ``name: state`` for each pod."""

    def state(pod: Object) -> str:
        return TERMINATING if is_deleting(pod) else READY if is_ready(pod) else NOT_READY

    return tuple(sorted(f"{pod['metadata']['name']}: {state(pod)}" for pod in pods))


def changes(observations: Iterable[Observation]) -> list[Change]:
    """Return the changes that ``observations`` prove, in the order in which they were seen."""
    by_subject: dict[tuple[str, str], list[Observation]] = {}
    for one in sorted(observations, key=lambda one: one.answered):
        by_subject.setdefault((one.context, one.subject), []).append(one)
    found = [change for some in by_subject.values() for change in _of_one(some)]
    return sorted(found, key=lambda change: change.not_after)


def _of_one(observations: Sequence[Observation]) -> list[Change]:
    found: list[Change] = []
    first = observations[0]
    state, proven, news_at = first.state, first.asked or first.answered, first.answered
    for one in observations[1:]:
        if one.state == state:
            proven = max(proven, one.asked or proven)
        elif one.asked is not None and one.asked < news_at:  # the answer to a question that was older than the news
            if found and found[-1].before == one.state and one.asked > found[-1].not_before:
                found[-1] = replace(found[-1], not_before=one.asked)
        else:
            change = Change(
                context=one.context,
                subject=one.subject,
                before=state,
                after=one.state,
                not_before=proven,
                not_after=one.answered,
                seen_by="list" if one.asked else "watch",
            )
            found.append(change)
            state, news_at, proven = one.state, one.answered, max(proven, one.asked or proven)
    return found
