"""How much load an experiment offers: the service is measured first, and gets half of what its survivor bears.

A few requests, one at a time, from each source; then a step of some seconds in which a few from every cluster are
always on their way, so that pods are busy and none is flooded. What that says of a side is for ``analysis`` to tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import pandas as pd

from meshbook import analysis, mesh, probes, progress, tables
from meshbook.clusters import Fleet, pause
from meshbook.errors import UsageError
from meshbook.experiment.causes import silent_ways
from meshbook.experiment.checks import BORNE, hangs, unanswered
from meshbook.experiment.plan import Limits, LoadProfile, Target
from meshbook.settings import AUTO, out_of_range

OFFERED = 0.5
"""Share of what the survivor bears, at the least, that all sources together send when the rate is ``auto``."""
HIGHEST_AUTO_PER_S = 10.0
"""Of each source: more would narrow no range by much."""
_UNKNOWN_PER_S, _UNKNOWN_S = 10.0, 1.0
"""What a side is taken to bear at the most of which too few answers came, and how long one takes where none came."""
_LONGEST_AUTO_S = 120.0
"""Seconds of outage: by itself, and at all, since a watch ends after an hour."""
_AROUND = 14
"""Requests of each source before the outage, and after it: by so many every cluster that answers is surely seen."""
_SURELY = 1.1
"""Times the detection limit than which a gap is surely seen to be no longer: one side alone takes longer to answer."""
_CALM_FIRST, _CALM, _CALM_S, _CALM_TIMEOUT_S = 4, 12, 3.0, 5.0
"""Requests of each source, one at a time: so many, and as many more, up to the second number, as take few seconds."""
_MOST_PER_POD, _FEWEST_PER_POD, _MOST_WAIT_S = 4, 2, 0.25
"""Requests on their way for each pod: enough that one waits as a rule, and no more than are answered in this time.

A pod's readiness is asked in the same queue, and is lost after a second."""
_MOST_IN_FLIGHT = 12
"""In each cluster."""
_SHORT, _STEP_S, _MOST = 3, 2.5, 150
"""A step has so many answers for each request on its way at the least, else as many of each pod as take so many
seconds, up to a number."""
_TOO_LONG_S = 0.5
"""The next step is short where an answer took half as long as a pod's readiness is waited for: on a busy machine a
longer one would be the outage itself."""
_MOST_STEPS, _LONGEST_S = 6, 40.0
"""No step begins after so many, or so long."""
_STEP_TIMEOUT_S = 10.0
_TOLD_S = 2.0
"""Seconds until proxies know that a pod is ready again."""


def fit_load(
    load: LoadProfile,
    target: Target,
    limits: Limits,
    *,
    rate_per_s: str | float = AUTO,
    outage_s: str | float = AUTO,
) -> LoadProfile:
    """Measure what the service bears and return ``load`` with rate and length that fit: ``auto``, or as they are given.

    An outage is so long that the requests of each source decide the limit on failures in spite of two, at least as
    ``load`` says; where its length is given, as long at least is watched before and after it. Afterwards so many are
    sent as decide about shares. Sends some hundred requests, changes nothing. Whether a given rate is too much is for
    ``plans`` to say.
    """
    rate, length_s = _given(rate_per_s, "rate_per_s"), _given(outage_s, "outage_s")
    progress.step("measuring what each side bears: some requests one by one, then some at once")
    split_tests = _split_tests(target, limits)  # before any load: a pod may lose its readiness by it
    calm = mesh.looked_up(target.fleet, target.namespace, _calm, target)
    pods = _ready(target)

    def capacities(steps: Sequence[pd.DataFrame]) -> dict[str, analysis.Capacity | None]:
        return {
            down: analysis.capacity(
                calm,
                steps,
                [context for context in target.versions if context != down],
                sum(count for context, count in pods.items() if context != down),
            )
            for down in target.versions
        }

    answer_s, steps = _usual_s(calm), []
    if not hangs(calm):
        steps = _steps(target, max(1, sum(pods.values())), answer_s, lambda some: all(capacities(some).values()))
        answer_s = max(answer_s, _slowest_s(pd.concat(steps)))
        _let_recover(target, pods)
    bears, answers = capacities(steps), pd.concat([calm, *steps], ignore_index=True)
    silent = any(unanswered(answers, target, [cluster]) for cluster in target.versions)
    why = mesh.in_words(silent_ways(target, answers)) if silent else ""
    rate = rate or _auto(bears, answer_s, len(target.sources))
    enough_s = analysis.fewest_to_pass(limits.max_failed_share, wrong=BORNE) / rate
    fitted_s, around_s = (min(_LONGEST_AUTO_S, math.ceil(least_s)) for least_s in (enough_s, _AROUND / rate))
    return replace(
        load,
        rate_per_s=rate,
        outage_s=length_s or max(load.outage_s, fitted_s),
        around_s=max(length_s or load.around_s, around_s),
        split_tests=split_tests,
        sources=len(target.sources),
        bears=bears,
        answers=answers,
        causes=why,
    )


def _ready(target: Target) -> dict[str, int]:
    return {state.context: state.ready for state in target.states()}


