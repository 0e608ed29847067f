"""The phases that API servers show: endpoints gone and back, replicas, silence. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from meshbook.analysis.observations import NOT_READY, READY, SILENT, Change
from meshbook.analysis.trial_record import BACK, GOING, Row, Story, row

GONE, SILENCE, SPEAKS = "endpoints gone", "API server silent", "API server answers again"
THERE, UP, LISTED = "replicas back", "replicas ready", "endpoints back"


def going(story: Story) -> Iterator[Row]:
    """Yield for each cluster when none of the endpoints of before was left, and when an API server fell silent."""
    for context in story.contexts:
        yield _endpoints_gone(story, context)
    yield from _api(story, GOING, SILENCE, lambda change: change.after == SILENT)


def coming_back(story: Story) -> Iterator[Row]:
    """Yield when the cluster that was away had its replicas, had them ready, and listed them as endpoints."""
    yield from _api(story, BACK, SPEAKS, lambda change: change.before == SILENT)
    since = story.back.asked
    pods = list(_changes(story, story.context, "pods", since))
    ends = list(_changes(story, story.context, "endpoints", since))
    yield _back(story, THERE, (one for one in pods if _count(one.after) > _count(one.before)))
    yield _back(story, UP, (one for one in pods if _count(one.after, READY) > _count(one.before, READY)))
    yield _back(story, LISTED, (one for one in ends if set(one.after) - set(one.before)))


def _endpoints_gone(story: Story, context: str) -> Row:
    during = list(_changes(story, context, "endpoints", story.away.asked, story.end))
    original = set(during[0].before) if during else set()
    for change in during:
        if original and not original & set(change.after):
            return _seen(GOING, GONE, context, change)
    return row(GOING, GONE, place(context), detail=_why_not_gone(story, context, during))


def _why_not_gone(story: Story, context: str, during: Sequence[Change]) -> str:
    if during:
        return f"changed to {', '.join(during[-1].after)}"
    news = _changes(story, context, "api", story.away.asked, story.end)
    silent = any(change.after == SILENT for change in news)
    return "not known: its API server was silent" if silent else "unchanged all the time"


def _api(story: Story, part: str, phase: str, fits: Callable[[Change], bool]) -> Iterator[Row]:
    for context in story.contexts:
        for change in _changes(story, context, "api", story.away.asked):
            if fits(change):
                yield _seen(part, phase, context, change)
                break


def _back(story: Story, phase: str, found: Iterator[Change]) -> Row:
    change = next(found, None)
    if change is None:
        return row(BACK, phase, place(story.context), detail="unchanged")
    return _seen(BACK, phase, story.context, change)


def _changes(
    story: Story, context: str, subject: str, since: datetime, until: datetime | None = None
) -> Iterator[Change]:
    for change in story.changes:
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
