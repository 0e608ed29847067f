"""What the notebooks themselves call: set up, show, keep rows, and leave the verdict at the end.

What is left travels in the outputs, and is found again by ``marks``. Judging is in ``analysis``, the columns of rows in
``tables``, the files of rows in ``rows``.
"""

from __future__ import annotations

import ast
import contextlib
import os
import platform
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshbook import cells, manifests, progress
from meshbook import rows as row_files
from meshbook.errors import RunError, UsageError
from meshbook.language import translate, translate_html
from meshbook.marks import PLACE_TYPE, ROWS_TYPE, VERDICT_TYPE, Claim
from meshbook.place import place_of, place_text
from meshbook.settings import require_usable
from meshbook.verdict import PASS, WORST_FIRST, counted, overall, worst

if TYPE_CHECKING:
    import pandas as pd

    from meshbook.clusters import Fleet
    from meshbook.verdict import Verdict


def begin(contexts: Sequence[str] = (), kubeconfig: str = "", names: Mapping[str, str] | None = None) -> Fleet:
    """Set a notebook up, and return the fleet that it works on; the first line says where this runs, when and by whom.

    ``names`` are what tables, charts and words call the clusters, by context. Errors are one message without paths,
    tables are wide, and it is followed which cells a verdict rests on.
    """
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if shell is not None:
        shell.InteractiveTB.set_mode(mode="Minimal")
        cells.watch(shell)
        require_usable(_parameters_in(shell.user_ns))
    import pandas as pd

    from meshbook import mesh
    from meshbook.clusters import Fleet

    pd.set_option("display.max_colwidth", 160, "display.width", 160)
    if shell is not None and shell.display_formatter is not None:
        shell.display_formatter.formatters["text/html"].for_type(
            pd.DataFrame, lambda table: translate_html(_html(table))
        )
    fleet = Fleet.connect(contexts, kubeconfig, names)
    place = place_of([asdict(one) for one in mesh.places(fleet)])
    _show({"text/plain": place_text(place), PLACE_TYPE: place})
    if shell is not None:
        progress.watch(shell, partial(show_text, "The same from a terminal", opened=False))
    return fleet


