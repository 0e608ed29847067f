"""Promises of the ladder: rungs in order, outages as ranges, and claims that a planted outage must fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from meshbook import ladder, tables
from meshbook.clusters import Fleet
from meshbook.errors import UsageError
from meshbook.ladder import Limits, Pace, Round, Rung, Scene
from meshbook.ladder.rounds import span
from meshbook.outage import Check, Plan
from meshbook.timeline import Order, Story, phases

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
VERSIONS = ("v1", "v2")


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def answers(source: str, away: tuple[float, float] = (0, 0), ghost: bool = False) -> list[dict[str, Any]]:
    """Ten requests a second for 30 s; v1 is away from 10 s to 20 s, and within ``away`` nobody answers."""
    found = []
    for seq in range(1, 301):
        second = seq / 10
        failed = away[0] < second <= away[1]
        version = "v2" if 10.2 < second < 20.5 and not ghost else f"v{seq % 2 + 1}"
        row = {
            "time": at(second),
            "scheduled": at(second),
            "seq": seq,
            "source": source,
            "path": "vip" if source == "outside" else "mesh",
            "version": "" if failed else version,
            "instance": "" if failed else f"web-{version}",
            "error": "http_503" if failed else "",
            "time_total_ms": 10.0,
            "time_error_ms": 0.0,
            "clock_error_ms": 0.0,
        }
        found.append(row)
    return found


def done(rows: Sequence[dict[str, Any]], mode: str = "scale-to-zero", repeat: int = 1) -> Round:
    rung = Rung(mode=mode, context="cluster1", repeat=repeat)
    story = Story(
        mode=mode,
        context="cluster1",
        repeat=repeat,
        away=Order(asked=at(10), accepted=at(10.01)),
        back=Order(asked=at(20), accepted=at(20.01)),
        answers=tables.from_rows(rows, tables.ANSWERS),
        changes=[],
        contexts=["cluster1", "cluster2"],
        version="v1",
    )
    return Round(
        rung=rung,
        story=story,
        phases=phases(story),
        layers=tables.empty(tables.LAYERS),
        sends=tables.empty(tables.SENDS),
        clocks=tables.empty(tables.CLOCKS),
        loop=tables.empty(tables.ANSWERS),
        gone=at(10.3),
        ready_again=at(20.6),
    )


CALM = [*answers("outside"), *answers("cluster1")]
BROKEN = [*answers("outside", (12.0, 13.5)), *answers("cluster1")]


def test_an_outage_is_a_range_that_holds_its_true_length_and_only_those_who_saw_it_have_one() -> None:
    frame = ladder.rounds([done(BROKEN)]).set_index("source")
    away, calm = frame.loc["outside"], frame.loc["cluster1"]
    assert (away["failed"], away["windows"]) == (15, 1)
    assert 1300 <= away["low_ms"] <= 1500 <= away["high_ms"] <= 1700
    assert (calm["failed"], calm["windows"], calm["low_ms"]) == (0, 0, 0.0)
    assert 100 <= calm["high_ms"] <= 250


def test_an_outage_in_pieces_also_says_how_long_it_went_on_in_all() -> None:
    torn = [
        {**row, "error": "timeout", "version": "", "instance": ""} if 110 < row["seq"] < 190 and row["seq"] % 2 else row
        for row in answers("outside")
    ]
    one = done(torn)
    row = ladder.rounds([one]).iloc[0]
    assert row["windows"] == row["failed"] == 40
    assert 7500 <= row["disturbed_low_ms"] <= 7800 <= row["disturbed_high_ms"] <= 8100
    assert "good ones among them, over 7" in ladder.headline(one)[0]


def test_a_failure_before_the_order_is_not_the_outages() -> None:
    frame = ladder.rounds([done([*answers("outside", (3.0, 4.0))])])
    assert (frame["failed"].iloc[0], frame["windows"].iloc[0]) == (0, 0)


def test_requests_that_were_lost_make_an_outage_unknown_and_not_absent() -> None:
    lost = [{**row, "error": "lost", "time": None} if row["time"] > at(9) else row for row in answers("cluster1")]
    table = ladder.ladder(ladder.rounds([done(lost)]))
    assert table["n"].iloc[0] == 0
    assert ladder.readable(table)["outage seen"].iloc[0] == "not known"


def rounds_of(*ranges: tuple[float, float | None], windows: int = 1) -> pd.DataFrame:
    fixed = {"mode": "pods-deleted", "context": "cluster1", "source": "outside", "path": "vip", "sent": 50, "failed": 5}
    rows = [
        {**fixed, "repeat": number, "low_ms": low, "high_ms": high, "windows": windows}
        for number, (low, high) in enumerate(ranges, start=1)
    ]
    return tables.from_rows(rows, tables.ROUNDS)


def test_the_median_of_ranges_is_a_range() -> None:
    row = ladder.ladder(rounds_of((100, 200), (300, 500), (150, 250))).iloc[0]
    assert row[["n", "seen", "median_low_ms", "median_high_ms", "low_ms", "high_ms"]].tolist() == [
        *(3, 3, 150.0, 250.0, 100.0, 500.0)
    ]


def test_an_outage_whose_end_was_not_seen_has_no_upper_end() -> None:
    table = ladder.ladder(rounds_of((100, None), (300, None), (150, 250)))
    assert pd.isna(table["high_ms"].iloc[0])
    assert pd.isna(table["median_high_ms"].iloc[0])
    assert ladder.readable(table)["away: range"].iloc[0] == "100 to … ms"


def test_none_seen_is_told_with_what_could_have_been_missed() -> None:
    table = ladder.readable(ladder.ladder(rounds_of((0, 120), (0, 90), windows=0)))
    assert table["outage seen"].iloc[0] == "0 of 2"
    assert table["away: range"].iloc[0] == "none, or below 120 ms"
    assert span(12.2, 34.5, seen=True) == "12 to 34 ms"
    assert span(61_000, 72_340, seen=True) == "61.0 to 72.3 s"


def test_nothing_done_makes_empty_tables() -> None:
    assert ladder.rounds([]).empty
    assert ladder.readable(ladder.ladder(ladder.rounds([]))).empty
    assert ladder.answers([]).empty
    assert ladder.phases([]).empty
    assert ladder.told(ladder.phases([])).empty
    assert ladder.layers([]).empty


def test_the_headline_says_what_each_source_noticed() -> None:
    lines = ladder.headline(done(BROKEN))
    assert lines[0].startswith("cluster1: none of 107 requests failed; an outage below")
    assert lines[1].startswith("outside: away for 1")
    assert "15 of 107 requests failed" in lines[1]
    assert lines[-1].startswith("shares as before ")


def outcomes(found: Sequence[Any]) -> dict[str, str]:
    return {verdict.claim: verdict.outcome for verdict in found}


LIMITS = Limits(max_gap_s=1.0)


def test_a_mode_that_must_be_survived_and_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="must_survive: there is no mode scale-to-zerro"):
        Limits(must_survive=("scale-to-zerro",))


def test_a_service_that_goes_on_passes_every_claim() -> None:
    found = ladder.claims([done(CALM), done(CALM, repeat=2)], [], LIMITS, VERSIONS)
    assert set(outcomes(found).values()) == {"pass"}, [str(one) for one in found]
    assert all(len(one.details) == 2 for one in found)


def test_one_bad_outage_of_several_fails_the_claim_of_the_source_that_saw_it() -> None:
    found = ladder.claims([done(CALM), done(BROKEN, repeat=2)], [], LIMITS, VERSIONS)
    told = outcomes(found)
    assert told["the service is never away for more than 1 s (seen by outside)"] == "fail"
    assert told["the service is never away for more than 1 s (seen by cluster1)"] == "pass"


def test_a_side_that_went_on_answering_was_not_away() -> None:
    found = ladder.claims([done([*answers("outside", ghost=True)])], [], LIMITS, VERSIONS)
    carried = next(verdict for verdict in found if "carries the service" in verdict.claim)
    assert carried.outcome == "fail"
    assert "It was not away" in carried.reason


def test_modes_that_need_not_be_survived_are_measured_only() -> None:
    found = ladder.claims([done(BROKEN, mode="readiness-lost")], [], LIMITS, VERSIONS)
    assert set(outcomes(found).values()) == {"pass"}
    assert not [verdict for verdict in found if "never away" in verdict.claim]


def test_pods_that_ask_from_a_silent_cluster_are_not_held_against_it() -> None:
    one = done([*answers("outside"), *answers("cluster1")[:120]], mode="cluster-away")
    told = outcomes(ladder.claims([one], [], Limits(must_survive=("cluster-away",)), VERSIONS))
    assert told["every source gets answers again from v1 and v2"] == "pass"
    assert not [claim for claim in told if "seen by cluster1" in claim]


def test_a_source_of_which_nothing_came_back_is_not_passed_over() -> None:
    lost = [{**row, "error": "lost", "time": None} for row in answers("cluster2")]
    found = outcomes(ladder.claims([done([*CALM, *lost])], [], ladder.Limits(), VERSIONS))
    assert found["the service is never away for more than 1 s (seen by cluster2)"] == "inconclusive"
    assert found["the service is never away for more than 1 s (seen by cluster1)"] == "pass"


def test_a_share_that_is_not_proved_to_be_back_is_inconclusive() -> None:
    short = [row for row in answers("outside") if row["time"] < at(21)]
    found = ladder.claims([done(short)], [], LIMITS, VERSIONS)
    assert [verdict.outcome for verdict in found if "as before" in verdict.claim] == ["inconclusive"]


def plan(*checks: Check) -> Plan:
    return Plan(
        mode="scale-to-zero",
        about="",
        context="cluster1",
        application="web",
        changes=(),
        undone="",
        checks=checks,
    )


def test_a_dry_run_says_whether_it_may_start() -> None:
    fine, bad = Check(name="allowed", ok=True), Check(name="a survivor", ok=False, saw="nobody is ready")
    found = ladder.claims([], [plan(fine), plan(fine, bad)], LIMITS, VERSIONS)
    assert [verdict.outcome for verdict in found] == ["pass", "fail"]
    assert found[1].reason == "nobody is ready"
    assert [verdict.outcome for verdict in ladder.claims([], [], LIMITS, VERSIONS)] == ["inconclusive"]


def test_a_calibration_that_misses_the_truth_fails() -> None:
    row = {"fault": "frozen", "source": "outside", "path": "vip", "true_ms": 300.0, "width_ms": 200.0, "off_ms": 0.0}
    row |= {"seen": True, "low_ms": 200.0, "high_ms": 400.0}
    fine = tables.from_rows([row | {"within": True}], tables.CALIBRATION)
    wrong = tables.from_rows([row | {"within": True}, row | {"within": False, "off_ms": 40.0}], tables.CALIBRATION)
    assert [verdict.outcome for verdict in ladder.claims_on(fine)] == ["pass"]
    (verdict,) = ladder.claims_on(wrong)
    assert verdict.outcome == "fail"
    assert "The worst lay 40 ms outside" in verdict.reason
    assert ladder.claims_on(tables.empty(tables.CALIBRATION)) == []


def test_rungs_go_from_mode_to_mode_each_in_every_cluster_in_turn(bare_fleet: Fleet) -> None:
    found = ladder.rungs(bare_fleet, ["scale-to-zero", "pods-deleted"], ["cluster2", "cluster1"], 2)
    assert [str(rung) for rung in found][:3] == [
        "scale-to-zero at cluster2, no. 1",
        "scale-to-zero at cluster2, no. 2",
        "scale-to-zero at cluster1, no. 1",
    ]
    assert len(found) == 8
    assert [rung.context for rung in ladder.rungs(bare_fleet, ["scale-to-zero"], [], 1)] == ["cluster1"]


def test_rungs_that_do_not_exist_are_refused_with_those_that_do(bare_fleet: Fleet) -> None:
    with pytest.raises(UsageError, match="explode") as caught:
        ladder.rungs(bare_fleet, ["explode"], [], 1)
    assert "scale-to-zero" in caught.value.hint
    with pytest.raises(UsageError):
        ladder.rungs(bare_fleet, ["scale-to-zero"], [], 0)
    with pytest.raises(UsageError, match="no cluster 'nowhere'"):
        ladder.rungs(bare_fleet, ["scale-to-zero"], ["nowhere"], 1)
    with pytest.raises(UsageError, match="1 values for 2 clusters"):
        ladder.by_context(bare_fleet, ["v1"])
    with pytest.raises(UsageError):
        Pace(outage_s=0)


def test_a_deployment_is_named_after_service_and_version_unless_it_is_named(bare_fleet: Fleet) -> None:
    scene = Scene(
        fleet=bare_fleet,
        config=bare_fleet["cluster2"],
        outside="http://127.0.0.1:9/hello",
        namespace="sample",
        gateway_namespace="gateways",
        versions=ladder.by_context(bare_fleet, ["v1", "v2"]),
    )
    assert scene.deployment("cluster2") == "helloworld-v2"
    assert replace(scene, deployments={"cluster2": "web"}).deployment("cluster2") == "web"
    assert scene.inside == "http://helloworld.sample:5000/hello"


def test_a_calibration_is_refused_where_it_cannot_be(bare_fleet: Fleet) -> None:
    scene: Any = type("Scene", (), {"fleet": bare_fleet})
    assert ladder.calibrate(scene, Pace(), []).empty
    with pytest.raises(UsageError, match="only a lab"):
        ladder.calibrate(scene, Pace(), [0.3], "application")
    with pytest.raises(UsageError, match="cannot freeze 'everything'"):
        ladder.calibrate(scene, Pace(), [0.3], "everything")
    with pytest.raises(UsageError, match="for 0 to 8 s, not for 9 s"):
        ladder.calibrate(scene, Pace(), [0.3, 9.0])
