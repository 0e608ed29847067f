"""The ladder as a picture: how long a service was away, for each kind of failure, cluster and source. A bar is a range.

Each outage is a bar from the least to the most time that it can have taken. Where none was seen the bar is hollow: it
ends where an outage would have been noticed. A thin line goes on to the last failure where good answers lay in between.
The scale is logarithmic above 100 ms, so that short ones still show.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from meshbook import tables
from meshbook.charts.figures import FAILED, GREY, INK, SHADE, Chart, Look, looks_of_sources, nothing

WIDTH_IN = 9.0
_LINEAR_MS = 100.0
_TICKS_MS = (0, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000, 300_000)
_STEP, _ROW_IN = 0.16, 0.15


def downtime_by_step(trials: pd.DataFrame, limit_s: float | None = None) -> Figure:
    """Draw TRIALS: a row for each kind of failure and cluster, a bar for each outage and source; ``limit_s`` a line."""
    trials = tables.conform(trials, tables.TRIALS)
    known = trials.dropna(subset=["low_ms"])
    sources = sorted(trials["source"].unique())
    groups = [(key, rows) for key, rows in trials.groupby(["mode", "context"], sort=False)]
    heights = [0.22 + _ROW_IN * len(rows) for _, rows in groups]
    figure = Chart(figsize=(WIDTH_IN, 1.5 + sum(heights)), layout="constrained", facecolor="white")
    axes = figure.subplots()
    if known.empty:
        return nothing(figure, axes)
    figure.suptitle("How long callers were without the service", x=0.01, ha="left", fontsize=11, fontweight="bold")
    ends = [known[name].dropna().tolist() for name in ("low_ms", "high_ms", "degraded_high_ms")]
    top = 1.15 * max([_LINEAR_MS, *(float(end) for some in ends for end in some)])
    looks = looks_of_sources(sources)
    ticks, y = [], 0.0
    for number, ((mode, context), rows) in enumerate(groups):
        begin = y
        for source, mine in rows.groupby("source", sort=True):
            y = _draw_outages(axes, y, mine, looks[str(source)], top)
        ticks.append(((begin + y - _STEP) / 2, f"{mode}\nat {context}"))
        if number % 2:
            axes.axhspan(begin - _STEP, y, color=SHADE, alpha=0.5, zorder=0, linewidth=0)
        y += _STEP
    axes.set_yticks([at for at, _ in ticks], [label for _, label in ticks], fontsize=9)
    axes.set_ylim(y, -1.6 * _STEP)
    _scale(axes, top)
    if limit_s is not None and 1000 * limit_s < top:
        axes.axvline(1000 * limit_s, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
        axes.text(1000 * limit_s, -1.2 * _STEP, " limit", color=GREY, fontsize=8.5, va="bottom")
    figure.legend(handles=list(_handles(looks)), loc="outside lower left", ncols=4, fontsize=8.5, frameon=False)
    return figure


def _draw_outages(axes: Axes, y: float, rows: pd.DataFrame, look: Look, top: float) -> float:
    for _, row in rows.sort_values("trial").iterrows():
        _draw_outage(axes, y, row, look, top)
        y += _STEP
    return y


def _draw_outage(axes: Axes, y: float, row: Any, look: Look, top: float) -> None:
    seen, open_end = int(row["windows"]) > 0, bool(pd.isna(row["high_ms"]))
    if unknown := _unknown(row, seen=seen):
        axes.text(2, y, unknown, fontsize=7, va="center", color=GREY)
        return
    low, high = float(row["low_ms"]), top if open_end else float(row["high_ms"])
    face = look.colour if seen else "white"
    axes.barh(y, high - low, left=low, height=0.62 * _STEP, color=face, edgecolor=look.colour, linewidth=0.9, zorder=2)
    if not pd.isna(row["degraded_high_ms"]):
        axes.plot([high, max(high, float(row["degraded_high_ms"]))], [y, y], color=look.colour, linewidth=1.1)
        high = max(high, float(row["degraded_high_ms"]))
    if int(row["failed"]):
        words = f" {row['failed']} of {row['sent']} failed" + (", end not seen" if open_end else "")
        axes.text(high, y, words, fontsize=7, va="center", color=FAILED, clip_on=False)


def _unknown(row: Any, *, seen: bool) -> str:
    """Return why nothing can be drawn of an outage; empty when it can."""
    if pd.isna(row["low_ms"]):
        return "not known: its requests were lost"
    return "" if seen or not pd.isna(row["high_ms"]) else "not known: did not watch from before to after"


def _scale(axes: Axes, top: float) -> None:
    axes.set_xscale("symlog", linthresh=_LINEAR_MS, linscale=0.9)
    axes.set_xlim(0, top * 1.6)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in _TICKS_MS if tick <= top * 1.6]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:g} ms" if ms < 1000 else f"{ms / 1000:g} s"))
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8.5)
    axes.set_xlabel("time without a good answer, from at least to at most (logarithmic above 100 ms)", fontsize=9)


def _handles(looks: dict[str, Look]) -> Iterator[Line2D]:
    for source, look in looks.items():
        yield Line2D([], [], color=look.colour, linewidth=5, label=f"seen by {source}")
    hollow = {"marker": "s", "linestyle": "none", "markerfacecolor": "white", "markeredgecolor": INK}
    yield Line2D([], [], **hollow, label="hollow: none seen; a shorter one could have been missed")  # type: ignore[arg-type]
