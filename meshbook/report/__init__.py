"""The report of a run: from the executed notebooks in a folder to pages, tables and files for machines.

``collect`` reads the folder, whoever filled it (``meshbook run``, or papermill by hand), and the others write into it:
``html`` one page per notebook and the index to open, ``machine`` verdicts.json and junit.xml. The files with rows are
there already (``rows``) and linked; those that are not there are told. ``history`` is the page over all runs of a
folder, ``compare`` puts two of them side by side. Nothing is executed, measured or judged here, and no page loads
anything from elsewhere.
"""

from __future__ import annotations

from pathlib import Path

from meshbook.language import LANGUAGES
from meshbook.report.collect import Report, Stage, collect
from meshbook.report.compare import Change, changes, differences
from meshbook.report.history import history
from meshbook.report.html import pages
from meshbook.report.machine import VERDICTS, junit, verdicts
from meshbook.report.scale import used
from meshbook.rows import fetch, whole_file

INDEX = "index.html"

__all__ = ["INDEX", "Change", "Report", "Stage", "changes", "collect", "differences", "used", "verdicts", "write"]
__all__ += ["write_history"]


def write(folder: Path, *, language: str = LANGUAGES[0], of_many: bool = False) -> Report:
    """Write every file of the report into ``folder`` and return what was found there. Raises UsageError if nothing.

    Its pages show the text for readers of ``language``; the notebooks keep all of it.

    ``of_many`` also writes the page over all runs, into the folder above.
    """
    report = collect(folder, language)
    beside = [kept.file for stage in report.stages for kept in stage.rows if fetch(kept, folder)]
    files = {VERDICTS: verdicts(report), "junit.xml": junit(report)}
    files |= pages(report, [*files, *beside], history=of_many)
    for name, text in files.items():
        _put(folder / name, text)
    if of_many:
        write_history(folder.parent, language)
    return report


def write_history(folder: Path, language: str = LANGUAGES[0]) -> Path:
    """Write the page over all runs in the folders of ``folder``, and return its path."""
    _put(folder / INDEX, history(folder, language))
    return folder / INDEX


def _put(path: Path, text: str) -> None:
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
