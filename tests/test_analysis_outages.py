"""Promises of the claims on an outage: who carried it, how many failed, for how long nobody was answered."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pandas as pd
import pytest
from told_answers import BOTH, END, GONE, HEALTHY, NOON, START, VERSIONS, Told, answers, outage

from meshbook import analysis
from meshbook.errors import UsageError
from meshbook.verdict import Verdict

# ---- who carried it


def carried(frame: pd.DataFrame, gone_at: datetime = GONE) -> Verdict:
    return analysis.carried_by_the_others(frame, START, END, VERSIONS, down="east", gone_at=gone_at)


def test_an_outage_that_the_survivor_carries_passes() -> None:
    verdict = carried(HEALTHY)
    assert (verdict.outcome, verdict.n, verdict.estimate) == ("pass", 79, 100)


def test_answers_of_the_stopped_side_while_it_drains_are_no_fault() -> None:
    frame = outage((12, BOTH), (8, ["v2"]), (10, BOTH))
    verdict = carried(frame)
    assert verdict.outcome == "pass"
    (row,) = verdict.details
    assert (row["cluster"], row["answers"]) == ("west", verdict.n), "of the same span as n"
    assert carried(frame, gone_at=START).outcome == "fail"


@pytest.mark.parametrize(
    ("spans", "outcome", "words"),
    [
        pytest.param([(10, ["v2"])], "pass", "Each source got answers", id="watched whole"),
        pytest.param([(10, BOTH)], "fail", "It was not down", id="the stopped side still answers"),
        pytest.param([(2, BOTH), (8, [])], "inconclusive", "no answer in 0 requests", id="nobody asked later"),
        pytest.param([(4, ["v2"]), (6, [])], "inconclusive", "For 6.0 s of it", id="the watch ended early"),
        pytest.param([(6, ["v2"]), (4, ["lost"])], "inconclusive", "without a result", id="lost when it mattered"),
        pytest.param([(9.9, ["v1"]), (0.1, ["refused"])], "fail", "It was not down", id="the other side answered"),
        pytest.param([(2, BOTH), (8, ["refused"])], "fail", "got no answer in 399 requests", id="nobody answered"),
        pytest.param(
            [(2, ["v1"]), (0.1, ["refused"]), (7.9, [])], "inconclusive", "no answer in", id="few were told no"
        ),
        pytest.param([(1, ["v3"]), (9, ["v2"])], "fail", "50 of v3 from pods that no cluster", id="an unknown version"),
    ],
)
def test_an_outage_is_carried_only_where_it_was_watched_and_the_survivor_alone_answered(
    spans: Sequence[tuple[float, Told]], outcome: str, words: str
) -> None:
    verdict = carried(outage((10, BOTH), *spans, (10, BOTH), rate=50, error_ms=1.0))
    assert (verdict.outcome, words in verdict.reason) == (outcome, True), verdict.reason


def test_a_watch_that_asks_seldom_has_no_holes_for_that() -> None:
    told = outage((10, BOTH), (10, ["v2"]), (10, BOTH), rate=0.7)
    assert carried(pd.concat([told, told.assign(source="cluster1")])).outcome == "pass"


def test_a_source_that_the_survivor_does_not_answer_fails_whatever_the_others_get() -> None:
    alone = outage((10, BOTH), (10, ["timeout"]), (10, BOTH), source="cluster1")
    verdict = carried(pd.concat([HEALTHY, alone]))
    assert verdict.outcome == "fail"
    assert verdict.reason.startswith("cluster1 got no answer in 79 requests")


def test_a_request_that_waited_until_the_restore_is_no_answer_of_the_outage() -> None:
    waited = outage((10, BOTH), (10, ["v1"]), (10, BOTH), source="cluster1")
    late = waited["time"].between(START, END, inclusive="left")
    verdict = carried(pd.concat([HEALTHY, waited.assign(time_total_ms=waited["time_total_ms"].mask(late, 12_000.0))]))
    assert (verdict.outcome, "cluster1 got no answer in 79 requests" in verdict.reason) == ("fail", True), (
        verdict.reason
    )


def test_an_answer_that_may_have_been_asked_for_before_it_had_gone_is_no_ghost() -> None:
    late = outage((12.06, BOTH), (7.94, ["v2"]), (10, BOTH), rate=50, error_ms=50.0)
    assert carried(late).outcome == "pass"
    assert carried(late.assign(time_error_ms=1.0)).outcome == "fail"


# ---- how many failed


def few_fail(frame: pd.DataFrame) -> Verdict:
    return analysis.few_fail(frame, START, END)


def test_of_sources_without_a_failure_the_one_that_proves_least_makes_the_numbers() -> None:
    fewer = outage((10, BOTH), (10, ["v2"]), (10, BOTH), source="cluster1", rate=7)
    verdict = few_fail(pd.concat([HEALTHY, fewer]))
    assert verdict.outcome == "pass"
    assert verdict.reason.startswith("None failed; cluster1: 0 of 7"), verdict.reason


@pytest.mark.parametrize(
    ("during", "outcome"),
    [
        ([(10, ["v2"])], "pass"),
        ([(10, ["v2", "http_503"])], "fail"),
        ([(3, ["timeout"]), (7, ["v2"])], "fail"),
        ([(1, ["v2"]), (0.1, ["http_503"]), (8.9, ["v2"])], "pass"),
        ([(1, ["v2"]), (0.2, ["http_503"]), (8.8, ["v2"])], "inconclusive"),
    ],
    ids=["none", "every other one", "three seconds", "one of a hundred", "two of a hundred"],
)
def test_failed_requests_of_an_outage_are_compared_with_the_limit(
    during: list[tuple[float, Told]], outcome: str
) -> None:
    assert few_fail(outage((10, BOTH), *during, (10, BOTH))).outcome == outcome


def test_the_worst_source_decides_and_the_others_do_not_thin_it_out() -> None:
    worse = outage((10, BOTH), (10, [*["v2"] * 9, "http_503"]), (10, BOTH), source="cluster1")
    fine = [outage((10, BOTH), (10, ["v2"]), (10, BOTH), source=f"cluster{n}") for n in (2, 3, 4, 5)]
    verdict = few_fail(pd.concat([worse, *fine]))
    assert verdict.outcome == "fail"
    assert verdict.reason.startswith("cluster1: 10 of 100 requests failed")
    assert (verdict.estimate, verdict.n) == (10, 500)
    assert {row["source"]: row["failed"] for row in verdict.details} == {"cluster1": 10} | {
        f"cluster{n}": 0 for n in (2, 3, 4, 5)
    }


def test_a_source_whose_times_are_not_known_is_counted_and_one_failure_alone_refutes_nothing() -> None:
    unknown = outage((10, BOTH), (10, ["http_503"]), (10, BOTH), source="cluster1").assign(time=pd.NaT)
    verdict = few_fail(pd.concat([HEALTHY, unknown]))
    assert (verdict.outcome, verdict.estimate) == ("fail", 100), verdict.reason
    one = outage((10, BOTH), (0.1, ["http_503"]), source="cluster1").tail(1)
    assert few_fail(pd.concat([HEALTHY, one])).outcome == "inconclusive"


def test_a_longer_watch_does_not_make_a_burst_pass() -> None:
    for seconds in (60, 600, 3600):
        rows = [
            answers(["http_503" if 90 <= n < 105 and n % 2 else "v2" for n in range(3 * seconds)], source, rate=3)
            for source in ("external client", "cluster1", "cluster2")
        ]
        verdict = analysis.few_fail(pd.concat(rows), NOON, NOON + timedelta(seconds=seconds))
        assert verdict.outcome == "fail", seconds
        assert "of 45 failed in 5 s from 12:00:30 on" in verdict.reason


def test_a_burst_at_one_source_is_left_open_at_least_however_long_the_watch() -> None:
    for seconds in (300, 3600):
        told = ["http_503" if 90 <= n < 105 and n % 4 == 0 else "v2" for n in range(3 * seconds)]
        fine = answers(["v2"] * 3 * seconds, "cluster1", rate=3)
        frame = pd.concat([answers(told, rate=3), fine])
        verdict = analysis.few_fail(frame, NOON, NOON + timedelta(seconds=seconds))
        assert verdict.outcome == "inconclusive", seconds
        assert "close together, above 5 % for a while: external client: 4 of 15 failed in 5 s" in verdict.reason


def test_failures_that_stand_apart_are_no_burst() -> None:
    rows = answers(["http_503" if n % 20 == 0 else "v2" for n in range(300)])
    verdict = few_fail(rows)
    assert (verdict.outcome, "A burst" in verdict.reason) == ("inconclusive", False)


def test_too_few_requests_to_promise_five_percent_say_how_many_would_do() -> None:
    frame = answers(["v2"] * 10).assign(time=lambda rows: rows["time"] + timedelta(seconds=11))
    verdict = few_fail(frame)
    assert verdict.outcome == "inconclusive"
    assert "would decide" in verdict.reason


def test_a_source_of_which_nothing_is_known_in_the_outage_leaves_it_open() -> None:
    verdict = few_fail(pd.concat([HEALTHY, outage((9, BOTH), source="cluster1")]))
    assert (verdict.outcome, "from cluster1" in verdict.reason) == ("inconclusive", True)


# ---- for how long nobody was answered


@pytest.mark.parametrize(
    ("down_s", "max_gap_s", "outcome"),
    [(0, 0.5, "pass"), (0.3, 1, "pass"), (3, 1, "fail"), (1, 1, "inconclusive"), (0.1, 0.05, "inconclusive")],
    ids=["none", "short", "long", "as long as allowed", "finer than the requests"],
)
def test_the_longest_outage_is_compared_with_its_limit(down_s: float, max_gap_s: float, outcome: str) -> None:
    frame = outage((10, BOTH), (down_s, ["timeout"]), (10 - down_s, ["v2"]), (10, BOTH))
    assert analysis.interrupted_at_most(frame, START, END, max_gap_s=max_gap_s).outcome == outcome


def test_an_outage_that_never_ended_while_watched_fails_and_one_watched_in_part_stays_open() -> None:
    never = analysis.interrupted_at_most(outage((10, ["v1"]), (20, ["refused"])), START, END, max_gap_s=1)
    part = analysis.interrupted_at_most(outage((15, ["v2"])), START, END, max_gap_s=1)
    assert (never.outcome, never.high) == ("fail", None)
    assert part.outcome == "inconclusive"
    assert "not watched" in part.reason


def test_an_outage_that_nobody_watched_stays_open() -> None:
    frame = outage((9, BOTH))
    for verdict in (carried(frame), few_fail(frame), analysis.interrupted_at_most(frame, START, END, max_gap_s=1)):
        assert (verdict.outcome, verdict.n) == ("inconclusive", 0)


@pytest.mark.parametrize(("max_gap_s", "outcome"), [(1, "pass"), (0.2, "inconclusive")])
def test_slow_answers_alone_are_told_as_no_time_unavailable(max_gap_s: float, outcome: str) -> None:
    frame = outage((30, ["v2"])).assign(time_total_ms=20.0)
    frame.loc[150, "time_total_ms"] = 400.0
    verdict = analysis.interrupted_at_most(frame, START, END, max_gap_s=max_gap_s)
    assert verdict.outcome == outcome
    assert verdict.reason.startswith("None seen: no request failed, 1 was slow; detection limit 0.")


def test_a_pause_of_the_probe_itself_is_not_taken_for_health() -> None:
    hole = outage((12, ["v2"]), (4, []), (14, ["v2"]))
    assert analysis.interrupted_at_most(hole, START, END, max_gap_s=1).outcome == "inconclusive"


def test_each_source_is_judged_on_its_own() -> None:
    alone = outage((10, BOTH), (3, ["refused"]), (17, ["v2"]), source="cluster1")
    verdict = analysis.interrupted_at_most(pd.concat([alone, HEALTHY]), START, END, max_gap_s=1)
    assert verdict.outcome == "fail"
    assert verdict.reason.startswith("cluster1 by mesh")
    assert [row["source"] for row in verdict.details] == ["cluster1"]


def test_a_source_whose_records_were_all_lost_leaves_the_length_open() -> None:
    fine = [outage((30, ["v2"]), source=f"cluster{number}") for number in range(12)]
    gone = outage((30, ["lost"]), source="cluster99")
    assert analysis.interrupted_at_most(pd.concat(fine), START, END, max_gap_s=1).outcome == "pass"
    assert analysis.interrupted_at_most(pd.concat([*fine, gone]), START, END, max_gap_s=1).outcome == "inconclusive"


def test_an_outage_that_may_lie_in_a_part_of_a_window_is_not_left_out() -> None:
    """Around one slow answer two stretches are possible; the longer one ends before the time in question begins."""
    frame = outage((30, ["v2"]), rate=50, error_ms=1.0)
    frame = frame[~frame["seq"].between(402, 450) & ~frame["seq"].between(452, 500)].copy()
    frame.loc[frame["seq"] == 451, "time_total_ms"] = 100.0
    verdict = analysis.interrupted_at_most(frame, NOON + timedelta(seconds=9.5), END, max_gap_s=1)
    assert verdict.outcome == "inconclusive", verdict.reason


@pytest.mark.parametrize("rate", [3, 10])
def test_a_failed_claim_says_how_often_was_asked_so_that_overload_can_be_suspected(rate: float) -> None:
    frame = pd.concat(
        outage((10, BOTH), (5, ["timeout"]), (15, BOTH), source=source, rate=rate)
        for source in ("cluster1", "external client")
    )
    for verdict in (few_fail(frame), analysis.interrupted_at_most(frame, START, END, max_gap_s=1)):
        assert verdict.outcome == "fail"
        assert f"at {rate}/s a source" in verdict.reason
    assert "/s a source" not in few_fail(HEALTHY).reason


@pytest.mark.parametrize(
    ("start", "end"), [(END, START), (START.replace(tzinfo=None), END)], ids=["backwards", "without zone"]
)
def test_an_outage_that_cannot_be_placed_in_time_is_refused(start: datetime, end: datetime) -> None:
    with pytest.raises(UsageError):
        analysis.few_fail(HEALTHY, start, end)
