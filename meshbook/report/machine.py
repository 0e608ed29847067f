"""What machines read of a run: verdicts.json with its schema, and JUnit XML. Builds texts only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from meshbook.report.collect import Report, Stage
from meshbook.verdict import DRY_RUN, FAIL, INCONCLUSIVE, PASS, is_plan, numbers_text

VERDICTS = "verdicts.json"


def verdicts(report: Report) -> str:
    """Return verdicts.json, as ``docs/verdicts.schema.json`` says. A change that breaks readers is a new version."""
    known = ("started", "finished", "meshbook", "parameters", "restored", "not_restored")
    content = {
        "version": 1,
        "run_id": report.run_id,
        "outcome": report.outcome,
        **{name: report.run[name] for name in known if report.run.get(name) is not None},
        **({"place": report.place} if report.place else {}),
        "notebooks": [_notebook(stage) for stage in report.stages],
    }
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def _notebook(stage: Stage) -> dict[str, Any]:
    return {
        "notebook": stage.name,
        "title": stage.title,
        "state": stage.state,
        "seconds": stage.seconds,
        "message": stage.message,
        "verdicts": list(stage.claims),
    }


def junit(report: Report) -> str:
    """Return the run as JUnit XML: a suite per notebook, a case per claim. Inconclusive counts as failure, by type."""
    root = ElementTree.Element("testsuites", name=f"meshbook {report.run_id}")
    totals = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    left = Stage(name="restore", title="", state=FAIL, seconds=None, message="", claims=tuple(report.down))
    for stage in (*([left] if left.claims else []), *report.stages):
        suite = ElementTree.SubElement(root, "testsuite", name=stage.name, time=f"{stage.seconds or 0:.3f}")
        cases = list(_cases(stage))
        for case in cases:
            suite.append(case)
        counts = {"tests": len(cases)}
        for tag, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            counts[attribute] = sum(case.find(tag) is not None for case in cases)
        for attribute, count in counts.items():
            suite.set(attribute, str(count))
            totals[attribute] += count
    for attribute, count in totals.items():
        root.set(attribute, str(count))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _cases(stage: Stage) -> Iterator[ElementTree.Element]:
    for claim in stage.claims:
        case = _case(stage, claim["claim"])
        found = numbers_text(claim)
        if claim["outcome"] != PASS:
            failure = ElementTree.SubElement(case, "failure", type=claim["outcome"], message=_clean(claim["reason"]))
            failure.text = _clean(found)
        elif is_plan(claim):
            ElementTree.SubElement(case, "skipped", type=DRY_RUN, message="nothing was taken down")
        said = f"{claim['reason']} ({found})" if found else claim["reason"]
        ElementTree.SubElement(case, "system-out").text = _clean(said)
        yield case
    if stage.state in (PASS, FAIL, INCONCLUSIVE):
        return
    case = _case(stage, "the notebook reaches its verdict")
    tag = "skipped" if stage.state == "skipped" else "error"
    ElementTree.SubElement(case, tag, type=stage.state, message=_clean(stage.message))
    yield case


def _case(stage: Stage, name: str) -> ElementTree.Element:
    return ElementTree.Element("testcase", classname=f"meshbook.{stage.name}", name=_clean(name))


def _clean(text: str) -> str:
    """Return ``text`` without the control characters that XML 1.0 cannot carry."""
    return "".join(sign for sign in text if sign in "\t\n\r" or sign >= " ")
