"""How much load an experiment offers: the service is measured first, and gets half of what its survivor bears.

A few requests, one at a time, from each source; then a step of some seconds in which a few from every cluster are
always on their way, so that pods are busy and none is flooded. What that says of a side is for ``analysis`` to tell.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd

from meshbook import analysis, probes
from meshbook.clusters import Fleet, gather
from meshbook.errors import UsageError
from meshbook.experiment.plan import LoadProfile, Target

AUTO = "auto"
OFFERED = 0.5
"""Share of what the survivor bears, at the least, that all sources together send when the rate is ``auto``."""
HIGHEST_AUTO_PER_S = 10.0
"""Of each source: more would narrow no range by much."""
_UNKNOWN_PER_S = 2.0
_CALM = 12
"""Requests of each source, one at a time."""
_STEP_S = 2.5
_IN_FLIGHT_PER_POD = 2
"""Requests that each cluster keeps on their way for every pod of the service, so that all pods have one that waits."""
_MOST_IN_FLIGHT = 12
_FEWEST, _MOST = 6, 50
"""Requests of each loop in the step: its length is known by time where answers take 40 ms to 0.5 s."""


def fit_load(load: LoadProfile, target: Target, rate_per_s: str | float = AUTO) -> LoadProfile:
    """Measure what the service bears and return ``load`` with a rate that fits: ``auto``, or the one that is given.

    Sends some hundred requests, changes nothing. Whether a given rate is too much is for ``plans`` to say.
    """
    given = _rate(rate_per_s)
    calm, pods = _calm(target), _ready_pods(target)
    answer_ms = float(calm["time_total_ms"].astype("float64").median())
    in_flight = min(_MOST_IN_FLIGHT, _IN_FLIGHT_PER_POD * max(1, sum(pods.values())))
    busy = _step(target, in_flight, answer_ms / 1000)
    bears = {
        down: analysis.capacity(
            calm,
            busy,
            [version for context, version in target.versions.items() if context != down],
            sum(count for context, count in pods.items() if context != down),
        )
        for down in target.versions
    }
    answers = pd.concat([calm, busy], ignore_index=True)
    measured = replace(load, sources=1 + len(target.fleet), bears=bears, answers=answers)
    return replace(measured, rate_per_s=given or _auto(measured))


def _rate(given: str | float) -> float | None:
    """Return a rate in requests per second; None for ``auto``."""
    try:
        rate = None if given == AUTO else float(given)
    except ValueError:
        rate = 0.0
    if rate is not None and not 0 < rate <= probes.HIGHEST_RATE:
        raise UsageError(f"rate_per_s is auto, or a number up to {probes.HIGHEST_RATE:g}, not {given!r}")
    return rate


def _auto(load: LoadProfile) -> float:
    lows = [found.low_per_s for found in load.bears.values() if found]
    if len(lows) < len(load.bears):
        return _UNKNOWN_PER_S
    return min(HIGHEST_AUTO_PER_S, max(0.01, math.floor(100 * OFFERED * min(lows) / load.sources) / 100))


def _calm(target: Target) -> pd.DataFrame:
    """Return ANSWERS to one request at a time, one source after the other."""
    frames = [probes.curl_from_here(target.outside, _CALM)]
    for cluster in target.fleet:
        frames.append(probes.curl_from_pods(Fleet([cluster]), target.inside, _CALM, namespace=target.namespace))
    return pd.concat(frames, ignore_index=True)


def _ready_pods(target: Target) -> dict[str, int]:
    """Return by context how many pods of the service are ready."""
    states = target.fleet.deployments(target.namespace)
    return {state.context: state.ready for state in states if state.name == target.deployments.get(state.context)}


def _step(target: Target, in_flight: int, answer_s: float) -> pd.DataFrame:
    """Return ANSWERS to loops that run side by side, ``in_flight`` of them in each cluster."""
    fitting = _STEP_S / (_IN_FLIGHT_PER_POD * len(target.fleet) * max(answer_s, 0.001))
    requests = round(min(_MOST, max(_FEWEST, fitting)))

    def loop() -> pd.DataFrame:
        return probes.curl_from_pods(target.fleet, target.inside, requests, namespace=target.namespace, timeout_s=10.0)

    loops = gather({f"loop {number}": loop for number in range(in_flight)})
    return pd.concat(loops.values(), ignore_index=True)
