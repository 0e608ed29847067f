"""Promises of what must hold before an outage and after it: the load is borne, its limits decided, all answered."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from plans import Checks, plan

from meshbook import experiment, mesh, outage, probes, tables
from meshbook.analysis import Capacity, ExpectedShares, split_test
from meshbook.clusters import Fleet
from meshbook.errors import ClusterError, OutageError, UsageError
from meshbook.experiment import Limits, LoadProfile, Step, Target
from meshbook.mesh import Direction, Finding
from meshbook.outage import Safeguards


def bearing(per_s: float, *, least: bool = False) -> Capacity:
    high = float("inf") if least else 1.1 * per_s
    return Capacity(per_s=per_s, low_per_s=0.9 * per_s, high_per_s=high, n=60, pods=1, calm_ms=48, busy_ms=200)


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


def test_nothing_starts_while_a_plan_is_not_ready(served: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "plan", lambda _: plan())
    target, step = experiment.find_target(served, "sample", "gateways"), Step(mode="scale-to-zero", context="cluster1")
    halves = {"cluster2": ExpectedShares(shares={"cluster1": 0.5, "cluster2": 0.5}, why="")}
    tests = {"cluster1": split_test(halves, "cluster1", 0.25, max_failed_share=0.1)}
    load = LoadProfile(rate_per_s=9, bears={"cluster1": bearing(20)}, split_tests=tests)
    with pytest.raises(OutageError, match="the survivor bears the load"):
        experiment.run([step], target, load, Safeguards())


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
    assert check.saw.startswith("cluster1 → cluster1: cluster1 has no ready ingress gateway")
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
    too_few = "16 requests of each source during the outage, 59 at the least; outage_s: 124, or it cannot pass"
    assert (few.ok, few.saw) == (None, too_few)
    assert checks(replace(slow, outage_s=60), Limits())[name].ok is True


# who answers whom, and whether all is steady
BOTH = ["cluster1", "cluster2"]
EVEN = ExpectedShares(
    shares=dict.fromkeys(BOTH, 0.5), why="each ready endpoint counts the same (1 in cluster1, 1 in cluster2)"
)
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
    monkeypatch.setattr(outage, "plan", lambda one: asked.append(one) or plan())
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