def _parameters_in(names: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a running notebook as they are now: what a cell has declared with a type."""
    found: dict[str, Any] = {}
    for source in names["In"]:
        with contextlib.suppress(SyntaxError):  # what the kernel itself has complained about
            targets = [node.target for node in ast.parse(source).body if isinstance(node, ast.AnnAssign)]
            found |= {one.id: names[one.id] for one in targets if isinstance(one, ast.Name) and one.id in names}
    return found


def without_slow_imports() -> None:
    """Make the next import of papermill or nbconvert half as slow. To be called before the first of them.

    With jupyterlab installed, jsonschema's optional check of IRIs (``rfc3987_syntax``) compiles grammars for 0.85 s at
    import, and no Jupyter schema uses it. jsonschema goes without when the module is missing, so it is made missing.
    """
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]


def environment() -> pd.DataFrame:
    """Return what this notebook runs in: programs and libraries with their versions."""
    import pandas as pd

    names = ("meshbook", "kubernetes", "pandas", "matplotlib", "papermill", "jupyterlab")
    found = {"python": platform.python_version(), "kernel": sys.executable, "system": platform.platform()}
    return pd.DataFrame([*found.items(), *((name, version(name)) for name in names)], columns=["what", "version"])


def manifests_folder(given: str = "") -> Path:
    """Return the folder of the manifests: ``given``, else the repository's, beside the package or above this folder.

    Relative where that is possible, so that a message which names it names no more of this machine than it must.
    """
    above = [folder / "manifests" for folder in (Path(__file__).parents[1], Path.cwd(), *Path.cwd().parents)]
    for place in [Path(given).expanduser()] if given else above:
        if (place / "connectivity").is_dir():
            return Path(os.path.relpath(place)) if place.is_absolute() else place
    raise UsageError(
        f"no manifests in {given or 'the repository'}", hint="start in a clone, or set the parameter manifests"
    )


def show_text(title: str, text: str, *, opened: bool = True) -> None:
    """Show a text to be read or copied as it stands, under a title that folds it away."""
    title = escape(translate(title))
    shown = f'<pre style="white-space:pre;overflow-x:auto">{escape(text)}</pre>'
    html = f"<details{' open' * opened}><summary>{title}</summary>{shown}</details>"
    _display({"text/html": html, "text/plain": text})


def show_manifests(path: str | Path | None) -> None:
    """Show the manifests of a file or folder as they stand there, comments and all; of none nothing."""
    for file, text in manifests.texts(path).items() if path else ():
        show_text(file.name, text)


def keep_rows(rows: pd.DataFrame, name: str = "answers") -> None:
    """Show a frame of ``tables.ANSWERS`` cut down for reading, and keep all of it as ``keep_table`` does."""
    from meshbook import tables

    rows = tables.conform(rows, tables.ANSWERS)
    keep_table(rows, name, tables.to_display(_ends(rows, _SHOWN)), summary=_summary(rows))


_SHOWN = 10
"""Rows that are shown of a long table, half of them from its end."""


def keep_table(
    table: pd.DataFrame, name: str, shown: pd.DataFrame | None = None, *, max_rows: int = _SHOWN, summary: str = ""
) -> None:
    """Show both ends of a frame (or of ``shown``, made from it for reading), and keep all of it in a file.

    The file lies beside the notebook, ``01_connectivity.answers.csv`` for ``name`` answers: see ``rows``.
    """
    if not name.isidentifier():
        raise UsageError(f"rows are kept under a plain word, not {name!r}")
    kept = row_files.write(table, *_place(), name)
    seen = _ends(table if shown is None else shown, max_rows).astype(object)
    seen = seen.where(seen.notna(), "")
    told = f"{summary or counted(kept.rows, 'row') + ' in all'}, kept in {kept.file}"
    html, text = (
        _html(seen, max_rows, whole=len(seen) == len(table)),
        _titled(seen).to_string(index=False, max_rows=max_rows),
    )
    if seen.empty:
        html, text = "", ""
    _show({"text/html": f"{html}<p>{told}</p>", "text/plain": f"{text}\n{told}".strip(), ROWS_TYPE: kept.to_dict()})


_TITLES = {
    "offered_per_s": "sent per s by all sources",
    "served_per_s": "answered per s by the survivor",
    "p90_ms": "9 in 10 within ms",
}
"""What a column is called where its name in words would not do."""


def _titled(table: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose columns are called in words: ``degraded at least ms`` for ``degraded_low_ms``."""
    words = {
        name: name.replace("_low_", "_at_least_").replace("_high_", "_at_most_") for name in map(str, table.columns)
    }
    words = {name: re.sub("^(low|high)_", lambda end: _ENDS[end[1]], text) for name, text in words.items()}
    return table.rename(columns={name: _TITLES.get(name, text.replace("_", " ")) for name, text in words.items()})


_ENDS = {"low": "at least ", "high": "at most "}


def _html(table: pd.DataFrame, max_rows: int = 60, *, whole: bool = True) -> str:
    """Return a frame as a table; of a ``whole`` one, what is the same in all rows stands above it, a blank nowhere."""
    from meshbook import tables

    if table.empty:
        return "<p>nothing to list (an empty table)</p>"
    shown, above = _titled(table), ""
    if whole:
        shown = shown.loc[:, ~shown.astype(str).isin(["", "nan", "<NA>"]).all()]
    same = [name for name in shown if len(shown) > 2 and whole and shown[name].astype(str).nunique() == 1]
    if len(same) <= len(shown.columns) - 2:
        above = " · ".join(f"{name}: {shown[name].iloc[0]}" for name in same)
        shown = shown.drop(columns=same)
    rows = tables.to_html(shown, max_rows)
    return f"<p>{escape(above)}</p>{rows}" if above else rows


def _ends(table: pd.DataFrame, most: int) -> pd.DataFrame:
    """Return a frame that is shown like ``table`` in ``most`` rows, without its middle."""
    import pandas as pd

    half = most // 2 + 1
    return table if len(table) <= 2 * half else pd.concat([table.head(half), table.tail(half)])


def _summary(answers: pd.DataFrame) -> str:
    sent, errors = answers["time"], Counter(answers["error"].tolist())
    bad = (f"{n} {error}" for error, n in errors.most_common() if error)
    found = ", ".join([counted(errors[""], "good answer"), *bad])
    when = f" from {sent.min():%H:%M:%S} to {sent.max():%H:%M:%S} UTC" if sent.notna().any() else ""
    return f"{counted(len(answers), 'request')} of {counted(answers['source'].nunique(), 'source')}{when}: {found}"


def _place() -> tuple[Path, str]:
    """Return folder and stem of this notebook's files: beside it where that is known, else in a place for such files.

    ``PLACE_VARIABLE`` tells, else papermill with ``--inject-paths``, JupyterLab always; a kernel starts in the folder
    of JupyterLab's notebook.
    """
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    names = shell.user_ns if shell is not None else {}
    session = Path(os.environ.get("JPY_SESSION_NAME", "")).name
    if given := os.environ.get(row_files.PLACE_VARIABLE):
        return Path(given).parent, Path(given).name
    for told in (names.get("PAPERMILL_OUTPUT_PATH"), names.get("__vsc_ipynb_file__"), session):
        path = Path(str(told or ""))
        if path.suffix == ".ipynb" and path.parent.is_dir():
            return path.parent, path.stem
    return row_files.PLACELESS, _STARTED


_STARTED = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.getpid()}"


