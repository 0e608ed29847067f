"""Promises of the judges of an outage: its length is a range, and what nobody watched stays open."""

from __future__ import annotations

from datetime import datetime, timedelta

import pandas as pd
import pytest
from told_answers import ALTERNATING, END, GONE, HEALTHY, START, answers, outage

from meshbook import analysis, tables
from meshbook.errors import UsageError


def test_an_outage_that_the_survivor_carries_passes() -> None:
    verdict = analysis.survives_outage(HEALTHY, START, END, survivor_version="v2", gone_at=GONE)
    assert (verdict.outcome, verdict.n, verdict.estimate) == ("pass", 100, 0)


@pytest.mark.parametrize(
    "frame",
    [
        outage((10, ALTERNATING), (10, ["v2", "http_503"]), (10, ALTERNATING)),
        outage((10, ALTERNATING), (3, ["timeout"]), (7, ["v2"]), (10, ALTERNATING)),
        outage((10, ALTERNATING), (10, ["refused"]), (10, ALTERNATING)),
        outage((10, ALTERNATING), (10, ALTERNATING), (10, ALTERNATING)),
    ],
    ids=["every other request fails", "three seconds away", "all away", "the stopped side still answers"],
)
def test_an_outage_that_users_notice_fails(frame: pd.DataFrame) -> None:
    assert analysis.survives_outage(frame, START, END, survivor_version="v2", gone_at=GONE).outcome == "fail"


def test_answers_of_the_stopped_side_while_it_drains_are_no_fault() -> None:
    frame = outage((12, ALTERNATING), (8, ["v2"]), (10, ALTERNATING))
    assert analysis.survives_outage(frame, START, END, survivor_version="v2", gone_at=GONE).outcome == "pass"
    assert analysis.survives_outage(frame, START, END, survivor_version="v2").outcome == "fail"


def test_an_outage_that_nobody_watched_stays_open() -> None:
    frame = outage((9, ALTERNATING))
    for verdict in (
        analysis.survives_outage(frame, START, END, survivor_version="v2"),
        analysis.interrupted_at_most(frame, START, END, max_gap_s=1),
    ):
        assert (verdict.outcome, verdict.n) == ("inconclusive", 0)


def test_ten_requests_are_too_few_to_promise_five_percent() -> None:
    frame = answers(["v2"] * 10).assign(time=lambda rows: rows["time"] + timedelta(seconds=11))
    verdict = analysis.survives_outage(frame, START, END, survivor_version="v2")
    assert verdict.outcome == "inconclusive"
    assert "would decide" in verdict.reason


@pytest.mark.parametrize(
    ("away_s", "max_gap_s", "outcome"),
    [(0, 0.5, "pass"), (0.3, 1, "pass"), (3, 1, "fail"), (1, 1, "inconclusive"), (0.1, 0.05, "inconclusive")],
    ids=["none", "short", "long", "as long as allowed", "finer than the pace"],
)
def test_the_longest_gap_is_held_against_its_limit(away_s: float, max_gap_s: float, outcome: str) -> None:
    frame = outage((10, ALTERNATING), (away_s, ["timeout"]), (10 - away_s, ["v2"]), (10, ALTERNATING))
    assert analysis.interrupted_at_most(frame, START, END, max_gap_s=max_gap_s).outcome == outcome


@pytest.mark.parametrize("away_s", [0.05, 0.15, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("phase_s", [0.0, 0.03, 0.07])
def test_the_reported_range_holds_the_true_gap_and_is_two_beats_and_the_stamps_wide(
    away_s: float, phase_s: float
) -> None:
    begin = 15 + phase_s
    told = ["timeout" if begin <= number / 10 < begin + away_s else "v2" for number in range(300)]
    verdict = analysis.interrupted_at_most(answers(told), START, END, max_gap_s=10)
    assert verdict.low is not None
    assert verdict.high is not None
    assert verdict.low <= away_s <= verdict.high
    assert verdict.high - verdict.low <= 0.2 + 2 * 0.05 + 0.02 + 1e-9


def test_an_outage_that_never_ended_while_watched_fails_and_one_watched_in_part_stays_open() -> None:
    never = analysis.interrupted_at_most(outage((10, ["v1"]), (20, ["refused"])), START, END, max_gap_s=1)
    part = analysis.interrupted_at_most(outage((15, ["v2"])), START, END, max_gap_s=1)
    assert (never.outcome, never.high) == ("fail", None)
    assert part.outcome == "inconclusive"
    assert "not watched" in part.reason


def test_a_pause_of_the_probe_itself_is_not_taken_for_health() -> None:
    frame = outage((30, ["v2"]))
    hole = frame[(frame["seq"] < 120) | (frame["seq"] > 160)]
    assert analysis.interrupted_at_most(hole, START, END, max_gap_s=1).outcome == "inconclusive"


def test_the_return_of_both_sides_is_judged_on_what_came_after() -> None:
    assert analysis.returns_to_both(HEALTHY, END, ["v1", "v2"]).outcome == "pass"
    stuck = outage((10, ALTERNATING), (20, ["v2"]))
    assert analysis.returns_to_both(stuck, END, ["v1", "v2"]).outcome == "fail"
    assert analysis.returns_to_both(HEALTHY, END + timedelta(minutes=1), ["v1", "v2"]).outcome == "inconclusive"


def calibration(*within: bool, seen: bool = True) -> pd.DataFrame:
    rows = [
        {"fault": "frozen", "seen": seen, "within": good, "off_ms": 0 if good else 12.5, "width_ms": 210.0}
        for good in within
    ]
    return tables.from_rows(rows, tables.CALIBRATION)


def test_a_measurement_is_true_when_every_truth_lay_within_its_range() -> None:
    verdict = analysis.measures_truly(calibration(*[True] * 20))
    assert (verdict.outcome, verdict.n, verdict.estimate) == ("pass", 20, 100)
    assert "210 ms wide at most" in verdict.reason


def test_one_truth_outside_its_range_fails_the_measurement_and_says_by_how_much() -> None:
    verdict = analysis.measures_truly(calibration(*[True] * 19, False))
    assert verdict.outcome == "fail"
    assert "12.5 ms outside" in verdict.reason


def test_without_a_known_outage_nothing_is_said_of_the_measurement() -> None:
    assert analysis.measures_truly(calibration()).outcome == "inconclusive"
    assert "too short to be noticed" in analysis.measures_truly(calibration(True, seen=False)).reason


def test_each_source_s_time_away_is_judged_on_its_own() -> None:
    alone = outage((10, ALTERNATING), (3, ["refused"]), (17, ["v2"]))
    verdict = analysis.interrupted_at_most(
        pd.concat([alone.assign(source="cluster1"), HEALTHY]), START, END, max_gap_s=1
    )
    assert verdict.outcome == "fail"
    assert verdict.reason.startswith("cluster1 by ")
    assert [row["source"] for row in verdict.details] == ["cluster1"]


@pytest.mark.parametrize(
    ("start", "end"), [(END, START), (START.replace(tzinfo=None), END)], ids=["backwards", "without zone"]
)
def test_an_outage_that_cannot_be_placed_in_time_is_refused(start: datetime, end: datetime) -> None:
    with pytest.raises(UsageError):
        analysis.survives_outage(HEALTHY, start, end, survivor_version="v2")
