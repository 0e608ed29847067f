"""The phases that API servers show: endpoints gone and back, replicas, silence. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from meshbook.analysis.observations import NOT_READY, READY, UNREACHABLE, Change
from meshbook.analysis.trial_record import OUTAGE, RESTORE, Row, TrialRecord, row

ENDPOINTS_GONE, DOWN, UP_AGAIN = "endpoints gone", "API server unreachable", "API server reachable again"
THERE, UP, LISTED = "replicas back", "replicas ready", "endpoints back"


def going(record: TrialRecord) -> Iterator[Row]:
    """Yield for each cluster when none of the endpoints of before was left, and when an API server fell silent."""
    for context in record.contexts:
        yield _endpoints_gone(record, context)
    yield from _api(record, OUTAGE, DOWN, lambda change: change.after == UNREACHABLE)


def coming_back(record: TrialRecord) -> Iterator[Row]:
    """Yield when the cluster that was away had its replicas, had them ready, and listed them as endpoints."""
    yield from _api(record, RESTORE, UP_AGAIN, lambda change: change.before == UNREACHABLE)
    since = record.restore.asked
    pods = list(_changes(record, record.context, "pods", since))
    ends = list(_changes(record, record.context, "endpoints", since))
    yield _back(record, THERE, (one for one in pods if _count(one.after) > _count(one.before)))
    yield _back(record, UP, (one for one in pods if _count(one.after, READY) > _count(one.before, READY)))
    yield _back(record, LISTED, (one for one in ends if set(one.after) - set(one.before)))


def _endpoints_gone(record: TrialRecord, context: str) -> Row:
    during = list(_changes(record, context, "endpoints", record.outage.asked, record.end))
    original = set(during[0].before) if during else set()
    for change in during:
        if original and not original & set(change.after):
            return _seen(OUTAGE, ENDPOINTS_GONE, context, change)
    return row(OUTAGE, ENDPOINTS_GONE, place(context), detail=_why_not_gone(record, context, during))


def _why_not_gone(record: TrialRecord, context: str, during: Sequence[Change]) -> str:
    if during:
        return f"changed to {', '.join(during[-1].after)}"
    news = _changes(record, context, "api", record.outage.asked, record.end)
    silent = any(change.after == UNREACHABLE for change in news)
    return "not known: its API server was unreachable" if silent else "unchanged all the time"


def _api(record: TrialRecord, part: str, phase: str, fits: Callable[[Change], bool]) -> Iterator[Row]:
    for context in record.contexts:
        for change in _changes(record, context, "api", record.outage.asked):
            if fits(change):
                yield _seen(part, phase, context, change)
                break


def _back(record: TrialRecord, phase: str, found: Iterator[Change]) -> Row:
    change = next(found, None)
    if change is None:
        return row(RESTORE, phase, place(record.context), detail="unchanged")
    return _seen(RESTORE, phase, record.context, change)


def _changes(
    record: TrialRecord, context: str, subject: str, since: datetime, until: datetime | None = None
) -> Iterator[Change]:
    for change in record.changes:
        wanted = (change.context, change.subject) == (context, subject) and change.not_after >= since
        if wanted and (until is None or change.not_after < until):
            yield change


def _count(state: Sequence[str], word: str = "") -> int:
    """Count pods in a state; without a word, those that are to stay."""
    words = (word,) if word else (READY, NOT_READY)
    return sum(one.rpartition(": ")[2] in words for one in state)


def place(context: str) -> str:
    return f"API server of {context}"


def _seen(part: str, phase: str, context: str, change: Change) -> Row:
    times = {"not_before": change.not_before, "not_after": change.not_after}
    return row(part, phase, place(context), **times, detail=f"{', '.join(change.after) or 'none'} ({change.seen_by})")