def leave_verdict(*verdicts: Verdict) -> None:
    """Show what was found, leave it as the notebook's verdict, and raise RunError unless every claim passed.

    To be called once, in the last cell. The verdict is left before anything is raised, so that a stage which failed
    differs from one which broke, and plain papermill exits with an error in both cases. None is left where a cell that
    it rests on was broken off, or has not run again since an earlier one did: that is no finding.
    """
    from IPython.core.getipython import get_ipython

    if not verdicts:
        raise UsageError("a notebook's verdict rests on one claim at least")
    shell = get_ipython()
    if stale := cells.watch(shell).stale() if shell is not None else "":
        raise RunError(f"no verdict: {stale}", hint="run all cells from that one down to this one")
    verdicts = tuple(sorted(verdicts, key=lambda verdict: WORST_FIRST.index(verdict.outcome)))
    claims: list[Claim] = [verdict.to_dict() for verdict in verdicts]
    outcome = worst(claim["outcome"] for claim in claims)
    line = overall(outcome, claims)
    html = "".join((f"<h3>{escape(line)}</h3>", *(verdict._repr_html_() for verdict in verdicts)))
    text = "\n".join((line, *map(str, verdicts)))
    _show({"text/html": html, "text/plain": text, VERDICT_TYPE: {"outcome": outcome, "claims": claims}})
    missed = [claim for claim in claims if claim["outcome"] != PASS]
    if missed:
        reasons = "\n".join(f"  {claim['outcome']}: {claim['claim']}: {claim['reason']}" for claim in missed)
        raise RunError(f"{len(missed)} of {len(claims)} claims did not pass\n{reasons}")


def _show(bundle: Mapping[str, Any]) -> None:
    """Show texts that are made here, in the reader's language."""
    texts = {kind: said(bundle[kind]) for kind, said in _TRANSLATED.items() if kind in bundle}
    _display({**bundle, **texts})


_TRANSLATED: Mapping[str, Callable[[str], str]] = {"text/plain": translate, "text/html": translate_html}


def _display(bundle: Mapping[str, Any]) -> None:
    from IPython.display import display

    display(dict(bundle), raw=True)  # type: ignore[no-untyped-call]
