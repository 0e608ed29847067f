"""What all charts share: a figure without pyplot, the styles of clusters and sources, axes without clutter.

Colours are Okabe and Ito's, distinct in all kinds of colour blindness; each cluster has a marker of its own as well,
and what is not good is always named in words.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager
from matplotlib.text import Text
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from meshbook.language import LANGUAGES, of_reader, translate

FAILED, INK, GREY, GRID, SHADE = "#A3231A", "#222222", "#767676", "#DDDDDD", "#E9E4DC"
MOST_DRAWN = 1_000
"""Requests of one line or lane that are drawn one by one: a chart is about as many pixels wide on a screen, and more
would lie on top of each other."""
_LABEL_SIGNS = 58
"""Signs of a line beside an axis."""
_FOOT_SIGNS = 115
"""Signs of a line below a wide figure."""
_DPI = 200
_SCREEN_DPI = 100
_COLOURS = 128
_JAPANESE = "matplotlib_fontja"
"""Package that ships the font IPAexGothic. It is found, not imported: its import changes the font of every figure."""


class Chart(Figure):
    """A figure that shows itself in a notebook as a sharp PNG, whether pyplot is loaded or not."""

    def __init__(self, title: str, width_in: float, height_in: float) -> None:
        super().__init__(figsize=(width_in, height_in), layout="constrained", facecolor="white")
        if title:
            self.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        drawn, buffer = io.BytesIO(), io.BytesIO()
        self._translate()
        for text in self.findobj(Text):
            text.set_fontfamily(_font_families())
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from")  # of a name with an emoji, say: a box is drawn
            self.savefig(drawn, format="png", dpi=_DPI)
        with Image.open(drawn) as picture:  # a third of the bytes; all of a chart's few colours, rare ones too
            small = picture.convert("RGB").quantize(_COLOURS, Image.Quantize.MAXCOVERAGE)
            small.save(buffer, format="png", optimize=True, pnginfo=self._description())
        width, height = (round(side * _SCREEN_DPI) for side in self.get_size_inches())
        return buffer.getvalue(), {"width": width, "height": height}

    def _translate(self) -> None:
        """Put what stands in the figure into the reader's language. An axis is told its words: it writes them."""
        if of_reader() == LANGUAGES[0]:
            return
        every: Iterable[Any] = self.findobj(lambda artist: hasattr(artist, "yaxis"))  # a secondary axis is no Axes
        for axes in every:
            for axis in (axes.xaxis, axes.yaxis):
                labels = [label.get_text() for label in axis.get_majorticklabels()]
                said = [translate(label) for label in labels]
                if said != labels:
                    axis.set_ticks(axis.get_majorticklocs(), said)
        for text in self.findobj(Text):
            text.set_text(translate(text.get_text()))

    def _description(self) -> PngInfo:
        """Return what the picture's words are, in itself: whoever redacts a run, or reads it aloud, sees no pixels.

        A name that is broken in two lines stands there in one as well.
        """
        words = [text.get_text() for text in self.findobj(Text)]
        every = dict.fromkeys(text.replace("\n", between) for text in words for between in ("\n", "", " "))
        found = PngInfo()
        found.add_itxt("Description", "\n".join(filter(None, every)), zip=True)
        return found


@dataclass(frozen=True, kw_only=True)
class Style:
    """How one cluster or source is drawn, the same in every chart of a frame."""

    colour: str
    marker: str
    dashes: str | tuple[int, tuple[float, ...]] = "-"


_STYLES = (
    Style(colour="#0072B2", marker="o"),
    Style(colour="#D98200", marker="s", dashes=(0, (5, 1.5))),
    Style(colour="#009E73", marker="^", dashes=(0, (1, 1))),
    Style(colour="#CC79A7", marker="D", dashes=(0, (6, 1, 1, 1))),
    Style(colour="#56B4E9", marker="v", dashes=(0, (2, 2))),
)
BAD = Style(colour=FAILED, marker="x")
LATE = Style(colour="#6A3D9A", marker="+")


@functools.cache
def _font_families() -> list[str]:
    """Return the fonts of every chart: matplotlib's own, and one with Japanese letters."""
    spec = importlib.util.find_spec(_JAPANESE)
    files = [Path(folder, "fonts", "ipaexg.ttf") for folder in (spec and spec.submodule_search_locations) or ()]
    for file in files:
        fontManager.addfont(file)
        fontManager.ttflist.append(replace(fontManager.ttflist[-1], weight="bold"))  # else each bold text is warned of
    return ["DejaVu Sans", *(FontProperties(fname=file).get_name() for file in files)]


def styles_of_answerers(answers: pd.DataFrame, clusters: Iterable[str] = ()) -> dict[str, Style]:
    """Return a style for each of those who gave a good answer: the column ``who``, as ``tables.by_whom`` names them.

    By their position among ``clusters``, else among the sources: a frame has these in the order of the fleet.
    """
    told = answers.loc[answers["error"] == "", ["cluster", "who"]].drop_duplicates("who").sort_values("who")
    names = dict(zip(told["who"], told["cluster"].where(told["cluster"] != "", told["who"]), strict=True))
    sources = [source for source in answers["source"].unique() if source in names.values()]
    places = list(dict.fromkeys([*clusters, *sources, *names.values()]))
    ordered = sorted(names, key=lambda who: places.index(names[who]))
    return {who: _STYLES[places.index(names[who]) % len(_STYLES)] for who in ordered}


def styles_of_sources(sources: Sequence[str]) -> dict[str, Style]:
    """Return other styles than those of the first two clusters."""
    return {source: _STYLES[(number + 2) % len(_STYLES)] for number, source in enumerate(sources)}


def label_of(source: str, name: str) -> str:
    """Return the label of the first row of a source: in two lines where one would leave no room for the rows."""
    between = "   " if len(source) + len(name) <= _LABEL_SIGNS else "\n"
    return f"{source}{between}{name}"


def plain(axes: Axes, xlabel: str = "", *, size: float = 8.5, grid: bool = False) -> None:
    """Take the frame's clutter away and name what runs along x."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=size, colors=INK)
    axes.set_xlabel(xlabel, fontsize=size)
    if grid:
        axes.grid(axis="x", color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)


def in_signs(letters: int) -> int:
    """Return how many signs of the reader's language have room where as many ``letters`` have."""
    return letters if of_reader() == LANGUAGES[0] else letters * 5 // 9


def legend_columns(labels: Sequence[str], width: int) -> int:
    """Return in how many columns a legend fits into a figure that is ``width`` signs wide."""
    return max(1, min(len(labels), width // (max(map(len, labels), default=1) + 7)))


def legend_below(figure: Figure, handles: Sequence[Artist]) -> None:
    """Name lines and marks at the foot of a wide figure."""
    columns = legend_columns([str(one.get_label()) for one in handles], _FOOT_SIGNS)
    figure.legend(handles=handles, loc="outside lower left", ncols=columns, fontsize=8.5, frameon=False)


def nothing(figure: Chart, axes: Axes) -> Chart:
    axes.set_axis_off()
    axes.text(0.5, 0.5, "no requests to show", ha="center", va="center", transform=axes.transAxes, color=GREY)
    return figure
