"""A frame of ``tables.COVERAGE`` to a matrix: who answers whom, by which way and when, cell by cell.

In HTML, not a picture: its words stay readable on a phone, in print and on a dark page, in whatever letters names have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

import pandas as pd

from meshbook import tables
from meshbook.analysis import NONE_EXPECTED, PROVEN, REFUTED, UNDECIDED
from meshbook.language import translate_html

_BACKGROUNDS = {PROVEN: "#0072b22e", REFUTED: "#d5462f45", UNDECIDED: "#80808030", NONE_EXPECTED: "#c8b48230"}
"""Of the cells of a state, translucent, for bright and dark pages."""
_WAYS = {"mesh": "the mesh service", tables.VIP: "the VIP", tables.ADDRESS: "the address", "": "nobody"}
_CELL = "border:1px solid #8885;padding:.3em .7em;vertical-align:middle;text-align:"
_NAME = f"max-width:14em;overflow-wrap:break-word;{_CELL}"


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """What a notebook shows as HTML, in its reader's language."""

    html: str

    def __repr__(self) -> str:
        return "Who answers whom, as a table"

    def _repr_html_(self) -> str:
        return translate_html(self.html)


def coverage(frame: pd.DataFrame) -> Matrix:
    """Return COVERAGE as a table for each part of the time: a row for each source and way, a column for each cluster.

    Each cell has its state and counts. The tables stand side by side where there is room, else below each other.
    """
    cells = tables.conform(frame, tables.COVERAGE)
    parts = cells["part"].unique()
    shown = (_table(rows, str(part) if len(parts) > 1 else "") for part, rows in cells.groupby("part", sort=False))
    side_by_side = "display:flex;flex-wrap:wrap;gap:.6em 1.6em"
    content = "".join(shown) or "<p>no requests to show</p>"
    return Matrix(html=f'<div class="coverage" style="{side_by_side}">{content}</div>')


def _table(cells: pd.DataFrame, part: str) -> str:
    heads = (f"{cluster} ({version})" for cluster, version in cells[["cluster", "version"]].drop_duplicates().values)
    head = "".join(f'<th style="{_NAME}center">{escape(head)}</th>' for head in heads)
    rows = "".join(_row(row) for _, row in cells.groupby(["source", "path"], sort=False))
    caption = escape(f"{part}: answered by" if part else "answered by pods of")
    return f"<table><caption>{caption}</caption><tbody><tr><th></th>{head}</tr>{rows}</tbody></table>"


def _row(cells: pd.DataFrame) -> str:
    source, path = cells[["source", "path"]].iloc[0]
    name = escape(f"{source} → {_WAYS.get(path, path)}")
    return f'<tr><th style="{_NAME}left">{name}</th>{"".join(_cells(cells))}</tr>'


def _cells(cells: pd.DataFrame) -> Iterator[str]:
    for state, good, n in cells[["state", "good", "n"]].values:
        look = f"{_CELL}center;white-space:nowrap;background:{_BACKGROUNDS.get(state, 'none')};print-color-adjust:exact"
        word = f"<b>{state}</b>" if state == REFUTED else state
        yield f'<td style="{look}">{word}{f"<br>{good} of {n}" if n else ""}</td>'
