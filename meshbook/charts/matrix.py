"""A frame of ``tables.COVERAGE`` to a figure: who answers whom, by which way and when, cell by cell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from textwrap import TextWrapper

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from meshbook import tables
from meshbook.analysis import NONE_EXPECTED, NOT_TESTED, PROVEN, REFUTED, UNDECIDED
from meshbook.charts.figures import FAILED, GREY, GRID, INK, SHADE, Chart, in_signs, nothing
from meshbook.language import of_kernel, translate

_FILLS = {PROVEN: "#CFE3F1", REFUTED: "#F6D5CF", UNDECIDED: "#EFEFEF", NOT_TESTED: "white", NONE_EXPECTED: SHADE}
_WORDS = {REFUTED: FAILED, NOT_TESTED: GREY}
"""What is written in another colour than ink."""
_WAYS = {"mesh": "the mesh service", tables.VIP: "the VIP", tables.ADDRESS: "the address", "": "nobody"}
_CELL_IN, _NAMES_IN, _ROW_IN, _LINE_IN = 1.15, 2.9, 0.42, 0.16
_NAME_CHARS, _HEAD_CHARS = 40, 17
"""As many characters of 8.5 points as fit beside a row, and above a column."""


def coverage(frame: pd.DataFrame) -> Figure:
    """Draw COVERAGE: a row for each source and way, a column for each part and cluster, and the counts in each cell."""
    cells = tables.conform(frame, tables.COVERAGE)
    rows = list(dict.fromkeys(zip(cells["source"], cells["path"], strict=True)))
    columns = list(dict.fromkeys(zip(cells["part"], cells["cluster"], cells["version"], strict=True)))
    ways = [translate(f"{source} → {_WAYS.get(path, path)}", of_kernel()) for source, path in rows]
    names = [_wrapped(way, in_signs(_NAME_CHARS)) for way in ways]
    heads = [_wrapped(f"{cluster} ({version})", _HEAD_CHARS) for _, cluster, version in columns]
    highest = max([2, *(name.count("\n") + 1 for name in names)])
    height = max(_ROW_IN, highest * _LINE_IN + 0.1)
    above = 0.75 + _LINE_IN * max([1, *(head.count("\n") + 1 for head in heads)])
    figure = Chart("Who answers whom", _NAMES_IN + _CELL_IN * max(3, len(columns)), above + height * max(1, len(rows)))
    axes: Axes = figure.subplots()
    if not rows:
        return nothing(figure, axes)
    for cell in cells.to_dict("records"):
        place = (
            columns.index((cell["part"], cell["cluster"], cell["version"])),
            rows.index((cell["source"], cell["path"])),
        )
        _draw_cell(axes, place, cell["state"], f"{cell['good']} of {cell['n']}" if cell["n"] else "")
    _name_columns(axes, [part for part, *_ in columns], heads)
    axes.set_yticks(range(len(rows)), names)
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    axes.tick_params(length=0, labelsize=8.5, colors=INK)
    axes.spines[:].set_visible(False)
    return figure


def _draw_cell(axes: Axes, place: tuple[int, int], state: str, counts: str) -> None:
    x, y = place
    cell = Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, facecolor=_FILLS[state], edgecolor=GRID, linewidth=0.8)
    cell.set_hatch("////" if state == NOT_TESTED else "")
    axes.add_patch(cell)
    words = "\n".join(filter(None, (state, counts)))
    axes.text(x, y, words, ha="center", va="center", fontsize=8, linespacing=1.3, color=_WORDS.get(state, INK))


def _name_columns(axes: Axes, parts: Sequence[str], heads: Sequence[str]) -> None:
    """Write whose pods a column is about above it, and above those the part of the time, where there are several."""
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(heads)), heads)
    several = len(set(parts)) > 1
    axes.set_xlabel("" if several else "answered by pods of", fontsize=8.5, color=GREY)
    axes.xaxis.set_label_position("top")
    if not several:
        return
    upper = axes.secondary_xaxis("top")
    lines = 1 + max(head.count("\n") for head in heads)
    middles = [sum(at) / len(at) for part in dict.fromkeys(parts) if (at := _places(parts, part))]
    labels = [f"{part}: answered by" for part in dict.fromkeys(parts)]
    upper.set_xticks(middles, [f"{label}\n" + "\n" * lines for label in labels], fontsize=8.5, fontweight="bold")
    upper.tick_params(length=0)
    upper.spines[:].set_visible(False)
    for part in list(dict.fromkeys(parts))[1:]:
        axes.axvline(_places(parts, part)[0] - 0.5, color=GREY, linewidth=1.2, ymin=-0.02, ymax=1.0)


def _places(parts: Sequence[str], part: str) -> list[int]:
    return [at for at, one in enumerate(parts) if one == part]


def _wrapped(text: str, width: int) -> str:
    """Break a name where it has a dash, an underscore or a blank, or anywhere if it must be."""
    pieces = TextWrapper(width=width).wrap(re.sub(r"(?<=[-_:/])", "\u200b ", text))
    return "\n".join(pieces).replace("\u200b ", "").replace("\u200b", "")
