"""One outage as a picture: who answered when, and below it every phase of the way out and of the way back, with ranges.

The upper panel has one axis of time for all of it. The two lower ones enlarge what the upper one cannot show: the
seconds after the order, and the seconds after the order to come back. A bar is a range: it happened somewhere on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from meshbook import tables
from meshbook.charts.figures import BAD, GREY, INK, SHADE, Chart, Look, looks_of, looks_of_sources, nothing

WIDTH_IN = 10.0
_OUTAGE, _RESTORE = "outage", "restore"
_MOST_ERROR_MS = 1000.0
"""Requests whose time is not known better are not drawn."""
_TITLES = {_OUTAGE: "going away", _RESTORE: "coming back"}
_SERVER = Look(colour=INK, marker="d")


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """The time of the upper panel: seconds from the order."""

    zero: pd.Timestamp

    def seconds(self, moments: pd.Series[Any]) -> pd.Series[float]:
        return (moments - self.zero).dt.total_seconds()


def timeline(phases: pd.DataFrame, answers: pd.DataFrame, headline: Sequence[str] = ()) -> Figure:
    """Draw PHASES of one outage below the ANSWERS to it; ``headline`` says in a few lines what came out of it."""
    phases = tables.conform(phases, tables.PHASES)
    sent = tables.measured(tables.conform(answers, tables.ANSWERS)).dropna(subset=["time"])
    sent = sent[sent["time_error_ms"].fillna(0.0) <= _MOST_ERROR_MS]
    timed = phases.dropna(subset=["not_after"])
    sources = sorted(sent["source"].unique())
    lanes = [(source, name) for source in sources for name in _lanes(sent, source)]
    rows = max(_count(phases, _OUTAGE), _count(phases, _RESTORE))
    heights = [0.5 + 0.17 * len(lanes), 0.45 + 0.3 * max(rows, 1)]
    head = 0.4 + 0.2 * len(headline)
    figure = Chart(figsize=(WIDTH_IN, head + sum(heights) + 0.6), layout="constrained", facecolor="white")
    if timed.empty or not lanes:
        return nothing(figure, figure.subplots())
    mode, context = phases["mode"].iloc[0], phases["context"].iloc[0]
    figure.suptitle(f"{mode} at {context}", x=0.01, ha="left", fontsize=11, fontweight="bold")
    panels = figure.subplot_mosaic([["all", "all"], [_OUTAGE, _RESTORE]], height_ratios=heights)
    axis = _Axis(zero=_start(phases, _OUTAGE))
    _draw_answers(panels["all"], sent, lanes, axis)
    _draw_parts(panels["all"], timed, axis)
    panels["all"].set_title("\n".join(headline), loc="left", fontsize=9.5, linespacing=1.4)
    looks = looks_of_sources(sources)
    for part, title in _TITLES.items():
        words = f"{title}: seconds from the order to it"
        _draw_phases(panels[part], phases[phases["part"] == part], looks, words)
    handles = [_handle("API server", _SERVER), *(_handle(source, look) for source, look in looks.items())]
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles), fontsize=8.5, frameon=False)
    return figure


def _lanes(sent: pd.DataFrame, source: str) -> list[str]:
    rows = sent[sent["source"] == source]
    return [*sorted(set(tables.good(rows)["version"])), *(["failed"] if (rows["error"] != "").any() else [])]


def _count(phases: pd.DataFrame, part: str) -> int:
    return int(phases.loc[phases["part"] == part, "phase"].nunique())


def _start(phases: pd.DataFrame, part: str) -> pd.Timestamp:
    """Return the moment from which a part's seconds are counted."""
    row = phases[(phases["part"] == part) & phases["high_s"].notna()].iloc[0]
    start: pd.Timestamp = row["not_after"] - pd.Timedelta(seconds=float(row["high_s"]))
    return start


