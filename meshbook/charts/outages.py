"""Outages as figures: one trial phase by phase, and how long a service was unavailable in all of them.

A bar is a range: in a timeline it happened somewhere on it, in a downtime chart it was at least and at most so long.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from meshbook import tables
from meshbook.analysis import OUTAGE, RESTORE
from meshbook.charts.figures import (
    BAD,
    FAILED,
    GREY,
    INK,
    LATE,
    MOST_DRAWN,
    SHADE,
    Chart,
    Style,
    in_signs,
    label_of,
    legend_below,
    nothing,
    plain,
    styles_of_answerers,
    styles_of_sources,
)
from meshbook.language import translate

Lanes = Mapping[tuple[str, str], "pd.Series[Any]"]
"""By source and kind of request, when they were sent."""

_PARTS = (OUTAGE, RESTORE)
_SERVER = Style(colour=INK, marker="d")
_MOST_ERROR_MS = 1000.0
"""Requests whose time is not known better are not drawn."""
_BINS = 400
"""Stretches of time that a crowded panel is cut into: two pixels of a screen each."""
_WORD = 0.07
"""Share of a panel's width that a word takes."""
_DRAWN = ["time", "source", "version", "cluster", "error", "time_total_ms", "time_error_ms"]
_LINEAR_MS = 100.0
_TICKS_MS = (0, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000, 300_000)
_HEADLINE_CHARS = 115
"""Signs of a line above the upper panel, which is as wide as the figure less its names."""
_BAR, _BAR_IN = 0.16, 0.15
_HOLLOW: dict[str, Any] = {"marker": "<", "markerfacecolor": "white", "markersize": 6, "linestyle": "none"}
_WRONG = {"late": LATE, "failed": BAD}
"""What a request may be instead of answered promptly."""

# ---- one trial


def timeline(
    phases: pd.DataFrame, answers: pd.DataFrame, headline: Sequence[str] = (), slow_after_s: float = 1.0
) -> Figure:
    """Draw PHASES of one trial below the ANSWERS to it; ``headline`` says in a few lines what came out of it.

    Good answers after ``slow_after_s`` are late and have a lane of their own, as failed requests have.

    The upper panel has one axis of time for all of it. The two lower ones enlarge what it cannot show: the seconds
    after the request to scale down, and the seconds after the restore request.
    """
    phases, sent = tables.conform(phases, tables.PHASES), tables.conform(answers, tables.ANSWERS)[_DRAWN]
    said = [translate(text) for text in headline]
    headline = [line for text in said for line in _Lines(in_signs(_HEADLINE_CHARS)).wrap(text)]
    sent = tables.measured(sent[sent["time"].notna() & (sent["time_error_ms"].fillna(0.0) <= _MOST_ERROR_MS)])
    sent = sent.assign(who=tables.by_whom(sent))
    lanes = _lanes(sent, slow_after_s)
    sources = list(dict.fromkeys(source for source, _ in lanes))
    rows = max(phases.loc[phases["part"] == part, "phase"].nunique() for part in _PARTS)
    heights = [0.5 + 0.17 * len(lanes), 0.45 + 0.3 * max(rows, 1)]
    title = f"{phases['mode'].iloc[0]} at {phases['context'].iloc[0]}" if len(phases) else ""
    figure = Chart(title, 10.0, 1.0 + 0.2 * len(headline) + sum(heights))
    if phases["not_after"].isna().all() or not lanes:
        return nothing(figure, figure.subplots())
    panels = figure.subplot_mosaic([["all", "all"], list(_PARTS)], height_ratios=heights)
    zero = _requested(phases, OUTAGE)
    _draw_answers(panels["all"], lanes, {**styles_of_answerers(sent), **_WRONG}, zero)
    _shade_parts(panels["all"], phases, zero)
    panels["all"].set_title("\n".join(headline), loc="left", fontsize=9.5, linespacing=1.4)
    styles = styles_of_sources(sources)
    for part in _PARTS:
        _draw_phases(panels[part], phases[phases["part"] == part], styles, f"{part}: seconds since it was requested")
    handles = [
        Line2D([], [], color=style.colour, marker=style.marker, linewidth=3, alpha=0.8, label=name)
        for name, style in {"API server": _SERVER, **styles}.items()
    ]
    legend_below(figure, handles)
    return figure


class _Lines(textwrap.TextWrapper):
    """Lines that begin between words, but never between a number and its unit, and in Japanese after a clause."""

    wordsep_re = re.compile(r"((?<!\d) +|(?<=、))")


def _lanes(sent: pd.DataFrame, slow_after_s: float) -> Lanes:
    """Return when each source sent the requests of each kind: the cluster that answered promptly, late or failed."""
    kinds = sent["who"].where(sent["time_total_ms"].astype("float64") <= 1000 * slow_after_s, "late")
    kinds = kinds.where(sent["error"] == "", "failed")
    found = {(str(source), str(kind)): some for (source, kind), some in sent["time"].groupby([sent["source"], kinds])}
    sources, names = list(sent["source"].unique()), [*styles_of_answerers(sent), *_WRONG]
    order = sorted(found, key=lambda lane: (sources.index(lane[0]), names.index(lane[1])))
    return {lane: found[lane] for lane in order}


