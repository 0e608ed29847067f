"""One list of requests and expectations, asked of each cluster over plain HTTP.

The list is ``requests/*.yaml``: a case has a name and steps, and may say what group version it ``needs``, and ``since``
which minor version of Kubernetes servers answer so. A step:

``do``       method and path; ``{core}``, ``{apps}`` and the like are paths into the suite's namespace ``{ns}``,
             ``{me}`` is a name of the case's own, ``{pod}`` a pod that runs; other names were kept by a step before
``body``     an object, changed by ``set`` (pointer: value) and ``drop`` (pointers); ``text`` is sent as it stands
``type``     of the body: json, merge, strategic, apply or a media type; ``accept``, ``token``, ``as`` (whom to
             impersonate) are headers
``code``     of the answer, 200 if not given; ``reason`` and ``says`` (parts of the message) of a refusal
``has``      pointer: value of the answer; ``~`` begins a regular expression; ``lacks`` are pointers to nothing,
             ``lacks_value`` says what must not be there; ``warns`` is part of a Warning header, "" for none
``keep``     name: pointer, for later steps
``until_s``  the step is repeated for so long until all this holds

A pointer is a path with ``/`` (``~1`` in a name): an index, ``key=value`` for the item of a list, ``#`` for its length.
"""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml

PATCHES = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
Step = dict[str, Any]


def cases() -> Iterator[Any]:
    number = 0
    for file in sorted((Path(__file__).parent / "requests").glob("*.yaml")):
        for name, case in yaml.safe_load(file.read_text())["cases"].items():
            number += 1
            whole = case if isinstance(case, dict) else {"steps": case}
            yield pytest.param(whole | {"me": f"case-{number}"}, id=identifier(name))


def identifier(name: str) -> str:
    return name.replace(",", "").replace(" ", "-")


@pytest.mark.parametrize("case", list(cases()))
def test_requests_are_answered_as_agreed(case: Step, api: Any, request: pytest.FixtureRequest) -> None:
    if case.get("needs") and api.ask("GET", f"/apis/{case['needs']}").code == 404:
        pytest.skip(f"{api.context} does not serve {case['needs']}")
    if "since" in case and minor_of(api) < case["since"]:
        pytest.skip(f"{api.context} is Kubernetes 1.{minor_of(api)}, and this is so since 1.{case['since']}")
    known = {"me": case["me"], "ns": api.namespace, "core": api.core, "apps": api.apps}
    known["istio"] = f"/apis/networking.istio.io/v1beta1/namespaces/{api.namespace}"
    known["rbac"] = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{api.namespace}"
    known["account"] = f"system:serviceaccount:{api.namespace}:{case['me']}"
    if "{pod}" in str(case):
        known["pod"] = request.getfixturevalue("pod")
    for step in case["steps"]:
        take(api, filled(step, known), known)


def minor_of(api: Any) -> int:
    return int(api.get("/version")["minor"].rstrip("+"))


def take(api: Any, step: Step, known: dict[str, str]) -> None:
    """Do one step and check it; what it keeps goes into ``known``."""
    deadline = time.monotonic() + step.get("until_s", 0)
    while True:
        answer = send(api, step)
        wrong = list(differences(step, answer))
        if not wrong or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    assert not wrong, "\n".join([f"{api.context}: {step['do']}", *wrong, f"HTTP {answer.code}", answer.text[:1500]])
    known |= {name: at(answer.json, pointer) for name, pointer in step.get("keep", {}).items()}


def filled(value: Any, known: dict[str, str]) -> Any:
    """Return ``value`` with the known names in its texts filled in; keys stay, but for those of labels and the like."""
    if isinstance(value, dict):
        return {filled(name, known): filled(member, known) for name, member in value.items()}
    if isinstance(value, list):
        return [filled(member, known) for member in value]
    if isinstance(value, str):
        return re.sub(r"\{(\w+)\}", lambda match: known.get(match[1], match[0]), value)
    return value


def send(api: Any, step: Step) -> Any:
    method, path = step["do"].split(" ", 1)
    body = step.get("text", copy.deepcopy(step.get("body")))
    for pointer, value in step.get("set", {}).items():
        *parents, last = pointer.split("/")
        parent = at(body, "/".join(parents)) if parents else body
        parent[int(last) if isinstance(parent, list) else last] = value
    for pointer in step.get("drop", ()):
        *parents, last = pointer.split("/")
        del (at(body, "/".join(parents)) if parents else body)[last]
    return api.ask(method, path, body, **headers(step))


def headers(step: Step) -> dict[str, str]:
    given = {"Content-Type": PATCHES.get(step.get("type", ""), step.get("type")), "Accept": step.get("accept")}
    given["Impersonate-User"] = step.get("as")
    given["Authorization"] = f"Bearer {step['token']}" if "token" in step else None
    return {name: text for name, text in given.items() if text}


def at(value: Any, pointer: str) -> Any:
    """Return what a pointer points to, None where there is nothing."""
    return reduce(inner, pointer.split("/"), value)


def inner(value: Any, step: str) -> Any:
    if isinstance(value, dict):
        return value.get(step.replace("~1", "/"))
    if not isinstance(value, list):
        return None
    if step == "#":
        return len(value)
    if step.isdigit():
        return value[int(step)] if int(step) < len(value) else None
    key, _, wanted = step.partition("=")
    found = (item for item in value if at(item, key.replace("~1", "/")) == wanted.replace("~1", "/"))
    return next(found, None)


def differences(step: Step, answer: Any) -> Iterator[str]:
    """Yield each expectation that the answer does not meet."""
    if answer.code != step.get("code", 200):
        yield f"code is {answer.code}, not {step.get('code', 200)}"
    body = answer.json
    if "reason" in step and at(body, "reason") != step["reason"]:
        yield f"reason is {at(body, 'reason')}, not {step['reason']}"
    parts = step.get("says", [])
    for part in [parts] if isinstance(parts, str) else parts:
        if part not in str(at(body, "message")):
            yield f"the message does not say: {part}"
    warned = answer.headers.get("Warning", "").replace('\\"', '"')
    if "warns" in step and (step["warns"] not in warned or bool(step["warns"]) != bool(warned)):
        yield f"the warning is {warned!r}, not {step['warns']!r}"
    yield from objections(step, body)


def objections(step: Step, body: Any) -> Iterator[str]:
    for pointer, wanted in step.get("has", {}).items():
        if not fits(at(body, pointer), wanted):
            yield f"{pointer} is {at(body, pointer)!r}, not {wanted!r}"
    for pointer in step.get("lacks", ()):
        if at(body, pointer) is not None:
            yield f"{pointer} is {at(body, pointer)!r}, and should not be there"
    for pointer, unwanted in step.get("lacks_value", {}).items():
        if at(body, pointer) in (None, unwanted):
            yield f"{pointer} is {unwanted!r}, or not there"


def fits(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, str) and wanted.startswith("~"):
        return isinstance(found, str) and re.fullmatch(wanted[1:], found) is not None
    return bool(found == wanted)
