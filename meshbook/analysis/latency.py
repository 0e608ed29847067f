"""How long a service takes to answer while it is there, out of its own answers: pure.

Two questions that look alike. What is slow enough to be looked at (``prompt_of``) may be generous: it only decides
which requests belong to a window. What a service surely takes at most (``margin_of``) is as tight as its calm answers
allow: each end of a window's least length is unsure by that much.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from meshbook import tables
from meshbook.analysis.bounds import Gap, Request

_PROMPT_FLOOR_S = 0.06
_PROMPT_TIMES = 5.0
_MARGIN_FLOOR_S = 0.01
"""Seconds that any machine may take to get to a process that was waiting."""
_MARGIN_SHARE = 0.99
_MARGIN_TIMES = 1.5
_CALM = 50
"""Answers below which the slowest of them says little about the next one."""


def prompt_of(rows: pd.DataFrame) -> float:
    """Return the seconds within which this service answers when nothing is wrong: five times what is usual.

    The version that usually takes longest counts, since one side may be further away; its median, since an outage makes
    many answers late, but not half of them.
    """
    usual = tables.good(rows).groupby("version")["time_total_ms"].median().max()
    return max(_PROMPT_FLOOR_S, 0.0 if pd.isna(usual) else _PROMPT_TIMES * float(usual) / 1000)


def margin_of(requests: Sequence[Request], disturbed: Iterable[Gap], prompt: float) -> float:
    """Return the seconds within which it surely answers: half as much again as what 99 in 100 calm answers take.

    The slowest one in a hundred is left out, since a pause too short for a window would make all ranges wider. Never
    more than ``prompt``, and just that where there are too few calm answers to know better. Calm is what was sent
    outside of ``disturbed``, stretches in the order of their begins.
    """
    calm = sorted(request.end - request.sent for request in _outside(requests, disturbed) if request.good)
    if len(calm) < _CALM:
        return prompt
    return min(prompt, max(_MARGIN_FLOOR_S, _MARGIN_TIMES * calm[int(_MARGIN_SHARE * len(calm))]))


def _outside(requests: Sequence[Request], disturbed: Iterable[Gap]) -> Iterable[Request]:
    rest = iter(disturbed)
    now = next(rest, None)
    for request in requests:
        while now is not None and request.sent > now.end:
            now = next(rest, None)
        if now is None or request.sent < now.start:
            yield request
