"""One self-contained HTML page per executed notebook, by nbconvert. Loads nothing from elsewhere; builds texts only."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from meshbook.report.collect import Report

_EXTERNAL = (
    "mathjax_url",
    "require_js_url",
    "jquery_url",
    "mermaid_js_url",
    "mermaid_layout_elk_js_url",
    "jupyter_widgets_base_url",
    "widget_renderer_url",
)
"""Traits of nbconvert's exporter that would make a page load scripts from the network."""

_TOP = """
<style>
  .meshbook-top { position: sticky; top: 0; z-index: 9; display: flex; gap: 1.5em; padding: .6em 2em;
    background: #fff; border-bottom: 1px solid #ddd; font: 14px system-ui, sans-serif; }
  .meshbook-top a { color: #0b57d0; text-decoration: none; }
  body:not(:has(#meshbook-code:checked)) .jp-CodeCell > .jp-Cell-inputWrapper { display: none; }
  main { max-width: 76em; margin: auto; }
  .jp-RenderedHTMLCommon td { vertical-align: top; }
</style>
<div class="meshbook-top"><a href="index.html">← verdicts of this run</a>
<label><input type="checkbox" id="meshbook-code"> show the code</label></div>
"""


def notebook_pages(report: Report) -> dict[str, str]:
    """Return ``01_connectivity.html`` → page for each executed notebook; code is folded away behind a switch."""
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # 0.85 s of grammars that nobody uses
    import nbconvert.exporters
    import nbformat

    exporter_class: Any = nbconvert.exporters.HTMLExporter
    exporter = exporter_class(template_name="lab", log=_quiet())
    for trait in _EXTERNAL:
        if exporter.has_trait(trait):
            exporter.set_trait(trait, "")
    read: Any = nbformat.reads
    pages = {}
    for stage in report.stages:
        if stage.notebook is not None:
            notebook = read(json.dumps(stage.notebook), as_version=4)
            resources = {"metadata": {"name": f"{stage.title} · meshbook"}}
            pages[f"{stage.name}.html"] = _with_top(exporter.from_notebook_node(notebook, resources=resources)[0])
    return pages


def _quiet() -> logging.Logger:
    """Return a logger for nbconvert's advice on style, which a reader of the terminal can do nothing about."""
    logger = logging.getLogger(__name__)
    logger.setLevel(logging.ERROR)
    return logger


def _with_top(page: str) -> str:
    before, body, after = page.partition("<body")
    attributes, bracket, content = after.partition(">")
    return f"{before}{body}{attributes}{bracket}{_TOP}{content}"
