"""A frame of ``tables.ANSWERS`` to a figure: who answers, when, and how fast. Nothing is read, judged or saved here.

Figures are made without pyplot: no state is kept, and a figure shows once, where it is the value of a cell. Colours are
Okabe and Ito's, distinct in all kinds of colour blindness; each version has a marker of its own as well, and what is
not good is always named in words.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from statistics import NormalDist

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from meshbook import tables
from meshbook.errors import UsageError

WIDTH_IN = 7.0
_DPI = 200
_SCREEN_DPI = 100
_Z = NormalDist().inv_cdf(0.975)

_FAILED, _INK, _GREY, _SHADE = "#A3231A", "#222222", "#767676", "#E9E4DC"
_NO_ANSWER = "no good answer"
_CROWDED = 100
"""Requests in a chart above which strokes are drawn instead of markers, so that single gaps still show."""


class Chart(Figure):
    """A figure that shows itself in a notebook as a sharp PNG, whether pyplot is loaded or not."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=_DPI)
        width, height = (round(side * _SCREEN_DPI) for side in self.get_size_inches())
        return buffer.getvalue(), {"width": width, "height": height}


@dataclass(frozen=True, kw_only=True)
class _Look:
    """How one version is drawn, the same in every chart of a frame."""

    colour: str
    marker: str
    dashes: str | tuple[int, tuple[float, ...]] = "-"


_STYLES = (
    _Look(colour="#0072B2", marker="o"),
    _Look(colour="#D98200", marker="s", dashes=(0, (5, 1.5))),
    _Look(colour="#009E73", marker="^", dashes=(0, (1, 1))),
    _Look(colour="#CC79A7", marker="D", dashes=(0, (6, 1, 1, 1))),
    _Look(colour="#56B4E9", marker="v", dashes=(0, (2, 2))),
)
_BAD = _Look(colour=_FAILED, marker="x")


