"""Column names and dtypes of every DataFrame that leaves a room, and frames made to be read.

``ANSWERS`` is written by ``probes`` and read by ``judge``, ``charts`` and ``report``; ``VERDICTS`` is written by
``judge``. A new table is declared here first. Nothing is measured, judged or drawn here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

import pandas as pd

from meshbook.errors import UsageError

Dtype = Literal["datetime64[us, UTC]", "string", "Int64", "float64", "boolean"]

LOST, GARBLED = "lost", "garbled"
NOT_MEASURED = frozenset({LOST, GARBLED})
"""Errors of the probe itself: such a row says nothing about the service, for good or ill."""

_V4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?!\w)(?!\.\d)")
_MAYBE_V6 = re.compile(r"(?<![\w:])[0-9a-fA-F]*:[0-9a-fA-F]*:[0-9a-fA-F:]*(?!\w)")


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: its name, its pandas dtype, and what a value means."""

    name: str
    dtype: Dtype
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """A declared table: columns in their order."""

    name: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]


def _table(name: str, *columns: tuple[str, Dtype, str]) -> Table:
    return Table(name=name, columns=tuple(Column(name=n, dtype=d, meaning=m) for n, d, m in columns))


ANSWERS = _table(
    "answers",
    ("time", "datetime64[us, UTC]", "when the request was sent; missing when the probe's record of it was lost"),
    ("seq", "Int64", "number of the request within its source, from 1"),
    ("source", "string", "who asked: the context's name, or 'outside'"),
    ("path", "string", "which way: 'mesh' (service name inside the mesh) or 'vip' (from the internet)"),
    ("url", "string", "what was asked for"),
    ("version", "string", "version that answered; empty unless the answer is good"),
    ("instance", "string", "pod that answered; empty unless the answer is good"),
    ("code", "Int64", "HTTP status; missing when there was no HTTP answer"),
    ("exit_code", "Int64", "curl's exit code of this transfer; missing when the probe's record was lost"),
    ("time_connect_ms", "float64", "until the connection stood (to the proxy where there is one)"),
    ("time_starttransfer_ms", "float64", "until the first byte of the answer"),
    ("time_total_ms", "float64", "until the last byte, or until the transfer was given up"),
    ("remote_ip", "string", "address that curl was connected to"),
    (
        "error",
        "string",
        "empty for a good answer, else its kind: http_503, timeout, refused, … (lost, garbled: no result)",
    ),
    ("detail", "string", "what curl or the probe said about the error"),
)

VERDICTS = _table(
    "verdicts",
    ("claim", "string", "what was claimed"),
    ("outcome", "string", "pass, fail or inconclusive"),
    ("n", "Int64", "requests that the verdict rests on"),
    ("estimate", "float64", "measured value, in ``unit``"),
    ("low", "float64", "lower end of its interval"),
    ("high", "float64", "upper end of its interval"),
    ("limit", "string", "what the interval was held against"),
    ("unit", "string", "unit of estimate, low and high"),
    ("reason", "string", "why this outcome, in a sentence"),
)


def empty(table: Table) -> pd.DataFrame:
    """Return a frame of ``table`` without rows."""
    return pd.DataFrame({column.name: pd.Series([], dtype=column.dtype) for column in table.columns})


def conform(frame: pd.DataFrame, table: Table) -> pd.DataFrame:
    """Return ``frame`` with exactly the columns and dtypes of ``table``; UsageError says what does not fit."""
    missing = [name for name in table.names if name not in frame.columns]
    unknown = [str(name) for name in frame.columns if name not in table.names]
    if missing or unknown:
        raise UsageError(
            f"this is no table of {table.name}",
            hint=f"its columns are {', '.join(table.names)}",
            missing=", ".join(missing),
            unknown=", ".join(unknown),
        )
    return pd.DataFrame({column.name: _cast(frame[column.name], column, table) for column in table.columns})


def _cast(series: pd.Series[Any], column: Column, table: Table) -> pd.Series[Any]:
    try:
        if column.dtype == "string":
            return series.astype("string").fillna("").reset_index(drop=True)
        if column.dtype.startswith("datetime64"):
            return pd.to_datetime(series, utc=True).astype(column.dtype).reset_index(drop=True)
        return series.astype(column.dtype).reset_index(drop=True)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"column {column.name} of table {table.name} holds something else than {column.dtype}",
            hint=column.meaning,
            said=str(error)[:200],
        ) from error


def from_rows(rows: Iterable[Mapping[str, object]], table: Table) -> pd.DataFrame:
    """Return ``rows`` as a frame of ``table``; a value that a row lacks is missing."""
    records = [dict(row) for row in rows]
    stray = sorted({name for record in records for name in record} - set(table.names))
    if stray:
        raise UsageError(f"table {table.name} has no column {', '.join(stray)}")
    columns = {column.name: [record.get(column.name) for record in records] for column in table.columns}
    return conform(pd.DataFrame(columns, columns=table.names, dtype="object"), table)


def frame(records: Iterable[object]) -> pd.DataFrame:
    """Return frozen dataclass records of one kind, one row each, for display: texts for whatever is nested."""
    rows = list(records)
    kinds = {type(row) for row in rows}
    strangers = sorted(kind.__name__ for kind in kinds if not is_dataclass(kind))
    if strangers or len(kinds) > 1:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise UsageError(f"a frame is made of dataclass records of one kind, not of {names}")
    columns = [field.name for row in rows[:1] for field in fields(row)]  # type: ignore[arg-type]
    return pd.DataFrame({column: [_cell(getattr(row, column)) for row in rows] for column in columns})


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_cell(item)}" for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(str(_cell(item)) for item in value)
    return value


def readable(answers: pd.DataFrame) -> pd.DataFrame:
    """Return a frame of ANSWERS cut down to what a reader needs: no address, times as clock and whole 0.1 ms."""
    answers = conform(answers, ANSWERS)
    clock = answers["time"].dt.strftime("%H:%M:%S.%f").str[:-3]
    total = ["" if pd.isna(ms) else f"{ms:.1f}" for ms in answers["time_total_ms"].tolist()]
    shown = pd.DataFrame({"time (UTC)": clock.fillna(""), "total ms": pd.Series(total, dtype="string")})
    columns = ["source", "path", "seq", "version", "instance", "code", "error"]
    texts = {name: answers[name].astype("string").fillna("") for name in columns}
    return shown.assign(**texts)[["time (UTC)", *columns, "total ms"]]


def without_addresses(answers: pd.DataFrame) -> pd.DataFrame:
    """Return a copy of any frame in which IP addresses inside texts are replaced by ``<address>``."""
    hidden = answers.copy()
    for name in hidden.columns:
        if pd.api.types.is_string_dtype(hidden[name].dtype) or hidden[name].dtype == object:
            hidden[name] = hidden[name].map(lambda value: hide_addresses(value) if isinstance(value, str) else value)
    return hidden


def hide_addresses(text: str) -> str:
    """Return ``text`` with ``<address>`` for every IP address."""
    return _MAYBE_V6.sub(_hide_v6, _V4.sub("<address>", text))


def _hide_v6(match: re.Match[str]) -> str:
    try:
        ipaddress.IPv6Address(match[0])
    except ValueError:
        return match[0]
    return "<address>"


def measured(answers: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ANSWERS that say something about the service, good or bad."""
    return answers[~answers["error"].isin(NOT_MEASURED)]


def good(answers: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of ANSWERS with a good answer."""
    return answers[answers["error"] == ""]
