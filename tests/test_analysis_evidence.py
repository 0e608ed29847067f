"""Promises of the judges of an outage: what was not watched is not passed, however well the rest of it went."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from meshbook import analysis, tables

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
START, GONE, END = (NOON + timedelta(seconds=seconds) for seconds in (10, 12, 20))
PACE_S = 0.02


def watched(*spans: tuple[float, Sequence[str]], source: str = "outside", error_ms: float = 1.0) -> pd.DataFrame:
    """Fifty rows a second from noon on; each span of ``seconds`` repeats its pattern; no word: no row at all."""
    rows, number = [], 0
    for seconds, pattern in spans:
        for place in range(round(seconds / PACE_S)):
            number += 1
            if word := pattern[place % len(pattern)] if pattern else "":
                rows.append(_row(number, word, source) | {"time_error_ms": error_ms, "clock_error_ms": 0.0})
    return tables.from_rows(rows, tables.ANSWERS)


def _row(number: int, word: str, source: str) -> dict[str, object]:
    at, good = NOON + timedelta(seconds=(number - 1) * PACE_S), word.startswith("v")
    told = {"seq": number, "source": source, "path": "mesh", "scheduled": at, "time_total_ms": 5.0}
    unknown = word in tables.NOT_MEASURED
    return told | {"time": None if unknown else at, "version": word if good else "", "error": "" if good else word}


BEFORE, AFTER, BOTH = (10, ["v1", "v2"]), (10, ["v1", "v2"]), ["v1", "v2"]


def survival(frame: pd.DataFrame) -> analysis.Verdict:
    return analysis.survives_outage(frame, START, END, survivor_version="v2", gone_at=GONE)


@pytest.mark.parametrize(
    ("spans", "outcome", "words"),
    [
        pytest.param([(10, ["v2"])], "pass", "None of", id="watched whole"),
        pytest.param([(2, BOTH), (8, [])], "inconclusive", "No answer of v2", id="nobody asked once it had gone"),
        pytest.param([(4, ["v2"]), (6, [])], "inconclusive", "For 6.0 s of it", id="the watch ended early"),
        pytest.param([(6, ["v2"]), (4, ["lost"])], "inconclusive", "without a result", id="lost when it mattered"),
        pytest.param([(9.9, ["v1"]), (0.1, ["refused"])], "fail", "It was not away", id="the other side answered"),
        pytest.param([(2, BOTH), (8, ["refused"])], "fail", "refused", id="nobody answered"),
        pytest.param(
            [(2, ["v1"]), (0.02, ["refused"]), (7.98, [])], "inconclusive", "No answer", id="few were told no"
        ),
    ],
)
def test_an_outage_is_survived_only_where_it_was_watched_and_the_survivor_answered(
    spans: Sequence[tuple[float, Sequence[str]]], outcome: str, words: str
) -> None:
    verdict = survival(watched(BEFORE, *spans, AFTER))
    assert (verdict.outcome, words in verdict.reason) == (outcome, True), verdict.reason


def test_an_answer_that_may_have_been_asked_for_before_it_had_gone_is_no_ghost() -> None:
    late = watched(BEFORE, (2.06, BOTH), (7.94, ["v2"]), AFTER, error_ms=50.0)
    assert survival(late).outcome == "pass"
    assert survival(late.assign(time_error_ms=1.0)).outcome == "fail"


def test_a_source_whose_records_were_all_lost_leaves_the_length_open() -> None:
    fine = [watched((30, ["v2"]), source=f"cluster{number}") for number in range(12)]
    gone = watched((30, ["lost"]), source="cluster99")
    assert analysis.interrupted_at_most(pd.concat(fine), START, END, max_gap_s=1).outcome == "pass"
    assert analysis.interrupted_at_most(pd.concat([*fine, gone]), START, END, max_gap_s=1).outcome == "inconclusive"


def test_an_outage_that_may_lie_in_a_part_of_a_window_is_not_left_out() -> None:
    """Around one slow answer two stretches are possible; the longer one ends before the time in question begins."""
    frame = watched((30, ["v2"]))
    frame = frame[~frame["seq"].between(402, 450) & ~frame["seq"].between(452, 500)].copy()
    frame.loc[frame["seq"] == 451, "time_total_ms"] = 100.0
    verdict = analysis.interrupted_at_most(frame, NOON + timedelta(seconds=9.5), END, max_gap_s=1)
    assert verdict.outcome == "inconclusive", verdict.reason


def test_a_source_that_fell_silent_has_not_seen_the_return() -> None:
    both = pd.concat([watched((30, BOTH), source="cluster1"), watched((15, BOTH), source="cluster2")])
    verdict = analysis.returns_to_both(both, END, BOTH)
    assert verdict.outcome == "inconclusive"
    assert "cluster2" in verdict.reason


# ---- the measurement itself


def calibration(seen: bool = True, width_ms: float | None = 210.0, source: str = "outside") -> pd.DataFrame:
    row = {"fault": "frozen", "source": source, "path": "mesh", "seen": seen, "within": True, "off_ms": 0.0}
    return tables.from_rows([row | {"width_ms": width_ms}] * 20, tables.CALIBRATION)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        pytest.param(calibration(seen=False), "outside noticed none of them", id="nothing was noticed"),
        pytest.param(calibration(width_ms=None), "20 ranges have no upper end", id="every range is open"),
        pytest.param(
            pd.concat([calibration(), calibration(seen=False, source="pod")]), "pod noticed none", id="one source blind"
        ),
    ],
)
def test_ranges_that_hold_any_truth_prove_no_measurement(frame: pd.DataFrame, words: str) -> None:
    verdict = analysis.measures_truly(frame)
    assert verdict.outcome == "inconclusive"
    assert words in verdict.reason
