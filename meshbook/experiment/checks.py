"""What must hold before a step starts, and again after it: the plan, who answers whom, and what the load can decide.

Sends requests, changes nothing. What ``outage`` itself asks for stands in its ``safeguards``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pandas as pd

from meshbook import analysis, mesh, outage, probes, tables
from meshbook.errors import MeshbookError
from meshbook.experiment.plan import NOT_KNOWN, Limits, LoadProfile, Step, Target
from meshbook.outage import Check, Safeguards
from meshbook.verdict import counted

ANSWERED = "each source is answered by the survivor"
UNANSWERED_HINT = "stage 1 says who reaches whom; a source without a survivor would have an outage of its own"
MOST_OFFERED = 0.8
"""Share of what the survivor bears that the requests of all sources together may be: above it, they are the outage."""
BORNE = 2
"""Failed requests of one source in spite of which an outage decides: a mesh without fault may lose one or two when a
pod goes."""
_MISSED = 0.001
"""Chance of not seeing a cluster that answers, by which it is said not to."""
_MOST_TO_SEE = 50
_FIRST_TO_SEE = 4
LOOK_S = 6.0
"""Longest time of a request that asks who answers: a pod that takes 2 s may be asked by three at once."""


def intent(step: Step, target: Target, safeguards: Safeguards) -> outage.Intent:
    """Return what ``outage`` is asked for; whether all is well is asked before it starts and after its end."""
    return outage.Intent(
        cluster=target.fleet[step.context],
        deployment=target.deployments[step.context],
        namespace=target.namespace,
        mode=step.mode,
        survivors=target.fleet.clusters,
        safeguards=safeguards,
        timeout_s=target.timeout_s,
        steady=lambda: _unsteady(target) and _unsteady(target),  # one bad moment is no state
    )


def _unsteady(target: Target) -> str:
    """Return what of the service is not as it should be: its Deployments, and who answers each source."""
    try:
        unsettled = [str(state) for state in target.states() if not state.settled]
        return "; ".join([*unsettled, *_unserved(target)])
    except MeshbookError as error:  # a cluster that cannot be asked is not steady
        return error.message


def _unserved(target: Target) -> Iterator[str]:
    """Say which sources got a request without a good answer, or nothing from a cluster that should answer them."""
    shares = [share for wanted in target.expected.values() for share in wanted.shares.values() if share]
    requests = min(_MOST_TO_SEE, analysis.to_see(min(shares, default=0.5), _MISSED))
    answers = one_at_a_time(target, min(requests, _FIRST_TO_SEE))
    if requests > _FIRST_TO_SEE and not hangs(answers):
        answers = tables.joined(answers, one_at_a_time(target, requests - _FIRST_TO_SEE))
    for source in target.sources:
        rows = tables.measured(answers[answers["source"] == source])
        bad, seen = rows.loc[rows["error"] != "", "error"], set(tables.good(rows)["cluster"])
        wanted = target.expected.get(source)
        missing = [name for name in (wanted.clusters if wanted else []) if name not in seen]
        if len(bad) or rows.empty:
            yield f"{source}: {len(bad)} of {len(rows)} requests failed{f' ({bad.iloc[0]})' if len(bad) else ''}"
        if missing:
            yield f"{source} got no answer from {' or '.join(missing)} in {len(rows)} requests"


def one_at_a_time(target: Target, requests: int) -> pd.DataFrame:
    """Return ANSWERS to so many requests of each source, one after the other."""
    loop = probes.ClosedLoop(requests=requests, concurrency=1, timeout_s=LOOK_S)
    return target.ask(loop, target.outside)


def hangs(answers: pd.DataFrame) -> bool:
    """Tell whether more than one request got no answer at all."""
    return int((answers["error"] == "timeout").sum()) > 1


def plans(
    some: Sequence[Step], target: Target, safeguards: Safeguards, load: LoadProfile, limits: Limits | None = None
) -> list[outage.Plan]:
    """Return what would be done in each step, and whether it is ready to start; reads only.

    ``limits`` adds whether the requests can decide them.
    """
    found = [(step, outage.plan(intent(step, target, safeguards))) for step in some]
    # what the requests showed comes first: it is told with its cause
    return [replace(plan, checks=(*_load_checks(step, target, load, limits), *plan.checks)) for step, plan in found]


def survivors(step: Step, target: Target) -> list[str]:
    """Return the clusters that carry the service meanwhile: all, where a step stops none for everybody."""
    return [context for context in target.versions if context != step.context or not outage.MODES[step.mode].stops]


def unanswered(answers: pd.DataFrame, target: Target, clusters: Sequence[str]) -> str:
    """Return which sources got no good answer from any of ``clusters``, and what they got; empty: all did.

    Of a source whose requests stay near as long as they can (locality failover), none is to be expected: it is to be
    answered at all, and one of ``clusters`` by its own, which shows that its pods serve.
    """
    known = tables.measured(answers)
    good = tables.good(known)
    answered = {
        name: set(good.loc[good["cluster"].isin(some), "source"])
        for name, some in (("survivor", clusters), ("anybody", [*target.versions]))
    }
    told = []
    for source in target.sources:
        near = kept_near(target, source, clusters) and answered["survivor"].intersection(clusters)
        if source not in answered["anybody" if near else "survivor"]:
            own = known[known["source"] == source]
            counts = own["error"].where(own["error"] != "", own["cluster"]).value_counts()
            got = ", ".join(f"{count} {word}" for word, count in counts.items()) or "nothing"
            told.append(f"{source} got none from {' or '.join(clusters)} in {len(own)} requests ({got})")
    return "; ".join(told)


def kept_near(target: Target, source: str, clusters: Sequence[str]) -> bool:
    """Tell whether ``source`` is configured to get no answers from ``clusters`` before others cannot give them."""
    wanted = target.expected.get(source)
    return bool(wanted and wanted.fails_over and not any(wanted.share_of(name) for name in clusters))


def _way_is_open(step: Step, target: Target) -> Iterator[Check]:
    """Say whether sources that are kept near could reach a survivor at all: by its east-west gateway, from within."""
    others = survivors(step, target)
    near = [source for source in target.sources if kept_near(target, source, others)]
    asking = {name for source in near for name in target.starts_in(source)}
    if not asking:
        return
    looks = mesh.between(target.fleet)
    ours = [one for one in looks if one.direction.source in asking and one.direction.destination in others]
    causes = [one for one in ours if one.state == mesh.CAUSE]
    unseen = [one for one in ours if one.state == mesh.NOT_LOOKED_AT]
    saw = "; ".join(f"{one.direction}: {one.seen}" for one in causes or unseen)
    yield Check(
        name="who is kept near can reach a survivor (locality failover)",
        ok=False if causes else None if unseen else True,
        saw=saw or "by its east-west gateway",
        hint=causes[0].mend if causes else "",
    )


def _load_checks(step: Step, target: Target, load: LoadProfile, limits: Limits | None) -> Iterator[Check]:
    if load.answers is not None:
        missing = unanswered(load.answers, target, survivors(step, target))
        saw = f"{load.causes} {missing}".strip() if missing else "all of them"
        yield Check(name=ANSWERED, ok=not missing, saw=saw, hint=UNANSWERED_HINT)
        yield from _way_is_open(step, target)
    capacity = load.bears.get(step.context)
    name, offered = "the survivor bears the load", f"{load.offered_per_s:.3g}/s from {counted(load.sources, 'source')}"
    if capacity is None:
        why = NOT_KNOWN if step.context in load.bears else "what it bears was not measured"
        yield Check(name=name, ok=None, saw=f"{offered}; {why}")
    else:
        most = MOST_OFFERED * capacity.per_s
        ok = True if load.offered_per_s <= most else None if capacity.is_least else False
        hint = f"rate_per_s: auto, or at most {most / load.sources:.2g}; or more replicas of the survivor"
        yield Check(name=name, ok=ok, saw=f"{offered}; it bears {capacity}", hint=hint)
    if limits and step.mode in limits.must_survive:
        yield from _decisions(load, limits)


def _decisions(load: LoadProfile, limits: Limits) -> Iterator[Check]:
    """Say whether so many requests, so often, can decide the limits; where not, what would."""
    limit_s, most_s = load.detection_limit_s, limits.max_gap_s
    note = f" ({limits.gap_note})" if limits.gap_note else ""
    saw = f"max_gap_s is {most_s:g} s{note}, the detection limit {limit_s:.2g} s"
    mend = f"; max_gap_s: {math.ceil(10 * limit_s) / 10:g}, or more replicas of the sample, that bear a higher rate"
    yield Check(
        name="the longest gap can be decided",
        ok=True if limit_s <= most_s else None,
        saw=saw + ("" if limit_s <= most_s else mend),
    )
    least = analysis.fewest_to_pass(limits.max_failed_share)
    count = math.floor(load.rate_per_s * load.outage_s)
    enough_s = math.ceil(analysis.fewest_to_pass(limits.max_failed_share, wrong=BORNE) / load.rate_per_s)
    yield Check(
        name="the share of failures can be decided",
        ok=True if count >= least else None,
        saw=f"{count} requests of each source during the outage, {least} at the least"
        + ("" if count >= least else f"; outage_s: {enough_s}, or it cannot pass"),
    )
