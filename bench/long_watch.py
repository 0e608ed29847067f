"""What a long watch leaves, made up: four sources, three with clocks of their own, and the mishaps of a day. Pure.

Seeded, and drawn by NumPy, so that a million rows take a second. Shares are binomial. Every quarter of an hour the
service is down for everybody for two to twenty seconds: refused, frozen, answering 503 or half of it gone. In between
single requests fail, are late, are not sent, or are lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from meshbook import tables

BEGIN = 1_767_355_200.0
"""Unix time of the first request."""
SOURCES = {"external client": "vip", "cluster1": "mesh", "cluster2": "mesh", "cluster3": "mesh"}
RATE_PER_S = 100.0
_EVERY_S, _FIRST_S, _TIMEOUT_S = 900.0, 60.0, 1.0
_KINDS = ("refused", "timeout", "http_503", "half")
_SINGLE = {"timeout": 2e-5, "http_503": 4e-5, "reset": 2e-5, tables.LOST: 2e-4, tables.DROPPED: 1e-4}
_DETAILS = {
    "refused": "Failed to connect to 10.96.0.14 port 5000",
    "timeout": "Operation timed out after 1001 milliseconds",
    "http_503": "upstream connect error or disconnect/reset before headers. reset reason: connection failure",
    "reset": "Recv failure: Connection reset by peer",
    tables.LOST: "it was not sent, or had not ended when the watch did",
    tables.DROPPED: "its time had passed",
}


@dataclass(frozen=True, kw_only=True)
class Outage:
    kind: str
    start: float
    """Seconds after ``BEGIN``."""
    end: float


def outages(seconds: float) -> list[Outage]:
    """Return what goes wrong for everybody within so many seconds."""
    dice = np.random.default_rng(7)
    starts = np.arange(_FIRST_S, seconds - 30, _EVERY_S)
    lengths = dice.uniform(2, 20, len(starts))
    return [
        Outage(kind=_KINDS[number % len(_KINDS)], start=float(start), end=float(start + length))
        for number, (start, length) in enumerate(zip(starts, lengths, strict=True))
    ]


def answers(rows: int) -> pd.DataFrame:
    """Return ANSWERS with so many rows, all sources alike."""
    parts = [_of_source(number, rows // len(SOURCES)) for number in range(len(SOURCES))]
    return tables.conform(pd.concat(parts, ignore_index=True), tables.ANSWERS)


def _of_source(number: int, n: int) -> pd.DataFrame:
    source, path = list(SOURCES.items())[number]
    dice = np.random.default_rng(number)
    scheduled = BEGIN + 0.7 + np.arange(n) / RATE_PER_S
    late = dice.exponential(0.0004, n) + (dice.random(n) < 1e-4) * dice.exponential(0.03, n)
    error, took = _told(dice, scheduled - BEGIN)
    good = error == ""
    sent = ~np.isin(error, list(tables.NOT_MEASURED))
    time = scheduled + late
    version = np.where(dice.random(n) < 0.5, "v1", "v2").astype(object)
    instance = np.where(version == "v1", "helloworld-v1-86f57ccbd4-kcmgv", "helloworld-v2-58b5557bd8-m9qxn")
    connected = sent & (error != "refused")
    columns: dict[str, Any] = {
        "time": _stamps(time, sent),
        "seq": np.arange(1, n + 1),
        "source": source,
        "path": path,
        "url": "http://203.0.113.7/hello" if path == "vip" else "http://helloworld.sample:5000/hello",
        "version": np.where(good, version, ""),
        "cluster": np.where(good, np.where(version == "v1", "cluster1", "cluster2"), ""),
        "instance": np.where(good, instance, ""),
        "code": pd.array(np.where(good, 200, 503), dtype="Int64"),
        "exit_code": pd.array(np.select([error == "timeout", error == "refused"], [28, 7], 0), dtype="Int64"),
        "time_connect_ms": np.where(connected, np.round(dice.uniform(0.1, 0.6, n), 3), np.nan),
        "time_starttransfer_ms": np.where(good, np.round(took * 990, 3), np.nan),
        "time_total_ms": np.where(sent, np.round(took * 1000, 3), np.nan),
        "remote_ip": np.where(connected, "10.96.0.14", ""),
        "error": error,
        "detail": pd.Series(error).map(_DETAILS).fillna("").to_numpy(),
        "scheduled": _stamps(scheduled, np.ones(n, dtype=bool)),
        "late_ms": np.where(sent, np.round(late * 1000, 3), np.nan),
        "time_error_ms": np.where(sent, np.round(dice.exponential(0.05, n), 3), np.nan),
        "clock_error_ms": np.where(sent, 0.0 if path == "vip" else 0.4 + number, np.nan),
    }
    frame = pd.DataFrame(columns)
    frame.loc[~(good | (error == "http_503")), "code"] = pd.NA
    frame.loc[~sent, "exit_code"] = pd.NA
    return tables.conform(frame, tables.ANSWERS)


def _told(dice: np.random.Generator, at: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the error of each request and how many seconds it took."""
    n = len(at)
    took = dice.lognormal(np.log(0.045), 0.2, n)
    took[dice.random(n) < 1e-5] += 0.6
    error = np.full(n, "", dtype=object)
    draw, upto = dice.random(n), 0.0
    for kind, share in _SINGLE.items():
        error[(draw >= upto) & (draw < upto + share)] = kind
        upto += share
    for each in outages(float(at[-1]) if n else 0.0):
        inside = (at >= each.start) & (at < each.end)
        if each.kind == "half":
            inside &= dice.random(n) < 0.5
        if each.kind == "timeout":
            waits = inside & (each.end - at < _TIMEOUT_S)
            took[waits] = each.end - at[waits] + dice.random(int(waits.sum())) * 0.002
            inside &= ~waits
        error[inside] = "http_503" if each.kind == "half" else each.kind
    took[error == "refused"] = 0.0008
    took[error == "timeout"] = _TIMEOUT_S + 0.001
    return error, took


def _stamps(times: np.ndarray[Any, Any], known: np.ndarray[Any, Any]) -> pd.Series[pd.Timestamp]:
    whole = pd.Series(np.round(times * 1e6).astype("int64").view("M8[us]")).dt.tz_localize("UTC")
    return whole.where(known)