def _requested(phases: pd.DataFrame, part: str) -> pd.Timestamp:
    """Return the moment from which a part's seconds are counted."""
    row = phases[(phases["part"] == part) & phases["high_s"].notna()].iloc[0]
    moment: pd.Timestamp = row["not_after"] - pd.Timedelta(seconds=float(row["high_s"]))
    return moment


def _draw_answers(axes: Axes, lanes: Lanes, styles: Mapping[str, Style], zero: pd.Timestamp) -> None:
    """Draw a tick for each request; where a lane has too many for that, a bar for all those of a short while."""
    seconds = [(times - zero).dt.total_seconds() for times in lanes.values()]
    begin, end = min(some.min() for some in seconds), max(some.max() for some in seconds)
    crowded = max(map(len, seconds)) > MOST_DRAWN
    sources, labels = [source for source, _ in lanes], []
    for lane, ((source, name), some) in enumerate(zip(lanes, seconds, strict=True)):
        style = styles[name]
        drawn = _draw_bars(axes, lane, _binned(some, begin, end), style.colour) if crowded else some
        marker, size = (style.marker, 16) if name in _WRONG else ("|", 42)
        if name in _WRONG or not crowded:
            axes.scatter(drawn, [lane] * len(drawn), c=style.colour, marker=marker, s=size)
        words = f"{name} ({len(some)})" if crowded else name
        labels.append(words if source in sources[:lane] else label_of(source, words))
    axes.set_yticks(range(len(lanes)), labels)
    axes.set_ylim(len(lanes) - 0.4, -1.5)
    bar = f"a bar is {(end - begin) / _BINS:.2g} s, the higher the more requests"
    plain(axes, f"seconds since the outage was requested; {bar if crowded else 'each tick is one HTTP request'}")


def _binned(seconds: pd.Series[float], begin: float, end: float) -> pd.DataFrame:
    """Return ``min``, ``max`` and ``count`` of each of ``_BINS`` equal stretches of time that holds any."""
    bins = ((seconds - begin) / (end - begin or 1.0) * _BINS).clip(upper=_BINS - 1).astype("int64")
    return seconds.groupby(bins).agg(["min", "max", "count"])


def _draw_bars(axes: Axes, lane: int, found: pd.DataFrame, colour: str) -> pd.Series[float]:
    """Draw each bin from its first request to its last, the one with the most the highest; return where they begin."""
    half = 0.1 + 0.3 * found["count"] / found["count"].max()
    corners = (("min", -1), ("max", -1), ("max", 1), ("min", 1))
    bars = np.stack([np.stack([found[x], lane + side * half], axis=1) for x, side in corners], axis=1)
    axes.add_collection(PolyCollection(list(bars), facecolors=colour, edgecolors=colour, linewidths=0.8))
    return found["min"]


def _shade_parts(axes: Axes, phases: pd.DataFrame, zero: pd.Timestamp) -> None:
    """Shade the two stretches that the lower panels enlarge, and say what they are."""
    labels: dict[float, list[str]] = {}
    left, right = axes.get_xlim()
    for part in _PARTS:
        ends = phases.loc[phases["part"] == part, "not_after"].dropna()
        if ends.empty:
            continue
        begin = (_requested(phases, part) - zero).total_seconds()
        end = (ends.max() - zero).total_seconds()
        axes.axvspan(begin, max(end, begin + 0.02), color=SHADE, zorder=0, linewidth=0)
        axes.axvline(begin, color=GREY, linewidth=0.9, zorder=1)
        near = (at for at in labels if abs(at - begin) < _WORD * (right - left))
        labels.setdefault(next(near, begin), []).append(part)
    for begin, parts in labels.items():
        words = f" {' and '.join(parts)}"
        axes.text(begin, 0.985, words, transform=axes.get_xaxis_transform(), va="top", fontsize=8.5, color=INK)


def _draw_phases(axes: Axes, rows: pd.DataFrame, styles: Mapping[str, Style], words: str) -> None:
    labels = []
    for lane, (name, mine) in enumerate(rows.groupby("phase", sort=False)):
        seen = mine.dropna(subset=["high_s"])
        for place, (_, row) in enumerate(seen.iterrows()):
            y, style = lane + 0.22 * (place - (len(seen) - 1) / 2), styles.get(str(row["place"]), _SERVER)
            low, high = float(row["low_s"]), float(row["high_s"])
            axes.plot([low, high], [y, y], color=style.colour, linewidth=3.2, alpha=0.55, solid_capstyle="butt")
            axes.plot([(low + high) / 2], [y], color=style.colour, marker=style.marker, markersize=4.5)
        labels.append(f"{name}\n{_range_in_words(mine, seen)}")
    highest = float(rows["high_s"].max()) if rows["high_s"].notna().any() else 1.0
    axes.set_xlim(-0.03 * highest, 1.04 * highest)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    plain(axes, words, grid=True)


