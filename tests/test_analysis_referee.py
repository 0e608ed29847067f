"""The referee's promises on some hundred modelled outages: whatever went wrong, the truth lies in the ranges."""

from __future__ import annotations

import dataclasses

import pandas as pd
import pytest
from referee import Untruth, measured, untruths, widths
from service_model import EPOCH, KINDS, Latency, Trouble, World, rows, world

from meshbook import analysis, tables

QUICK = Latency(usual=0.003, jitter=0.2)
CALM_S = 8.0


def one(*troubles: Trouble, rate: float = 10.0, **given: object) -> World:
    end = max((each.end for each in troubles), default=CALM_S)
    plain: dict[str, object] = {"seed": 1, "rate": rate, "seconds": end + CALM_S, "timeout": 1.0, "sides": (QUICK,)}
    return World(troubles=troubles, **(plain | given))  # type: ignore[arg-type]


def trouble(kind: str, seconds: float) -> Trouble:
    return Trouble(kind=kind, start=CALM_S, end=CALM_S + seconds)


def told(some: World) -> pd.DataFrame:
    return windows(tables.from_rows(rows(some), tables.ANSWERS))


def windows(answers: pd.DataFrame) -> pd.DataFrame:
    (stream,) = analysis.streams(answers)
    return stream.windows


def judged(first: int, last: int) -> list[Untruth]:
    every = measured(world(seed) for seed in range(first, last))
    return [wrong for some, stream in every for wrong in untruths(some, stream)]


@pytest.mark.parametrize("first", [1, 101, 201])
def test_nothing_untrue_is_said_of_outages_of_every_kind_by_senders_of_every_kind(first: int) -> None:
    assert [str(wrong) for wrong in judged(first, first + 100)] == []


def test_the_referee_finds_out_who_expects_faster_answers_than_the_service_gives() -> None:
    every = measured(world(seed) for seed in range(1, 301))
    assert any(list(untruths(some, dataclasses.replace(stream, prompt=0.0005))) for some, stream in every)


@pytest.mark.parametrize("kind", ["frozen", "refused"])
@pytest.mark.parametrize("rate", [10.0, 20.0, 50.0, 100.0])
def test_the_range_of_a_quick_service_is_no_wider_than_two_intervals_and_50_ms(kind: str, rate: float) -> None:
    for seconds in (0.3, 1.0, 3.0):
        some = one(trouble(kind, seconds), rate=rate)
        ((_, stream),) = measured([some])
        (width,) = widths(some, stream)
        assert float(str(width["extra ms"])) <= 50, (seconds, width)


# ---- what is no outage


def test_one_slow_request_between_distant_others_is_not_taken_for_an_outage() -> None:
    answers = tables.from_rows(rows(one(rate=2.0)), tables.ANSWERS)
    answers.loc[8, "time_total_ms"] = 450.0
    assert windows(answers)["low_s"].tolist() == [0.0]


def test_a_sender_that_stood_still_does_not_claim_that_the_service_did() -> None:
    busy = one(rate=100.0, sides=(Latency(usual=0.03, jitter=0.1),), pauses=((4.0, 4.4), (9.0, 9.9)))
    assert told(busy)["low_s"].max() == 0.0


def test_requests_that_a_proxy_holds_and_answers_elsewhere_are_late_and_not_down() -> None:
    held = [row if n % 160 < 110 else row | {"time_total_ms": 400.0} for n, row in enumerate(rows(one()))]
    found = windows(tables.from_rows(held, tables.ANSWERS))
    assert not found.empty
    assert (found["low_s"] == 0.0).all()


@pytest.mark.parametrize("rate", [1.0, 2.0, 10.0])
def test_packets_sent_again_long_after_a_black_hole_do_not_make_it_longer(rate: float) -> None:
    for seconds in (0.4, 1.3, 3.0):
        hole = trouble("black-hole", seconds)
        for timeout in (1.0, 5.0):
            found = told(one(hole, rate=rate, timeout=timeout))
            assert (found["low_s"] <= seconds).all()
            assert (found["down_until"] <= EPOCH + hole.end + 1e-6).all()


def test_where_nothing_is_proved_the_inner_edges_are_no_tighter_than_the_outer_ones() -> None:
    ((_, stream),) = measured([one(pauses=((4.0, 4.4),), rate=50.0, sides=(Latency(usual=0.03, jitter=0.1),))])
    assert not stream.windows.empty
    assert (stream.windows["down_by"] >= stream.windows["end"]).all()
    assert (stream.windows["down_until"] <= stream.windows["start"]).all()


def test_half_of_the_requests_failing_is_many_short_windows_of_which_none_claims_the_whole() -> None:
    half = one(trouble("half refused", 5.0), sides=(QUICK, QUICK))
    found = told(half)
    assert len(found) > 3
    assert (found["high_s"] < 5).all()
    assert list(untruths(half, next(stream for _, stream in measured([half])))) == []


def test_every_kind_of_trouble_and_roughness_is_among_the_cases() -> None:
    worlds = [world(seed) for seed in range(1, 301)]
    assert {each.kind for some in worlds for each in some.troubles} == set(KINDS)
    for name in ("late", "vague", "clock_error", "drops", "pauses", "retried_s"):
        assert any(getattr(some, name) for some in worlds), name
        assert not all(getattr(some, name) for some in worlds), name
    assert {len(some.troubles) for some in worlds} == {0, 1, 2, 3}


def test_a_margin_is_the_prompt_time_where_too_little_was_calm() -> None:
    few = one(trouble("refused", 1.0), rate=2.0)
    ((_, stream),) = measured([dataclasses.replace(few, seconds=12.0)])
    assert stream.margin == stream.prompt
    ((_, stream),) = measured([one(rate=50.0)])
    assert 0.01 <= stream.margin < stream.prompt
