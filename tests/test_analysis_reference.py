"""The windows that are worked out by whole columns are those that the definition in words gives, request by request."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshbook import analysis, tables
from meshbook.analysis import Stream

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)

REQUEST = st.fixed_dictionaries(
    {
        "at": st.integers(0, 400),
        "took": st.sampled_from([2.0, 20.0, 59.0, 61.0, 400.0, 1000.0]),
        "error": st.sampled_from(["", "", "", "refused", "timeout", "http_503", "lost", "dropped"]),
        "known": st.booleans() | st.just(True),
        "time_error_ms": st.none() | st.sampled_from([0.0, 3.0, 30.0]),
        "clock_error_ms": st.none() | st.just(5.0),
    }
)


def answers(requests: list[dict[str, Any]]) -> pd.DataFrame:
    """Return ANSWERS of one source, in any order: ties, vague and missing stamps, rows without a result."""
    rows = [
        {
            "seq": number,
            "time": NOON + timedelta(milliseconds=10 * one["at"]) if one["known"] else None,
            "source": "a",
            "path": "vip",
            "version": "" if one["error"] else "v1",
            "time_total_ms": one["took"],
            **{name: one[name] for name in ("error", "time_error_ms", "clock_error_ms")},
        }
        for number, one in enumerate(requests, 1)
    ]
    return tables.from_rows(rows, tables.ANSWERS)


def possible(stream: Stream) -> list[tuple[float, float]]:
    """Return by definition each stretch that may have been an outage: from a good request to the next good answer."""
    good = [one for one in stream.requests.to_dict("records") if one["good"]]
    starts = [-math.inf, *(one["sent"] - one["early"] for one in good)]
    return [(at, min([one["end"] + one["late"] for one in good[n:]], default=math.inf)) for n, at in enumerate(starts)]


def runs(stream: Stream) -> Iterator[tuple[int, list[dict[Any, Any]]]]:
    """Yield each run of requests without a good and prompt answer, and how many good ones were sent before it."""
    before, run = 0, list[dict[Any, Any]]()
    for one in stream.requests.to_dict("records"):
        if one["good"] and one["end"] - one["sent"] <= stream.prompt:
            if run:
                yield before, run
            before, run = before + sum(each["good"] for each in run) + 1, []
        else:
            run.append(one)
    if run:
        yield before, run


@settings(max_examples=40, deadline=None)
@given(st.lists(REQUEST, max_size=25))
def test_gaps_windows_and_counts_are_those_of_the_definition(requests: list[dict[str, Any]]) -> None:
    for stream in analysis.streams(answers(requests)):
        gaps = possible(stream)
        assert list(stream.gaps[["start", "end"]].itertuples(index=False, name=None)) == gaps
        expected = []
        for before, run in runs(stream):
            slow = sum(one["good"] for one in run)
            longest = max(gaps[before : before + slow + 1], key=lambda gap: gap[1] - gap[0])
            expected.append((*longest, len(run) - slow, slow))
        found = stream.windows[["start", "end", "failed", "slow"]]
        assert list(found.itertuples(index=False, name=None)) == expected


@settings(max_examples=40, deadline=None)
@given(st.lists(REQUEST, max_size=25))
def test_a_refusal_proves_its_moment_and_hardly_more_is_claimed(requests: list[dict[str, Any]]) -> None:
    """Where anybody was turned away, only the bad answers tell: from the first to end to the last to be sent."""
    for stream in analysis.streams(answers(requests)):
        everything = stream.requests.to_dict("records")
        for window in stream.windows.to_dict("records"):
            if window["first"] != window["last"]:
                continue  # more than one gap is possible: each has a proof of its own
            gap = stream.gaps.loc[window["first"]]
            inside = [one for one in everything if gap["start"] <= one["sent"] <= gap["end"]]
            bad = [one for one in inside if not one["good"] and one["sent"] - one["early"] <= gap["answered"]]
            if not any(not one["hung"] for one in bad):
                continue
            ends = [min(one["end"], one["sent"] + stream.margin) if one["hung"] else one["end"] for one in bad]
            down_by = min(end + one["late"] for end, one in zip(ends, bad, strict=True))
            down_until = max(one["sent"] - one["early"] for one in bad)
            assert (window["down_by"], window["down_until"]) == (down_by, down_until)
            assert window["low_s"] == max(0.0, down_until - down_by)


def test_many_gaps_are_proved_in_parts_as_they_are_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hung = [{"at": n, "took": 10.0 * (401 - n), "error": "", "known": True} for n in range(100, 400, 5)]
    calm = [{"at": n, "took": 2.0, "error": "", "known": True} for n in (*range(100), *range(402, 480))]
    rows = answers([one | {"time_error_ms": 0.0, "clock_error_ms": None} for one in [*calm, *hung]])
    (whole,) = analysis.streams(rows)
    monkeypatch.setattr("meshbook.analysis.bounds._MOST_PAIRS", 7)
    (parts,) = analysis.streams(rows)
    pd.testing.assert_frame_equal(whole.windows, parts.windows)
    assert whole.windows["low_s"].max() > 2
