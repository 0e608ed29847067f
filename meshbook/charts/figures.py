"""What all charts share: a figure without pyplot, the looks of versions, panels one above the other, words beside them.

Colours are Okabe and Ito's, distinct in all kinds of colour blindness; each version has a marker of its own as well,
and what is not good is always named in words.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from meshbook import tables

WIDTH_IN = 7.0
_DPI = 200
_SCREEN_DPI = 100

FAILED, INK, GREY, SHADE = "#A3231A", "#222222", "#767676", "#E9E4DC"


class Chart(Figure):
    """A figure that shows itself in a notebook as a sharp PNG, whether pyplot is loaded or not."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=_DPI)
        width, height = (round(side * _SCREEN_DPI) for side in self.get_size_inches())
        return buffer.getvalue(), {"width": width, "height": height}


@dataclass(frozen=True, kw_only=True)
class Look:
    """How one version is drawn, the same in every chart of a frame."""

    colour: str
    marker: str
    dashes: str | tuple[int, tuple[float, ...]] = "-"


STYLES = (
    Look(colour="#0072B2", marker="o"),
    Look(colour="#D98200", marker="s", dashes=(0, (5, 1.5))),
    Look(colour="#009E73", marker="^", dashes=(0, (1, 1))),
    Look(colour="#CC79A7", marker="D", dashes=(0, (6, 1, 1, 1))),
    Look(colour="#56B4E9", marker="v", dashes=(0, (2, 2))),
)
BAD = Look(colour=FAILED, marker="x")


def looks_of(answers: pd.DataFrame) -> dict[str, Look]:
    versions = sorted(set(tables.good(answers)["version"]))
    return {version: STYLES[number % len(STYLES)] for number, version in enumerate(versions)}


def looks_of_sources(sources: Sequence[str]) -> dict[str, Look]:
    """Return looks of those who asked, other ones than those of the first two versions."""
    styles = (*STYLES[2:], *STYLES[:2])
    return {source: styles[number % len(styles)] for number, source in enumerate(sources)}


def beside(axes: Axes, y: float, text: str) -> None:
    """Write ``text`` to the right of the panel."""
    axes.text(1.015, y, text, transform=axes.get_yaxis_transform(), va="center_baseline", fontsize=9, color=INK)


def several_panels(title: str, frame: pd.DataFrame, *, rows: int, count: int) -> tuple[Chart, list[Axes]]:
    """Return a figure with ``count`` panels one above the other, each high enough for ``rows`` lanes."""
    count = max(1, count)
    height = 1.1 + count * (0.45 + 0.32 * max(2, rows))
    figure = Chart(figsize=(WIDTH_IN, height), layout="constrained", facecolor="white")
    panels = list(figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0])
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9, colors=INK)
        axes.xaxis.label.set_size(9)
    lost = len(frame) - len(tables.measured(frame))
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    if lost:
        note = f"{lost} of {len(frame)} requests are left out: the probe lost their results"
        figure.supxlabel(note, x=0.01, ha="left", fontsize=8.5, color=FAILED)
    return figure, panels


def one_panel(title: str, frame: pd.DataFrame, *, rows: int) -> tuple[Chart, Axes]:
    figure, panels = several_panels(title, frame, rows=rows, count=1)
    return figure, panels[0]


def nothing(figure: Chart, axes: Axes) -> Chart:
    axes.set_axis_off()
    axes.text(0.5, 0.5, "no requests to show", ha="center", va="center", transform=axes.transAxes, color=GREY)
    return figure
