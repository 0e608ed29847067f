"""Promises of the matrix of who answers whom: one answer proves, only enough requests refute, no request is no test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshbook import analysis, tables
from meshbook.analysis import NONE_EXPECTED, NOT_TESTED, PROVEN, REFUTED, UNDECIDED, ExpectedShares, Part

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
VERSIONS = {"east": "v1", "west": "v2"}
WORDS = ["east", "west", tables.UNKNOWN, "", "timeout", "lost"]
"""Whose pod answered ("": not looked up), or what went wrong."""


def answers(*words: str, source: str = "east", path: str = "mesh") -> pd.DataFrame:
    """One request a second from noon on."""
    rows: list[dict[str, Any]] = []
    for number, word in enumerate(words):
        bad = word in ("timeout", "lost", "http_502")
        time = None if word == "lost" else NOON + timedelta(seconds=number)
        cell = {"cluster": "" if bad else word, "error": word if bad else ""}
        rows.append({"source": source, "path": path, "time": time, **cell})
    return tables.from_rows(rows, tables.ANSWERS)


def states(frame: pd.DataFrame) -> dict[str, str]:
    return dict(zip(frame["part"] + " " + frame["path"] + " " + frame["cluster"], frame["state"], strict=True))


@pytest.mark.parametrize(
    ("words", "east", "west"),
    [
        (["east", "west"], PROVEN, PROVEN),
        (["east"] * 8, PROVEN, REFUTED),
        (["east"] * 7, PROVEN, UNDECIDED),
        (["timeout"] * 8, REFUTED, REFUTED),
        (["lost"] * 8, NOT_TESTED, NOT_TESTED),
        ([""] * 8, NOT_TESTED, NOT_TESTED),
        ([tables.UNKNOWN] * 8, REFUTED, REFUTED),
    ],
    ids=["both", "enough of one", "too few", "hanging", "lost", "not looked up", "strangers"],
)
def test_a_cell_is_what_its_requests_show(words: list[str], east: str, west: str) -> None:
    assert list(states(analysis.coverage(answers(*words), VERSIONS)).values()) == [east, west]


@pytest.mark.parametrize(
    ("share", "n", "state"),
    [(0.5, 8, REFUTED), (0.1, 8, UNDECIDED), (0.1, 51, REFUTED), (0.0, 99, NONE_EXPECTED), (1.0, 1, REFUTED)],
)
def test_what_refutes_depends_on_the_share_that_is_expected(share: float, n: int, state: str) -> None:
    wanted = {"east": ExpectedShares(shares={"east": 1 - share, "west": share}, why="weights")}
    assert states(analysis.coverage(answers(*["east"] * n), VERSIONS, wanted))["before mesh west"] == state


def test_each_part_of_the_time_and_each_way_has_cells_of_its_own() -> None:
    middle = Part(name="during", since=NOON + timedelta(seconds=10), until=NOON + timedelta(seconds=30), down="east")
    parts = (Part(until=middle.since), middle, Part(name="after", since=NOON + timedelta(seconds=40)))
    mesh = answers(*["east", "west"] * 5, *["west"] * 20)
    vip = answers(*["west"] * 5, path="vip")
    found = states(analysis.coverage(pd.concat([mesh, vip]), VERSIONS, parts=parts))
    assert [found[f"{part} mesh east"] for part in ("before", "during", "after")] == [PROVEN, NONE_EXPECTED, NOT_TESTED]
    assert [found[f"{part} vip east"] for part in ("before", "during")] == [UNDECIDED, NOT_TESTED]
    assert found["during mesh west"] == PROVEN


def test_a_source_that_should_have_asked_and_has_not_is_seen() -> None:
    wanted = {name: ExpectedShares(shares={}, why="") for name in VERSIONS}
    found = analysis.coverage(answers("east"), VERSIONS, wanted).set_index("source")
    assert set(found.loc["west", "state"]) == {NOT_TESTED}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=30))
def test_more_requests_never_take_back_what_an_answer_has_proved(words: list[str]) -> None:
    before = analysis.coverage(answers("west", *words), VERSIONS)
    after = analysis.coverage(answers("west", *words, "timeout"), VERSIONS)
    assert (before["state"] == PROVEN).le(after["state"] == PROVEN).all()
    assert (after["state"] == PROVEN).eq(after["good"] > 0).all()
    assert (after["good"] <= after["n"]).all()


# ---- each ingress gateway

HUNG = ["timeout"] * 12


@pytest.mark.parametrize(
    ("gateways", "outcome", "said"),
    [
        ({"east a": ["east"] * 12, "west b": ["west"] * 11 + ["timeout"]}, "pass", "2 gateways, each of which answers"),
        ({"east a": ["east"] * 12, "east b": HUNG, "west c": ["west"] * 12}, "fail", "east, gateway b: 0 of 12"),
        ({"east a": ["east"] * 12}, "fail", "west has no ingress gateway that runs"),
        ({}, "fail", "east has no ingress gateway that runs; west has no ingress gateway that runs"),
        ({"east a": ["east"] * 12, "west b": ["lost"]}, "inconclusive", "west, gateway b: 0 of 0"),
        ({"east a": ["east", "timeout"] * 6, "west b": ["west"] * 12}, "inconclusive", "east, gateway a: 6 of 12"),
        ({"east a": ["http_502"] * 12, "west b": ["west"] * 12}, "inconclusive", "may let none out"),
    ],
    ids=["all", "one hangs", "none in a cluster", "none at all", "not asked", "mixed", "sidecar lets none out"],
)
def test_every_ingress_gateway_must_answer(gateways: dict[str, list[str]], outcome: str, said: str) -> None:
    frames = [answers("east", "timeout", path="vip")]
    for name, words in gateways.items():
        source, pod = name.split()
        frames.append(answers(*words, source=source, path=f"{tables.GATEWAY} {pod}"))
    found = analysis.gateways_answer(pd.concat(frames), [*VERSIONS])
    assert (found.outcome, said in found.reason) == (outcome, True), found.reason
