"""Promises of the load: the service is measured however slow it is, and gets half of what its survivor bears."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from busy_pods import asked
from plans import Checks

from meshbook import experiment, mesh, probes
from meshbook.analysis import ExpectedShares
from meshbook.errors import UsageError
from meshbook.experiment import Limits, LoadProfile, Target


def test_the_rate_is_half_of_what_one_side_alone_bears_over_all_sources(asked_target: Target) -> None:
    load = experiment.fit_load(LoadProfile(), asked_target, Limits())
    assert (load.sources, set(load.bears)) == (3, {"cluster1", "cluster2"})
    assert 8 < load.offered_per_s <= 11.1
    assert f"{load.offered_per_s:.3g}/s in all; {load.outage_s:g} s of outage, detection limit 0." in str(load)
    assert "without cluster1 the others about 2" in str(load)


def test_a_rate_that_is_given_is_kept_and_one_that_is_none_refused_before_anything_is_sent(
    asked_target: Target,
) -> None:
    for wrong in ("fast", "0", 500.0):
        with pytest.raises(UsageError, match=r"rate_per_s must be auto or 0\.01 to 200"):
            experiment.fit_load(LoadProfile(), asked_target, Limits(), rate_per_s=wrong)
    with pytest.raises(UsageError, match=r"outage_s must be auto or 0\.1 to 1000, not '0'"):
        experiment.fit_load(LoadProfile(), asked_target, Limits(), outage_s="0")
    load = experiment.fit_load(LoadProfile(), asked_target, Limits(), rate_per_s="6.5", outage_s="3")
    assert (load.rate_per_s, load.outage_s, load.around_s) == (6.5, 3, 3)


def test_a_way_that_hangs_is_not_asked_to_the_end(asked_target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []

    def hanging(*_: Any, requests: int, **__: Any) -> pd.DataFrame:
        sent.append(requests)
        return asked({"v1": 0.045}, 1, requests).assign(error="timeout", version="", cluster="")

    monkeypatch.setattr(probes, "curl_from_pods", hanging)
    monkeypatch.setattr(probes, "send_many", lambda *_, **__: pytest.fail("no step of concurrent requests"))
    load = experiment.fit_load(LoadProfile(), asked_target, Limits())
    assert sent == [4, 4]
    assert set(load.bears.values()) == {None}


@pytest.mark.parametrize(("service_s", "longer"), [(0.045, True), (0.4, False)])
def test_a_step_that_is_too_much_already_is_repeated_until_enough_is_known_and_not_made_longer(
    asked_target: Target, monkeypatch: pytest.MonkeyPatch, service_s: float, longer: bool
) -> None:
    sent: list[int] = []

    def many(*_: object, loop: probes.ClosedLoop, **__: object) -> pd.DataFrame:
        sent.append(loop.requests)
        return asked({"v1": service_s, "v2": service_s}, 2 * loop.concurrency, loop.requests // loop.concurrency)

    monkeypatch.setattr(probes, "send_many", many)
    load = experiment.fit_load(LoadProfile(), asked_target, Limits())
    assert all(load.bears.values())
    assert (sent[-1] > sent[0]) is longer
    assert 1 < len(sent) < 5
    assert [found.per_s for found in load.bears.values() if found] == pytest.approx([1 / service_s] * 2, rel=0.25)


@pytest.mark.parametrize(("error", "steps"), [("", 6), ("timeout", 1)])
def test_a_step_is_not_repeated_for_ever_nor_where_requests_hang(
    asked_target: Target, monkeypatch: pytest.MonkeyPatch, error: str, steps: int
) -> None:
    sent = []

    def many(*_: object, **__: object) -> pd.DataFrame:
        sent.append(1)
        return asked({"v1": 0.6, "v2": 0.6}, 2, 1).assign(error=error)

    monkeypatch.setattr(probes, "send_many", many)
    assert set(experiment.fit_load(LoadProfile(), asked_target, Limits()).bears.values()) == {None}
    assert len(sent) == steps


@pytest.mark.parametrize(("service_s", "longest_s"), [(1.0, 60), (3.0, 110)])
def test_however_slow_the_service_its_measurement_ends_soon_with_a_plan_that_says_what_can_be_seen(
    asked_target: Target, checks: Checks, monkeypatch: pytest.MonkeyPatch, service_s: float, longest_s: float
) -> None:
    took_s: list[float] = []

    def answered(loops: int, requests: int) -> pd.DataFrame:
        rows = asked({"v1": service_s, "v2": service_s}, loops, requests)
        ended = rows["time"] + pd.to_timedelta(rows["time_total_ms"], unit="ms")
        took_s.append((ended.max() - rows["time"].min()).total_seconds())
        return rows

    def many(*_: object, loop: probes.ClosedLoop, **__: object) -> pd.DataFrame:
        return answered(2 * loop.concurrency, math.ceil(loop.requests / loop.concurrency))

    monkeypatch.setattr(probes, "curl_from_here", lambda _, requests, **__: answered(1, requests))
    monkeypatch.setattr(probes, "curl_from_pods", lambda *_, requests, **__: answered(1, requests))
    monkeypatch.setattr(probes, "send_many", many)
    ready = [SimpleNamespace(context=context, ready=1) for context in asked_target.versions]
    monkeypatch.setattr(Target, "states", lambda _: ready)
    load = experiment.fit_load(LoadProfile(), asked_target, Limits())
    assert sum(took_s) < longest_s
    known = [found for found in load.bears.values() if found]
    assert [found.per_s for found in known] == pytest.approx([1 / service_s] * 2, rel=0.25)
    assert 0.2 / service_s < load.offered_per_s < 0.55 / service_s
    limits = experiment.fit_limits(Limits(), load)
    found = checks(load, limits)
    assert found["the longest gap can be decided"].ok is True
    few = found["the share of failures can be decided"]
    assert (few.ok, "; outage_s: " in few.saw) == (None, True)


def test_pods_that_lost_their_readiness_by_the_steps_are_waited_for(
    asked_target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[int] = []
    monkeypatch.setattr(Target, "wait_for_rollout", lambda _: waited.append(1))
    monkeypatch.setattr("meshbook.experiment.load.pause", lambda _: None)
    for ready, waits in (((1, 1), 0), ((1, 0), 1), ((0, 0), 0)):  # before, and after; one that never was is no news
        states = iter([[SimpleNamespace(context="cluster1", ready=count)] for count in ready])
        monkeypatch.setattr(Target, "states", lambda _, states=states: next(states))
        waited.clear()
        experiment.fit_load(LoadProfile(), asked_target, Limits())
        assert len(waited) == waits


def test_an_outage_is_so_long_that_each_source_decides_in_spite_of_two_failures(asked_target: Target) -> None:
    def fitted(rate: float, max_failed_share: float = 0.05) -> LoadProfile:
        limits = Limits(max_failed_share=max_failed_share)
        return experiment.fit_load(LoadProfile(), asked_target, limits, rate_per_s=rate)

    assert fitted(10.0).outage_s == 16, "as long as the profile says at least"
    assert fitted(3.0).outage_s == 42, "124 requests of each"
    assert fitted(3.0, 0.02).outage_s > 100
    assert fitted(0.1).outage_s == 120, "at most"
    assert (fitted(3.0).around_s, fitted(0.5).around_s) == (12, 28)


def test_so_many_requests_are_sent_afterwards_as_compare_shares(
    asked_target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    even = ExpectedShares(
        shares={"cluster1": 0.5, "cluster2": 0.5},
        why="each ready endpoint counts the same (1 in cluster1, 1 in cluster2)",
    )
    monkeypatch.setattr(mesh, "expected_share", lambda *_, **__: {"cluster1": even, "cluster2": even})
    limits = [Limits(share_tolerance=tolerance) for tolerance in (0.15, 0.25)]
    narrow, wide = (experiment.fit_load(LoadProfile(), asked_target, one) for one in limits)
    assert [load.split_tests["cluster1"].looks for load in (narrow, wide)] == [(180, 360), (62, 124)]
    assert str(wide).count("shares    afterwards 62 requests of each source, and as many again") == 1


def test_a_rate_for_a_service_of_which_nothing_is_known_is_a_low_one(
    asked_target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "send_many", lambda *_, **__: asked({"v1": 1.0, "v2": 1.0}, 1, 1))
    load = experiment.fit_load(LoadProfile(), asked_target, Limits())
    assert load.rate_per_s == pytest.approx(0.16, abs=0.02), "half of 1/s over three sources, as in the step"
    assert "without cluster1: what the survivor bears is not known: too few of its answers came" in str(load)
    refused = asked({"v1": 1.0}, 1, 3).assign(error="refused", version="", cluster="")
    for verb in ("send_many", "curl_from_here", "curl_from_pods"):
        monkeypatch.setattr(probes, verb, lambda *_, **__: refused)
    nobody = experiment.fit_load(LoadProfile(), asked_target, Limits())
    assert (nobody.rate_per_s, set(nobody.bears.values())) == (0.16, {None})
