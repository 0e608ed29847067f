"""Who answers, compared with what the mesh is configured to do: each source has an expectation of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from meshbook import analysis, tables
from meshbook.analysis import ExpectedShares, SplitTest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
VERSIONS = {"a": "v1", "b": "v2"}
"""The clusters, and the version that each has."""


def answers(**counts: tuple[int, int]) -> pd.DataFrame:
    """Good answers of pods of a and of b, by source."""
    rows = [
        {"source": source, "cluster": cluster, "version": version, "error": ""}
        for source, count in counts.items()
        for (cluster, version), number in zip(VERSIONS.items(), count, strict=True)
        for _ in range(number)
    ]
    return tables.from_rows(rows, tables.ANSWERS)


def expect(**second: float | None) -> dict[str, ExpectedShares]:
    """What share b should have at each source; None: not known."""
    return {
        source: ExpectedShares(
            shares={} if share is None else {"a": 1 - share, "b": share},
            why=f"rule-{source}",
            fails_over=share in (0, 1),
        )
        for source, share in second.items()
    }


@pytest.mark.parametrize(
    ("counts", "expected", "outcome", "said"),
    [
        ({"a": (25, 75), "b": (27, 73)}, {"a": 0.75, "b": 0.75}, "pass", "Expected 75 %: rule-"),
        ({"a": (55, 45), "b": (25, 75)}, {"a": 0.75, "b": 0.75}, "fail", "a got 45 of 100"),
        ({"a": (100, 0), "b": (0, 100)}, {"a": 0.0, "b": 1.0}, "pass", "Expected"),
        ({"a": (100, 0), "b": (100, 0)}, {"a": 0.0, "b": 1.0}, "fail", "b got 0 of 100"),
        ({"a": (50, 50), "b": (50, 50)}, {"a": 0.5, "b": None}, "inconclusive", "b: rule-b"),
        ({"a": (50, 50)}, {"a": 0.5, "b": 0.5}, "inconclusive", "No request"),
    ],
    ids=["as expected", "one is off", "each its own", "one against its own", "not known", "not asked"],
)
def test_each_source_is_compared_with_its_own_share(
    counts: dict[str, Any], expected: dict[str, Any], outcome: str, said: str
) -> None:
    verdict = analysis.split_as_expected(answers(**counts), analysis.split_test(expect(**expected), "b", 0.15))
    assert (verdict.outcome, said in verdict.reason) == (outcome, True), verdict.reason


def test_of_sources_that_pass_the_one_with_the_least_room_to_its_limits_makes_the_numbers() -> None:
    for near in ((38, 62), (62, 38)):
        verdict = analysis.split_as_expected(answers(a=(52, 48), b=near), planned(a=0.5, b=0.5))
        assert (verdict.outcome, verdict.estimate) == ("pass", near[1])


# ---- how many requests decide


def planned(tolerance: float = 0.25, requests: int = 0, **second: float) -> SplitTest:
    return analysis.split_test(expect(**second), "b", tolerance, requests=requests)


def outcome_of(k: int, n: int, share: float, tolerance: float) -> str:
    low, high = analysis.share_interval(k, n)
    if share - tolerance <= low and high <= share + tolerance:
        return "pass"
    return "fail" if high < share - tolerance or low > share + tolerance else "inconclusive"


def chances(true: float, test: SplitTest, share: float) -> dict[str, float]:
    """The exact chances of one source's outcomes over all looks: what a look leaves open goes on to the next."""
    found, sent, open_at = dict.fromkeys(("pass", "fail", "inconclusive"), 0.0), 0, np.ones(1)
    for look in test.looks:
        at = np.convolve(open_at, binom.pmf(range(look - sent + 1), look - sent, true))
        outcomes = np.array([outcome_of(k, look, share, test.tolerance) for k in range(look + 1)])
        for name in found:
            found[name] += float(at[outcomes == name].sum()) if name != "inconclusive" else 0.0
        sent, open_at = look, np.where(outcomes == "inconclusive", at, 0.0)
    return found


