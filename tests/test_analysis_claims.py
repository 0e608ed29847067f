"""Promises of every claim: it passes only where there were requests enough, and what nobody watched stays open."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pandas as pd
import pytest
from scipy.stats import binom
from told_answers import BOTH, END, GONE, HEALTHY, START, VERSIONS, Told, answers, both, outage

from meshbook import analysis, tables
from meshbook.analysis import ExpectedShares, share_bounds, share_interval
from meshbook.errors import UsageError
from meshbook.verdict import Verdict, worst

# ---- every claim

EVEN = ExpectedShares(
    shares={"east": 0.5, "west": 0.5}, why="each ready endpoint counts the same (1 in east, 1 in west)"
)


def split(frame: pd.DataFrame, tolerance: float = 0.1, requests: int = 0) -> Verdict:
    """The verdict on shares where each source is to get half of its answers from either cluster."""
    expected = dict.fromkeys(frame["source"].unique(), EVEN) or {"east": EVEN}
    return analysis.split_as_expected(frame, analysis.split_test(expected, "east", tolerance, requests=requests))


CLAIMS: dict[str, Callable[[pd.DataFrame], Verdict]] = {
    "answers_as_expected": lambda frame: analysis.answers_as_expected(frame, VERSIONS),
    "split_as_expected": lambda frame: split(frame, tolerance=0.2),
    "all_answered": lambda frame: analysis.all_answered(frame, 0.2),
    "carried_by_the_others": lambda frame: analysis.carried_by_the_others(
        frame, START, END, VERSIONS, down="east", gone_at=GONE
    ),
    "few_fail": lambda frame: analysis.few_fail(frame, START, END, max_failed_share=0.2),
    "interrupted_at_most": lambda frame: analysis.interrupted_at_most(frame, START, END, max_gap_s=1),
}
every_claim = pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)


@every_claim
def test_nothing_is_concluded_from_lost_output_and_nothing_from_no_output(
    claim: Callable[[pd.DataFrame], Verdict],
) -> None:
    half_lost = answers(["v1", "v2", "lost", "garbled"] * 75)
    for frame in (half_lost, answers(["lost"] * 300), tables.empty(tables.ANSWERS)):
        assert claim(frame).outcome == "inconclusive"
        assert claim(frame).reason


@every_claim
def test_some_lost_rows_count_neither_as_good_nor_as_failed(claim: Callable[[pd.DataFrame], Verdict]) -> None:
    kept = HEALTHY["seq"] % 20 != 7
    some = HEALTHY.assign(error=HEALTHY["error"].where(kept, "lost"), time=HEALTHY["time"].where(kept))
    assert claim(some).outcome == claim(HEALTHY).outcome


@every_claim
def test_every_verdict_reads_well_as_text_page_and_data(claim: Callable[[pd.DataFrame], Verdict]) -> None:
    for frame in (HEALTHY, tables.empty(tables.ANSWERS), outage((30, ["refused"])), answers(["v1"])):
        verdict = claim(frame)
        texts = str(verdict), verdict._repr_html_()
        assert all(verdict.outcome.upper() in text and "nan" not in text.lower() for text in texts)
        assert json.loads(json.dumps(verdict.to_dict(), allow_nan=False))["claim"] == verdict.claim
        ends = [end for end in (verdict.low, verdict.estimate, verdict.high) if end is not None]
        assert ends == sorted(ends)


def test_the_page_of_a_verdict_escapes_text_and_shows_numbers_no_finer_than_they_are() -> None:
    details = ({"share %": 52.0, "n": 31}, {"share %": 48.5, "n": 31})
    page = Verdict(claim="<script>", outcome="pass", reason="a & b", details=details)._repr_html_()
    for text in (">52</td>", ">48.5</td>", "&lt;script&gt;", "a &amp; b"):
        assert text in page


def test_the_worst_part_is_the_outcome_of_a_whole() -> None:
    assert worst(["pass", "inconclusive", "fail"]) == "fail"
    assert worst(["pass", "fail", "error", "skipped"]) == "error"
    assert (worst([]), worst(["skipped"], "error")) == ("inconclusive", "error")


# ---- intervals


def test_percentages_are_no_finer_than_the_number_of_requests_allows() -> None:
    few, many = (analysis.all_answered(answers(["v1", "v1", "refused"] * n), 0.9) for n in (10, 1000))
    assert (few.estimate, many.estimate) == (33, 33.3)
    assert (few.low, few.high) == (19, 50)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (5, 10), (10, 20), (999, 1000), (10, 10)])
def test_the_interval_is_exact_and_each_end_is_wrong_once_in_80_times(k: int, n: int) -> None:
    low, high = share_interval(k, n)
    assert (low == 0) if k == 0 else binom.sf(k - 1, n, low) == pytest.approx(0.0125)
    assert (high == 1) if k == n else binom.cdf(k, n, high) == pytest.approx(0.0125)


def test_no_failure_in_n_bounds_the_rate_by_three_over_n() -> None:
    for n in (50, 100, 300, 1000):
        assert share_bounds(0, n)[1] == pytest.approx(3 / n, rel=0.04)
    assert "below 3 %" in analysis.all_answered(answers(["v1"] * 100)).reason


# ---- who answers


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["v1"] * 20, ["v1"] * 20),
        (BOTH * 10, ["v2"] * 20),
        (["v1"] * 20, ["v2"] * 20),
        (["v1", "http_503"] * 10, BOTH * 10),
        (["refused"] * 20, BOTH * 10),
        (["http_503"] * 20, ["http_503"] * 20),
    ],
    ids=["v2 missing", "one source sees one side", "each sees its own", "v2 broken", "a source refused", "all broken"],
)
def test_a_version_that_is_missing_somewhere_fails(first: Told, second: Told) -> None:
    assert analysis.answers_as_expected(both(first, second), VERSIONS).outcome == "fail"


@pytest.mark.parametrize("sources", [1, 2, 4])
def test_the_chance_of_a_false_alarm_is_below_one_percent_over_all_pairs(sources: int) -> None:
    def fails(n: int) -> bool:
        frames = [answers(["v1"] * n, f"cluster{number}") for number in range(sources)]
        return analysis.answers_as_expected(pd.concat(frames), VERSIONS).outcome == "fail"

    n = next(n for n in range(1, 50) if fails(n))
    assert sources * 2 * 0.5**n <= 0.01


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("Failed to connect to 10.1.2.3 port 80", "Failed to connect to <address> port 80"),
        ("http://203.0.113.7:8080/hello", "http://<address>:8080/hello"),
        ("http://[2001:db8::1]:80/", "http://[<address>]:80/"),
        ("at 12:34:56, helloworld-v1-5f6-abc", "at 12:34:56, helloworld-v1-5f6-abc"),
        ("std::string v1.17.5", "std::string v1.17.5"),
    ],
    ids=["v4", "v4 with port", "v6", "clock and pod", "code and version"],
)
def test_addresses_and_nothing_else_are_hidden(text: str, hidden: str) -> None:
    refused = [{"source": "east", "error": "refused", "detail": text}] * 9
    assert f"(“{hidden}”)" in analysis.all_answered(tables.from_rows(refused, tables.ANSWERS)).reason


def test_what_may_explain_a_verdict_is_said_without_addresses() -> None:
    assert "ocality" not in analysis.answers_as_expected(both(["v1"] * 20, ["v2"] * 20), VERSIONS).reason, (
        "it cannot be seen here"
    )
    verdict = analysis.answers_as_expected(answers([*BOTH * 10, "http_503", "timeout"]), VERSIONS)
    assert verdict.outcome == "pass"
    assert "1 http_503, 1 timeout" in verdict.reason
    assert "10.0.0.1" not in verdict.reason


def test_an_expected_source_without_rows_leaves_the_claim_open() -> None:
    frame = answers(BOTH * 10, "cluster1")
    assert (
        analysis.answers_as_expected(frame, VERSIONS, dict.fromkeys(["cluster1", "cluster2"], EVEN)).outcome
        == "inconclusive"
    )


def by_pods(*told: tuple[str, str, str, int]) -> pd.DataFrame:
    """Good answers: (source, cluster, version, how many)."""
    rows = [
        {"source": source, "cluster": cluster, "version": version, "error": ""}
        for source, cluster, version, count in told
        for _ in range(count)
    ]
    return tables.from_rows(rows, tables.ANSWERS)


@pytest.mark.parametrize(
    ("stranger", "said"),
    [
        (("east", "west", "v3", 1), "1 of v3 from pods of west"),
        (("east", "west", "v1", 2), "2 of v1 from pods of west"),
        (("east", tables.UNKNOWN, "v2", 1), "1 of v2 from pods that no cluster knows"),
    ],
    ids=["a third version", "another's version", "an unknown pod"],
)
def test_an_answer_that_nobody_should_have_given_fails_and_is_shown(
    stranger: tuple[str, str, str, int], said: str
) -> None:
    crossed = [(source, cluster, VERSIONS[cluster], 30) for source in VERSIONS for cluster in VERSIONS]
    assert analysis.answers_as_expected(by_pods(*crossed), VERSIONS).outcome == "pass"
    verdict = analysis.answers_as_expected(by_pods(*crossed, stranger), VERSIONS)
    assert (verdict.outcome, said in verdict.reason) == ("fail", True), verdict.reason


@pytest.mark.parametrize("judge", ["answers_as_expected", "split_as_expected", "carried_by_the_others"])
def test_versions_alone_prove_nothing_about_clusters(judge: str) -> None:
    verdict = CLAIMS[judge](HEALTHY.assign(cluster=""))
    assert verdict.outcome == "inconclusive"
    assert "not looked up" in verdict.reason


@pytest.mark.parametrize("versions", [{}, {"east": "v1"}, {"east": "v1", "": "v2"}])
def test_clusters_that_cannot_be_two_are_refused(versions: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        analysis.answers_as_expected(answers(BOTH), versions)


@pytest.mark.parametrize(
    ("k", "n", "other", "judge"),
    [
        (80, 120, "v2", lambda rows: split(rows, tolerance=0.25)),
        (36, 40, "refused", lambda rows: analysis.all_answered(rows, 0.05)),
    ],
    ids=["a split that will pass", "too many failures"],
)
def test_as_many_requests_as_are_said_to_decide_do_so_nine_times_in_ten(
    k: int, n: int, other: str, judge: Callable[[pd.DataFrame], Verdict]
) -> None:
    def judged(k: int, n: int) -> Verdict:
        return judge(answers(["v1"] * k + [other] * (n - k)))

    reason = judged(k, n).reason
    enough = int(re.search(r"about (\d+) requests would decide", reason)[1])  # type: ignore[index]
    likely = range(int(binom.ppf(0.001, enough, k / n)), int(binom.ppf(0.999, enough, k / n)) + 1)
    undecided = [count for count in likely if judged(count, enough).outcome == "inconclusive"]
    assert 0.03 < binom.pmf(undecided, enough, k / n).sum() <= 0.1


def test_a_split_without_good_answers_is_no_measurement_of_a_share() -> None:
    verdict = split(answers(["http_503"] * 50))
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
def test_failed_requests_are_compared_with_the_limit(told: Told, limit: float, outcome: str) -> None:
    assert analysis.all_answered(answers(told), limit).outcome == outcome


# ---- the measurement itself


def calibration(
    *within: bool, seen: bool = True, width_ms: float | None = 210.0, source: str = "external client"
) -> pd.DataFrame:
    row = {"fault": "frozen", "source": source, "path": "mesh", "seen": seen, "width_ms": width_ms}
    rows = [row | {"within": good, "off_ms": 0 if good else 12.5} for good in within]
    return tables.from_rows(rows, tables.CALIBRATION)


TRUE = [True] * 20


def test_a_measurement_is_true_when_every_truth_lay_within_its_range() -> None:
    verdict = analysis.measures_truly(calibration(*TRUE))
    assert (verdict.outcome, verdict.n, verdict.estimate) == ("pass", 20, 100)
    assert "210 ms wide at most" in verdict.reason


def test_one_truth_outside_its_range_fails_the_measurement_and_says_by_how_much() -> None:
    verdict = analysis.measures_truly(calibration(*TRUE, False))
    assert verdict.outcome == "fail"
    assert "12.5 ms outside" in verdict.reason


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        pytest.param(calibration(), "No outage of known length", id="nothing was tried"),
        pytest.param(calibration(*TRUE, seen=False), "external client noticed none of them", id="nothing was noticed"),
        pytest.param(calibration(True, seen=False), "too short to be noticed", id="one too short"),
        pytest.param(calibration(*TRUE, width_ms=None), "20 ranges have no upper end", id="every range is open"),
        pytest.param(
            pd.concat([calibration(*TRUE), calibration(*TRUE, seen=False, source="pod")]),
            "pod noticed none",
            id="one source blind",
        ),
    ],
)
def test_ranges_that_hold_any_truth_prove_no_measurement(frame: pd.DataFrame, words: str) -> None:
    verdict = analysis.measures_truly(frame)
    assert verdict.outcome == "inconclusive"
    assert words in verdict.reason
