"""The pages of a report: one per executed notebook, and the index to open. They load nothing from elsewhere.

What stands on a page is in ``templates``, with one style sheet for all; nbconvert turns a notebook's cells into HTML.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml

from meshbook.language import LANGUAGES, translate, translate_html
from meshbook.notebook import without_slow_imports
from meshbook.place import clusters_text, moment_text
from meshbook.report.collect import Report
from meshbook.report.scale import scale_of, worst_number
from meshbook.verdict import measured_text, shown

_TEMPLATES = Path(__file__).parent / "templates"


def pages(report: Report, files: Iterable[str], *, history: bool = False) -> dict[str, str]:
    """Return pages by name: one for each executed notebook, and ``index.html``, which links to them and ``files``.

    Each can be sent alone. With ``history`` the index links to the page over all runs, in the folder above.
    """
    without_slow_imports()
    import nbformat
    from nbconvert.exporters import HTMLExporter

    log = logging.getLogger(__name__)
    log.setLevel(logging.ERROR)  # nbconvert's advice on style is nothing that a reader of the terminal can act on
    exporter: Any = HTMLExporter(template_name="basic", log=log)  # type: ignore[no-untyped-call]
    templates = environment(report.language)
    found = {}
    for stage in report.stages:
        if stage.notebook is not None:
            shown = json.dumps(_in_language(stage.notebook, report.language))
            notebook = nbformat.reads(shown, as_version=4)  # type: ignore[no-untyped-call]
            content, _ = exporter.from_notebook_node(notebook)
            found[f"{stage.name}.html"] = templates.get_template("notebook.html.j2").render(
                stage=stage, content=content
            )
    listed = sorted({*files, *found, *(name.replace(".html", ".ipynb") for name in found)})
    found["index.html"] = templates.get_template("index.html.j2").render(
        report=report, files=listed, worst=worst_number(report.claims), history=history
    )
    return found


def environment(language: str = LANGUAGES[0]) -> jinja2.Environment:
    """Return what makes every page: templates, their text in ``language``, and how numbers and times are written."""
    from pygments.formatters import HtmlFormatter

    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        extensions=["jinja2.ext.i18n"],
    )
    templates.policies["ext.i18n.trimmed"] = True
    words = {} if language == LANGUAGES[0] else yaml.safe_load((_TEMPLATES / f"{language}.yaml").read_text("utf-8"))
    templates.install_gettext_callables(  # type: ignore[attr-defined]
        lambda text: words.get(text, text),
        lambda one, many, count: words.get(many, one if count == 1 else many),
        newstyle=True,
    )
    templates.filters |= {"json": _as_json, "scale": scale_of, "shown": shown, "moment": moment_text}
    templates.filters |= {
        "said": lambda text: translate(text, language),
        "said_html": lambda text: translate_html(text, language),
        "measured": lambda claim: translate(measured_text(claim), language),
        "clusters": lambda place: translate(clusters_text(place), language),
    }
    templates.globals["language"] = language
    for name, style in (("highlighting", "default"), ("highlighting_dark", "github-dark")):
        templates.globals[name] = HtmlFormatter(style=style).get_style_defs(".highlight")
    return templates


def _in_language(notebook: Mapping[str, Any], language: str) -> dict[str, Any]:
    """Return a notebook whose outputs are shown in ``language``, whatever language its kernel had."""
    cells = [
        {**cell, "outputs": [_output(output, language) for output in cell["outputs"]]} if "outputs" in cell else cell
        for cell in notebook["cells"]
    ]
    return {**notebook, "cells": cells}


def _output(output: Mapping[str, Any], language: str) -> dict[str, Any]:
    def said(name: str, text: Any) -> Any:
        if name not in ("text", "text/plain", "text/html", "traceback"):
            return text
        if name == "traceback":
            return [translate(line, language) for line in text]
        return (translate_html if name == "text/html" else translate)("".join(text), language)

    data = {name: said(name, value) for name, value in output.get("data", {}).items()}
    return {name: said(name, value) for name, value in output.items()} | ({"data": data} if data else {})


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
