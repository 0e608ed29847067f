"""Names of contexts as a chart has room for them, and in letters that its font has. Full names stand in the tables.

``gke_my-project_asia-northeast1-a_prod`` and ``arn:aws:eks:…:cluster/prod`` are ``prod`` where no other is. A
project of Google Cloud is never shown: a picture is the one place that it could not be taken out of.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

_MOST = 24
"""Signs of a name that a chart has room for beside its axis."""
_PROJECT = re.compile(r"(?:gke|connectgateway)_[^_]+_(?=.)|.*projects/[^/]+/(?=.)")
_COLUMNS = ("source", "cluster", "context", "place")
_JAPANESE = "matplotlib_fontja"
"""Package that ships the font IPAexGothic. It is found, not imported: its import changes the font of every figure."""


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Return a short form of each name, none of them twice: its last part, else both of its ends."""
    known = sorted(set(map(str, names)))
    plain = {name: _PROJECT.sub("", name, count=1) for name in known}
    tails = {name: _tail(plain[name]) if len(name) > _MOST else plain[name] for name in known}
    found: dict[str, str] = {}
    strange = [name for name in known if not _is_drawable(tails[name])]
    for name in known:
        tail = tails[name]
        short = tail if list(tails.values()).count(tail) == 1 else _cut(plain[name])
        short = f"context {strange.index(name) + 1}" if name in strange else short
        found[name] = short if short not in found.values() else f"{short[: _MOST - 4]} #{len(found)}"
    return found


def _tail(name: str) -> str:
    return _cut(re.split(r"[/:_]", name)[-1] or name)


def _cut(name: str) -> str:
    return name if len(name) <= _MOST else f"{name[:9]}…{name[-(_MOST - 10) :]}"


def shortened(*frames: pd.DataFrame) -> tuple[dict[str, str], list[pd.DataFrame]]:
    """Return the short form of every context that the frames name, and the frames with these in place of the names."""
    columns = [frame[column].dropna() for frame in frames for column in _COLUMNS if column in frame]
    names = short_names(name for column in columns for name in column.unique() if name)
    return names, [_renamed(frame, names) for frame in frames]


def _renamed(frame: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    own = {column: frame[column].map(lambda name: names.get(name, name)) for column in _COLUMNS if column in frame}
    return frame.assign(**{column: values.astype(frame[column].dtype) for column, values in own.items()})


def in_lines(text: str, names: Mapping[str, str], width: int) -> Sequence[str]:
    """Return a text with names in their short form, broken into lines of at most ``width`` signs."""
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, names[name])
    return textwrap.wrap(text, width) or [""]


def legend_columns(labels: Sequence[str], width: int) -> int:
    """Return in how many columns a legend fits into a figure that is ``width`` signs wide."""
    return max(1, min(len(labels), width // (max(map(len, labels), default=1) + 7)))


@functools.cache
def font_families() -> list[str]:
    """Return the fonts of every chart: matplotlib's own, and one with Japanese letters."""
    from matplotlib.font_manager import FontProperties, fontManager

    spec = importlib.util.find_spec(_JAPANESE)
    files = [Path(folder, "fonts", "ipaexg.ttf") for folder in (spec and spec.submodule_search_locations) or ()]
    for file in files:
        fontManager.addfont(file)
        fontManager.ttflist.append(replace(fontManager.ttflist[-1], weight="bold"))  # else each bold text is warned of
    return ["DejaVu Sans", *(FontProperties(fname=file).get_name() for file in files)]


@functools.cache
def _letters() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    files = [findfont(FontProperties(family=[name])) for name in font_families()]
    return frozenset(code for file in files for code in get_font(file).get_charmap())


def _is_drawable(text: str) -> bool:
    return all(ord(sign) in _letters() for sign in text)
