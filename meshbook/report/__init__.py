"""The report of a run: from the executed notebooks in a folder to pages, tables and files for machines.

``collect`` reads the folder, whoever filled it (``meshbook run``, or papermill by hand), and the others write into it:
``html`` one page per notebook and the index to open, ``machine`` verdicts.json and junit.xml. The files with rows are
there already (``rows``) and linked; those that are not there are told. Nothing is executed, measured or judged here,
and no page loads anything from elsewhere.
"""

from __future__ import annotations

from pathlib import Path

from meshbook.report.collect import Report, Stage, collect
from meshbook.report.html import pages
from meshbook.report.machine import junit, verdicts
from meshbook.report.scale import used
from meshbook.rows import fetch, whole_file

INDEX = "index.html"

__all__ = ["INDEX", "Report", "Stage", "collect", "used", "verdicts", "write"]


def write(folder: Path) -> Report:
    """Write every file of the report into ``folder`` and return what was found there. Raises UsageError if nothing."""
    report = collect(folder)
    beside = [kept.file for stage in report.stages for kept in stage.rows if fetch(kept, folder)]
    files = {"verdicts.json": verdicts(report), "junit.xml": junit(report)}
    files |= pages(report, [*files, *beside])
    for name, text in files.items():
        with whole_file(folder / name) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    return report
