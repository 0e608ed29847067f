"""Promises of what an experiment is asked for: steps in order, a target that is found, refusals before one starts."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest
from busy_pods import asked

from meshbook import experiment, gkehub, mesh, outage, probes, tables
from meshbook.analysis import Capacity, ExpectedShares
from meshbook.clusters import Fleet
from meshbook.errors import ClusterError, GatheredError, UsageError
from meshbook.experiment import Limits, LoadProfile, Step, Target
from meshbook.mesh import Direction, Finding
from meshbook.outage import Check, Safeguards

CONNECTIVITY = Path(__file__).parents[1] / "manifests" / "connectivity" / "helloworld.yaml"


def test_steps_go_from_mode_to_mode_each_in_every_cluster_in_turn(bare_fleet: Fleet) -> None:
    found = experiment.steps(bare_fleet, ["scale-to-zero", "pods-deleted"], ["cluster2", "cluster1"])
    assert [str(step) for step in found] == [
        "scale-to-zero at cluster2",
        "scale-to-zero at cluster1",
        "pods-deleted at cluster2",
        "pods-deleted at cluster1",
    ]
    assert [step.context for step in experiment.steps(bare_fleet, ["scale-to-zero"])] == ["cluster1"]


def test_what_cannot_be_done_is_refused_before_anything_starts(bare_fleet: Fleet) -> None:
    with pytest.raises(UsageError, match="modes: there is no mode explode") as caught:
        experiment.steps(bare_fleet, ["explode"])
    assert "scale-to-zero" in caught.value.hint
    with pytest.raises(UsageError, match="no cluster 'nowhere'"):
        experiment.steps(bare_fleet, ["scale-to-zero"], ["nowhere"])
    with pytest.raises(UsageError, match=r"outage_s must be 0\.1 to 1000, not 0"):
        LoadProfile(outage_s=0)
    with pytest.raises(UsageError, match="once at least"):
        experiment.run([], cast(Any, None), LoadProfile(), Safeguards(), repeats=0)
    with pytest.raises(UsageError, match="would cut an outage of 30 s short"):
        experiment.run([], cast(Any, None), LoadProfile(outage_s=30), Safeguards(watchdog_s=10))
    assert experiment.run([], cast(Any, None), LoadProfile(outage_s=30), Safeguards(watchdog_s=300)).trials == []


@pytest.fixture
def served(bare_fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    for cluster, version in zip(bare_fleet, ("v1", "v2"), strict=True):
        cluster.create_namespace("sample")
        cluster.create_namespace("gateways")
        for part in ("service=helloworld", f"version={version}"):
            cluster.apply(CONNECTIVITY, "sample", part)
    head = {"name": "edge", "namespace": "gateways"}
    bare_fleet["cluster2"].create("MultiClusterIngress", {"metadata": head, "spec": {"template": {"spec": {}}}})
    monkeypatch.setattr(gkehub, "wait_for_vip", lambda cluster, *_, **__: f"vip-of-{cluster.name}")
    return bare_fleet


def test_the_target_is_found_by_service_and_ingress(served: Fleet) -> None:
    target = experiment.find_target(served, "sample", "gateways")
    assert target.versions == {"cluster1": "v1", "cluster2": "v2"}
    assert target.deployments == {"cluster1": "helloworld-v1", "cluster2": "helloworld-v2"}
    assert target.outside == [mesh.Entry(url="http://vip-of-cluster2/hello", clusters=("cluster2",), path="vip")]
    assert target.inside == "http://helloworld.sample:5000/hello"
    assert "cluster1: helloworld-v1 (v1)" in str(target)


def test_a_target_that_is_not_clear_is_refused(served: Fleet) -> None:
    served["cluster1"].apply(CONNECTIVITY, "sample", "version=v2")
    with pytest.raises(GatheredError, match=r"not 2 \(helloworld-v1, helloworld-v2\)"):
        experiment.find_target(served, "sample", "gateways")
    served["cluster1"].delete(CONNECTIVITY, "sample", "version=v2")
    with pytest.raises(UsageError, match="nothing leads into elsewhere from outside"):
        experiment.find_target(served, "sample", "elsewhere")


def test_clusters_with_the_same_version_are_a_target_too(served: Fleet) -> None:
    served["cluster1"].apply(CONNECTIVITY, "sample", "version=v2")
    served["cluster1"].delete(CONNECTIVITY, "sample", "version=v1")
    assert experiment.find_target(served, "sample", "gateways").versions == {"cluster1": "v2", "cluster2": "v2"}


def test_a_calibration_is_refused_where_the_server_would_go_on_by_itself() -> None:
    assert experiment.calibrate(cast(Any, None), LoadProfile(), []).empty
    with pytest.raises(UsageError, match="for 0 to 8 s, not for 9 s"):
        experiment.calibrate(cast(Any, None), LoadProfile(), [0.3, 9.0])


Checks = Callable[..., dict[str, Check]]
FIXED = {"mode": "scale-to-zero", "about": "", "context": "cluster1", "application": "web", "restored_by": ""}
PLAN = outage.Plan(**FIXED, changes=(), checks=())


# load
def bearing(per_s: float, *, least: bool = False) -> Capacity:
    high = float("inf") if least else 1.1 * per_s
    return Capacity(per_s=per_s, low_per_s=0.9 * per_s, high_per_s=high, n=60, pods=1, calm_ms=48, busy_ms=200)


@pytest.fixture
def asked_target(served: Fleet, monkeypatch: pytest.MonkeyPatch) -> Target:
    """A target of which each pod answers a request in 45 ms, one at a time."""
    service_s = {"v1": 0.045, "v2": 0.045}
    monkeypatch.setattr(mesh, "answered_by", lambda answers, *_: answers)  # these rows say who answered
    monkeypatch.setattr(probes, "curl_from_here", lambda _, requests, **__: asked(service_s, 1, requests))
    monkeypatch.setattr(probes, "curl_from_pods", lambda *_, requests, **__: asked(service_s, 1, requests))
    monkeypatch.setattr(probes, "send_many", lambda *_, **__: asked(service_s, 8, 16))
    return experiment.find_target(served, "sample", "gateways")


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
    even = ExpectedShares(shares={"cluster1": 0.5, "cluster2": 0.5}, why="1 of 2 ready endpoints")
    monkeypatch.setattr(mesh, "by_cluster", lambda expected, _: dict.fromkeys(expected, even))
    narrow, wide = (
        experiment.fit_load(LoadProfile(), asked_target, Limits(share_tolerance=tolerance)).share_requests
        for tolerance in (0.15, 0.25)
    )
    assert 60 < wide <= LoadProfile().share_requests < 150 < narrow


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


@pytest.fixture
def checks(served: Fleet, monkeypatch: pytest.MonkeyPatch) -> Checks:
    """What a load adds to the plan of a step, by name."""
    target, step = experiment.find_target(served, "sample", "gateways"), Step(mode="scale-to-zero", context="cluster1")
    monkeypatch.setattr(outage, "plan", lambda _: PLAN)

    def found(load: LoadProfile, limits: Limits | None = None) -> dict[str, Check]:
        (plan,) = experiment.plans([step], target, Safeguards(), load, limits)
        return {check.name: check for check in plan.checks}

    return found


@pytest.mark.parametrize(
    ("rate", "capacity", "ok"),
    [
        (5.0, bearing(20), True),
        (5.5, bearing(20), False),
        (5.5, bearing(20, least=True), None),
        (5.5, None, None),
    ],
    ids=["three quarters", "above four fifths", "of the least that it bears", "not known"],
)
def test_a_rate_above_four_fifths_of_what_the_survivor_bears_is_refused_with_the_figures(
    checks: Checks, rate: float, capacity: Capacity | None, ok: bool | None
) -> None:
    found = checks(LoadProfile(rate_per_s=rate, bears={"cluster1": capacity}))
    check = found["the survivor bears the load"]
    assert check.ok is ok
    assert check.saw.startswith(f"{3 * rate:.3g}/s from 3 sources; ")
    if ok is False:
        assert "it bears about 20/s (18 to 22; 1 pod, n = 60" in check.saw
        assert check.hint == "rate_per_s: auto, or at most 5.3; or more replicas of the survivor"


def test_a_source_that_the_survivor_has_not_answered_hinders_the_start(checks: Checks, asked_target: Target) -> None:
    name, load = "each source is answered by the survivor", experiment.fit_load(LoadProfile(), asked_target, Limits())
    assert load.answers is not None
    of_cluster1 = load.answers["source"] == "cluster1"
    here = load.answers[of_cluster1].assign(source="external client")
    for rows, seen, ok in (
        ([load.answers, here], "all of them", True),
        ([load.answers], "external client got none from cluster2 in 0 requests (nothing)", False),
        (
            [load.answers[~of_cluster1 | (load.answers["cluster"] == "cluster1")], here],
            "cluster1 got none from cluster2 in",
            False,
        ),
    ):
        check = checks(replace(load, answers=pd.concat(rows, ignore_index=True)))[name]
        assert (check.ok, seen in check.saw) == (ok, True), check.saw
    assert name not in checks(LoadProfile()), "nothing was measured"


def test_a_refusal_begins_with_the_cause(checks: Checks, asked_target: Target) -> None:
    load = experiment.fit_load(LoadProfile(), asked_target, Limits())
    check = checks(load)["each source is answered by the survivor"]
    assert check.saw.startswith("cluster1 → cluster1, cluster2 → cluster1: cluster1 has no pod with the labels")
    assert check.saw.endswith("external client got none from cluster2 in 0 requests (nothing)")


def test_a_limit_below_what_the_rate_can_show_is_told_before_the_outage(checks: Checks) -> None:
    load = LoadProfile(rate_per_s=2.0, bears={"cluster1": bearing(20)})
    name = "the longest gap can be decided"
    assert load.detection_limit_s == pytest.approx(1.2)
    assert checks(load, Limits(max_gap_s=2.0))[name].ok is True
    short = checks(load, Limits(max_gap_s=1.0))[name]
    assert short.ok is None
    assert "the detection limit 1.2 s; max_gap_s: 1.2, or more replicas of the sample" in short.saw
    assert name not in checks(load, Limits(must_survive=[], max_gap_s=1.0))


def test_a_limit_that_is_auto_is_the_least_that_can_be_seen_and_one_that_is_given_stays(checks: Checks) -> None:
    slow = LoadProfile(rate_per_s=0.7, bears={"cluster1": bearing(4)})
    fitted = experiment.fit_limits(Limits(), slow)
    assert slow.detection_limit_s < fitted.max_gap_s < 1.2 * slow.detection_limit_s
    check = checks(slow, fitted)["the longest gap can be decided"]
    assert check.ok is True
    assert "(not 2 s: the least that can be seen at 0.7/s from each source)" in check.saw
    assert experiment.fit_limits(Limits(), LoadProfile(rate_per_s=3.3)) == Limits(max_gap_s=2.0)
    assert experiment.fit_limits(Limits(), slow, "1.5") == Limits(max_gap_s=1.5)
    with pytest.raises(UsageError, match=r"max_gap_s must be auto or 0\.001 to 86400, not 'short'"):
        experiment.fit_limits(Limits(), slow, "short")


def test_too_few_requests_for_the_limit_on_failures_are_told_before_the_outage(checks: Checks) -> None:
    name, slow = "the share of failures can be decided", LoadProfile(rate_per_s=1.0, outage_s=16)
    assert checks(LoadProfile(rate_per_s=4.0, outage_s=16), Limits())[name].ok is True
    few = checks(slow, Limits())[name]
    assert (few.ok, few.saw) == (None, "16 requests of each source during the outage, 59 at the least; outage_s: 124")
    assert checks(replace(slow, outage_s=60), Limits())[name].ok is True


# who answers whom, and whether all is steady
BOTH = ["cluster1", "cluster2"]
EVEN = ExpectedShares(shares=dict.fromkeys(BOTH, 0.5), why="1 of 2 ready endpoints")
NEAR = {
    source: ExpectedShares(shares={name: float(name == own) for name in BOTH}, why="locality failover", fails_over=True)
    for source, own in (("external client", "cluster1"), ("cluster1", "cluster1"), ("cluster2", "cluster2"))
}
LOCAL = {"external client": ["cluster1"], "cluster1": ["cluster1"], "cluster2": ["cluster2"]}


def told(requests: int, by: dict[str, list[str]]) -> pd.DataFrame:
    """Return ANSWERS: by source the clusters that answer in turn, or the kind of an error."""
    rows = (
        {
            "source": source,
            "seq": number,
            "cluster": word if word in BOTH else "",
            "error": "" if word in BOTH else word,
        }
        for source, words in by.items()
        for number in range(requests)
        for word in [words[number % len(words)]]
    )
    return tables.from_rows(rows, tables.ANSWERS)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, r""),
        ({"cluster1": ["cluster1"]}, r"cluster1 got no answer from cluster2 in 10 requests"),
        ({"cluster2": ["cluster2", "http_503"]}, r"cluster2: 5 of 10 requests failed \(http_503\); cluster2 got no .*"),
        (
            {"external client": ["timeout"]},
            r"external client: 4 of 4 requests failed \(timeout\); external client got .*",
        ),
    ],
    ids=["steady", "one side alone", "failures", "a way that hangs is not asked to the end"],
)
def test_all_is_steady_where_every_source_is_answered_by_all_who_should(
    asked_target: Target, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, list[str]], said: str
) -> None:
    asked: list[outage.Intent] = []
    monkeypatch.setattr(outage, "plan", lambda one: asked.append(one) or PLAN)
    monkeypatch.setattr(Target, "expected", dict.fromkeys(asked_target.sources, EVEN))
    monkeypatch.setattr(Target, "states", lambda _: [])
    by = dict.fromkeys(asked_target.sources, BOTH) | wrong
    monkeypatch.setattr(probes, "send_many", lambda *_, loop, **__: told(loop.requests, by))
    experiment.plans([Step(mode="scale-to-zero", context="cluster1")], asked_target, Safeguards(), LoadProfile())
    assert asked[0].steady is not None
    assert re.fullmatch(said, asked[0].steady())
    monkeypatch.setattr(Target, "states", lambda _: [SimpleNamespace(settled=False), SimpleNamespace(settled=True)])
    assert asked[0].steady().startswith("namespace(settled=False)")
    monkeypatch.setattr(Target, "states", lambda _: (_ for _ in ()).throw(ClusterError("cluster1 is silent")))
    assert asked[0].steady() == "cluster1 is silent"


@pytest.mark.parametrize(
    ("by", "way", "answered", "open_"),
    [
        (LOCAL, [], True, True),
        (LOCAL, ["cause"], True, False),
        (LOCAL, ["not looked at"], True, None),
        (LOCAL | {"cluster2": ["timeout"]}, [], False, True),
        (LOCAL | {"external client": ["http_503"]}, [], False, True),
    ],
    ids=["healthy", "no way", "a way that cannot be seen", "a survivor that does not serve", "a source with nothing"],
)
def test_sources_that_are_kept_near_need_a_survivor_that_serves_its_own_and_an_open_way_to_it(
    checks: Checks, monkeypatch: pytest.MonkeyPatch, by: Any, way: list[Any], answered: bool, open_: bool | None
) -> None:
    direction = Direction(source="cluster1", destination="cluster2")
    looks = [Finding(direction=direction, look="gateway", state=state, seen="no pods", mend="start") for state in way]
    monkeypatch.setattr(mesh, "between", lambda _: looks)
    monkeypatch.setattr(Target, "expected", NEAR)
    found = checks(LoadProfile(answers=told(4, by)))
    assert found["each source is answered by the survivor"].ok is answered
    reach = found["who is kept near can reach a survivor (locality failover)"]
    assert (reach.ok, reach.hint) == (open_, "start" if open_ is False else "")
    monkeypatch.setattr(Target, "expected", dict.fromkeys(NEAR, EVEN))
    found = checks(LoadProfile(answers=told(4, by)))
    assert found["each source is answered by the survivor"].ok is False, "nobody is kept near: all should get some"
    assert reach.name not in found