@pytest.mark.parametrize(("share", "tolerance"), [(0.5, 0.25), (0.75, 0.25), (0.0, 0.25)])
def test_both_looks_together_decide_as_is_said(share: float, tolerance: float) -> None:
    test = planned(tolerance, a=share, b=share)
    assert chances(share, test, share)["pass"] ** 2 >= 0.998, "over both sources"
    for sign in (-1, 1):
        edge, off = share + sign * tolerance, share + 2 * sign * tolerance
        assert not 0 < edge < 1 or chances(edge, test, share)["pass"] <= 0.025
        assert not 0 <= off <= 1 or chances(off, test, share)["fail"] >= 0.95


def test_a_verdict_passes_where_the_interval_lies_inside_and_fails_where_it_lies_outside() -> None:
    test = planned(a=0.5)
    outcomes = [outcome_of(k, 57, 0.5, 0.25) for k in range(58)]
    ends = [k for k in range(57) if outcomes[k] != outcomes[k + 1]]
    assert len(ends) == 4
    for k in (*ends, *(end + 1 for end in ends)):
        assert analysis.split_as_expected(answers(a=(57 - k, k)), test).outcome == outcomes[k]


def test_a_narrower_tolerance_more_sources_and_a_smaller_share_take_more_requests() -> None:
    assert planned(a=0.5).looks < planned(a=0.5, b=0.5).looks < planned(0.1, a=0.5, b=0.5).looks
    assert planned(a=0.01).looks[0] == 528, "to see that cluster at all"
    assert planned(0.001, a=0.5).looks == (1000, 2000), "no more without having been asked for"


@pytest.mark.parametrize(("path", "sources"), [("01_connectivity.ipynb", 2), ("02_external_access.ipynb", 1)])
def test_a_notebook_s_parameter_says_how_many_requests_a_tolerance_takes(path: str, sources: int) -> None:
    said = re.search(r"0\.25 takes (\d+) requests.*, 0\.1 takes (\d+), or twice", (NOTEBOOKS / path).read_text())
    even = dict.fromkeys("abc"[:sources], 0.5)
    assert said is not None
    assert [int(one) for one in said.groups()] == [planned(limit, **even).looks[0] for limit in (0.25, 0.1)]


def test_what_so_many_requests_can_tell_is_said_before_they_are_sent() -> None:
    told = str(planned(requests=20, a=0.5, b=0.5))
    assert told.startswith("20 requests of each source: of 100 meshes as configured 0 pass, of 100 with a source")
    assert told.endswith("off by 50 points 100 fail, off by just 25 at most 1.25 pass. 118 requests decide.")
    assert "off by 50 points 0 fail" in str(planned(0.45, requests=20, a=0.5, b=0.5))
    told = str(planned(a=0.5, b=0.5))
    assert told.startswith("59 requests of each source, and as many again where they leave it open: of 100 meshes")
    assert told.endswith("off by just 25 at most 2.5 pass.")


@pytest.mark.parametrize(
    ("count", "requests", "outcome", "said"),
    [
        ((30, 29), 0, "pass", "inside the limits. Look 1 of 2. Expected"),
        ((3, 17), 20, "inconclusive", "across a limit; 114 requests decide, 20 were sent. Look 1 of 1."),
        ((3, 7), 0, "inconclusive", "across a limit; 114 requests decide, 10 were sent."),
        (
            (85, 29),
            0,
            "inconclusive",
            "the limit of 25 %, which `tolerance` sets. Look 2 of 2. So near to it",
        ),
        (
            (29, 85),
            0,
            "inconclusive",
            "the limit of 75 %, which `tolerance` sets. Look 2 of 2. So near to it",
        ),
        ((14, 100), 0, "fail", "outside the limits. Look 2 of 2."),
    ],
    ids=["first look", "an own number", "broken off", "on the lower limit", "on the upper limit", "second look"],
)
def test_a_verdict_says_which_look_it_was_and_what_leaves_it_open(
    count: tuple[int, int], requests: int, outcome: str, said: str
) -> None:
    verdict = analysis.split_as_expected(answers(a=count), planned(requests=requests, a=0.5))
    assert (verdict.outcome, said in verdict.reason) == (outcome, True), verdict.reason


