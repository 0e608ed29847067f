"""Promises of what a side bears: the truth lies in the interval, or the number is the least that it can be."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from busy_pods import asked

from meshbook import analysis

SAMPLE = {"v1": 0.045, "v2": 0.045}
"""Seconds that an answer takes: 22 a second, from each pod."""


def test_a_pod_that_answers_one_at_a_time_bears_what_the_step_shows() -> None:
    found = analysis.capacity(asked(SAMPLE, 1, 24), [asked(SAMPLE, 8, 16)], ["cluster2"], 1)
    assert found is not None
    assert found.low_per_s < 1 / 0.045 < found.high_per_s
    assert found.high_per_s - found.low_per_s < 4
    assert not found.is_least
    assert found.busy_ms > 2 * found.calm_ms
    assert str(found).startswith("about 21.7/s (20.6 to 23; 1 pod, n = 63, ")


def test_pods_that_were_not_seen_count_as_much_as_those_that_were() -> None:
    one, three = (
        analysis.capacity(asked(SAMPLE, 1, 24), [asked(SAMPLE, 8, 16)], ["cluster2"], pods) for pods in (1, 3)
    )
    assert one is not None
    assert three is not None
    assert three.per_s == pytest.approx(3 * one.per_s)


def test_a_side_that_was_not_busy_bears_at_least_what_it_did() -> None:
    found = analysis.capacity(asked(SAMPLE, 1, 24, at_once=True), [asked(SAMPLE, 8, 16, at_once=True)], ["cluster1"], 1)
    assert found is not None
    assert found.is_least
    assert found.low_per_s > 40
    assert str(found).startswith("at least ")


def test_a_far_side_with_few_requests_bears_as_many_as_it_answers_one_after_the_other() -> None:
    far = {"v1": 0.003, "v2": 0.2}
    found = analysis.capacity(asked(far, 1, 40, at_once=True), [asked(far, 2, 40, at_once=True)], ["cluster2"], 2)
    assert found is not None
    assert found.low_per_s >= 2 / 0.22


def test_a_machine_that_stands_still_in_the_step_widens_the_interval_downwards() -> None:
    found = analysis.capacity(asked(SAMPLE, 1, 24), [asked(SAMPLE, 8, 16, still=(0.5, 1.5))], ["cluster2"], 1)
    assert found is not None
    assert found.low_per_s < 12 < found.per_s < 22
    assert not math.isnan(found.high_per_s)


def test_short_steps_count_together_and_the_time_between_them_for_nothing() -> None:
    first = asked(SAMPLE, 8, 2)
    later = first.assign(time=first["time"] + pd.Timedelta(seconds=60))
    calm = asked(SAMPLE, 1, 24)
    assert analysis.capacity(calm, [first], ["cluster1"], 1) is None
    found = analysis.capacity(calm, [first, later], ["cluster1"], 1)
    assert found is not None
    assert found.low_per_s < found.per_s < found.high_per_s < 30
    assert found.per_s == pytest.approx(1 / 0.045, rel=0.1)


def test_nothing_is_known_of_who_answered_too_little() -> None:
    calm, busy = asked(SAMPLE, 1, 24), asked(SAMPLE, 2, 6)
    assert analysis.capacity(calm, [busy], ["cluster2"], 1) is None
    assert analysis.capacity(calm, [busy], ["cluster3"], 1) is None
    assert analysis.capacity(calm.iloc[:0], [], ["cluster2"], 1) is None
