"""Promises of every verdict: nothing follows from lost output, and text, page, data and row all say the same."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pandas as pd
import pytest
from told_answers import END, HEALTHY, START, answers, outage

from meshbook import analysis, tables
from meshbook.analysis import intervals

CLAIMS: dict[str, Callable[[pd.DataFrame], analysis.Verdict]] = {
    "answers_from_both": lambda frame: analysis.answers_from_both(frame, ["v1", "v2"]),
    "split_within": lambda frame: analysis.split_within(frame, "v1", tolerance=0.2),
    "all_answered": lambda frame: analysis.all_answered(frame, 0.2),
    "survives_outage": lambda frame: analysis.survives_outage(frame, START, END, survivor_version="v2"),
    "interrupted_at_most": lambda frame: analysis.interrupted_at_most(frame, START, END, max_gap_s=1),
    "returns_to_both": lambda frame: analysis.returns_to_both(frame, END, ["v1", "v2"]),
}


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_nothing_is_concluded_from_lost_output_and_nothing_from_no_output(
    claim: Callable[[pd.DataFrame], analysis.Verdict],
) -> None:
    half_lost = answers(["v1", "v2", "lost", "garbled"] * 75)
    empty = tables.empty(tables.ANSWERS)
    for frame in (half_lost, answers(["lost"] * 300), empty):
        verdict = claim(frame)
        assert verdict.outcome == "inconclusive"
        assert verdict.reason


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_some_lost_rows_count_neither_as_good_nor_as_failed(claim: Callable[[pd.DataFrame], analysis.Verdict]) -> None:
    kept = HEALTHY["seq"] % 20 != 7
    some = HEALTHY.assign(error=HEALTHY["error"].where(kept, "lost"), time=HEALTHY["time"].where(kept))
    assert claim(some).outcome == claim(HEALTHY).outcome


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_every_verdict_reads_well_as_text_page_data_and_row(claim: Callable[[pd.DataFrame], analysis.Verdict]) -> None:
    for frame in (HEALTHY, tables.empty(tables.ANSWERS), outage((30, ["refused"])), answers(["v1"])):
        verdict = claim(frame)
        texts = str(verdict), verdict._repr_html_()
        assert all(verdict.outcome.upper() in text and "nan" not in text.lower() for text in texts)
        assert json.loads(json.dumps(verdict.to_dict(), allow_nan=False))["claim"] == verdict.claim
        ends = [end for end in (verdict.low, verdict.estimate, verdict.high) if end is not None]
        assert ends == sorted(ends)


def test_the_page_of_a_verdict_shows_numbers_no_finer_than_they_are() -> None:
    details = ({"share %": 52.0, "n": 31}, {"share %": 48.5, "n": 31})
    page = analysis.Verdict(claim="c", outcome="pass", reason="r", details=details)._repr_html_()
    assert "<td>52</td>" in page
    assert "<td>48.5</td>" in page


def test_the_page_of_a_verdict_escapes_what_it_shows() -> None:
    verdict = analysis.Verdict(claim="<script>", outcome="fail", reason="a & b")
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
    assert intervals.share_interval(k, n) == pytest.approx(expected, abs=1e-5)