def _range_in_words(mine: pd.DataFrame, seen: pd.DataFrame) -> str:
    """Return the whole range of a phase, over all who saw it; why there is none, where nobody did."""
    if seen.empty:
        why = translate(str(mine["detail"].iloc[0]))
        return why if len(why) <= 34 else why[:33] + "…"
    low, high = float(seen["low_s"].min()), float(seen["high_s"].max())
    return f"{1000 * low:.0f}–{1000 * high:.0f} ms" if high < 10 else f"{low:.1f}–{high:.1f} s"


# ---- all trials


def downtime_by_step(trials: pd.DataFrame, limit_s: float | None = None) -> Figure:
    """Draw TRIALS: a row for each failure mode and cluster, a bar for each trial and source; ``limit_s`` is a line.

    A bar goes from the least to the most time unavailable. Where nothing was seen there is a hollow mark at the
    detection limit instead. A thin line goes on to the last failure where good answers lay in between (degraded). The
    scale is logarithmic above 100 ms, so that short ones still show.
    """
    trials = tables.conform(trials, tables.TRIALS)
    groups = [(key, rows) for key, rows in trials.groupby(["mode", "context"], sort=False)]
    height = 1.5 + sum(0.22 + _BAR_IN * len(rows) for _, rows in groups)
    known = trials.dropna(subset=["low_ms"])
    figure = Chart("" if known.empty else "How long clients were without the service", 9.0, height)
    axes = figure.subplots()
    if known.empty:
        return nothing(figure, axes)
    ends = known[["low_ms", "high_ms", "degraded_high_ms"]].max().dropna()
    top = 1.15 * max(_LINEAR_MS, float(ends.max()))
    styles = styles_of_sources(list(trials["source"].unique()))
    ticks, y = [], 0.0
    for number, ((mode, context), rows) in enumerate(groups):
        begin = y
        for _, row in rows.sort_values("source", key=lambda names: names.map([*styles].index)).iterrows():
            _draw_trial(axes, y, row, styles[str(row["source"])], top)
            y += _BAR
        ticks.append(((begin + y - _BAR) / 2, f"{mode}\nat {context}"))
        if number % 2:
            axes.axhspan(begin - _BAR, y, color=SHADE, zorder=0, linewidth=0)
        y += _BAR
    axes.set_yticks([at for at, _ in ticks], [label for _, label in ticks])
    axes.set_ylim(y, -1.6 * _BAR)
    _scale(axes, top)
    if limit_s is not None and 1000 * limit_s < top:
        axes.axvline(1000 * limit_s, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
        axes.text(1000 * limit_s, -1.2 * _BAR, " limit", color=GREY, fontsize=8.5, va="bottom")
    seen = ((f"seen by {source}", style.colour) for source, style in styles.items())
    handles = [Line2D([], [], color=colour, linewidth=5, label=label) for label, colour in seen]
    hollow = Line2D([], [], color=INK, **_HOLLOW, label="hollow: none seen; stands at the detection limit")
    legend_below(figure, [*handles, hollow])
    return figure


def _draw_trial(axes: Axes, y: float, row: Any, style: Style, top: float) -> None:
    seen, open_end = int(row["windows"]) > 0, bool(pd.isna(row["high_ms"]))
    unknown = "its requests were lost" if pd.isna(row["low_ms"]) else ""
    unknown = unknown or ("did not watch from before to after" if open_end and not seen else "")
    if unknown:
        axes.text(2, y, f"not known: {unknown}", fontsize=7, va="center", color=GREY)
        return
    low, high = float(row["low_ms"]), top if open_end else float(row["high_ms"])
    if seen:
        axes.barh(y, high - low, left=low, height=0.62 * _BAR, color=style.colour, zorder=2)
    else:
        axes.plot([high], [y], color=style.colour, **_HOLLOW)
    if not pd.isna(row["degraded_high_ms"]):
        axes.plot([high, max(high, float(row["degraded_high_ms"]))], [y, y], color=style.colour, linewidth=1.1)
        high = max(high, float(row["degraded_high_ms"]))
    counts = {kind: int(row[kind]) for kind in reversed(_WRONG) if not pd.isna(row[kind])}
    if told := [f"{count} of {row['sent']} {kind}" for kind, count in counts.items() if count]:
        words = f"{' ' if seen else '   '}{' and '.join(told)}" + (", end not seen" if open_end else "")
        colour = FAILED if int(row["failed"]) else LATE.colour
        axes.text(high, y, words, fontsize=7, va="center", color=colour, clip_on=False)


def _scale(axes: Axes, top: float) -> None:
    axes.set_xscale("symlog", linthresh=_LINEAR_MS, linscale=0.9)
    axes.set_xlim(0, top * 1.6)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in _TICKS_MS if tick <= top * 1.6]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:g} ms" if ms < 1000 else f"{ms / 1000:g} s"))
    plain(axes, "time unavailable, from at least to at most (logarithmic above 100 ms)", size=9, grid=True)
