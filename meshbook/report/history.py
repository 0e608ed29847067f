"""All runs of a folder on one page: when, where, what came out, and each run's worst number.

Read from the verdicts.json that a run's report has left, so that many runs take no time; where there is none, from its
executed notebooks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2

from meshbook.errors import NoRunError, UsageError
from meshbook.language import LANGUAGES
from meshbook.report.collect import collect
from meshbook.report.html import environment
from meshbook.report.machine import VERDICTS, verdicts
from meshbook.report.scale import worst_number
from meshbook.verdict import PASS, is_plan, shown, worst_first


def history(folder: Path, language: str = LANGUAGES[0]) -> str:
    """Return the page over the runs in ``folder``, the newest first; UsageError where there are none.

    Its folder ``work`` holds runs too: the copies of notebooks that are stepped through in JupyterLab.
    """
    page = environment(language).get_template("history.html.j2")
    runs = [path for pattern in ("*", "work/*") for path in sorted(folder.glob(pattern)) if path.is_dir()]
    rows = [row | {"folder": path.relative_to(folder).as_posix()} for path in runs if (row := _row(path, page))]
    if not rows:
        raise UsageError(f"{folder} holds neither an executed notebook nor a folder with any")
    rows.sort(key=lambda row: row["at"], reverse=True)
    return page.render(rows=rows)


def _row(folder: Path, page: jinja2.Template) -> dict[str, Any] | None:
    try:
        row = _told(folder, _content(folder))
        page.render(rows=[row])
    except NoRunError:
        return None
    except (UsageError, OSError, ValueError, LookupError, TypeError, AttributeError, jinja2.TemplateError) as error:
        return _unreadable(folder, str(error))  # its own report refuses it too
    return row


def _unreadable(folder: Path, why: str) -> dict[str, Any] | None:
    """Return the row of a folder with notebooks that cannot be read; None where there are none: it is no run."""
    notebooks = [path for path in folder.glob("*.ipynb") if path.is_file()]
    if not notebooks:
        return None
    broken = {"notebook": folder.name, "state": "error", "message": why}
    at = max(path.stat().st_mtime for path in notebooks)
    nothing = {"outcome": "error", "verdicts": [], "notebooks": []}
    return {**_told(folder, nothing), "at": at, "broken": broken}


def _told(folder: Path, found: Mapping[str, Any]) -> dict[str, Any]:
    claims = [claim for notebook in found["notebooks"] for claim in notebook["verdicts"]]
    judged = [claim for claim in worst_first(claims) if not is_plan(claim)]
    place: Mapping[str, Any] | None = found.get("place")
    when = place["time"] if place else found.get("started", "")
    return {
        "folder": folder.name,
        "outcome": shown(found["outcome"], claims),
        "when": when,
        "at": datetime.fromisoformat(when or "1970-01-01").timestamp(),
        "place": place,
        "passed": sum(claim["outcome"] == PASS for claim in judged),
        "claims": len(judged),
        "missed": next((claim for claim in judged if claim["outcome"] != PASS), None),
        "broken": next((one for one in found["notebooks"] if one["state"] in ("error", "interrupted")), None),
        "plans": len(claims) - len(judged),
        "worst": worst_number(judged),
        "stages": [(one["notebook"], shown(one["state"], one["verdicts"])) for one in found["notebooks"]],
    }


def _content(folder: Path) -> dict[str, Any]:
    written = folder / VERDICTS
    notebooks = list(folder.glob("*.ipynb"))
    if written.exists() and all(written.stat().st_mtime >= path.stat().st_mtime for path in notebooks):
        return dict(json.loads(written.read_text(encoding="utf-8")))
    return dict(json.loads(verdicts(collect(folder))))
