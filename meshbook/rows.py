"""Rows that a notebook keeps in a file beside it: CSV while they are few, Parquet above; a reader need not care which.

The notebook itself names its files (``KeptRows``), with a digest by which a reader knows that the file beside it is the
one that was written with it. A file is there whole or not at all. Which columns rows have is in ``tables``; what a
notebook shows of them, and where it lies, is in ``notebook``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshbook.errors import RunError, UsageError

if TYPE_CHECKING:
    import pandas as pd

MOST_IN_CSV = 100_000
"""Rows that a spreadsheet and JupyterLab's viewer still open at once; more are a fifth of the size in Parquet."""

PLACE_VARIABLE = "MESHBOOK_ROWS"
"""Environment variable by which whoever executes a notebook says where its files go: ``folder/stem``."""

PLACELESS = Path(__file__).parents[1] / "outputs" / "rows"
"""Where files go while nobody says where the notebook will lie; ``fetch`` finds them there."""


@dataclass(frozen=True, kw_only=True)
class KeptRows:
    """One kept table, as its notebook names it."""

    name: str
    file: str
    """Name of the file, which lies beside the notebook."""
    rows: int
    sha256: str
    columns: Mapping[str, str]
    """Column → pandas dtype, which a CSV file does not tell."""

    def __post_init__(self) -> None:
        kinds = {"name": str, "file": str, "rows": int, "sha256": str, "columns": Mapping}
        if not all(isinstance(getattr(self, field), kind) for field, kind in kinds.items()):
            raise UsageError(f"{str(self.name)[:80]} is no mark of kept rows")
        if Path(self.file).name != self.file:
            raise UsageError(f"rows lie beside their notebook, not at {self.file!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, fit for JSON."""
        return asdict(self)


_PLAIN_KINDS = "iufbM"
"""Integers, numbers, booleans and times are kept as such; everything else is kept as text."""


def write(table: pd.DataFrame, folder: Path, stem: str, name: str) -> KeptRows:
    """Write ``table`` to ``folder/stem.name.csv`` (``.parquet`` above 100,000 rows) and return what names it."""
    kind, other = ("csv", "parquet") if len(table) <= MOST_IN_CSV else ("parquet", "csv")
    path = folder / f"{stem}.{name}.{kind}"
    table = table.astype({column: "string" for column, dtype in table.dtypes.items() if dtype.kind not in _PLAIN_KINDS})
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as unfinished:
            if kind == "csv":
                table.to_csv(unfinished, index=False)
            else:
                table.to_parquet(unfinished, index=False, compression="zstd")
        path.with_suffix(f".{other}").unlink(missing_ok=True)
    except OSError as error:
        raise RunError(f"cannot keep {len(table)} rows in {path.name}: {error.strerror}") from error
    columns = {str(column): str(dtype) for column, dtype in table.dtypes.items()}
    return KeptRows(name=name, file=path.name, rows=len(table), sha256=_digest(path), columns=columns)


def read(kept: KeptRows, folder: Path) -> pd.DataFrame:
    """Return the rows as they were kept; UsageError when ``folder`` does not hold their file."""
    import pandas as pd

    path = folder / kept.file
    if not is_beside(kept, folder):
        what = "is not the one that was written with it" if path.exists() else "is not beside the notebook"
        raise UsageError(f"{kept.file} {what}", hint="copy the notebook together with its files")
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    blank = {name: [""] for name, dtype in kept.columns.items() if dtype != "string"}
    table = pd.read_csv(path, dtype="string", keep_default_na=False, na_values=blank)
    for name, dtype in kept.columns.items():
        if dtype.startswith("datetime64"):
            table[name] = pd.to_datetime(table[name], format="ISO8601", utc="UTC" in dtype)
        elif dtype in ("bool", "boolean"):
            table[name] = table[name].map({"True": True, "False": False})
    return table.astype(dict[Any, Any](kept.columns))


def is_beside(kept: KeptRows, folder: Path) -> bool:
    """Say whether ``folder`` holds the very file that was kept."""
    path = folder / kept.file
    return path.is_file() and _digest(path) == kept.sha256


def fetch(kept: KeptRows, folder: Path) -> bool:
    """Say whether ``folder`` holds the file, and first copy it from where the files of placeless notebooks are."""
    if not is_beside(kept, folder) and is_beside(kept, PLACELESS):
        with whole_file(folder / kept.file) as unfinished:
            shutil.copyfile(PLACELESS / kept.file, unfinished)
    return is_beside(kept, folder)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield where to write what becomes ``path`` at the end of the block, so that no reader ever sees a part of it."""
    unfinished = path.with_name(f".{path.name}.part")
    try:
        yield unfinished
        os.replace(unfinished, path)
    except OSError as error:
        if error.filename:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk does not say for which file
    finally:
        unfinished.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
