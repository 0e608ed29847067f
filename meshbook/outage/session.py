"""The ``with`` block of an outage: planned, taken down, and restored however the block ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import NoReturn

from meshbook.errors import MeshbookError, NotRestoredError, OutageError
from meshbook.outage import watchdog
from meshbook.outage.lease import Lease
from meshbook.outage.modes import Mode, mode_of
from meshbook.outage.records import Intent, Outage, is_recorded
from meshbook.outage.rollback import restore_targets
from meshbook.outage.safeguards import plan
from meshbook.outage.targets import replicas_of


@contextmanager
def outage(intent: Intent) -> Iterator[Outage]:
    """Take down what ``intent`` says for the length of a ``with`` block, and restore it however the block ends.

    What an earlier run left down is restored first. Does not start unless everything in ``plan(intent)`` holds:
    OutageError. SIGINT and SIGTERM do not cut the restoring. An outage that its own watchdog has ended is none of the
    length that was meant: OutageError too.
    """
    mode = mode_of(intent)
    left = [target for target in mode.targets if is_recorded(target.read())]
    restore_targets(intent.cluster, left, intent.timeout_s)
    plan(intent, mode).require()
    deployment = intent.cluster.get("Deployment", intent.deployment, intent.namespace)
    going_on = Outage(intent=intent, replicas=replicas_of(deployment))
    lease = Lease(intent, deployment)
    with sigterm_unwinds():
        try:
            lease.acquire()
            watchdog.begin(intent, mode)
            mode.begin(going_on)
            yield going_on
        finally:
            with signals_deferred():
                try:
                    _restore(intent, mode, going_on)
                finally:
                    lease.release()
    after_s = intent.safeguards.watchdog_s
    if after_s and going_on.restore_requested is None:
        raise OutageError(
            f"{intent} was restored by its watchdog, {after_s:g} s after it was set, before the outage was over",
            hint="watchdog_s is to be longer than the outage with the waits around it",
        )
    _prove_steady(intent, going_on)


def _restore(intent: Intent, mode: Mode, going_on: Outage) -> None:
    try:
        mode.end(going_on)
        watchdog.end(intent, mode)
    except MeshbookError as error:
        raise NotRestoredError(
            f"{intent} was not restored as it was ({going_on.replicas} replicas)",
            hint="meshbook restore, then: it restores all that is still recorded in the cluster",
            saw=error,
        ) from error


def _prove_steady(intent: Intent, going_on: Outage) -> None:
    """Ask again and again whether all is as it should be, until it is; WaitTimeout tells what is not."""
    steady = intent.steady
    if steady is None:
        return

    def look() -> tuple[bool | None, str]:
        complaint = steady()
        return (None if complaint else True), complaint

    intent.cluster.wait_until("steady again", look, intent.timeout_s)
    going_on.steady_again = datetime.now(UTC)


@contextmanager
def sigterm_unwinds() -> Iterator[None]:
    """Let SIGTERM leave the block by ``SystemExit``, unless the program has plans of its own for it."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if mine:
        signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Let no SIGINT or SIGTERM cut the block; one that came meanwhile counts as Ctrl-C when it is done."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # signals do not reach other threads
        yield
        return
    handlers = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
    if received:
        raise KeyboardInterrupt