def share_by_source(frame: pd.DataFrame) -> Figure:
    """Draw the share of each version among the requests of each source, with 95 % (Wilson) intervals and counts."""
    answers = tables.measured(tables.conform(frame, tables.ANSWERS))
    looks = _looks(answers)
    names = [*looks, _NO_ANSWER] if (answers["error"] != "").any() else list(looks)
    sources = sorted(answers["source"].unique())
    figure, axes = _figure("Who answers: share of each version, by source", frame, rows=len(names) * len(sources))
    if not sources:
        return _nothing(figure, axes)
    ticks = []
    for group, source in enumerate(sources):
        kinds = _kinds(answers[answers["source"] == source])
        for place, name in enumerate(names):
            y = group * (len(names) + 0.6) + place
            ticks.append((y, f"{source}   {name}" if place == 0 else name))
            _draw_share(axes, y, int((kinds == name).sum()), len(kinds), looks.get(name, _BAD))
    if len(looks) > 1:
        axes.axvline(100 / len(looks), color=_GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        axes.text(100 / len(looks), -0.75, "even share", color=_GREY, ha="center", va="bottom", fontsize=8)
    axes.set_yticks([y for y, _ in ticks], [label for _, label in ticks])
    axes.set_ylim(ticks[-1][0] + 0.6, -0.8)
    axes.set_xlim(-2, 102)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("share of requests in %, with its 95 % interval")
    return figure


def _draw_share(axes: Axes, y: float, k: int, n: int, look: _Look) -> None:
    low, high = _wilson(k, n)
    axes.plot([100 * low, 100 * high], [y, y], color=look.colour, linewidth=5, alpha=0.35, solid_capstyle="butt")
    axes.plot([100 * k / n], [y], color=look.colour, marker=look.marker, markersize=7, linestyle="none")
    _beside(axes, y, f"{k} of {n}")


def _beside(axes: Axes, y: float, text: str) -> None:
    """Write ``text`` to the right of the panel."""
    axes.text(1.015, y, text, transform=axes.get_yaxis_transform(), va="center_baseline", fontsize=9, color=_INK)


def answers_over_time(frame: pd.DataFrame, outage: tuple[datetime, datetime] | None = None) -> Figure:
    """Draw every request at the second it was sent, in one lane per version and per kind of error, and the outage.

    ``outage`` is (start, end), with time zone. One panel per source.
    """
    if outage is not None and (None in (outage[0].tzinfo, outage[1].tzinfo) or outage[1] <= outage[0]):
        raise UsageError("an outage is drawn from a start to a later end, both with a time zone")
    answers = tables.measured(tables.conform(frame, tables.ANSWERS)).dropna(subset=["time"])
    looks = _looks(answers)
    errors = sorted(set(answers["error"]) - {""})
    lanes, sources = [*looks, *errors], sorted(answers["source"].unique())
    figure, panels = _panels("Who answered when", frame, rows=len(lanes), count=len(sources))
    if not sources:
        return _nothing(figure, panels[0])
    begin = answers["time"].min()
    for axes, source in zip(panels, sources, strict=True):
        rows = answers[answers["source"] == source]
        kinds = rows["version"].where(rows["error"] == "", rows["error"])
        seconds = (rows["time"] - begin).dt.total_seconds()
        for lane, name in enumerate(lanes):
            _draw_lane(axes, lane, seconds[kinds == name], _drawn(looks.get(name, _BAD), len(answers)))
        axes.set_yticks(range(len(lanes)), lanes)
        axes.set_ylim(len(lanes) - 0.4, -1.0 if outage else -0.6)
        if len(sources) > 1:
            axes.set_title(source, loc="left", fontsize=10)
        if outage is not None:
            _shade(axes, *((moment - begin).total_seconds() for moment in outage))
    panels[-1].set_xlabel(f"seconds since the first request ({begin:%H:%M:%S} UTC)")
    return figure


def _draw_lane(axes: Axes, lane: int, seconds: pd.Series[float], look: _Look) -> None:
    size, line = (110, 0.9) if look.marker == "|" else (22, 1.2)
    axes.scatter(seconds, [lane] * len(seconds), s=size, c=look.colour, marker=look.marker, linewidths=line)
    _beside(axes, lane, f"n = {len(seconds)}")


def _drawn(look: _Look, requests: int) -> _Look:
    return replace(look, marker="|") if requests > _CROWDED and look is not _BAD else look


def _shade(axes: Axes, start: float, end: float) -> None:
    axes.axvspan(start, end, color=_SHADE, zorder=0, linewidth=0)
    for edge in (start, end):
        axes.axvline(edge, color=_GREY, linewidth=0.8, zorder=1)
    label = f"outage, {end - start:.1f} s" if end - start < 10 else f"outage, {end - start:.0f} s"
    axes.text((start + end) / 2, 0.97, label, transform=axes.get_xaxis_transform(), ha="center", va="top", fontsize=9)


def latency_by_version(frame: pd.DataFrame) -> Figure:
    """Draw how long good answers took, per version, as the share of answers that took at most so many ms.

    One panel per source; the dot on each line is the median.
    """
    answers = tables.good(tables.conform(frame, tables.ANSWERS)).dropna(subset=["time_total_ms"])
    looks = _looks(answers)
    sources = sorted(answers["source"].unique())
    figure, panels = _panels("How long answers took, by version", frame, rows=4, count=len(sources))
    if not sources:
        return _nothing(figure, panels[0])
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


def _draw_steps(axes: Axes, values: np.ndarray[tuple[int], np.dtype[np.float64]], name: str, look: _Look) -> None:
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


def _looks(answers: pd.DataFrame) -> dict[str, _Look]:
    versions = sorted(set(tables.good(answers)["version"]))
    return {version: _STYLES[number % len(_STYLES)] for number, version in enumerate(versions)}


def _kinds(answers: pd.DataFrame) -> pd.Series[str]:
    return answers["version"].where(answers["error"] == "", _NO_ANSWER)


def _wilson(k: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share, as ``judge`` has it."""
    share, spread = k / n, _Z * _Z / n
    middle = share + spread / 2
    width = _Z * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(0.0, (middle - width) / (1 + spread)), min(1.0, (middle + width) / (1 + spread))


def _figure(title: str, frame: pd.DataFrame, *, rows: int) -> tuple[Chart, Axes]:
    figure, panels = _panels(title, frame, rows=rows, count=1)
    return figure, panels[0]


def _panels(title: str, frame: pd.DataFrame, *, rows: int, count: int) -> tuple[Chart, list[Axes]]:
    """Return a figure with ``count`` panels one above the other, each high enough for ``rows`` lanes."""
    count = max(1, count)
    height = 1.1 + count * (0.45 + 0.32 * max(2, rows))
    figure = Chart(figsize=(WIDTH_IN, height), layout="constrained", facecolor="white")
    panels = list(figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0])
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9, colors=_INK)
        axes.xaxis.label.set_size(9)
    lost = len(frame) - len(tables.measured(frame))
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    if lost:
        note = f"{lost} of {len(frame)} requests are left out: the probe lost their results"
        figure.supxlabel(note, x=0.01, ha="left", fontsize=8.5, color=_FAILED)
    return figure, panels


def _nothing(figure: Chart, axes: Axes) -> Chart:
    axes.set_axis_off()
    axes.text(0.5, 0.5, "no requests to show", ha="center", va="center", transform=axes.transAxes, color=_GREY)
    return figure
