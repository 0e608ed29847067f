"""Promises of the judges: each claim passes on a healthy mesh, fails on its planted fault, and else stays open."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from meshbook import judge, tables
from meshbook.errors import UsageError
from meshbook.judge import intervals

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
START, GONE, END = (NOON + timedelta(seconds=seconds) for seconds in (10, 12, 20))

Told = Sequence[str]
"""Answers in order: a version, or the kind of an error."""


def answers(told: Told, source: str = "outside", pace_s: float = 0.1) -> pd.DataFrame:
    rows = []
    for number, word in enumerate(told):
        good = word.startswith("v")
        lost = word in tables.NOT_MEASURED
        rows.append(
            {
                "seq": number + 1,
                "time": None if lost else NOON + timedelta(seconds=number * pace_s),
                "source": source,
                "version": word if good else "",
                "error": "" if good else word,
                "detail": "" if good else "curl at 10.0.0.1 says why",
            }
        )
    return tables.from_rows(rows, tables.ANSWERS)


def both(first: Told, second: Told) -> pd.DataFrame:
    return pd.concat([answers(first, "cluster1"), answers(second, "cluster2")], ignore_index=True)


def outage(*spans: tuple[float, Told]) -> pd.DataFrame:
    """Ten answers a second for 30 s; each span of ``seconds`` repeats its pattern."""
    told: list[str] = []
    for seconds, pattern in spans:
        count = round(seconds * 10)
        told += [pattern[number % len(pattern)] for number in range(count)]
    return answers(told)


ALTERNATING = ["v1", "v2"]
HEALTHY = outage((10, ALTERNATING), (10, ["v2"]), (10, ALTERNATING))

# ---- answers_from_both


def test_versions_seen_from_every_source_pass() -> None:
    verdict = judge.answers_from_both(both(ALTERNATING * 10, ALTERNATING * 10), ["v1", "v2"])
    assert (verdict.outcome, verdict.n, verdict.estimate) == ("pass", 40, 50)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["v1"] * 20, ["v1"] * 20),
        (ALTERNATING * 10, ["v2"] * 20),
        (["v1"] * 20, ["v2"] * 20),
        (["v1", "http_503"] * 10, ALTERNATING * 10),
        (["refused"] * 20, ALTERNATING * 10),
        (["http_503"] * 20, ["http_503"] * 20),
    ],
    ids=["v2 missing", "one source sees one side", "each sees its own", "v2 broken", "a source refused", "all broken"],
)
def test_a_version_that_is_missing_somewhere_fails(first: Told, second: Told) -> None:
    assert judge.answers_from_both(both(first, second), ["v1", "v2"]).outcome == "fail"


def test_too_few_requests_to_miss_a_version_for_sure_stay_open() -> None:
    verdict = judge.answers_from_both(answers(["v1"] * 5), ["v1", "v2"])
    assert verdict.outcome == "inconclusive"
    assert "at least 8 are needed" in verdict.reason


def test_the_chance_of_a_false_alarm_is_below_one_percent_over_all_pairs() -> None:
    for pairs in (2, 4, 9):
        n = next(n for n in range(1, 50) if _fails(["v1"] * n, pairs // 2))
        assert pairs // 2 * 2 * 0.5**n <= 0.01


def _fails(told: Told, sources: int) -> bool:
    frames = [answers(told, f"cluster{number}") for number in range(sources)]
    return judge.answers_from_both(pd.concat(frames), ["v1", "v2"]).outcome == "fail"


def test_locality_failover_is_named_as_a_possible_cause() -> None:
    assert "outlierDetection" in judge.answers_from_both(both(["v1"] * 20, ["v2"] * 20), ["v1", "v2"]).reason


def test_errors_beside_good_answers_are_explained_without_addresses() -> None:
    verdict = judge.answers_from_both(answers([*ALTERNATING * 10, "http_503", "timeout"]), ["v1", "v2"])
    assert verdict.outcome == "pass"
    assert "1 http_503, 1 timeout" in verdict.reason
    assert "10.0.0.1" not in verdict.reason


def test_an_expected_source_without_rows_leaves_the_claim_open() -> None:
    frame = answers(ALTERNATING * 10, "cluster1")
    assert judge.answers_from_both(frame, ["v1", "v2"], sources=["cluster1", "cluster2"]).outcome == "inconclusive"


def test_an_unexpected_version_is_mentioned() -> None:
    assert "seen: v9" in judge.answers_from_both(answers(["v1", "v2", "v9"] * 10), ["v1", "v2"]).reason


@pytest.mark.parametrize("versions", [[], ["v1"], ["v1", "v1"], "v1", ["v1", ""]])
def test_versions_that_cannot_be_both_are_refused(versions: Sequence[str]) -> None:
    with pytest.raises(UsageError):
        judge.answers_from_both(answers(ALTERNATING), versions)


# ---- split_within


def test_an_even_split_of_enough_requests_passes() -> None:
    verdict = judge.split_within(both(ALTERNATING * 100, ALTERNATING * 100), "v1")
    assert (verdict.outcome, verdict.estimate, verdict.limit) == ("pass", 50, "40 to 60 %")


def test_a_split_that_is_even_only_over_all_sources_fails() -> None:
    assert judge.split_within(both(["v1"] * 50, ["v2"] * 50), "v1").outcome == "fail"


def test_a_lopsided_split_fails_and_names_the_source() -> None:
    verdict = judge.split_within(both(ALTERNATING * 100, ["v1", "v1", "v1", "v2"] * 50), "v1")
    assert verdict.outcome == "fail"
    assert verdict.reason.startswith("cluster2 got 150 of 200")


def test_twenty_requests_are_too_few_for_ten_points_and_the_verdict_says_how_many_would_do() -> None:
    verdict = judge.split_within(answers(ALTERNATING * 10), "v1", tolerance=0.1)
    assert verdict.outcome == "inconclusive"
    assert "about 110 requests would decide" in verdict.reason
    assert judge.split_within(answers(ALTERNATING * 55), "v1", tolerance=0.1).outcome == "pass"


def test_a_split_without_good_answers_is_no_measurement_of_a_share() -> None:
    verdict = judge.split_within(answers(["http_503"] * 50), "v1")
    assert verdict.outcome == "inconclusive"
    assert "no good answer from 50 requests" in verdict.reason


# ---- all_answered


@pytest.mark.parametrize(
    ("told", "limit", "outcome"),
    [
        (["v1"] * 100, 0.05, "pass"),
        (["v1"] * 20, 0.05, "inconclusive"),
        (["v1"] * 80 + ["timeout"] * 20, 0.05, "fail"),
        (["refused"] * 20, 0.1, "fail"),
        ([], 0.1, "inconclusive"),
    ],
    ids=["no failure in many", "no failure in few", "a fifth fails", "all fail", "no requests"],
)
def test_failed_requests_are_held_against_the_limit(told: Told, limit: float, outcome: str) -> None:
    assert judge.all_answered(answers(told), limit).outcome == outcome


def test_no_failure_in_n_bounds_the_rate_by_three_over_n() -> None:
    for n in (50, 100, 300, 1000):
        assert intervals.bounds(0, n)[1] == pytest.approx(3 / n, rel=0.04)
    assert "below 3 %" in judge.all_answered(answers(["v1"] * 100)).reason


# ---- outages


def test_an_outage_that_the_survivor_carries_passes() -> None:
    verdict = judge.survives_outage(HEALTHY, START, END, survivor_version="v2", gone_at=GONE)
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
    assert judge.survives_outage(frame, START, END, survivor_version="v2", gone_at=GONE).outcome == "fail"


def test_answers_of_the_stopped_side_while_it_drains_are_no_fault() -> None:
    frame = outage((12, ALTERNATING), (8, ["v2"]), (10, ALTERNATING))
    assert judge.survives_outage(frame, START, END, survivor_version="v2", gone_at=GONE).outcome == "pass"
    assert judge.survives_outage(frame, START, END, survivor_version="v2").outcome == "fail"


def test_an_outage_that_nobody_watched_stays_open() -> None:
    frame = outage((9, ALTERNATING))
    for verdict in (
        judge.survives_outage(frame, START, END, survivor_version="v2"),
        judge.interrupted_at_most(frame, START, END, max_gap_s=1),
    ):
        assert (verdict.outcome, verdict.n) == ("inconclusive", 0)


def test_ten_requests_are_too_few_to_promise_five_percent() -> None:
    frame = answers(["v2"] * 10).assign(time=lambda rows: rows["time"] + timedelta(seconds=11))
    verdict = judge.survives_outage(frame, START, END, survivor_version="v2")
    assert verdict.outcome == "inconclusive"
    assert "would decide" in verdict.reason


@pytest.mark.parametrize(
    ("away_s", "max_gap_s", "outcome"),
    [(0, 0.5, "pass"), (0.3, 1, "pass"), (3, 1, "fail"), (1, 1, "inconclusive"), (0.1, 0.05, "inconclusive")],
    ids=["none", "short", "long", "as long as allowed", "finer than the pace"],
)
def test_the_longest_gap_is_held_against_its_limit(away_s: float, max_gap_s: float, outcome: str) -> None:
    frame = outage((10, ALTERNATING), (away_s, ["timeout"]), (10 - away_s, ["v2"]), (10, ALTERNATING))
    assert judge.interrupted_at_most(frame, START, END, max_gap_s=max_gap_s).outcome == outcome


@pytest.mark.parametrize("away_s", [0.05, 0.15, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("phase_s", [0.0, 0.03, 0.07])
def test_the_reported_range_holds_the_true_gap_and_is_two_beats_and_the_stamps_wide(
    away_s: float, phase_s: float
) -> None:
    begin = 15 + phase_s
    told = ["timeout" if begin <= number / 10 < begin + away_s else "v2" for number in range(300)]
    verdict = judge.interrupted_at_most(answers(told), START, END, max_gap_s=10)
    assert verdict.low is not None
    assert verdict.high is not None
    assert verdict.low <= away_s <= verdict.high
    assert verdict.high - verdict.low <= 0.2 + 2 * 0.05 + 0.02 + 1e-9


def test_an_outage_that_never_ended_while_watched_fails_and_one_watched_in_part_stays_open() -> None:
    never = judge.interrupted_at_most(outage((10, ["v1"]), (20, ["refused"])), START, END, max_gap_s=1)
    part = judge.interrupted_at_most(outage((15, ["v2"])), START, END, max_gap_s=1)
    assert (never.outcome, never.high) == ("fail", None)
    assert part.outcome == "inconclusive"
    assert "not watched" in part.reason


def test_a_pause_of_the_probe_itself_is_not_taken_for_health() -> None:
    frame = outage((30, ["v2"]))
    hole = frame[(frame["seq"] < 120) | (frame["seq"] > 160)]
    assert judge.interrupted_at_most(hole, START, END, max_gap_s=1).outcome == "inconclusive"


def test_the_return_of_both_sides_is_judged_on_what_came_after() -> None:
    assert judge.returns_to_both(HEALTHY, END, ["v1", "v2"]).outcome == "pass"
    stuck = outage((10, ALTERNATING), (20, ["v2"]))
    assert judge.returns_to_both(stuck, END, ["v1", "v2"]).outcome == "fail"
    assert judge.returns_to_both(HEALTHY, END + timedelta(minutes=1), ["v1", "v2"]).outcome == "inconclusive"


# ---- measures_truly


def calibration(*within: bool, seen: bool = True) -> pd.DataFrame:
    rows = [
        {"fault": "frozen", "seen": seen, "within": good, "off_ms": 0 if good else 12.5, "width_ms": 210.0}
        for good in within
    ]
    return tables.from_rows(rows, tables.CALIBRATION)


def test_a_measurement_is_true_when_every_truth_lay_within_its_range() -> None:
    verdict = judge.measures_truly(calibration(*[True] * 20))
    assert (verdict.outcome, verdict.n, verdict.estimate) == ("pass", 20, 100)
    assert "210 ms wide at most" in verdict.reason


def test_one_truth_outside_its_range_fails_the_measurement_and_says_by_how_much() -> None:
    verdict = judge.measures_truly(calibration(*[True] * 19, False))
    assert verdict.outcome == "fail"
    assert "12.5 ms outside" in verdict.reason


def test_without_a_known_outage_nothing_is_said_of_the_measurement() -> None:
    assert judge.measures_truly(calibration()).outcome == "inconclusive"
    assert "too short to be noticed" in judge.measures_truly(calibration(True, seen=False)).reason


def test_each_source_s_time_away_is_judged_on_its_own() -> None:
    alone = outage((10, ALTERNATING), (3, ["refused"]), (17, ["v2"]))
    verdict = judge.interrupted_at_most(pd.concat([alone.assign(source="cluster1"), HEALTHY]), START, END, max_gap_s=1)
    assert verdict.outcome == "fail"
    assert verdict.reason.startswith("cluster1 by ")
    assert [row["source"] for row in verdict.details] == ["cluster1"]


@pytest.mark.parametrize(
    ("start", "end"), [(END, START), (START.replace(tzinfo=None), END)], ids=["backwards", "without zone"]
)
def test_an_outage_that_cannot_be_placed_in_time_is_refused(start: datetime, end: datetime) -> None:
    with pytest.raises(UsageError):
        judge.survives_outage(HEALTHY, start, end, survivor_version="v2")


# ---- all claims

CLAIMS: dict[str, Callable[[pd.DataFrame], judge.Verdict]] = {
    "answers_from_both": lambda frame: judge.answers_from_both(frame, ["v1", "v2"]),
    "split_within": lambda frame: judge.split_within(frame, "v1", tolerance=0.2),
    "all_answered": lambda frame: judge.all_answered(frame, 0.2),
    "survives_outage": lambda frame: judge.survives_outage(frame, START, END, survivor_version="v2"),
    "interrupted_at_most": lambda frame: judge.interrupted_at_most(frame, START, END, max_gap_s=1),
    "returns_to_both": lambda frame: judge.returns_to_both(frame, END, ["v1", "v2"]),
}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_nothing_is_concluded_from_lost_output_and_nothing_from_no_output(
    claim: Callable[[pd.DataFrame], judge.Verdict],
) -> None:
    half_lost = answers(["v1", "v2", "lost", "garbled"] * 75)
    empty = tables.empty(tables.ANSWERS)
    for frame in (half_lost, answers(["lost"] * 300), empty):
        verdict = claim(frame)
        assert verdict.outcome == "inconclusive"
        assert verdict.reason


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_some_lost_rows_count_neither_as_good_nor_as_failed(claim: Callable[[pd.DataFrame], judge.Verdict]) -> None:
    kept = HEALTHY["seq"] % 20 != 7
    some = HEALTHY.assign(error=HEALTHY["error"].where(kept, "lost"), time=HEALTHY["time"].where(kept))
    assert claim(some).outcome == claim(HEALTHY).outcome


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_every_verdict_reads_well_as_text_page_data_and_row(claim: Callable[[pd.DataFrame], judge.Verdict]) -> None:
    for frame in (HEALTHY, tables.empty(tables.ANSWERS), outage((30, ["refused"])), answers(["v1"])):
        verdict = claim(frame)
        texts = str(verdict), verdict._repr_html_()
        assert all(verdict.outcome.upper() in text and "nan" not in text.lower() for text in texts)
        assert json.loads(json.dumps(verdict.to_dict(), allow_nan=False))["claim"] == verdict.claim
        ends = [end for end in (verdict.low, verdict.estimate, verdict.high) if end is not None]
        assert ends == sorted(ends)
        assert judge.summary([verdict])["outcome"].tolist() == [verdict.outcome]


def test_the_page_of_a_verdict_shows_numbers_no_finer_than_they_are() -> None:
    details = ({"share %": 52.0, "n": 31}, {"share %": 48.5, "n": 31})
    page = judge.Verdict(claim="c", outcome="pass", reason="r", details=details)._repr_html_()
    assert "<td>52</td>" in page
    assert "<td>48.5</td>" in page


def test_the_page_of_a_verdict_escapes_what_it_shows() -> None:
    verdict = judge.Verdict(claim="<script>", outcome="fail", reason="a & b")
    assert "&lt;script&gt;" in verdict._repr_html_()
    assert "a &amp; b" in verdict._repr_html_()


def test_percentages_are_no_finer_than_the_number_of_requests_allows() -> None:
    assert intervals.percent(1 / 3, 3) == 33
    assert intervals.percent_range((0.333, 0.666), 30) == (33, 67)
    assert intervals.percent(1 / 3, 3000) == 33.3


@pytest.mark.parametrize(("k", "n"), [(0, 10), (5, 10), (10, 20), (999, 1000)])
def test_the_interval_is_wilson_s(k: int, n: int) -> None:
    z, p = 1.959964, k / n
    middle, width = (p + z * z / 2 / n), z * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    expected = ((middle - width) / (1 + z * z / n), (middle + width) / (1 + z * z / n))
    assert intervals.interval(k, n) == pytest.approx(expected, abs=1e-5)
