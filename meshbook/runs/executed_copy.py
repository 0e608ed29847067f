"""The file of one executed notebook, redacted whenever it is written, and the files with its rows.

papermill writes to it as to any address, by a scheme of its own. What is taken out is ``redact``'s.
"""

from __future__ import annotations

import time
from pathlib import Path
from types import ModuleType
from typing import Any

from meshbook import rows
from meshbook.errors import RunError
from meshbook.marks import row_marks
from meshbook.notebook import without_slow_imports
from meshbook.rows import KeptRows, whole_file
from meshbook.runs.redact import Redactor

_SCHEME = "executed-copy://"
_SAVE_EVERY_S = 2.0


def papermill() -> ModuleType:
    without_slow_imports()
    import papermill as library

    return library  # type: ignore[no-any-return]


class ExecutedCopy:
    """One executed notebook's file, and the files with its rows. ``address`` is the output path for papermill, which
    calls ``write`` and ``pretty_path``.

    The kernel writes into the folder ``private``; only redacted rows of it come to lie beside the copy.
    """

    def __init__(self, path: Path, redactor: Redactor, private: Path) -> None:
        self.path = path
        self.address = _SCHEME + path.name
        self._private = private
        self.clean = redactor.text
        self._redactor = redactor
        self._saved_at = 0.0
        self._rows: dict[tuple[str, str], KeptRows] = {}
        self.latest: dict[str, Any] = {}
        """The notebook as last saved, as JSON data with whole texts; empty until the first save."""
        papermill().iorw.papermill_io.register(self.address, self)

    def pretty_path(self, path: str) -> str:
        return path

    def write(self, text: str, path: str) -> None:
        self.latest = _format().reads(text, as_version=4)
        if time.monotonic() - self._saved_at >= _SAVE_EVERY_S:
            self._write()

    def finish(self) -> None:
        """Write ``latest`` as the last word; RunError, and no file, when the redaction missed something."""
        try:
            self._write()
        except RunError:
            for path in self.path.parent.glob(f"{self.path.stem}.*"):
                path.unlink()
            raise

    def _write(self) -> None:
        clean = self._redactor.document(self.latest)
        self._redactor.require_clean(clean, name=self.path.name)
        shown = row_marks(clean)
        for name, mark in zip(shown, row_marks(self.latest).values(), strict=True):
            shown[name].update(self._redacted_rows(KeptRows(**mark), name).to_dict())
        write_whole(self.path, _format().writes(_format().from_dict(clean)) + "\n")
        self._saved_at = time.monotonic()

    def _redacted_rows(self, kept: KeptRows, name: str) -> KeptRows:
        """Bring rows from ``private`` to lie beside the copy, without what must not be shown; once for each content."""
        content = name, kept.sha256
        if content not in self._rows and rows.is_beside(kept, self._private):
            table = self._redactor.table(rows.read(kept, self._private))
            self._redactor.require_clean_table(table, name=kept.file)
            self._rows[content] = rows.write(table, self.path.parent, self.path.stem, name)
        return self._rows.get(content, kept)


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` so that a reader sees the old file or the new one, never a part."""
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def _format() -> ModuleType:
    without_slow_imports()
    import nbformat

    return nbformat
