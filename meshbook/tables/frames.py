"""What a declared table is, frames of such tables, and frames for people."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from numbers import Real
from typing import Any, Literal

import pandas as pd

from meshbook.errors import UsageError

Dtype = Literal["datetime64[us, UTC]", "string", "Int64", "float64", "boolean"]


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


def declared(name: str, *columns: tuple[str, Dtype, str]) -> Table:
    return Table(name=name, columns=tuple(Column(name=n, dtype=d, meaning=m) for n, d, m in columns))


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
    # what fits is not copied: a claim on a day of requests would else take longer to look at them than to judge
    misfits = [column for column in table.columns if not _fits(frame[column.name], column)]
    cast = {column.name: _cast(frame[column.name], column, table) for column in misfits}
    return frame.reset_index(drop=True).assign(**cast)[table.names]


def _fits(series: pd.Series[Any], column: Column) -> bool:
    return str(series.dtype) == column.dtype and not (column.dtype == "string" and series.hasnans)


def _cast(series: pd.Series[Any], column: Column, table: Table) -> pd.Series[Any]:
    series = series.reset_index(drop=True)
    try:
        if column.dtype == "string":
            return series.astype("string").fillna("")
        if column.dtype.startswith("datetime64"):
            return pd.to_datetime(series, utc=True).astype(column.dtype)
        return series.astype(column.dtype)
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
    if len(kinds) > 1 or not all(map(is_dataclass, kinds)):
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


_SHORT = 30
"""Characters of a cell that is not broken in lines: a narrow column would else break Japanese after each."""


def to_html(frame: pd.DataFrame, max_rows: int | None = None) -> str:
    """Return a frame as a table of HTML, text to the left, numbers to the right, and times as a clock shows them."""
    frame = frame.map(_as_read)
    styles = [_styles(frame[name].tolist()) for name in frame]
    shown = frame.to_html(index=False, border=0, max_rows=max_rows, na_rep="", float_format="{:g}".format)

    def styled(row: re.Match[str]) -> str:
        style = iter(styles)
        return re.sub("<t([dh])>", lambda cell: f'<t{cell[1]} style="{next(style)[cell[1]]}">', row[0])

    return re.sub("<tr.*?</tr>", styled, shown, flags=re.DOTALL)


def _as_read(value: Any) -> Any:
    if pd.isna(value):
        return ""
    return f"{value:%H:%M:%S.%f}"[:-3] + " UTC" if isinstance(value, pd.Timestamp) else value


def _styles(column: list[Any]) -> dict[str, str]:
    """Return how the cells of a column look, and its head."""
    numbers = all(value == "" or (isinstance(value, Real) and not isinstance(value, bool)) for value in column)
    side = f"text-align:{'right' if numbers else 'left'}"
    short = all(len(str(value)) <= _SHORT for value in column)
    return {"d": f"{side};{'white-space:nowrap' if short else 'min-width:14em'}", "h": f"{side};min-width:5em"}
