"""The page to open: verdicts on top, then the pictures, then how to read them and where everything is. Pure text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape

from meshbook.notebook import PASS, Claim, measured
from meshbook.report.collect import Figure, Report, Stage
from meshbook.report.style import STYLE

_SUMMARY = {
    PASS: "Every claim of this run held.",
    "fail": "At least one claim was measured and does not hold.",
    "inconclusive": "No claim failed, but the evidence for at least one is too little or mixed.",
    "error": "At least one notebook broke off before its verdict. That is no finding about the mesh.",
    "interrupted": "The run was interrupted before its end.",
}

_OF_ANSWERS = {"seq", "source", "code"}
"""Columns by which a table of answers is known: one row is one request."""

_READING = """
<dl>
<dt><span class="word pass">pass</span></dt><dd>The claim was measured and held, its interval
of doubt included.</dd>
<dt><span class="word fail">fail</span></dt><dd>The claim was measured and does not hold. This is a finding.</dd>
<dt><span class="word inconclusive">inconclusive</span></dt><dd>Too few or contradictory answers to say either. Ask
again with more requests; it is not a pass.</dd>
<dt><span class="word error">error</span></dt><dd>The notebook did not reach its verdict, so nothing was found out.
Its page ends with the message that says what to try.</dd>
<dt>n</dt><dd>Requests that the verdict rests on.</dd>
<dt>measured</dt><dd>The estimate, and in brackets its interval: with so many requests, values outside of it
would hardly have given what was seen (95 %). A time is a range alone, from at least to at most: requests leave gaps
between them, and no event is known better than that. The line below shows the same.</dd>
<dt>limit</dt><dd>What the interval was held against. A bare estimate never decides.</dd>
</dl>
"""


def index_page(report: Report, files: Iterable[str]) -> str:
    """Return index.html for ``report``, linking to ``files`` beside it."""
    figures = [(stage, figure) for stage in report.stages for figure in stage.figures]
    parts = [
        _header(report),
        "<main><h2>Verdicts</h2>",
        *(_card(stage, set(files)) for stage in report.stages),
        _restored(report),
        f'<h2>Pictures</h2><div class="figures">{"".join(_figure(*pair) for pair in figures)}</div>' if figures else "",
        f"<h2>How to read this</h2>{_READING}",
        _details(report),
        f"<h2>Files</h2><p>{' · '.join(_link(name, name) for name in _listed(report, files))}</p></main>",
        f"<footer>{_made_by(report)}</footer>",
    ]
    title = f"{report.outcome}: meshbook {report.run_id}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _header(report: Report) -> str:
    passed = sum(claim["outcome"] == PASS for _, claim in report.claims)
    seconds = sum(stage.seconds or 0 for stage in report.stages)
    ran = sum(stage.notebook is not None for stage in report.stages)
    facts = [
        (f"{passed} of {len(report.claims)}", "claims passed"),
        (f"{ran} of {len(report.stages)}", "notebooks executed"),
        (f"{sum(_requests(text) for stage in report.stages for text in stage.rows.values())}", "requests sent"),
        (f"{seconds:.1f} s", "in the notebooks"),
    ]
    tiles = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for value, name in facts)
    return (
        f'<header><p class="kicker">meshbook · run {escape(report.run_id)}</p>'
        f"<h1>{_word(report.outcome)} Does one service span both clouds?</h1>"
        f'<p>{_SUMMARY.get(report.outcome, "")}</p><div class="facts">{tiles}</div></header>'
    )


def _requests(csv: str) -> int:
    """Return how many requests a kept table tells of: none, unless it is one of answers."""
    header, *rows = csv.splitlines() or [""]
    return len(rows) if _OF_ANSWERS.issubset(header.split(",")) else 0


def _word(state: str) -> str:
    return f'<span class="word {escape(state)}">{escape(state)}</span>'


def _card(stage: Stage, files: set[str]) -> str:
    links = [_link(f"{stage.name}.html", "page")] if f"{stage.name}.html" in files else []
    links += [_link(f"{stage.name}.ipynb", "notebook")] if stage.notebook is not None else []
    links += [
        _link(f"{stage.name}.{name}.csv", f"{name} (CSV)") for name, text in stage.rows.items() if text.count("\n") > 1
    ]
    took = f'<span class="soft">{stage.seconds:.1f} s</span>' if stage.seconds else ""
    head = f'<div class="head">{_word(stage.state)}<h3>{escape(stage.title)}</h3>{took}'
    message = f"<p>{escape(stage.message)}</p>" if stage.message else ""
    head += f'<span class="links">{"".join(links)}</span></div>'
    return f'<section class="card">{head}{message}{_table(stage)}</section>'


def _link(target: str, text: str) -> str:
    return f'<a href="{escape(target, quote=True)}">{escape(text)}</a>'


def _table(stage: Stage) -> str:
    if not stage.claims:
        return ""
    counted = any(claim["n"] or measured(claim) for claim in stage.claims)
    numbers = '<th class="n">n</th><th class="measured">measured</th><th class="limit">limit</th>' if counted else ""
    heads = f'<th class="claim">claim</th><th class="verdict">verdict</th>{numbers}<th class="why">why</th>'
    rows = "".join(_row(claim, counted=counted) for claim in stage.claims)
    return f'<div class="scroll"><table class="claims"><tr>{heads}</tr>{rows}</table></div>'


def _row(claim: Claim, *, counted: bool) -> str:
    numbers = (
        f'<td class="n">{claim["n"] or ""}</td><td>{escape(measured(claim))}{_interval(claim)}</td>'
        f"<td>{escape(claim['limit'])}</td>"
    )
    return (
        f"<tr><td>{escape(claim['claim'])}</td><td>{_word(claim['outcome'])}</td>"
        f'{numbers if counted else ""}<td class="why">{escape(claim["reason"])}</td></tr>'
    )


def _interval(claim: Claim) -> str:
    """Return a small picture of the interval on its scale: 0 to 100 for percent, from 0 for anything else."""
    low, high, estimate = claim["low"], claim["high"], claim["estimate"]
    if low is None or high is None or low < 0:
        return ""
    end = 100.0 if claim["unit"] == "%" else high * 1.15 or 1.0
    x1, x2, x = (4 + 132 * min(value / end, 1) for value in (low, high, estimate or 0.0))
    dot = "" if estimate is None else f'<circle cx="{x:.1f}" cy="6" r="4" fill="#1c2430"/>'
    return (
        '<svg class="interval" width="140" height="12" aria-hidden="true">'
        '<line x1="4" y1="6" x2="136" y2="6" stroke="#dfe4ea" stroke-width="2"/>'
        f'<line x1="{x1:.1f}" y1="6" x2="{max(x2, x1 + 1):.1f}" y2="6" stroke="#4a5563" stroke-width="4"/>'
        f"{dot}</svg>"
    )


def _figure(stage: Stage, figure: Figure) -> str:
    caption = f"{stage.title.partition(':')[0]} · {figure.heading}" if figure.heading != stage.title else stage.title
    image = f'<img alt="{escape(caption, quote=True)}" src="data:image/png;base64,{figure.png}">'
    return f"<figure><figcaption>{escape(caption)}</figcaption>{image}</figure>"


def _restored(report: Report) -> str:
    lines = report.run.get("restored") or []
    items = "".join(f"<li>{escape(str(line))}</li>" for line in lines)
    return f"<p>After a notebook had broken off:</p><ul>{items}</ul>" if lines else ""


def _details(report: Report) -> str:
    parameters = report.run.get("parameters") or {}
    cells = ((escape(name), escape(json.dumps(value, ensure_ascii=False))) for name, value in parameters.items())
    rows = "".join(f"<tr><td><code>{name}</code></td><td><code>{value}</code></td></tr>" for name, value in cells)
    if not rows:
        return ""
    return (
        f'<details><summary>Parameters of this run</summary><div class="scroll"><table>{rows}</table></div></details>'
    )


def _listed(report: Report, files: Iterable[str]) -> list[str]:
    notebooks = [f"{stage.name}.ipynb" for stage in report.stages if stage.notebook is not None]
    return sorted({*files, *notebooks})


def _made_by(report: Report) -> str:
    run = report.run
    known = [f"meshbook {run['meshbook']}", f"Python {run['python']}"] if run.get("meshbook") else ["meshbook"]
    times = [str(run[name]) for name in ("started", "finished") if run.get(name)]
    return escape(" · ".join([*known, " to ".join(times)] if times else known))
