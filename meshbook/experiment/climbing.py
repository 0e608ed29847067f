"""Climb: one outage after the other, each watched from everywhere, each undone before the next one starts.

What came out of it is in ``rounds``. Taking away is done by ``outage``, which also brings back; here is only the order
of things: watch, wait, take away, hold, bring back, wait, put together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import pandas as pd

from meshbook import analysis, outage, probes, tables
from meshbook.analysis import (
    ENDPOINTS_GONE,
    AccessLogs,
    ChangeRequest,
    Evidence,
    LoadBalancer,
    TrialRecord,
    phases,
)
from meshbook.clusters import pause
from meshbook.errors import MeshbookError, OutageError, UsageError
from meshbook.experiment.accesslogs import access_logs
from meshbook.experiment.balancing import health_check, look
from meshbook.experiment.observing import Observer
from meshbook.experiment.rounds import Round
from meshbook.experiment.rungs import APPLICATION_MODES, Pace, Rung, Scene, intent
from meshbook.outage import Safeguards

SYSTEM = "istio-system"
REPLACED = "pods-deleted"
"""The mode whose way back nobody orders: it begins at once."""

OnStep = Callable[[str], None]


def climb(
    ladder: Sequence[Rung], scene: Scene, pace: Pace, safeguards: Safeguards, *, on_step: OnStep | None = None
) -> list[Round]:
    """Do every rung of the ladder and return what came out of each; ``on_step`` gets one line on where it is.

    An outage that may not start, or that could not be undone, ends the climb: OutageError. Nothing starts when a
    watchdog would surely end it too early: UsageError.
    """
    if 0 < safeguards.watchdog_s <= pace.outage_s:
        raise UsageError(
            f"a watchdog after {safeguards.watchdog_s:g} s would cut an outage of {pace.outage_s:g} s short",
            hint="watchdog_s is for runners that vanish: outage_s and some minutes",
        )
    told = on_step or (lambda _: None)
    done = []
    for number, rung in enumerate(ladder, start=1):
        told(f"{number} of {len(ladder)}: {rung}")
        done.append(_round(rung, scene, pace, safeguards))
    told(f"{len(done)} of {len(ladder)} outages done, all brought back")
    return done


def _round(rung: Rung, scene: Scene, pace: Pace, safeguards: Safeguards) -> Round:
    pacing = {"rate_per_s": pace.rate_per_s, "timeout_s": pace.timeout_s}
    checked = health_check(scene.config, scene.gateway_namespace)
    with (
        Observer(scene.fleet, scene.service, scene.namespace) as observer,
        probes.watch(scene.fleet, scene.outside, scene.inside, namespace=scene.namespace, **pacing) as watch,
    ):
        pause(pace.before_s)
        with outage.outage(intent(rung, scene, safeguards)) as away:
            pause(pace.outage_s / 2)
            loop = probes.curl_from_here(scene.outside, pace.loop_requests, timeout_s=pace.timeout_s)
            balancer = look(scene.fleet, scene.gateway_namespace, health_check=checked)
            pause(pace.outage_s / 2)
        pause(pace.after_s)
        record = _record(rung, scene, away, answers=watch.stop(), changes=observer.changes)
    found = phases(record)
    return Round(
        rung=rung,
        record=record,
        phases=found,
        layers=analysis.attribute(_evidence(scene, record, found, balancer)),
        sends=watch.sends,
        clocks=watch.clocks,
        loop=loop,
        gone=_known(away.down, away),
        ready_again=_known(away.ready_again, away),
    )


def _record(rung: Rung, scene: Scene, away: outage.Outage, **seen: Any) -> TrialRecord:
    asked, accepted = _known(away.down_requested, away), _known(away.down_accepted, away)
    back = ChangeRequest(asked=_known(away.restore_requested, away), accepted=_known(away.restore_accepted, away))
    replaced = rung.mode == REPLACED
    return TrialRecord(
        mode=rung.mode,
        context=rung.context,
        trial=rung.repeat,
        outage=ChangeRequest(asked=asked, accepted=accepted),
        restore=ChangeRequest(asked=asked, accepted=accepted) if replaced else back,
        ended_at=away.ready_again if replaced else None,
        contexts=[cluster.name for cluster in scene.fleet],
        version=scene.versions[rung.context] if rung.mode in APPLICATION_MODES else "",
        margin=scene.margin,
        **seen,
    )


def _known(moment: datetime | None, away: outage.Outage) -> datetime:
    if moment is None:
        raise OutageError(
            f"{away.context}: the outage of {away.deployment} did not last: somebody else brought it back meanwhile",
            hint="a watchdog, meshbook restore --force, or a hand; nothing is concluded from it",
        )
    return moment


def _evidence(scene: Scene, record: TrialRecord, found: pd.DataFrame, balancer: LoadBalancer) -> Evidence:
    """Read the access logs of everybody on the way of a request; a log that has gone with its pod is no error."""
    since, until = record.outage.asked, record.end
    try:
        logs = access_logs(scene.fleet, [scene.namespace, scene.gateway_namespace, SYSTEM], since=since, until=until)
    except MeshbookError:
        logs = AccessLogs(frame=tables.empty(tables.ACCESS), pods=0)
    gone = found[found["phase"] == ENDPOINTS_GONE]
    return Evidence(
        logs=logs,
        since=since,
        until=until,
        service=f"{scene.service}.{scene.namespace}.",
        endpoints={str(row["place"]).rpartition(" ")[2]: _words(row) for _, row in gone.iterrows()},
        balancer=balancer,
    )


def _words(row: Any) -> str:
    if pd.isna(row["high_s"]):
        return str(row["detail"])
    return f"none ready any more {1000 * row['low_s']:.0f} to {1000 * row['high_s']:.0f} ms after the request"