def _draw_answers(axes: Axes, sent: pd.DataFrame, lanes: Sequence[tuple[str, str]], axis: _Axis) -> None:
    looks = looks_of(sent)
    for lane, (source, name) in enumerate(lanes):
        rows = sent[sent["source"] == source]
        good = rows["error"] == ""
        mine = rows[~good] if name == "failed" else rows[good & (rows["version"] == name)]
        look = BAD if name == "failed" else looks[name]
        marker, size = ("x", 16) if name == "failed" else ("|", 42)
        axes.scatter(axis.seconds(mine["time"]), [lane] * len(mine), c=look.colour, marker=marker, s=size)
    labels = [
        f"{source}   {name}" if place == 0 or lanes[place - 1][0] != source else name
        for place, (source, name) in enumerate(lanes)
    ]
    axes.set_yticks(range(len(lanes)), labels, fontsize=8.5)
    axes.set_ylim(len(lanes) - 0.4, -1.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", labelsize=8.5)
    axes.set_xlabel("seconds from the order; each stroke is one request", fontsize=8.5)


def _draw_parts(axes: Axes, timed: pd.DataFrame, axis: _Axis) -> None:
    """Shade the two stretches that the lower panels enlarge, and say what they are."""
    spans = {part: _stretch(timed[timed["part"] == part], axis) for part in (_OUTAGE, _RESTORE)}
    for begin, end in filter(None, spans.values()):
        axes.axvspan(begin, max(end, begin + 0.02), color=SHADE, zorder=0, linewidth=0)
        axes.axvline(begin, color=GREY, linewidth=0.9, zorder=1)
    at: dict[float, list[str]] = {}
    for part, stretch in spans.items():
        if stretch:
            near = next((begin for begin in at if abs(begin - stretch[0]) < 0.5), stretch[0])
            at.setdefault(near, []).append(part)
    for begin, parts in at.items():
        told = f" {' and '.join(_TITLES[part] for part in parts)}"
        axes.text(begin, 0.985, told, transform=axes.get_xaxis_transform(), va="top", fontsize=8.5, color=INK)


def _stretch(rows: pd.DataFrame, axis: _Axis) -> tuple[float, float] | None:
    if rows.empty:
        return None
    part = str(rows["part"].iloc[0])
    return (_start(rows, part) - axis.zero).total_seconds(), float(axis.seconds(rows["not_after"]).max())


def _draw_phases(axes: Axes, rows: pd.DataFrame, looks: Mapping[str, Look], words: str) -> None:
    names = list(dict.fromkeys(rows["phase"]))
    labels = []
    for lane, name in enumerate(names):
        mine = rows[rows["phase"] == name]
        seen = mine.dropna(subset=["high_s"])
        for place, (_, row) in enumerate(seen.iterrows()):
            _draw_range(axes, lane + 0.22 * (place - (len(seen) - 1) / 2), row, looks.get(str(row["place"]), _SERVER))
        labels.append(f"{name}\n{_told(mine, seen)}")
    axes.set_yticks(range(len(names)), labels, fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    highest = float(rows["high_s"].max()) if rows["high_s"].notna().any() else 1.0
    axes.set_xlim(-0.03 * highest, 1.04 * highest)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", labelsize=8.5)
    axes.set_xlabel(words, fontsize=8.5)


def _draw_range(axes: Axes, y: float, row: Any, look: Look) -> None:
    low, high = float(row["low_s"]), float(row["high_s"])
    axes.plot([low, high], [y, y], color=look.colour, linewidth=3.2, alpha=0.55, solid_capstyle="butt")
    axes.plot([(low + high) / 2], [y], color=look.colour, marker=look.marker, markersize=4.5, linestyle="none")


def _told(mine: pd.DataFrame, seen: pd.DataFrame) -> str:
    """Return the whole range of a phase in words, over all who saw it; why not, where nobody did."""
    if seen.empty:
        return _short(str(mine["detail"].iloc[0]))
    low, high = float(seen["low_s"].min()), float(seen["high_s"].max())
    return f"{1000 * low:.0f}–{1000 * high:.0f} ms" if high < 10 else f"{low:.1f}–{high:.1f} s"


def _short(text: str) -> str:
    return text if len(text) <= 34 else text[:33] + "…"


def _handle(name: str, look: Look) -> Line2D:
    return Line2D([], [], color=look.colour, marker=look.marker, linewidth=3, alpha=0.8, label=name)
