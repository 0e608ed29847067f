"""What a declared table is: its name, and its columns with their dtypes and meanings. The tables are beside this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
