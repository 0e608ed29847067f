"""What requests prove about a service: moments at which it was there, and stretches in which it may have been away.

A good answer to a request sent at ``s`` that arrived at ``e`` proves that the service was there at some moment between
the two: no outage holds all of it. So the longest outage that can begin after a good request was sent ends, at the
latest, when the first good answer to any later request arrives. That holds for slow answers as for prompt ones: those
that a frozen service gives when it wakes up all arrive at its awakening, and prove nothing about the time before.

A bad answer proves the contrary for one moment between its own two ends; and a request that had to wait for longer
than ``prompt`` does so for nearly all of that time, unless requests sent after it were answered promptly meanwhile:
then that one request was slow, not the service.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import pandas as pd

from meshbook import tables

STAMP_S = 0.05
"""Seconds by which a request may have been sent before its row's ``time``, where the row does not say it better."""
_TIMEOUT = "timeout"
_PROMPT_FLOOR_S = 0.06
_PROMPT_TIMES = 5.0


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

    def is_prompt(self, prompt: float) -> bool:
        return self.good and self.end - self.sent <= prompt


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A stretch that a service may have been away for: not before ``start``, not after ``end`` (infinite: not seen)."""

    start: float
    end: float

    @property
    def length(self) -> float:
        return self.end - self.start


def requests_of(rows: pd.DataFrame) -> list[Request]:
    """Return the requests of one source and path in the order of their sending; rows without a result are left out."""
    rows = tables.measured(rows).dropna(subset=["time"]).sort_values("time", kind="stable")
    sent = [stamp.timestamp() for stamp in rows["time"]]
    total = (rows["time_total_ms"].astype("float64").fillna(0.0) / 1000).tolist()
    error = rows["time_error_ms"].astype("float64") / 1000
    errors = zip(error.fillna(STAMP_S).tolist(), error.fillna(0.0).tolist(), strict=True)
    return [
        Request(sent=at, end=at + took, good=not kind, early=early, late=late, hung=kind == _TIMEOUT)
        for at, took, kind, (early, late) in zip(sent, total, rows["error"].tolist(), errors, strict=True)
    ]


def prompt_of(rows: pd.DataFrame) -> float:
    """Return the seconds within which this service answers when nothing is wrong: five times what is usual.

    The version that usually takes longest counts, since one side may be further away; its median, since an outage makes
    many answers late, but not half of them.
    """
    usual = tables.good(rows).groupby("version")["time_total_ms"].median().max()
    return max(_PROMPT_FLOOR_S, 0.0 if pd.isna(usual) else _PROMPT_TIMES * float(usual) / 1000)


def gaps(requests: Sequence[Request]) -> list[Gap]:
    """Return, for the time before the first good request and after each, the longest outage that could have been."""
    good = [request for request in requests if request.good]
    latest = (request.end + request.late for request in reversed(good))
    first_answers = [*reversed(list(accumulate(latest, min))), math.inf]
    starts = [-math.inf, *(request.sent - request.early for request in good)]
    return [Gap(start=start, end=end) for start, end in zip(starts, first_answers, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Away:
    """What one request proves: the service had gone at ``gone`` at the latest, and was still gone at ``still``."""

    gone: float
    still: float


def proofs(requests: Sequence[Request], until: float, prompt: float, overtaken_by: float) -> Iterator[Away]:
    """Yield what each bad or slow request proves, given that the first good answer after it came at ``until``.

    ``overtaken_by`` is when the first prompt answer to a later request arrived. A refusal proves one moment, however
    long it took to get here; and where others were refused, a good answer that was slow proves nothing.
    """
    refused = any(not request.good and not request.hung for request in requests)
    for request in requests:
        waiting = not refused if request.good else request.hung
        alone = overtaken_by + prompt < request.end
        waited = min(request.end, until) - prompt - request.early
        if not request.good:
            gone = min(request.end, request.sent + prompt) if waiting else request.end
            still = request.sent - request.early
            yield Away(gone=gone + request.late, still=max(still, waited) if waiting and not alone else still)
        elif waiting and not alone:
            yield Away(gone=request.sent + prompt + request.late, still=waited)