def _let_recover(target: Target, pods: Mapping[str, int]) -> None:
    """Wait where pods have lost their readiness by the steps: else no outage began, for what was done to them here."""
    if any(count < pods[context] for context, count in _ready(target).items()):
        target.wait_for_rollout()
        pause(_TOLD_S)


def _split_tests(target: Target, limits: Limits) -> dict[str, analysis.SplitTest]:
    """Return by cluster how its share of the answers is compared with the expected one."""
    tolerance, most = limits.share_tolerance, limits.max_failed_share
    return {
        cluster: analysis.split_test(target.expected, cluster, tolerance, max_failed_share=most)
        for cluster in target.versions
    }


def fit_limits(limits: Limits, load: LoadProfile, max_gap_s: str | float = AUTO) -> Limits:
    """Return ``limits`` with the longest gap that is given, which is never changed, or one that ``load`` can decide.

    ``auto`` is what ``limits`` say, or where so low a rate cannot show that, the least that it surely can.
    """
    if given := _given(max_gap_s, "max_gap_s"):
        return replace(limits, max_gap_s=given)
    least_s = math.ceil(10 * _SURELY * load.detection_limit_s) / 10
    if least_s <= limits.max_gap_s:
        return limits
    note = f"not {limits.max_gap_s:g} s: the least that can be seen at {load.rate_per_s:.2g}/s from each source"
    return replace(limits, max_gap_s=least_s, gap_note=note)


def _given(value: str | float, name: str) -> float | None:
    """Return a parameter's number; None for ``auto``."""
    try:
        number = None if value == AUTO else float(value)
    except ValueError:
        number = math.nan
    if number is not None and (allowed := out_of_range(name, number)):
        raise UsageError(f"{name} must be {AUTO} or {allowed}, not {value!r}")
    return number


def _auto(bears: Mapping[str, analysis.Capacity | None], answer_s: float, sources: int) -> float:
    """Return the rate that fits; a side that is not known is taken to answer one at a time, each in ``answer_s``."""
    unknown_per_s = min(_UNKNOWN_PER_S, 1 / answer_s)
    least_per_s = min(found.low_per_s if found else unknown_per_s for found in bears.values())
    return min(HIGHEST_AUTO_PER_S, max(0.01, math.floor(100 * OFFERED * least_per_s / sources) / 100))


def _calm(target: Target) -> pd.DataFrame:
    """Return ANSWERS to one request at a time, one source after the other."""
    asking = [partial(probes.curl_from_here, [entry]) for entry in target.outside]
    for cluster in target.fleet:
        asking.append(partial(probes.curl_from_pods, Fleet([cluster]), target.inside, namespace=target.namespace))
    frames = []
    for ask in asking:
        frames.append(ask(requests=_CALM_FIRST, timeout_s=_CALM_TIMEOUT_S))
        more = min(_CALM - _CALM_FIRST, int(_CALM_S / _usual_s(frames[-1])))
        if more and not hangs(frames[-1]):
            frames.append(ask(requests=more, timeout_s=_CALM_TIMEOUT_S))
    return pd.concat(frames, ignore_index=True)


def _usual_s(answers: pd.DataFrame) -> float:
    """Return how long good answers take as a rule."""
    answer_s = float(tables.good(answers)["time_total_ms"].astype("float64").median()) / 1000
    return answer_s if answer_s > 0 else _UNKNOWN_S


def _slowest_s(answers: pd.DataFrame) -> float:
    """Return the same of the cluster where they take longest."""
    return max((_usual_s(rows) for _, rows in tables.good(answers).groupby("cluster")), default=_UNKNOWN_S)


def _steps(
    target: Target, pods: int, answer_s: float, known: Callable[[Sequence[pd.DataFrame]], bool]
) -> list[pd.DataFrame]:
    """Return ANSWERS to a closed loop from each cluster that keeps ``pods`` busy, together with the others.

    A short one goes first, and more until enough is ``known``; a longer one where that was not too much already.
    """

    answer_s, of_each = max(0.001, answer_s), pods / len(target.fleet)
    per_pod = min(_MOST_PER_POD, max(_FEWEST_PER_POD, round(_MOST_WAIT_S / answer_s)))
    in_flight = min(_MOST_IN_FLIGHT, math.ceil(per_pod * of_each))
    short, long = _SHORT * in_flight, math.ceil(min(_MOST, _STEP_S / answer_s) * of_each)
    too_long_ms = 1000 * max(_TOO_LONG_S, 2 * per_pod * answer_s)
    steps: list[pd.DataFrame] = []
    spent_s, bears_more = 0.0, False
    while len(steps) < _MOST_STEPS and spent_s < _LONGEST_S and not (spent_s >= _STEP_S and known(steps)):
        requests = max(short, long) if bears_more else short
        loop = probes.ClosedLoop(requests=requests, concurrency=in_flight, timeout_s=_STEP_TIMEOUT_S)
        steps.append(target.ask(loop))
        if hangs(steps[-1]):
            break
        spent_s += (steps[-1]["time"].max() - steps[-1]["time"].min()).total_seconds()
        bears_more = not (steps[-1]["time_total_ms"] > too_long_ms).any()
    return steps
