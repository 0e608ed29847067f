"""Who answers, compared with what the mesh is configured to do: each source has an expectation of its own."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from scipy.stats import binom

from meshbook import analysis, mesh, tables
from meshbook.analysis import ExpectedShares, SampleSize
from meshbook.errors import UsageError
from meshbook.mesh import Expected

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
        ({"a": (25, 75), "b": (30, 70)}, {"a": 0.75, "b": 0.75}, "pass", "Expected 75 %: rule-"),
        ({"a": (50, 50), "b": (25, 75)}, {"a": 0.75, "b": 0.75}, "fail", "a got 50 of 100"),
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
    verdict = analysis.split_as_expected(answers(**counts), "b", expect(**expected), 0.15)
    assert (verdict.outcome, said in verdict.reason) == (outcome, True), verdict.reason


# ---- how many requests decide


def split(k: int, n: int, share: float, tolerance: float) -> str:
    return analysis.split_as_expected(answers(a=(n - k, k)), "b", expect(a=share), tolerance).outcome


def size(tolerance: float = 0.25, requests: int = 0, **second: float) -> SampleSize:
    return analysis.sample_size(expect(**second), "b", tolerance, max_failed_share=0.1, requests=requests)


@pytest.mark.parametrize(("share", "tolerance"), [(0.5, 0.25), (0.75, 0.25), (0.0, 0.25)])
def test_enough_requests_pass_a_mesh_as_configured_and_fail_one_that_is_off_by_twice_the_tolerance(
    share: float, tolerance: float
) -> None:
    n = size(tolerance, a=share, b=share).requests
    outcomes = [split(k, n, share, tolerance) for k in range(n + 1)]

    def chance(outcome: str, true: float) -> float:
        return float(sum(binom.pmf(k, n, true) for k, found in enumerate(outcomes) if found == outcome))

    assert chance("pass", share) ** 2 >= 0.98, "over both sources"
    for off in (share - 2 * tolerance, share + 2 * tolerance):
        assert not 0 <= off <= 1 or chance("fail", off) >= 0.95


def test_a_narrower_tolerance_more_sources_and_a_smaller_share_take_more_requests() -> None:
    assert size(a=0.5).requests < size(a=0.5, b=0.5).requests < size(0.1, a=0.5, b=0.5).requests
    assert size(a=0.01).requests == 459, "to see that version at all"
    assert size(0.001, a=0.5).requests == 2000, "no more without having been asked for"


def test_what_fewer_requests_can_tell_is_said_before_they_are_sent() -> None:
    told = str(size(requests=20, a=0.5, b=0.5))
    assert told.startswith("20 requests of each source: a mesh as configured passes in 24 of 100 runs")
    assert told.endswith("off by 50 points fails in 100 of 100. 76 requests decide both.")
    assert "off by 50 points fails in 0 of 100." in str(size(0.45, requests=20, a=0.5, b=0.5))
    assert "requests decide both" not in str(size(a=0.5, b=0.5))


def test_what_so_few_requests_could_not_have_told_is_said_in_the_verdict() -> None:
    verdict = analysis.split_as_expected(answers(a=(6, 14)), "b", expect(a=0.5), 0.25)
    assert verdict.outcome == "inconclusive"
    assert verdict.reason.endswith("So few requests: a mesh as configured passes in 49 of 100 runs.")
    verdict = analysis.split_as_expected(answers(a=(4, 16)), "b", expect(a=0.5), 0.45)
    assert verdict.outcome == "pass"
    assert verdict.reason.endswith("off by 50 points fails in 0 of 100.")
    assert "So few" not in analysis.split_as_expected(answers(a=(30, 30)), "b", expect(a=0.5), 0.25).reason


def test_what_decides_is_one_number_where_the_loop_was_not_gone_on_with() -> None:
    sample, failing = size(a=0.5), pd.concat([answers(a=(0, 6)), answers(a=(0, 4)).assign(error="timeout")])
    verdict = analysis.split_as_expected(failing, "b", expect(a=0.5), 0.25, sample=sample)
    assert f"across a limit; {sample.enough} requests decide, 10 were sent, since too many of them" in verdict.reason
    assert "would decide" not in verdict.reason
    assert "So few" not in verdict.reason


def test_requests_that_were_sent_count_and_a_way_that_hangs_is_not_asked_on() -> None:
    sample = size(a=0.5, b=0.5)
    assert sample.rest(answers(a=(10, 10), b=(9, 11))) == sample.requests - 20
    assert sample.rest(answers(a=(50, 50), b=(50, 50))) == 0
    assert sample.rest(answers()) == sample.requests
    hanging = answers(a=(7, 0)).assign(error="timeout")
    assert sample.rest(pd.concat([answers(a=(13, 0), b=(10, 10)), hanging], ignore_index=True)) == 0


# ---- who answers


@pytest.mark.parametrize(
    ("counts", "expected", "outcome", "said"),
    [
        ({"a": (20, 0), "b": (0, 20)}, {"a": 0.0, "b": 1.0}, "pass", "is for the outage of stage 3"),
        ({"a": (20, 1), "b": (0, 20)}, {"a": 0.0, "b": 1.0}, "fail", "a got 1 from b, which it is not configured for"),
        ({"a": (20, 0), "b": (0, 0)}, {"a": 0.0, "b": 1.0}, "fail", "b got nothing from b"),
        ({"a": (20, 0), "b": (9, 9)}, {"a": 0.0, "b": None}, "inconclusive", "b: rule-b"),
        (
            {"a": (20, 0), "b": (0, 20)},
            {"a": 0.5, "b": 0.5},
            "fail",
            "a → b: 0 of 20; b → a: 0 of 20. No request crossed",
        ),
        ({"a": (10, 10), "b": (10, 10)}, {"a": 0.5, "b": 0.5}, "pass", "seen from everywhere"),
        ({"a": (20, 0), "b": (18, 2)}, {"a": 0.1, "b": 0.1}, "inconclusive", "a got nothing from b in 20 requests"),
        ({"a": (60, 0), "b": (54, 6)}, {"a": 0.1, "b": 0.1}, "fail", "a got nothing from b in 60 requests"),
    ],
    ids=[
        "local, as configured",
        "a stranger",
        "nobody",
        "not known",
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


def test_a_version_that_its_cluster_should_not_have_fails_whatever_the_shares() -> None:
    uneven = expect(a=0.75, b=0.75)
    found = answers(a=(25, 75), b=(25, 75))
    assert analysis.answers_as_expected(found, VERSIONS, uneven).outcome == "pass"
    third = found.assign(version=found["version"].where(found.index > 0, "v3"))
    verdict = analysis.answers_as_expected(third, VERSIONS, uneven)
    assert (verdict.outcome, "1 of v3 from pods of a" in verdict.reason) == ("fail", True), verdict.reason
    unknown = analysis.answers_as_expected(found.drop(columns="cluster"), VERSIONS, uneven)
    assert (unknown.outcome, "not looked up" in unknown.reason) == ("inconclusive", True), unknown.reason


CONFIGURED = {"a": Expected(source="a", shares={"a": 0.25, "b": 0.75}, why="", counts={"a": 1, "b": 3})}


def test_a_clusters_share_is_as_configured_and_a_users_own_number_wins() -> None:
    auto = mesh.by_cluster(CONFIGURED, ["a", "b"])["a"]
    assert (auto.shares, auto.why) == ({"a": 0.25, "b": 0.75}, "3 of 4 ready endpoints")
    own = mesh.by_cluster(CONFIGURED, ["a", "b"], "0.6")["a"]
    assert (own.shares, own.why) == ({"a": 0.4, "b": 0.6}, "your own number")


def test_a_cluster_without_ready_endpoints_is_not_meant_to_be_silent() -> None:
    gone = {"a": Expected(source="a", shares={"a": 1.0}, why="", counts={"a": 1})}
    expected = mesh.by_cluster(gone, ["a", "b"])
    assert expected["a"] == ExpectedShares(shares={}, why="b has no ready endpoint")
    assert analysis.answers_as_expected(answers(a=(20, 0)), VERSIONS, expected).outcome == "fail"


@pytest.mark.parametrize("share", ["half", "1.5", "-0.1"])
def test_a_share_that_is_none_is_refused(share: str) -> None:
    with pytest.raises(UsageError, match="auto, or a number from 0 to 1"):
        mesh.by_cluster(CONFIGURED, ["a", "b"], share)
