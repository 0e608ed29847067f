"""What requests prove about a service: moments at which it was there, and stretches in which it may have been down.

A good answer to a request sent at ``s`` that arrived at ``e`` proves that the service was there at some moment between
the two: no outage holds all of it. So the longest outage that can begin after a good request was sent ends, at the
latest, when the first good answer to any later request arrives. That holds for slow answers as for prompt ones: those
that a frozen service gives when it wakes up all arrive at its awakening, and prove nothing about the time before.

A bad answer proves the contrary for one moment between its own two ends, and a request without an answer for one soon
after it was sent. That it waited long proves no more: a packet that was lost is sent again much later, and a sender
that stood still itself sees everything late. A good answer that was slow is proof only where others, sent at other
times, waited for the same moment.

Frames here have a row for each request or gap, times as Unix times and lengths in seconds, and no missing values:

- requests, of one source and path in the order of their sending: ``sent`` and ``end`` (answered or given up), in truth
  both up to ``early`` before or ``late`` after that; ``good``; ``hung`` (no answer at all, as from a frozen service;
  the others without a good one were turned away).
- gaps, stretches that the service may have been down for: not before ``start``, not after ``end`` (infinite: not seen),
  which is when the first good answer after it arrived at the latest; ``answered`` is when it did at the earliest.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pandas as pd

from meshbook import tables

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]

_PROMPT_FLOOR_S = 0.06
_PROMPT_TIMES = 5.0
_MARGIN_FLOOR_S = 0.01
"""Seconds that any machine may take to get to a process that was waiting."""
_MARGIN_SHARE = 0.99
_MARGIN_TIMES = 1.5
_CALM = 50
"""Answers below which the slowest of them says little about the next one."""
_MOST_PAIRS = 1_000_000
"""Requests, of all gaps together, that are looked at side by side: some 100 MB."""


def requests_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the requests of one source and path in the order of their sending; rows without a result are left out."""
    rows = tables.measured(rows).dropna(subset=["time"]).sort_values("time", kind="stable")
    sent = tables.unix_s(rows["time"])
    early, late = (errors.to_numpy() / 1000 for errors in tables.stamp_errors_ms(rows))
    return pd.DataFrame(
        {
            "sent": sent,
            "end": sent + rows["time_total_ms"].fillna(0.0).to_numpy() / 1000,
            "early": early,
            "late": late,
            "good": (rows["error"] == "").to_numpy(dtype=bool),
            "hung": (rows["error"] == "timeout").to_numpy(dtype=bool),
        }
    )


def gaps_of(requests: pd.DataFrame) -> pd.DataFrame:
    """Return, for the time before the first good request and after each, the longest outage that could have been."""
    good = requests[requests["good"]]
    return pd.DataFrame(
        {
            "start": np.append(-math.inf, good["sent"] - good["early"]),
            "end": _first_answers(good["end"] + good["late"]),
            "answered": _first_answers(good["end"] - good["early"]),
        }
    )


def _first_answers(answered: pd.Series[float]) -> Floats:
    return np.append(np.minimum.accumulate(answered.to_numpy()[::-1])[::-1], math.inf)


def ranges(starts: Places, stops: Places) -> tuple[Places, Places]:
    """Return the places from each start to its stop, one range after the other, and the number of the range of each."""
    sizes = stops - starts
    number = np.repeat(np.arange(len(sizes)), sizes)
    return np.arange(len(number)) - np.repeat(np.cumsum(sizes) - sizes - starts, sizes), number


def proved(requests: pd.DataFrame, gaps: pd.DataFrame, margin: float) -> tuple[Floats, Floats]:
    """Return, for each gap, when a service that answers in ``margin`` s was down by, and until when; NaN: no proof.

    What the requests sent within a gap prove together. A refusal proves one moment, however long it took to get here;
    and where others were refused, a good answer that was slow proves nothing.
    """
    sent = requests["sent"].to_numpy()
    first = np.searchsorted(sent, gaps["start"].to_numpy(), "left")
    stop = np.searchsorted(sent, gaps["end"].to_numpy(), "right")
    down_by, down_until = np.full((2, len(gaps)), np.nan)
    asked = np.flatnonzero(stop > first)
    # a part of them at a time, which bounds the memory: where many hung together, each gap holds most of them
    parts = np.cumsum((stop - first)[asked]) // _MOST_PAIRS
    for some in np.split(asked, np.flatnonzero(np.diff(parts)) + 1) if len(asked) else ():
        places, gap = ranges(first[some], stop[some])
        answered = gaps["answered"].to_numpy()[some]
        down_by[some], down_until[some] = _proved(requests.take(places), gap, answered, margin)
    return down_by, down_until


