"""What requests prove about a service: moments at which it was there, and stretches in which it may have been down.

A good answer to a request sent at ``s`` that arrived at ``e`` proves that the service was there at some moment between
the two: no outage holds all of it. So the longest outage that can begin after a good request was sent ends, at the
latest, when the first good answer to any later request arrives. That holds for slow answers as for prompt ones: those
that a frozen service gives when it wakes up all arrive at its awakening, and prove nothing about the time before.

A bad answer proves the contrary for one moment between its own two ends, and a request without an answer for one soon
after it was sent. That it waited long proves no more: a packet that was lost is sent again much later, and a sender
that stood still itself sees everything late. A good answer that was slow is proof only where others, sent at other
times, waited for the same moment.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import pandas as pd

from meshbook import tables

_PROMPT_FLOOR_S = 0.06
_PROMPT_TIMES = 5.0
_MARGIN_FLOOR_S = 0.01
"""Seconds that any machine may take to get to a process that was waiting."""
_MARGIN_SHARE = 0.99
_MARGIN_TIMES = 1.5
_CALM = 50
"""Answers below which the slowest of them says little about the next one."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request with a result: sent at ``sent``, answered or given up at ``end``; Unix times.

    In truth both were up to ``early`` s before, or up to ``late`` s after that.
    """

    sent: float
    end: float
    good: bool
    early: float = 0.0
    late: float = 0.0
    hung: bool = False
    """It got no answer at all, as from a frozen service; the others without a good one were turned away."""

    @property
    def is_refusal(self) -> bool:
        return not self.good and not self.hung


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A stretch that a service may have been down for: not before ``start``, not after ``end`` (infinite: not seen)."""

    start: float
    end: float
    answered: float = math.inf
    """When the first good answer after it arrived, at the earliest; ``end`` is when it did at the latest."""

    @property
    def length(self) -> float:
        return self.end - self.start


@dataclass(frozen=True, kw_only=True)
class Proof:
    """The service went down at ``down_by`` at the latest, and was still down at ``down_until``."""

    down_by: float
    down_until: float

    @property
    def length(self) -> float:
        return self.down_until - self.down_by


def requests_of(rows: pd.DataFrame) -> list[Request]:
    """Return the requests of one source and path in the order of their sending; rows without a result are left out."""
    rows = tables.measured(rows).dropna(subset=["time"]).sort_values("time", kind="stable")
    sent = [stamp.timestamp() for stamp in rows["time"]]
    total = (rows["time_total_ms"].astype("float64").fillna(0.0) / 1000).tolist()
    errors = zip(*((error / 1000).tolist() for error in tables.stamp_errors_ms(rows)), strict=True)
    return [
        Request(sent=at, end=at + took, good=not kind, early=early, late=late, hung=kind == "timeout")
        for at, took, kind, (early, late) in zip(sent, total, rows["error"].tolist(), errors, strict=True)
    ]


def gaps(requests: Sequence[Request]) -> list[Gap]:
    """Return, for the time before the first good request and after each, the longest outage that could have been."""
    good = [request for request in requests if request.good]
    ends = _first_answers(request.end + request.late for request in reversed(good))
    answered = _first_answers(request.end - request.early for request in reversed(good))
    starts = [-math.inf, *(request.sent - request.early for request in good)]
    return [Gap(start=at, end=end, answered=first) for at, end, first in zip(starts, ends, answered, strict=True)]


def _first_answers(backwards: Iterable[float]) -> list[float]:
    return [*reversed(list(accumulate(backwards, min))), math.inf]


def proved(requests: Sequence[Request], gap: Gap, margin: float) -> Proof | None:
    """Return what the requests sent within ``gap`` prove together of a service that answers in ``margin`` s.

    A refusal proves one moment, however long it took to get here; and where others were refused, a good answer that was
    slow proves nothing.
    """
    inside = [request for request in requests if gap.start <= request.sent <= gap.end]
    bad = [request for request in inside if not request.good and request.sent - request.early <= gap.answered]
    telling = bad if any(request.is_refusal for request in bad) else [*bad, *_let_go_together(inside, gap, margin)]
    if not telling:
        return None
    ends = ((each, each.end if each.is_refusal else min(each.end, each.sent + margin)) for each in telling)
    return Proof(
        down_by=min(end + each.late for each, end in ends), down_until=max(each.sent - each.early for each in telling)
    )


def _let_go_together(requests: Sequence[Request], gap: Gap, margin: float) -> list[Request]:
    """Return those with a good answer that waited for the end of ``gap``: sent apart, answered together.

    Requests that are slow each for its own reason, or whose packets are sent again, end as far apart as they were sent;
    those that a sender has on its way when it stands still were sent within ``margin``. A service that is back takes a
    while to answer all who wait, and may take as long for the first: so the last to be sent prove nothing.
    """
    late = [each for each in requests if each.good and each.end + each.late >= gap.answered]
    waited = [each for each in late if each.sent - each.early + margin < gap.answered]
    first = min((each.sent for each in waited), default=0.0)
    vague = max((each.early + each.late for each in waited), default=0.0)
    together = [each for each in waited if each.end - gap.answered <= margin / 2 + (each.sent - first) / 3 + vague]
    ends = [each.end for each in together]
    herd = max(ends) - min(ends) if ends else 0.0
    surely = [each for each in together if each.sent - each.early + margin + herd < gap.answered]
    apart = bool(surely) and surely[-1].sent - surely[-1].early > surely[0].sent + surely[0].late + margin
    return surely if apart else []


def prompt_of(rows: pd.DataFrame) -> float:
    """Return the seconds within which this service answers when nothing is wrong: five times what is usual.

    May be generous, since it only decides which requests are looked at. The version that usually takes longest counts,
    since one side may be further away; its median, since an outage makes many answers late, but not half of them.
    """
    usual = tables.good(rows).groupby("version")["time_total_ms"].median().max()
    return max(_PROMPT_FLOOR_S, 0.0 if pd.isna(usual) else _PROMPT_TIMES * float(usual) / 1000)


def margin_of(requests: Sequence[Request], disturbed: Iterable[Gap], prompt: float) -> float:
    """Return the seconds within which it surely answers: half as much again as what 99 in 100 calm answers take.

    As tight as they allow, since each end of an outage's least length is unsure by that much. The slowest one in a
    hundred is left out: a pause too short for a window would make all ranges wider. Never more than ``prompt``, and
    just that where there are too few calm answers to know better. Calm is what was sent outside of ``disturbed``,
    stretches in the order of their begins.
    """
    calm = sorted(request.end - request.sent for request in _outside(requests, disturbed) if request.good)
    if len(calm) < _CALM:
        return prompt
    return min(prompt, max(_MARGIN_FLOOR_S, _MARGIN_TIMES * calm[int(_MARGIN_SHARE * len(calm))]))


def _outside(requests: Sequence[Request], disturbed: Iterable[Gap]) -> Iterator[Request]:
    rest = iter(disturbed)
    now = next(rest, None)
    for request in requests:
        while now is not None and request.sent > now.end:
            now = next(rest, None)
        if now is None or request.sent < now.start:
            yield request
