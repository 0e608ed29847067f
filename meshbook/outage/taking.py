"""The ``with`` block of an outage: planned, taken away, and brought back however the block ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime

from meshbook.clusters import Cluster
from meshbook.errors import MeshbookError, OutageError
from meshbook.outage import interrupts, liveness, restoring, watchdog
from meshbook.outage.intent import Intent, Safeguards
from meshbook.outage.modes import Mode, mode_of
from meshbook.outage.planning import plan_of
from meshbook.outage.records import Outage, is_recorded
from meshbook.outage.scaling import replicas_of


@contextmanager
def outage(intent: Intent) -> Iterator[Outage]:
    """Take away what ``intent`` says for the length of a ``with`` block, and bring it back however the block ends.

    What an earlier run left away is brought back first. Does not start unless everything in ``plan(intent)`` holds:
    OutageError. SIGINT and SIGTERM do not cut the way back. An outage that its own watchdog has ended is none of the
    length that was meant: OutageError too.
    """
    mode = mode_of(intent)
    _bring_back_leftovers(intent, mode)
    plan = plan_of(intent, mode)
    plan.require()
    outage = Outage(
        mode=intent.mode,
        context=intent.cluster.name,
        namespace=intent.namespace,
        deployment=intent.deployment,
        replicas=replicas_of(intent.cluster.get("Deployment", intent.deployment, intent.namespace)),
        run=intent.run,
        changed=plan.changes,
    )
    showing = ExitStack()
    with interrupts.sigterm_unwinds():
        try:
            showing.enter_context(liveness.shown(intent))
            watchdog.begin(intent, mode)
            mode.take(outage)
            yield outage
        finally:
            with interrupts.signals_deferred(), showing:
                _bring_back(intent, mode, outage)
    _require_own_return(intent, outage)
    _prove_steady(intent, outage)


@contextmanager
def scaled_to_zero(
    cluster: Cluster,
    deployment: str,
    *,
    namespace: str,
    survivors: Iterable[Cluster] = (),
    allow_outage: bool = False,
    timeout_s: float = 120,
) -> Iterator[Outage]:
    """Scale a Deployment to 0 for the length of a ``with`` block: the article's outage, see ``outage``."""
    intent = Intent(
        cluster=cluster,
        deployment=deployment,
        namespace=namespace,
        survivors=tuple(survivors),
        safeguards=Safeguards(allow_outage=allow_outage),
        timeout_s=timeout_s,
    )
    with outage(intent) as taken:
        yield taken


def _bring_back_leftovers(intent: Intent, mode: Mode) -> None:
    for subject in mode.subjects:
        if is_recorded(subject.read()):
            restoring.bring_back(subject, intent.timeout_s)


def _bring_back(intent: Intent, mode: Mode, outage: Outage) -> None:
    """Undo one outage, if it is this one that the records tell of."""
    try:
        mode.bring_back(outage)
        watchdog.end(intent, mode)
    except MeshbookError as error:
        raise OutageError(
            f"{intent.cluster.name}: {intent.deployment} in {intent.namespace} did not come back as it was "
            f"({outage.replicas} replicas)",
            hint="meshbook restore, then: it brings back all that is still recorded in the cluster",
            saw=error,
        ) from error


def _require_own_return(intent: Intent, outage: Outage) -> None:
    """Refuse an outage that its watchdog has ended before its block did: this run found nothing to bring back."""
    if intent.safeguards.watchdog_s and outage.restore_requested is None:
        raise OutageError(
            f"{intent.cluster.name}: {intent.deployment} in {intent.namespace} was brought back by its watchdog, "
            f"{intent.safeguards.watchdog_s:g} s after it was set, before the outage was over",
            hint="watchdog_s is to be longer than the outage with the waits around it",
        )


def _prove_steady(intent: Intent, outage: Outage) -> None:
    """Ask again and again whether all is as it should be, until it is; WaitTimeout tells what is not."""
    steady = intent.steady
    if steady is None:
        return

    def look() -> tuple[bool | None, str]:
        complaint = steady()
        return (None if complaint else True), complaint

    intent.cluster.wait_until("steady again", look, intent.timeout_s)
    outage.steady_again = datetime.now(UTC)
