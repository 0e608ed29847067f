"""What was seen of a cluster, moment by moment, and between which two moments it changed. Pure.

A list proves how things were at some moment after it was asked for; an event of a watch proves that they are so by now.
So a change lies between the asking of the last list that still showed the old state, and the first sight of the new.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import pandas as pd

from meshbook import tables

Object = dict[str, Any]
Subject = Literal["endpoints", "pods", "replicas", "api"]

REACHABLE, UNREACHABLE = ("reachable",), ("unreachable",)
"""States of the subject ``api``."""
READY, NOT_READY, LEAVING = "ready", "not ready", "leaving"


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One sight of one subject in one cluster. Times are of this machine's clock."""

    context: str
    subject: Subject
    state: tuple[str, ...]
    """What it was like: names of ready endpoints; ``name: ready`` of pods; counts of replicas."""
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
    return tuple(sorted(f"{pod['metadata']['name']}: {_pod_state(pod)}" for pod in pods))


def _pod_state(pod: Object) -> str:
    if pod["metadata"].get("deletionTimestamp"):
        return LEAVING
    conditions = (pod.get("status") or {}).get("conditions") or []
    ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
    return READY if ready else NOT_READY


def replica_counts(deployments: Iterable[Object]) -> tuple[str, ...]:
    """Return ``name: wanted n, ready n`` for each Deployment."""
    return tuple(
        sorted(
            f"{found['metadata']['name']}: wanted {(found.get('spec') or {}).get('replicas', 1)}, "
            f"ready {(found.get('status') or {}).get('readyReplicas', 0)}"
            for found in deployments
        )
    )


def changes(looks: Iterable[Observation]) -> list[Change]:
    """Return the changes that ``looks`` prove, in the order in which they were seen."""
    by_subject: dict[tuple[str, str], list[Observation]] = {}
    for look in sorted(looks, key=lambda one: one.answered):
        by_subject.setdefault((look.context, look.subject), []).append(look)
    found = [change for some in by_subject.values() for change in _of_one(some)]
    return sorted(found, key=lambda change: change.not_after)


def _of_one(looks: Sequence[Observation]) -> list[Change]:
    found: list[Change] = []
    state, proven, news_at = looks[0].state, looks[0].asked or looks[0].answered, looks[0].answered
    for look in looks[1:]:
        if look.state == state:
            proven = max(proven, look.asked or proven)
        elif look.asked is not None and look.asked < news_at:
            _tighten(found, look)  # the answer to a question that was older than the news
        else:
            seen_by: Literal["watch", "list"] = "list" if look.asked else "watch"
            subject = {"context": look.context, "subject": look.subject}
            times: dict[str, Any] = {"not_before": proven, "not_after": look.answered, "seen_by": seen_by}
            found.append(Change(**subject, before=state, after=look.state, **times))  # type: ignore[arg-type]
            state, news_at = look.state, look.answered
            proven = max(proven, look.asked or proven)
    return found


def _tighten(found: list[Change], look: Observation) -> None:
    if found and found[-1].before == look.state and look.asked and look.asked > found[-1].not_before:
        found[-1] = replace(found[-1], not_before=look.asked)


def changes_frame(some: Iterable[Change]) -> pd.DataFrame:
    """Return ``some`` as a frame of ``tables.CHANGES``."""
    return tables.from_rows(
        (
            {
                "context": change.context,
                "subject": change.subject,
                "before": ", ".join(change.before),
                "after": ", ".join(change.after),
                "not_before": change.not_before,
                "not_after": change.not_after,
                "seen_by": change.seen_by,
            }
            for change in some
        ),
        tables.CHANGES,
    )
