"""Promises of the tables that packages hand to each other."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd
import pytest

from meshbook import tables
from meshbook.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Pebble:
    name: str
    smooth: bool
    labels: dict[str, str]
    weights: tuple[int, ...]
    note: str | None = None


DECLARED = [found for found in vars(tables).values() if isinstance(found, tables.Table)]


@pytest.mark.parametrize("table", DECLARED, ids=lambda table: table.name)
def test_an_empty_table_has_its_declared_columns_and_dtypes(table: tables.Table) -> None:
    frame = tables.empty(table)
    assert list(frame.columns) == table.names
    assert [str(dtype) for dtype in frame.dtypes] == [column.dtype for column in table.columns]
    pd.testing.assert_frame_equal(tables.conform(frame, table), frame)


def test_rows_become_a_frame_whose_missing_values_are_missing_and_missing_texts_empty() -> None:
    sent = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    frame = tables.from_rows([{"seq": 1, "time": sent, "code": 200}, {"seq": 2, "error": "lost"}], tables.ANSWERS)
    assert frame["time"].tolist()[0] == sent
    assert pd.isna(frame["time"].iloc[1])
    assert pd.isna(frame["code"].iloc[1])
    assert frame["error"].tolist() == ["", "lost"]
    assert [str(dtype) for dtype in frame.dtypes] == [column.dtype for column in tables.ANSWERS.columns]


def test_no_rows_become_an_empty_frame_of_the_table() -> None:
    pd.testing.assert_frame_equal(tables.from_rows([], tables.ANSWERS), tables.empty(tables.ANSWERS))


def test_rounds_of_answers_are_joined_source_by_source_and_numbered_on() -> None:
    first = tables.from_rows([{"source": source, "seq": 1, "code": 200} for source in "ba"], tables.ANSWERS)
    later = tables.from_rows([{"source": "a", "seq": 1, "code": 503}], tables.ANSWERS)
    found = tables.joined(first, later)
    assert list(zip(found["source"], found["seq"], found["code"], strict=True)) == [
        ("b", 1, 200),
        ("a", 1, 200),
        ("a", 2, 503),
    ]
    pd.testing.assert_frame_equal(tables.joined(later, tables.empty(tables.ANSWERS)), later)


def test_conform_puts_columns_in_order_and_casts_what_can_be_cast() -> None:
    frame = tables.from_rows([{"seq": 1, "code": 200}], tables.ANSWERS)
    shuffled = frame[sorted(frame.columns)].astype({"code": "float64", "source": "object"})
    pd.testing.assert_frame_equal(tables.conform(shuffled, tables.ANSWERS), frame)


def test_a_missing_or_unknown_column_is_named() -> None:
    frame = tables.empty(tables.ANSWERS).rename(columns={"code": "kode"})
    with pytest.raises(UsageError) as caught:
        tables.conform(frame, tables.ANSWERS)
    assert "missing: code" in str(caught.value)
    assert "unknown: kode" in str(caught.value)


def test_a_value_of_the_wrong_kind_is_refused_by_column_name() -> None:
    with pytest.raises(UsageError, match="column code of table answers"):
        tables.from_rows([{"code": "two hundred"}], tables.ANSWERS)


def test_a_row_with_a_stray_name_is_refused() -> None:
    with pytest.raises(UsageError, match="no column kode"):
        tables.from_rows([{"kode": 200}], tables.ANSWERS)


def test_records_become_a_frame_of_plain_texts_and_numbers() -> None:
    frame = tables.frame([Pebble(name="a", smooth=True, labels={"x": "1", "y": "2"}, weights=(1, 2))])
    assert frame.to_dict("records") == [
        {"name": "a", "smooth": "yes", "labels": "x=1, y=2", "weights": "1, 2", "note": ""}
    ]


def test_no_records_become_an_empty_frame() -> None:
    assert tables.frame([]).empty


def test_a_frame_of_mixed_or_foreign_records_is_refused() -> None:
    with pytest.raises(UsageError, match="one kind"):
        tables.frame([Pebble(name="a", smooth=False, labels={}, weights=()), {"name": "b"}])


def test_the_readable_form_shows_no_address_and_no_missing_value_marks() -> None:
    sent = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    rows = [
        {"seq": 1, "time": sent, "code": 200, "version": "v1", "time_total_ms": 12.345, "remote_ip": "10.9.8.7"},
        {"seq": 2, "error": "lost"},
    ]
    shown = tables.to_display(tables.from_rows(rows, tables.ANSWERS))
    text = shown.to_string() + shown.to_html()
    assert "03:04:05.678" in text
    assert "12.3" in text
    assert not [mark for mark in ("10.9.8.7", "NaN", "NaT", "<NA>", "&lt;NA&gt;") if mark in text]


def test_good_and_measured_rows_are_told_apart_from_lost_ones() -> None:
    rows = [{"seq": 1}, {"seq": 2, "error": "http_503"}, {"seq": 3, "error": "lost"}, {"seq": 4, "error": "garbled"}]
    frame = tables.from_rows(rows, tables.ANSWERS)
    assert tables.good(frame)["seq"].tolist() == [1]
    assert tables.measured(frame)["seq"].tolist() == [1, 2]


def test_text_stands_to_the_left_and_numbers_to_the_right_with_what_is_missing() -> None:
    noon = pd.Timestamp("2026-01-02 12:00:00.123456", tz="UTC")
    frame = pd.DataFrame({"why": ["a", "word " * 9], "ms": [12.5, None], "n": ["", 3], "at": [noon, None]})
    cells = re.findall(r"text-align:(\w+);(white-space:nowrap)?[^>]*>([^<]*)<", tables.to_html(frame))
    assert [(side, bool(whole), text.strip()) for side, whole, text in cells[4:]] == [
        ("left", False, "a"),
        ("right", True, "12.5"),
        ("right", True, ""),
        ("left", True, "12:00:00.123 UTC"),
        ("left", False, ("word " * 9).strip()),
        ("right", True, ""),
        ("right", True, "3"),
        ("left", True, ""),
    ]