def test_what_so_few_requests_could_not_have_told_is_said_where_they_pass() -> None:
    verdict = analysis.split_as_expected(answers(a=(6, 14)), planned(0.45, requests=20, a=0.5))
    assert (verdict.outcome, "So few requests: of 100 with a source that is" in verdict.reason) == ("pass", True)


def asked(each: tuple[int, int], error: str = "") -> tuple[list[int], Callable[[int], pd.DataFrame]]:
    """Answers of two sources, whose second cluster gives so many of 100; and how many were asked for."""
    counts: list[int] = []

    def ask(requests: int) -> pd.DataFrame:
        counts.append(requests)
        second = [requests * one // 100 for one in each]
        rows = answers(**{name: (requests - k, k) for name, k in zip("ab", second, strict=True)})
        return rows.assign(error=error)

    return counts, ask


@pytest.mark.parametrize(
    ("each", "error", "sent"),
    [((50, 50), "", [20, 39]), ((50, 65), "", [20, 39, 59]), ((50, 95), "", [20, 39]), ((50, 50), "timeout", [20])],
    ids=["decided at once", "one source is not", "one source fails", "all hang"],
)
def test_a_second_look_is_taken_where_the_first_leaves_it_open_and_a_way_that_hangs_is_not_asked_on(
    each: tuple[int, int], error: str, sent: list[int]
) -> None:
    counts, ask = asked(each, error)
    test = planned(a=0.5, b=0.5)
    found = test.until_decided(ask, ask(20))
    assert (counts, len(found)) == (sent, 2 * sum(sent))
    assert planned(requests=10, a=0.5, b=0.5).until_decided(ask, found).equals(found), "no more than was asked for"


# ---- who answers


@pytest.mark.parametrize(
    ("counts", "expected", "outcome", "said"),
    [
        ({"a": (20, 0), "b": (0, 20)}, {"a": 0.0, "b": 1.0}, "pass", "is for the outage of stage 3"),
        ({"a": (20, 1), "b": (0, 20)}, {"a": 0.0, "b": 1.0}, "fail", "a got 1 from b, which it is not configured for"),
        ({"a": (20, 0), "b": (0, 0)}, {"a": 0.0, "b": 1.0}, "fail", "b → b: 0 of 20"),
        ({"a": (20, 0), "b": (9, 9)}, {"a": 0.0, "b": None}, "pass", "rule-b"),
        (
            {"a": (20, 0), "b": (0, 20)},
            {"a": 0.5, "b": 0.5},
            "fail",
            "a → b: 0 of 20; b → a: 0 of 20. No request crossed",
        ),
        ({"a": (10, 10), "b": (10, 10)}, {"a": 0.5, "b": 0.5}, "pass", "seen wherever it should answer"),
        ({"a": (20, 0), "b": (18, 2)}, {"a": 0.1, "b": 0.1}, "inconclusive", "At least 57 requests of each source"),
        ({"a": (60, 0), "b": (54, 6)}, {"a": 0.1, "b": 0.1}, "fail", "a → b: 0 of 60; b → a: 54 of 60."),
    ],
    ids=[
        "local, as configured",
        "a stranger",
        "nobody",
        "not known, and both were seen",
        "alone without a rule",
        "both",
        "too few for a small share",
        "enough for it",
    ],
)
def test_answers_come_from_where_the_mesh_is_configured_to_send_requests(
    counts: dict[str, Any], expected: dict[str, Any], outcome: str, said: str
) -> None:
    found = answers(**counts)
    if counts["b"] == (0, 0):
        failed = tables.from_rows([{"source": "b", "error": "timeout"}] * 20, tables.ANSWERS)
        found = pd.concat([found, failed], ignore_index=True)
    verdict = analysis.answers_as_expected(found, VERSIONS, expect(**expected))
    assert (verdict.outcome, said in verdict.reason) == (outcome, True), verdict.reason
