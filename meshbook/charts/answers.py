"""A frame of ``tables.ANSWERS`` to a figure: who answers, and how fast. Nothing is read, judged or saved here.

The looks of versions and the figure itself are in ``figures``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from meshbook import tables
from meshbook.charts.figures import (
    BAD,
    GREY,
    Look,
    beside,
    looks_of,
    nothing,
    one_panel,
    several_panels,
)

_Z = NormalDist().inv_cdf(0.975)
_NO_ANSWER = "no good answer"


def share_by_source(frame: pd.DataFrame) -> Figure:
    """Draw the share of each version among the requests of each source, with 95 % (Wilson) intervals and counts."""
    answers = tables.measured(tables.conform(frame, tables.ANSWERS))
    looks = looks_of(answers)
    names = [*looks, _NO_ANSWER] if (answers["error"] != "").any() else list(looks)
    sources = sorted(answers["source"].unique())
    figure, axes = one_panel("Who answers: share of each version, by source", frame, rows=len(names) * len(sources))
    if not sources:
        return nothing(figure, axes)
    ticks = []
    for group, source in enumerate(sources):
        kinds = _kinds(answers[answers["source"] == source])
        for place, name in enumerate(names):
            y = group * (len(names) + 0.6) + place
            ticks.append((y, f"{source}   {name}" if place == 0 else name))
            _draw_share(axes, y, int((kinds == name).sum()), len(kinds), looks.get(name, BAD))
    if len(looks) > 1:
        axes.axvline(100 / len(looks), color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        axes.text(100 / len(looks), -0.75, "even share", color=GREY, ha="center", va="bottom", fontsize=8)
    axes.set_yticks([y for y, _ in ticks], [label for _, label in ticks])
    axes.set_ylim(ticks[-1][0] + 0.6, -0.8)
    axes.set_xlim(-2, 102)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("share of requests in %, with its 95 % interval")
    return figure


def _draw_share(axes: Axes, y: float, k: int, n: int, look: Look) -> None:
    low, high = _wilson(k, n)
    axes.plot([100 * low, 100 * high], [y, y], color=look.colour, linewidth=5, alpha=0.35, solid_capstyle="butt")
    axes.plot([100 * k / n], [y], color=look.colour, marker=look.marker, markersize=7, linestyle="none")
    beside(axes, y, f"{k} of {n}")


def latency_by_version(frame: pd.DataFrame) -> Figure:
    """Draw how long good answers took, per version, as the share of answers that took at most so many ms.

    One panel per source; the dot on each line is the median.
    """
    answers = tables.good(tables.conform(frame, tables.ANSWERS)).dropna(subset=["time_total_ms"])
    looks = looks_of(answers)
    sources = sorted(answers["source"].unique())
    figure, panels = several_panels("How long answers took, by version", frame, rows=4, count=len(sources))
    if not sources:
        return nothing(figure, panels[0])
    for axes, source in zip(panels, sources, strict=True):
        rows = answers[answers["source"] == source]
        for name, look in looks.items():
            _draw_steps(axes, rows.loc[rows["version"] == name, "time_total_ms"].to_numpy(dtype=float), name, look)
        axes.set_ylim(0, 103)
        axes.set_yticks([0, 25, 50, 75, 100])
        axes.set_ylabel("% of answers")
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, fontsize=9, frameon=False, borderpad=0)
        if len(sources) > 1:
            axes.set_title(source, loc="left", fontsize=10)
    _in_ms(panels, answers["time_total_ms"])
    return figure


def _draw_steps(axes: Axes, values: np.ndarray[tuple[int], np.dtype[np.float64]], name: str, look: Look) -> None:
    if not len(values):
        return
    ms = np.sort(values)
    shares = np.arange(1, len(ms) + 1) * 100 / len(ms)
    median = float(np.median(ms))
    label = f"{name}: median {median:.{0 if median >= 10 else 1}f} ms, n = {len(ms)}"
    axes.step([ms[0], *ms], [0, *shares], where="post", color=look.colour, linestyle=look.dashes, linewidth=1.8)
    axes.plot([], [], color=look.colour, linestyle=look.dashes, linewidth=1.8, marker=look.marker, label=label)
    axes.plot([median], [50], color=look.colour, marker=look.marker, markersize=7, linestyle="none")


def _in_ms(panels: Sequence[Axes], values: pd.Series[float]) -> None:
    """Give all panels one axis of milliseconds, logarithmic where the values span more than a decade."""
    panels[-1].set_xlabel("ms from request to last byte")
    low, high = float(values.min()), float(values.max())
    for axes in panels:
        if low > 0 and high > 10 * low:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            axes.set_xlim(0, high * 1.08)


def _kinds(answers: pd.DataFrame) -> pd.Series[str]:
    return answers["version"].where(answers["error"] == "", _NO_ANSWER)


def _wilson(k: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share, as ``judge`` has it."""
    share, spread = k / n, _Z * _Z / n
    middle = share + spread / 2
    width = _Z * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(0.0, (middle - width) / (1 + spread)), min(1.0, (middle + width) / (1 + spread))
