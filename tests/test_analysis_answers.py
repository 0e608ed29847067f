"""Promises of the judges of answers: a version, a share or a rate passes only where there were requests enough."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pytest
from told_answers import ALTERNATING, Told, answers, both

from meshbook import analysis
from meshbook.analysis import intervals
from meshbook.errors import UsageError


def test_versions_seen_from_every_source_pass() -> None:
    verdict = analysis.answers_from_both(both(ALTERNATING * 10, ALTERNATING * 10), ["v1", "v2"])
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
    assert analysis.answers_from_both(both(first, second), ["v1", "v2"]).outcome == "fail"


def test_too_few_requests_to_miss_a_version_for_sure_stay_open() -> None:
    verdict = analysis.answers_from_both(answers(["v1"] * 5), ["v1", "v2"])
    assert verdict.outcome == "inconclusive"
    assert "at least 8 are needed" in verdict.reason


def test_the_chance_of_a_false_alarm_is_below_one_percent_over_all_pairs() -> None:
    for pairs in (2, 4, 9):
        n = next(n for n in range(1, 50) if _fails(["v1"] * n, pairs // 2))
        assert pairs // 2 * 2 * 0.5**n <= 0.01


def _fails(told: Told, sources: int) -> bool:
    frames = [answers(told, f"cluster{number}") for number in range(sources)]
    return analysis.answers_from_both(pd.concat(frames), ["v1", "v2"]).outcome == "fail"


def test_locality_failover_is_named_as_a_possible_cause() -> None:
    assert "outlierDetection" in analysis.answers_from_both(both(["v1"] * 20, ["v2"] * 20), ["v1", "v2"]).reason


def test_errors_beside_good_answers_are_explained_without_addresses() -> None:
    verdict = analysis.answers_from_both(answers([*ALTERNATING * 10, "http_503", "timeout"]), ["v1", "v2"])
    assert verdict.outcome == "pass"
    assert "1 http_503, 1 timeout" in verdict.reason
    assert "10.0.0.1" not in verdict.reason


def test_an_expected_source_without_rows_leaves_the_claim_open() -> None:
    frame = answers(ALTERNATING * 10, "cluster1")
    assert analysis.answers_from_both(frame, ["v1", "v2"], sources=["cluster1", "cluster2"]).outcome == "inconclusive"


def test_an_unexpected_version_is_mentioned() -> None:
    assert "seen: v9" in analysis.answers_from_both(answers(["v1", "v2", "v9"] * 10), ["v1", "v2"]).reason


@pytest.mark.parametrize("versions", [[], ["v1"], ["v1", "v1"], "v1", ["v1", ""]])
def test_versions_that_cannot_be_both_are_refused(versions: Sequence[str]) -> None:
    with pytest.raises(UsageError):
        analysis.answers_from_both(answers(ALTERNATING), versions)


def test_an_even_split_of_enough_requests_passes() -> None:
    verdict = analysis.split_within(both(ALTERNATING * 100, ALTERNATING * 100), "v1")
    assert (verdict.outcome, verdict.estimate, verdict.limit) == ("pass", 50, "40 to 60 %")


def test_a_split_that_is_even_only_over_all_sources_fails() -> None:
    assert analysis.split_within(both(["v1"] * 50, ["v2"] * 50), "v1").outcome == "fail"


def test_a_lopsided_split_fails_and_names_the_source() -> None:
    verdict = analysis.split_within(both(ALTERNATING * 100, ["v1", "v1", "v1", "v2"] * 50), "v1")
    assert verdict.outcome == "fail"
    assert verdict.reason.startswith("cluster2 got 150 of 200")


def test_twenty_requests_are_too_few_for_ten_points_and_the_verdict_says_how_many_would_do() -> None:
    verdict = analysis.split_within(answers(ALTERNATING * 10), "v1", tolerance=0.1)
    assert verdict.outcome == "inconclusive"
    assert "about 110 requests would decide" in verdict.reason
    assert analysis.split_within(answers(ALTERNATING * 55), "v1", tolerance=0.1).outcome == "pass"


def test_a_split_without_good_answers_is_no_measurement_of_a_share() -> None:
    verdict = analysis.split_within(answers(["http_503"] * 50), "v1")
    assert verdict.outcome == "inconclusive"
    assert "no good answer from 50 requests" in verdict.reason


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
    assert analysis.all_answered(answers(told), limit).outcome == outcome


def test_no_failure_in_n_bounds_the_rate_by_three_over_n() -> None:
    for n in (50, 100, 300, 1000):
        assert intervals.bounds(0, n)[1] == pytest.approx(3 / n, rel=0.04)
    assert "below 3 %" in analysis.all_answered(answers(["v1"] * 100)).reason
