"""Promises of the ladder's tables: an outage is a range, one that nobody could see is not known, not absent."""

from __future__ import annotations

import pandas as pd
from ladder_rounds import BROKEN, answers, at, done

from meshbook import charts, experiment, tables
from meshbook.experiment.rounds import span


def test_an_outage_is_a_range_that_holds_its_true_length_and_only_those_who_saw_it_have_one() -> None:
    frame = experiment.rounds([done(BROKEN)]).set_index("source")
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
    row = experiment.rounds([one]).iloc[0]
    assert row["windows"] == row["failed"] == 40
    assert 7500 <= row["degraded_low_ms"] <= 7800 <= row["degraded_high_ms"] <= 8100
    assert row["high_ms"] <= row["degraded_high_ms"]
    assert "degraded for 7" in experiment.headline(one)[0]


def test_a_failure_before_the_order_is_not_the_outages() -> None:
    frame = experiment.rounds([done([*answers("outside", (3.0, 4.0))])])
    assert (frame["failed"].iloc[0], frame["windows"].iloc[0]) == (0, 0)


def test_requests_that_were_lost_make_an_outage_unknown_and_not_absent() -> None:
    lost = [{**row, "error": "lost", "time": None} if row["time"] > at(9) else row for row in answers("cluster1")]
    table = experiment.ladder(experiment.rounds([done(lost)]))
    assert table["n"].iloc[0] == 0
    assert experiment.readable(table)["outage seen"].iloc[0] == "not known"


def rounds_of(*ranges: tuple[float, float | None], windows: int = 1) -> pd.DataFrame:
    fixed = {"mode": "pods-deleted", "context": "cluster1", "source": "outside", "path": "vip", "sent": 50, "failed": 5}
    rows = [
        {**fixed, "trial": number, "low_ms": low, "high_ms": high, "windows": windows}
        for number, (low, high) in enumerate(ranges, start=1)
    ]
    return tables.from_rows(rows, tables.TRIALS)


def test_the_median_of_ranges_is_a_range() -> None:
    row = experiment.ladder(rounds_of((100, 200), (300, 500), (150, 250))).iloc[0]
    assert row[["n", "seen", "median_low_ms", "median_high_ms", "low_ms", "high_ms"]].tolist() == [
        *(3, 3, 150.0, 250.0, 100.0, 500.0)
    ]


def test_an_outage_whose_end_was_not_seen_has_no_upper_end() -> None:
    table = experiment.ladder(rounds_of((100, None), (300, None), (150, 250)))
    assert pd.isna(table["high_ms"].iloc[0])
    assert pd.isna(table["median_high_ms"].iloc[0])
    assert experiment.readable(table)["away: range"].iloc[0] == "100 to … ms"


def test_none_seen_is_told_with_what_could_have_been_missed() -> None:
    table = experiment.readable(experiment.ladder(rounds_of((0, 120), (0, 90), windows=0)))
    assert table["outage seen"].iloc[0] == "0 of 2"
    assert table["away: range"].iloc[0] == "none, or below 120 ms"
    assert span(12.2, 34.5, seen=True) == "12 to 34 ms"
    assert span(61_000, 72_340, seen=True) == "61.0 to 72.3 s"


def test_who_did_not_watch_to_the_end_is_told_so() -> None:
    cut = [row for row in answers("cluster1") if row["time"] < at(15)]
    one = done([*answers("outside"), *cut])
    assert "did not watch from before to after" in experiment.headline(one)[0]
    shown = experiment.readable(experiment.ladder(experiment.rounds([one]))).set_index("seen by")
    assert shown.loc["cluster1", "away: range"] == "none seen, but not watched from before to after"
    charts.downtime_by_step(experiment.rounds([one]))


def test_nothing_done_makes_empty_tables() -> None:
    assert experiment.rounds([]).empty
    assert experiment.readable(experiment.ladder(experiment.rounds([]))).empty
    assert experiment.answers([]).empty
    assert experiment.phases([]).empty
    assert experiment.told(experiment.phases([])).empty
    assert experiment.layers([]).empty


def test_the_headline_says_what_each_source_noticed() -> None:
    lines = experiment.headline(done(BROKEN))
    assert lines[0].startswith("cluster1: none of 153 requests failed; detection limit")
    assert lines[1].startswith("outside: unavailable for 1")
    assert "15 of 153 requests failed" in lines[1]
    assert lines[-1].startswith("share unchanged ")
