"""The way back: each object for itself, again and again until it is restored or its deadline has passed.

A login that has run out, a proxy that is away, an API server that is busy: on the way back none of these is a reason to
leave something down, and none of them keeps another object waiting. How one kind of object is restored is in
``targets``; who asks for it, and when, in ``modes`` and ``session``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeVar

from meshbook import progress
from meshbook.clusters import Cluster, gather, pause
from meshbook.errors import ClusterError, MeshbookError, NotRestoredError, OutageError, WaitTimeout
from meshbook.objects import Object, annotations_of
from meshbook.outage.records import RECORD, RUN, Restored
from meshbook.outage.targets import OutageTarget

T = TypeVar("T")
Tell = Callable[[str], None]

_PASSING = {401, 403, 404, 407, 408, 409, 425, 429}
"""Refusals that may be over in a moment. Any other 4xx would be the same for ever: it is the request that is wrong."""
_LOGIN = {401, 403}
"""Refusals after which the kubeconfig is read anew, with a new login: also who has become anonymous gets 403."""
_LAST_LOOK_S = 1.0
"""Seconds that an object gets at least in each try."""
_LONGEST_RETRY_AFTER_S = 60.0
_GONE = "apply its manifest again"


def say(text: str) -> None:
    """Write one line of progress where whoever runs this looks."""
    progress.say(f"{text}\n")


def insist(
    what: str, cluster: Cluster, work: Callable[[Cluster, float], T], timeout_s: float, tell: Tell | None = None
) -> T:
    """Do ``work`` until it succeeds; ``what`` it is stands in front of each line of progress.

    It gets the cluster, reached anew after a refused login, and the seconds left. An error that may pass is not the end
    before ``timeout_s``, nor before ``Patience.rollback_s`` from the first one: then the last one is raised.
    """
    patience = cluster.connection.patience
    deadline, wait_s = time.monotonic() + timeout_s, patience.pause_s
    failed = refused = False
    while True:
        try:
            cluster = cluster.reopened() if refused else cluster
            return work(cluster, max(_LAST_LOOK_S, deadline - time.monotonic()))
        except Exception as error:
            if not _may_pass(error):
                raise
            deadline = deadline if failed else max(deadline, time.monotonic() + patience.rollback_s)
            failed, refused = True, getattr(error, "code", 401) in _LOGIN
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise
            wait_s = max(wait_s, min(getattr(error, "retry_after_s", 0.0), _LONGEST_RETRY_AFTER_S))
            told = f"{what}: {_in_a_line(error)}; again in {wait_s:.1f} s, for {left_s:.0f} s more"
            (tell or say)(told)
        pause(min(wait_s, left_s))
        wait_s = min(2 * wait_s, patience.longest_pause_s)


def _in_a_line(error: Exception) -> str:
    if not isinstance(error, MeshbookError):
        return f"{type(error).__name__}: {error}".partition("\n")[0]
    seen = str(error.evidence.get("saw", ""))
    return ": ".join(text.partition("\n")[0] for text in (error.message, seen) if text)


def _may_pass(error: BaseException | None) -> bool:
    if isinstance(error, WaitTimeout):  # of pods that are not ready, unless it was the API server that did not answer
        return isinstance(error.__cause__, ClusterError | WaitTimeout) and _may_pass(error.__cause__)
    if isinstance(error, ClusterError):
        return not 400 <= error.code < 500 or error.code in _PASSING
    return not isinstance(error, OutageError)


@dataclass(kw_only=True)
class Rollback:
    """One object on its way back, if the record that it carries is that of ``run``."""

    target: OutageTarget
    run: str
    found: Object | None = None
    """As it was last seen with the record."""
    reached: bool = False
    """It carried the record when it was first asked for here."""
    requested: bool = False
    gone: bool = False
    """It was deleted meanwhile: nothing is left that could be restored, by hand neither."""

    def attempt(self, accepted: Callable[[], None], cluster: Cluster, left_s: float) -> Restored | None:
        """Do all that is left to be done; None where this run has left no record, and so changed nothing.

        What is down by this run is restored by the record that was seen on it, should somebody have taken that off.
        """
        target = replace(self.target, cluster=cluster)
        found = target.find()
        if found is None:
            raise self._deleted(target)
        recorded = annotations_of(found).get(RUN) == self.run
        found = self._remembered(found)
        mine = annotations_of(found).get(RUN) == self.run
        if not (mine and (recorded or self.requested or target.is_down(found))):
            return self._done(target) if self.reached else None  # it was the answer that got lost, not the request
        self.found, self.reached = found, True
        down = target.is_down(found)
        if down:
            self.requested = True
            target.request_restore(found)
        if down or not self.requested:
            accepted()
        target.wait_until_restored(found, left_s)
        target.clear_record(self.run)
        return self._done(target)

    def _remembered(self, found: Object) -> Object:
        """Return it with what somebody has taken off the record since it was seen; the record of another run stays."""
        seen = {key: note for key, note in annotations_of(self.found).items() if key in RECORD} if self.found else {}
        notes = annotations_of(found)
        if notes.get(RUN, self.run) != self.run:
            return found
        return {**found, "metadata": {**found["metadata"], "annotations": {**seen, **notes}}}

    def _deleted(self, target: OutageTarget) -> MeshbookError:
        if any(one["metadata"]["name"] == target.name for one in target.cluster.list(target.kind, target.namespace)):
            return ClusterError(f"{target} is there, and is not")  # as behind a proxy that has lost its way
        self.gone = True
        return OutageError(f"{target}: it was deleted meanwhile, and what it was like went with it", hint=_GONE)

    def _done(self, target: OutageTarget) -> Restored:
        outcome: Literal["restored", "was already restored"] = "restored" if self.requested else "was already restored"
        return Restored(**target.where, outcome=outcome, state=target.state(self.found) if self.found else "")


def roll_back(
    rollbacks: Sequence[Rollback],
    timeout_s: float,
    *,
    accepted: Callable[[], None] = lambda: None,
    tell: Tell | None = None,
) -> list[Restored]:
    """Restore every object at once, each as long as ``insist`` says; ``accepted`` is called after each request.

    One that fails keeps none of the others down; NotRestoredError tells what failed, and the commands that mend it.
    """

    def restore(rollback: Rollback) -> Restored | MeshbookError | None:
        work = partial(rollback.attempt, accepted)
        try:
            return insist(str(rollback.target), rollback.target.cluster, work, timeout_s, tell)
        except MeshbookError as error:
            return error
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are restored and this one is told
            return OutageError(f"{type(error).__name__}: {error}")

    outcomes = gather({str(one.target): partial(restore, one) for one in rollbacks})
    done = [one for one in outcomes.values() if isinstance(one, Restored)]
    failures = {name: error for name, error in outcomes.items() if isinstance(error, MeshbookError)}
    if failures:
        raise _not_restored(failures, rollbacks, len(failures) + len(done))
    return done


def _not_restored(failures: dict[str, MeshbookError], rollbacks: Sequence[Rollback], count: int) -> NotRestoredError:
    failed = [one for one in rollbacks if str(one.target) in failures and not one.gone]
    by_hand = {str(one.target): one.target.by_hand(one.found) for one in failed}
    told = {name: f"{_shown(error).removeprefix(f'{name}: ')}" for name, error in failures.items()}
    message = f"{len(failures)} of {count} objects were not restored" if count > 1 else "what was down was not restored"
    found = NotRestoredError(message, by_hand=by_hand, hint=_mend(by_hand) if failed else _GONE, **told)
    found.__cause__ = next(iter(failures.values()))
    return found


def merged(errors: Sequence[NotRestoredError], others: Sequence[MeshbookError]) -> NotRestoredError:
    """Return what was not restored in several clusters as one error, with what else was wrong."""
    by_hand = {name: command for one in errors for name, command in one.by_hand.items()}
    message = "; ".join(one.message for one in (*errors, *others))
    evidence = {name: told for one in (*errors, *others) for name, told in one.evidence.items()}
    return NotRestoredError(message, by_hand=by_hand, hint=_mend(by_hand), **evidence)


def _shown(error: MeshbookError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message


def _mend(by_hand: Mapping[str, str]) -> str:
    return "; ".join(["meshbook restore, once that is mended", *(f"or by hand: {one}" for one in by_hand.values())])