def _proved(inside: pd.DataFrame, gap: Places, answered: Floats, margin: float) -> tuple[Floats, Floats]:
    """Prove what the requests ``inside`` each ``gap`` do: its number of each, in order, and none without requests."""
    within = _Groups(gap)
    sent, end, early, late = (inside[name].to_numpy() for name in ("sent", "end", "early", "late"))
    good, refused = inside["good"].to_numpy(), (~inside["good"] & ~inside["hung"]).to_numpy()
    bad = ~good & (sent - early <= answered[gap])
    turned_away = within.any(bad & refused)
    telling = bad | (_let_go_together(inside, within, answered, margin) & ~turned_away[gap])
    at_least = np.where(refused, end, np.minimum(end, sent + margin)) + late
    down_by, down_until = within.least(at_least, telling), within.most(sent - early, telling)
    proof = within.any(telling)
    return np.where(proof, down_by, np.nan), np.where(proof, down_until, np.nan)


def _let_go_together(inside: pd.DataFrame, within: _Groups, answered: Floats, margin: float) -> Flags:
    """Return which have a good answer and waited for the end of their gap: sent apart, answered together.

    Requests that are slow each for its own reason, or whose packets are sent again, end as far apart as they were sent;
    those that a sender has on its way when it stands still were sent within ``margin``. A service that is back takes a
    while to answer all who wait, and may take as long for the first: so the last to be sent prove nothing.
    """
    gap = within.number
    sent, end, early, late = (inside[name].to_numpy() for name in ("sent", "end", "early", "late"))
    back = answered[gap]
    waited: Flags = inside["good"].to_numpy() & (end + late >= back) & (sent - early + margin < back)
    if not waited.any():
        return waited
    first, vague = within.least(sent, waited)[gap], within.most(early + late, waited)[gap]
    together = waited & (end - back <= margin / 2 + (sent - first) / 3 + vague)
    herd = (within.most(end, together) - within.least(end, together))[gap]
    surely = together & (sent - early + margin + herd < back)
    place = np.arange(len(sent), dtype=np.float64)
    ends = [pick(place, surely) for pick in (within.least, within.most)]
    begun, last = (np.where(np.isfinite(each), each, 0).astype(np.intp) for each in ends)
    apart = sent[last] - early[last] > sent[begun] + late[begun] + margin
    told: Flags = surely & apart[gap]
    return told


class _Groups:
    """Values that stand in groups, one after the other and none empty; ``number`` is the group of each, from 0."""

    def __init__(self, number: Places) -> None:
        self.number = number
        self._starts = np.flatnonzero(np.diff(number, prepend=-1))

    def least(self, values: Floats, where: Flags) -> Floats:
        """Return the least value of each group, of those that count; infinite where none does."""
        found: Floats = np.minimum.reduceat(np.where(where, values, math.inf), self._starts)
        return found

    def most(self, values: Floats, where: Flags) -> Floats:
        """Return the greatest value of each group; minus infinity where none counts."""
        return -self.least(-values, where)

    def any(self, where: Flags) -> Flags:
        found: Flags = np.logical_or.reduceat(where, self._starts)
        return found


def prompt_of(rows: pd.DataFrame) -> float:
    """Return the seconds within which this service answers when nothing is wrong: five times what is usual.

    May be generous, since it only decides which requests are looked at. The side that usually takes longest counts,
    since one may be further away; its median, since an outage makes many answers late, but not half of them.
    """
    usual = tables.good(rows).groupby(["cluster", "version"])["time_total_ms"].median().max()
    return max(_PROMPT_FLOOR_S, 0.0 if pd.isna(usual) else _PROMPT_TIMES * float(usual) / 1000)


def margin_of(requests: pd.DataFrame, disturbed: pd.DataFrame, prompt: float) -> float:
    """Return the seconds within which it surely answers: half as much again as what 99 in 100 calm answers take.

    As tight as they allow, since each end of an outage's least length is unsure by that much. The slowest one in a
    hundred is left out: a pause too short for a window would make all ranges wider. Never more than ``prompt``, and
    just that where there are too few calm answers to know better. Calm is what was sent outside of ``disturbed``,
    stretches with ``start`` and ``end`` in the order of their ends.
    """
    next_one = np.searchsorted(disturbed["end"].to_numpy(), requests["sent"].to_numpy(), "left")
    starts = np.append(disturbed["start"].to_numpy(), math.inf)
    calm = requests[requests["good"] & (requests["sent"] < starts[next_one])]
    if len(calm) < _CALM:
        return prompt
    place = int(_MARGIN_SHARE * len(calm))
    slowest = np.partition((calm["end"] - calm["sent"]).to_numpy(), place)[place]
    return min(prompt, max(_MARGIN_FLOOR_S, _MARGIN_TIMES * float(slowest)))
