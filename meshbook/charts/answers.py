"""A frame of ``tables.ANSWERS`` to a figure: who answers, and how fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from meshbook import tables
from meshbook.analysis import ExpectedShares, share_interval
from meshbook.charts.figures import (
    BAD,
    FAILED,
    GRID,
    INK,
    MOST_DRAWN,
    Chart,
    Style,
    label_of,
    legend_columns,
    nothing,
    plain,
    styles_of_answerers,
)

_WIDTH_IN = 7.0
_LEGEND_CHARS = 92
"""Signs of a line above a panel."""
_NO_ANSWER = "no good answer"


def share_by_source(frame: pd.DataFrame, expected: Mapping[str, ExpectedShares] | None = None) -> Figure:
    """Draw the share of each cluster among the requests of each source, with exact intervals and counts.

    ``expected`` has by source what share of each cluster is marked as the one that should be.
    """
    answers = tables.measured(tables.conform(frame, tables.ANSWERS)[["source", "version", "cluster", "error"]])
    answers = answers.assign(who=tables.by_whom(answers))
    styles = styles_of_answerers(answers, (one for shares in (expected or {}).values() for one in shares.shares))
    names = [*styles, _NO_ANSWER] if (answers["error"] != "").any() else list(styles)
    sources = list(answers["source"].unique())
    figure, (axes,) = _panels("Who answers: share of each cluster, by source", frame, rows=len(names) * len(sources))
    if not sources:
        return nothing(figure, axes)
    counts = answers.groupby(["source", answers["who"].where(answers["error"] == "", _NO_ANSWER)]).size()
    marks = _expected_marks(answers, expected or {})
    ticks = []
    for group, source in enumerate(sources):
        for place, name in enumerate(names):
            y = group * (len(names) + 0.6) + place
            ticks.append((y, label_of(source, name) if place == 0 else name))
            k, n = int(counts.get((source, name), 0)), int(counts[source].sum())
            _draw_share(axes, y, k, n, styles.get(name, BAD))
            if (source, name) in marks:
                at = 100 * marks[source, name]
                axes.plot([at, at], [y - 0.38, y + 0.38], color=INK, linewidth=1.4, zorder=3)
    if marks:
        axes.plot([], [], color=INK, linewidth=1.4, label="upright: the expected share")
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), fontsize=8.5, frameon=False, borderpad=0)
    axes.set_yticks([y for y, _ in ticks], [label for _, label in ticks])
    axes.set_ylim(ticks[-1][0] + 0.6, -0.8)
    axes.set_xlim(-2, 102)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("% of requests, with its interval")
    return figure


def _expected_marks(answers: pd.DataFrame, expected: Mapping[str, ExpectedShares]) -> dict[tuple[str, str], float]:
    """Return by source and label of a cluster which share it should have, as far as that is known."""
    labels = dict(zip(answers["cluster"], answers["who"], strict=True))
    return {
        (source, labels[cluster]): share
        for source, shares in expected.items()
        for cluster, share in shares.shares.items()
        if cluster in labels
    }


def _draw_share(axes: Axes, y: float, k: int, n: int, style: Style) -> None:
    low, high = share_interval(k, n)
    axes.plot([100 * low, 100 * high], [y, y], color=style.colour, linewidth=5, alpha=0.35, solid_capstyle="butt")
    axes.plot([100 * k / n], [y], color=style.colour, marker=style.marker, markersize=7, linestyle="none")
    beside = axes.get_yaxis_transform()
    axes.text(1.015, y, f"{k} of {n}", transform=beside, va="center_baseline", fontsize=9, color=INK)


def latency_by_cluster(frame: pd.DataFrame) -> Figure:
    """Draw how long good answers took, per cluster, as the share of answers that took at most so many ms.

    One panel per source; the dot on each line is the median. A line of many answers has a step for as many of them as
    can be told apart, the quickest and the slowest included.
    """
    columns = ["source", "version", "cluster", "error", "time_total_ms"]
    answers = tables.good(tables.conform(frame, tables.ANSWERS)[columns]).dropna(subset=["time_total_ms"])
    answers = answers.assign(who=tables.by_whom(answers))
    styles = styles_of_answerers(answers)
    sources = list(answers["source"].unique())
    figure, panels = _panels("How long answers took, by cluster", frame, rows=4, count=max(1, len(sources)))
    if not sources:
        return nothing(figure, panels[0])
    for axes, source in zip(panels, sources, strict=True):
        rows = answers[answers["source"] == source]
        for name, style in styles.items():
            _draw_steps(axes, rows.loc[rows["who"] == name, "time_total_ms"].to_numpy(dtype=float), name, style)
        axes.set_ylim(0, 103)
        axes.set_yticks([0, 25, 50, 75, 100])
        axes.set_ylabel("% of answers")
        axes.grid(axis="y", color=GRID, linewidth=0.6)
        beside = legend_columns([str(label) for label in axes.get_legend_handles_labels()[1]], _LEGEND_CHARS)
        place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "ncols": beside}
        place["title"] = source if len(sources) > 1 else None
        axes.legend(fontsize=9, frameon=False, borderpad=0, alignment="left", **place)
        _in_ms(axes, answers["time_total_ms"])
    panels[-1].set_xlabel("ms from request to last byte")
    return figure


def _draw_steps(axes: Axes, values: np.ndarray[tuple[int], np.dtype[np.float64]], name: str, style: Style) -> None:
    if not len(values):
        return
    median = float(np.median(values))
    label = f"{name}: median {median:.{0 if median >= 10 else 1}f} ms, n = {len(values)}"
    places = np.unique(np.linspace(0, len(values) - 1, min(len(values), MOST_DRAWN)).astype(int))
    ms, shares = np.sort(values)[places], (places + 1) * 100 / len(values)
    axes.step([ms[0], *ms], [0, *shares], where="post", color=style.colour, linestyle=style.dashes, linewidth=1.8)
    axes.plot([], [], color=style.colour, linestyle=style.dashes, linewidth=1.8, marker=style.marker, label=label)
    axes.plot([median], [50], color=style.colour, marker=style.marker, markersize=7, linestyle="none")


def _in_ms(axes: Axes, values: pd.Series[float]) -> None:
    """Make x an axis of milliseconds, logarithmic where the values span more than a decade."""
    low, high = float(values.min()), float(values.max())
    if low > 0 and high > 10 * low:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_xlim(0, high * 1.08)


def _panels(title: str, frame: pd.DataFrame, *, rows: int, count: int = 1) -> tuple[Chart, Sequence[Axes]]:
    """Return a figure with ``count`` panels one above the other, each high enough for ``rows`` lines."""
    figure = Chart(title, _WIDTH_IN, 1.1 + count * (0.45 + 0.32 * max(2, rows)))
    panels = list(figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0])
    for axes in panels:
        plain(axes, size=9)
    if lost := len(frame) - len(tables.measured(frame[["error"]])):
        note = f"{lost} of {len(frame)} requests are left out: the probe lost their results"
        figure.supxlabel(note, x=0.01, ha="left", fontsize=8.5, color=FAILED)
    return figure, panels
