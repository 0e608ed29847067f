"""Do the steps of an experiment: one outage after the other, each watched from everywhere and restored.

Scaling down and restoring is ``outage``'s work. Here is only the order of things: watch, wait, begin the outage, hold,
end it, wait, put together. What came out of it is in ``results``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import pandas as pd

from meshbook import analysis, mesh, outage, probes, progress, tables
from meshbook.analysis import ENDPOINTS_GONE, ChangeRequest, Evidence, LoadBalancer, TrialRecord
from meshbook.clusters import pause
from meshbook.errors import MeshbookError, NotRestoredError, OutageError, UsageError
from meshbook.experiment.causes import silent_ways
from meshbook.experiment.checks import UNANSWERED_HINT, intent, one_at_a_time, plans, survivors, unanswered
from meshbook.experiment.observation import Observer, access_logs, health_check, load_balancer
from meshbook.experiment.plan import LoadProfile, Step, Target
from meshbook.experiment.results import NotDone, Results, Trial
from meshbook.objects import SYSTEM_NAMESPACE
from meshbook.outage import Outage, Safeguards

_RECENT_S, _RECENT = 5.0, 16
"""Seconds, and requests of each source, before an outage in which each must have been answered by the survivor."""
_FIRST = 16
"""Requests of each source about shares, after which no more are sent where too many of them failed."""


def run(
    steps: Sequence[Step],
    target: Target,
    load: LoadProfile,
    safeguards: Safeguards,
    *,
    repeats: int = 1,
) -> Results:
    """Do every step ``repeats`` times and return what came out of it.

    Nothing starts while the plan of any step is not ready to start: OutageError. Later on see ``run_trials``. A
    watchdog that would surely end an outage too early is a UsageError.
    """
    if repeats < 1:
        raise UsageError(f"a step is done once at least, not {repeats} times")
    if 0 < safeguards.watchdog_s <= load.outage_s:
        raise UsageError(
            f"a watchdog after {safeguards.watchdog_s:g} s would cut an outage of {load.outage_s:g} s short",
            hint="watchdog_s is for runners that vanish: outage_s and some minutes",
        )
    if missing := [step.context for step in steps if step.context not in load.split_tests]:
        raise UsageError(f"the load of {missing[0]}'s outage was not measured", hint="fit_load first")
    for plan in plans(steps, target, safeguards, load):
        plan.require()
    ahead = [(step, number) for step in steps for number in range(1, repeats + 1)]
    return run_trials(ahead, lambda step, number: _trial(step, number, target, load, safeguards))


def run_trials(ahead: Sequence[tuple[Step, int]], do: Callable[[Step, int], Trial]) -> Results:
    """Do one trial after the other and keep what came out of those that were done.

    One that is refused, or fails and is restored, is told as not done, and the next one starts if its own safeguards
    let it. None starts once something was not restored. The error is raised where none was done at all.
    """
    trials: list[Trial] = []
    errors: dict[str, MeshbookError] = {}
    left_down = ""
    for at, (step, number) in enumerate(ahead, start=1):
        name = f"{step}, trial {number}"
        if left_down:
            errors[name] = OutageError("something was left down before it")
            continue
        progress.step(f"{at} of {len(ahead)}: {name}")
        try:
            trials.append(do(step, number))
        except MeshbookError as error:
            errors[name] = error
            left_down = f"{error.message}: {error.hint}" if isinstance(error, NotRestoredError) else ""
            progress.step(f"{name}: not done: {error.message}")
    if errors and not trials:
        raise min(errors.values(), key=lambda error: not isinstance(error, NotRestoredError))
    restored = "one NOT restored" if left_down else "all restored"
    progress.step(f"{len(trials)} of {len(ahead)} outages done, {restored}" if ahead else "nothing was to be done")
    not_done = [NotDone(trial=name, reason=error.message) for name, error in errors.items()]
    return Results(trials, not_done, left_down)


def _trial(step: Step, number: int, target: Target, load: LoadProfile, safeguards: Safeguards) -> Trial:
    way = target.outside[0]
    checked = health_check(target.fleet[way.clusters[0]], target.gateway_namespace) if way.path == tables.VIP else ""
    pods = mesh.pods_by_name(target.fleet, target.namespace)
    test = load.split_tests[step.context]
    asked = {"rate_per_s": load.rate_per_s, "timeout_s": load.patience_s}
    with (
        Observer(target.fleet, target.service, target.namespace) as observer,
        probes.watch(target.fleet, target.outside, target.inside, namespace=target.namespace, **asked) as watch,
    ):
        _watch_on("requests before the outage", load.around_s, watch)
        _require_survivor(step, target, load, mesh.answered_by(watch.frame, pods))
        with outage.outage(intent(step, target, safeguards)) as ended:
            ended.hold(load.outage_s / 2, lambda: watch.so_far)
            # each in its turn: with all the patience of the watch they would make the outage longer
            loop = probes.curl_from_here(target.outside, load.loop_requests, timeout_s=load.slow_after_s)
            balancer = load_balancer(target.fleet, target.gateway_namespace, way.path, checked)
            ended.hold(load.outage_s / 2, lambda: watch.so_far)
        _watch_on("requests after the outage", load.around_s, watch)
        progress.step("each source asks one by one, who has which share now")
        known = pods, mesh.pods_by_name(target.fleet, target.namespace)
        answers = mesh.answered_by(watch.stop(), *known)
        record = _record(step, number, target, ended, answers, observer)
    phases = analysis.phases(record)
    return Trial(
        record=record,
        phases=phases,
        attribution=analysis.attribute(_evidence(target, record, phases, balancer)),
        loop=mesh.answered_by(loop, *known),
        afterwards=test.until_decided(partial(one_at_a_time, target), one_at_a_time(target, _FIRST)),
        test=test,
        versions=target.versions,
        down=_known(ended.down, ended),
        ready_again=_known(ended.ready_again, ended),
        bears=load.bears.get(step.context),
        slow_after_s=load.slow_after_s,
        unsteady=ended.unsteady,
        silenced=frozenset(
            one.source for one in target.outside if one.path == tables.BALANCER and one.clusters == (step.context,)
        ),
    )


def _watch_on(what: str, seconds: float, watch: probes.Watch) -> None:
    deadline = time.monotonic() + seconds
    with progress.waiting(what, seconds) as tell:
        while (left_s := deadline - time.monotonic()) > 0:
            pause(min(1.0, left_s))
            tell(watch.so_far)


def _require_survivor(step: Step, target: Target, load: LoadProfile, answers: pd.DataFrame) -> None:
    """Raise OutageError unless each source has had a good answer from the survivor in the last seconds."""
    seconds = max(_RECENT_S, _RECENT / load.rate_per_s)
    recent = answers[answers["time"] > datetime.now(UTC) - timedelta(seconds=seconds)]
    if missing := unanswered(recent, target, survivors(step, target)):
        why = mesh.in_words(silent_ways(target, recent))
        raise OutageError(f"{step}: no outage: {why} In the last {seconds:.0f} s {missing}", hint=UNANSWERED_HINT)


def _record(
    step: Step, number: int, target: Target, ended: Outage, answers: pd.DataFrame, observer: Observer
) -> TrialRecord:
    begin = ChangeRequest(asked=_known(ended.down_requested, ended), accepted=_known(ended.down_accepted, ended))
    restore = ChangeRequest(
        asked=_known(ended.restore_requested, ended), accepted=_known(ended.restore_accepted, ended)
    )
    mode = outage.MODES[step.mode]
    return TrialRecord(
        mode=step.mode,
        context=step.context,
        trial=number,
        outage=begin,
        restore=restore if mode.lasts else begin,
        ended_at=None if mode.lasts else ended.ready_again,
        answers=answers,
        changes=observer.changes,
        contexts=[cluster.name for cluster in target.fleet],
        stopped=step.context if mode.stops else "",
    )


def _known(moment: datetime | None, ended: Outage) -> datetime:
    if moment is None:
        raise OutageError(
            f"{ended.intent}: the outage did not last: somebody else restored it meanwhile",
            hint="a watchdog, meshbook restore --force, or a hand; nothing is concluded from it",
        )
    return moment


def _evidence(target: Target, record: TrialRecord, phases: pd.DataFrame, balancer: LoadBalancer) -> Evidence:
    """Read the access logs of everybody on the way of a request, and put the rest beside them."""
    since, until = record.outage.asked, record.end
    namespaces = [target.namespace, target.gateway_namespace, SYSTEM_NAMESPACE]
    gone = phases[phases["phase"] == ENDPOINTS_GONE]
    return Evidence(
        logs=access_logs(target.fleet, namespaces, since, until),
        since=since,
        until=until,
        service=f"{target.service}.{target.namespace}.",
        endpoints={
            str(row["place"]).rpartition(" ")[2]: str(row["detail"])
            if pd.isna(row["high_s"])
            else f"none ready any more {1000 * row['low_s']:.0f} to {1000 * row['high_s']:.0f} ms after the request"
            for _, row in gone.iterrows()
        },
        balancer=balancer,
    )
