"""The executed copies on disk: redacted at every save, replaced whole, never seen half written.

papermill saves a notebook at each cell's start and end, to a path; paths with the scheme of this room come here. Saves
in quick succession are joined, so the file may be a second behind; ``finish`` writes the last word.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from meshbook.errors import RunError
from meshbook.runs.papermilling import papermill
from meshbook.runs.redaction import Redactor

_SCHEME = "executed-copy://"
_SAVE_EVERY_S = 2.0
_open: dict[str, ExecutedCopy] = {}


class ExecutedCopy:
    """One executed notebook's file. ``address`` is the output path that papermill is given."""

    def __init__(self, path: Path, redactor: Redactor) -> None:
        self.path = path
        self.address = _SCHEME + path.name
        self._redactor = redactor
        self._saved_at = 0.0
        self.latest: dict[str, Any] = {}
        """The notebook as last saved, as JSON data with whole texts; empty until the first save."""
        _register()
        _open[self.address] = self

    def save(self, text: str) -> None:
        self.latest = _format().reads(text, as_version=4)
        if time.monotonic() - self._saved_at >= _SAVE_EVERY_S:
            self._write()

    def finish(self) -> None:
        """Write ``latest`` as the last word; RunError, and no file, when the redaction missed something."""
        _open.pop(self.address, None)
        try:
            self._write()
        except RunError:
            self.path.unlink(missing_ok=True)
            raise

    def _write(self) -> None:
        clean = self._redactor.document(self.latest)
        self._redactor.require_clean(clean, name=self.path.name)
        write_whole(self.path, _format().writes(_format().from_dict(clean)) + "\n")
        self._saved_at = time.monotonic()


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` so that a reader sees the old file or the new one, never a part."""
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)


class _Handler:
    """What papermill calls for a path: see papermill.iorw."""

    @staticmethod
    def write(text: str, path: str) -> None:
        _open[path].save(text)

    @staticmethod
    def pretty_path(path: str) -> str:
        return path


def _register() -> None:
    registry = papermill().iorw.papermill_io
    if not any(scheme == _SCHEME for scheme, _ in registry._handlers):
        registry.register(_SCHEME, _Handler)


def _format() -> ModuleType:
    papermill()
    import nbformat

    return nbformat
