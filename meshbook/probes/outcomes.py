"""What became of requests, kept by columns until they are rows of ``tables.ANSWERS``; whoever sent them.

Requests end in few ways and at many moments: how one ended is an ``Outcome`` that many share, its moments are 48 bytes
of a ``Record``. A day at 11 requests per second is a million of them. Who reads them off a stream is ``curl`` and
``session``; nothing is judged here.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from meshbook import tables

NOT_REACHED = -1
"""Length of what a request did not come to."""
RECORD = np.dtype(
    [
        ("number", "<u4"),
        ("outcome", "<i4"),
        ("sent", "<f8"),
        ("error_us", "<i8"),
        ("connect_us", "<i8"),
        ("first_us", "<i8"),
        ("total_us", "<i8"),
    ]
)
"""One request: its number, which outcome (-1: none known), Unix time (NaN: not known) and lengths in microseconds."""
_PACK = struct.Struct("<Iidqqqq").pack

Records = npt.NDArray[np.void]
"""An array of RECORD."""

_ANSWER = re.compile(r"Hello version: (\S+), instance: (\S+)")
_NAMES = {5: "dns", 6: "dns", 7: "refused", 18: "cut", 28: tables.TIMEOUT, 35: "tls", 52: "no_answer", 55: "reset"}
_NAMES |= {56: "reset", 60: "tls"}
_DETAIL_LENGTH = 200


class Outcome(NamedTuple):
    """How a request ended: the columns of ANSWERS in which many are alike."""

    error: str
    detail: str
    code: int | None = None
    exit_code: int | None = None
    version: str = ""
    instance: str = ""
    remote_ip: str = ""


_SHARED = {column.name: column.dtype for column in tables.ANSWERS.columns if column.name in Outcome._fields}


@lru_cache(maxsize=1024)
def outcome(code: int, exit_code: int, body: str, said: str, remote_ip: str, *, whole: bool = True) -> Outcome:
    """Return what an HTTP status (0: none), curl's exit code, a body and what the sender said of it come to.

    ``whole`` says that no byte of the body was lost on its way from the sender.
    """
    answer = _ANSWER.fullmatch(body.strip()) if whole else None
    if exit_code:
        error = _NAMES.get(exit_code, f"curl_{exit_code}")
    elif code != 200:
        error = f"http_{code}"
    else:
        error = "" if answer else "unexpected" if whole else tables.GARBLED
    version, instance = answer.groups() if answer and not error else ("", "")
    return Outcome(
        error=error,
        detail=one_line(said or (body if error else "")),
        code=code or None,
        exit_code=exit_code,
        version=version,
        instance=instance,
        remote_ip=remote_ip,
    )


def printed(answers: pd.DataFrame) -> str:
    """Return what the article's loop of curls would have printed for ANSWERS, source by source."""

    def line(row: Any) -> str:
        if not row.error:
            return f"Hello version: {row.version}, instance: {row.instance}"
        return f"curl: ({row.exit_code}) {row.detail}" if row.exit_code else str(row.detail or row.error)

    parts = answers.groupby("source", sort=False)
    return "\n\n".join("\n".join([f"# {source}", *map(line, rows.itertuples())]) for source, rows in parts)


def is_answer(line: str) -> bool:
    return _ANSWER.search(line) is not None


def one_line(text: str) -> str:
    return " ".join(text.split())[:_DETAIL_LENGTH]


class Outcomes:
    """Requests as they become known. One thread may add while others read."""

    def __init__(self) -> None:
        self._packed = bytearray()
        self._known: dict[Outcome, int] = {}

    def add(self, number: int, became: Outcome, moments: Sequence[float] = ()) -> None:
        """Add a request; ``moments`` are the RECORD's from ``sent`` on, none for one that was not sent."""
        index = self._known.setdefault(became, len(self._known))
        self._packed += _PACK(number, index, *(moments or (np.nan, 0, *[NOT_REACHED] * 3)))

    @property
    def records(self) -> Records:
        """What is known so far; a copy."""
        return np.frombuffer(bytes(self._packed), dtype=RECORD)

    @property
    def counts(self) -> tuple[int, int]:
        """How many requests are known, and how many of them got no good answer."""
        failed = [index for became, index in list(self._known.items()) if became.error]
        outcomes = self.records["outcome"]
        return len(outcomes), int(np.isin(outcomes, failed).sum())

    @property
    def kinds(self) -> list[Outcome]:
        return list(self._known)


def numbered(count: int) -> Records:
    """Return records of requests 1 to ``count``, of which nothing is known."""
    records = np.zeros(count, dtype=RECORD)
    records["number"] = np.arange(1, count + 1)
    records["sent"], records["outcome"] = np.nan, -1
    for name in ("connect_us", "first_us", "total_us"):
        records[name] = NOT_REACHED
    return records


def to_frame(records: Records, kinds: Sequence[Outcome], **more: object) -> pd.DataFrame:
    """Return ``records`` as ANSWERS; ``kinds`` are the outcomes that they name, ``more`` holds further columns."""
    columns: dict[str, object] = dict.fromkeys(tables.ANSWERS.names)
    for name, dtype in _SHARED.items():
        values = pd.array([getattr(each, name) for each in kinds], dtype=dtype)
        columns[name] = values.take(records["outcome"])
    columns |= {"seq": records["number"], "time": dates(records["sent"])}
    for name, part in (("connect", "connect_us"), ("starttransfer", "first_us"), ("total", "total_us")):
        reached = records[part] != NOT_REACHED
        columns[f"time_{name}_ms"] = np.where(reached, records[part] / 1000, np.nan)
    return tables.conform(pd.DataFrame({**columns, **more}, index=range(len(records))), tables.ANSWERS)


def dates(unix_s: npt.NDArray[np.float64]) -> pd.DatetimeIndex:
    """Return Unix times as dates to the microsecond; NaN is missing."""
    known = ~np.isnan(unix_s)
    moments = np.full(len(unix_s), np.datetime64("NaT", "us"))
    moments[known] = np.rint(unix_s[known] * 1e6).astype("int64").view("datetime64[us]")
    return pd.DatetimeIndex(moments, tz="UTC")
