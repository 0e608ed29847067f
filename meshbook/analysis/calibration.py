"""The measurement's own error: what it said of faults whose true begin and end are known. Pure; the truth is data.

Who injects a fault stamps it: a lab that freezes an application, a scratch workload, a server of a benchmark.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from meshbook import tables
from meshbook.analysis.availability import Stream, streams
from meshbook.analysis.intervals import percent, percent_range, share_interval
from meshbook.errors import UsageError
from meshbook.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A time for which a service was down in truth, with time zone; each edge may be wrong by ``error_ms``."""

    name: str
    start: datetime
    end: datetime
    error_ms: float = 0.0

    def __post_init__(self) -> None:
        if None in (self.start.tzinfo, self.end.tzinfo) or self.end <= self.start:
            raise UsageError(f"fault {self.name} has a begin and a later end, both with a time zone")

    @property
    def seconds(self) -> float:
        return (self.end - self.start).total_seconds()


def compare_with_truth(frame: pd.DataFrame, faults: Iterable[Fault]) -> pd.DataFrame:
    """Return CALIBRATION: for each source of ``frame`` (ANSWERS) and each fault, the truth and what was measured.

    A fault that no window shows was measured as: down for 0 to as long as an unseen outage can have been there.
    """
    every = itertools.product(streams(frame), list(faults))
    return tables.from_rows((_compared(stream, fault) for stream, fault in every), tables.CALIBRATION)


def _compared(stream: Stream, fault: Fault) -> dict[str, object]:
    start, end, true_s = fault.start.timestamp(), fault.end.timestamp(), fault.seconds
    found = stream.estimates(start, end)
    overlap = found["end"].clip(upper=end) - found["start"].clip(lower=start)
    (window,) = found.loc[[overlap.idxmax() if found["seen"].any() else 0]].to_dict("records")
    low, high, edge_s = window["low_s"], window["high_s"], fault.error_ms / 1000
    off = [low - true_s - 2 * edge_s, true_s - high - 2 * edge_s]
    if window["seen"]:
        slack = stream.clock_error + edge_s
        off += [window["start"] - start - slack, start - window["down_by"] - slack]
        off += [window["down_until"] - end - slack, end - window["end"] - slack]
    return {
        "fault": fault.name,
        "source": stream.source,
        "path": stream.path,
        "true_ms": round(true_s * 1000, 1),
        "seen": window["seen"],
        "low_ms": round(low * 1000, 1),
        "high_ms": round(high * 1000, 1) if math.isfinite(high) else None,
        "within": max(off) <= 0,
        "off_ms": round(max(0.0, *off) * 1000, 1),
        "width_ms": round((high - low) * 1000, 1) if math.isfinite(high) else None,
    }


def measures_truly(calibration: pd.DataFrame) -> Verdict:
    """Claim: of outages of known length the truth always lay in the range that was measured (``calibrate``).

    The estimate is the share of truths that did; the reason names the worst error and the widest range.
    """
    known = tables.conform(calibration, tables.CALIBRATION)
    claim = "outages of known length lie in the ranges that are measured"
    if known.empty:
        return Verdict(claim=claim, outcome="inconclusive", reason="No outage of known length was measured.")
    n, within = len(known), int(known["within"].sum())
    low, high = percent_range(share_interval(within, n), n)
    off, widest, unseen = known["off_ms"].max(), known["width_ms"].max(), int((~known["seen"]).sum())
    worst = "" if within == n else f" The worst lay {off:g} ms outside."
    width = "" if pd.isna(widest) else f" Ranges were {widest:g} ms wide at most."
    shorter = f" {unseen} of them were too short to be noticed." if unseen else ""
    empty = _says_nothing(known)
    return Verdict(
        claim=claim,
        outcome="fail" if within < n else "inconclusive" if empty else "pass",
        reason=f"{within} of {n} did.{worst}{width}{shorter}{empty}",
        n=n,
        estimate=percent(within / n, n),
        low=low,
        high=high,
        limit="all of them",
        unit="%",
    )


def _says_nothing(calibration: pd.DataFrame) -> str:
    """Return which sources measured nothing: any truth lies in a range without an end, or in that of nothing seen."""
    open_ended = int(calibration["width_ms"].isna().sum())
    if open_ended:
        return f" {open_ended} ranges have no upper end, which any truth lies in."
    shown = calibration.groupby(["source", "path"], dropna=False)["seen"].any()
    blind = ", ".join(sorted({str(source) for source, _ in shown[~shown].index}))
    return f" {blind} noticed none of them, so its ranges were not tried." if blind else ""
