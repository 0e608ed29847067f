"""Conflicts of server-side apply: which fields may stay as another owner has set them. Pure.

Of a Deployment it matters that it is there, with pods of these labels: how many, of which image and with which
resources, its owner may choose; so too how many an autoscaler or a disruption budget allows. All else in a manifest is
meant as it stands, and a conflict on it is an error.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable
from typing import Any

from meshbook.objects import Object

_OWNERS_CHOICE = {
    "Deployment": (".spec.replicas", ".spec.strategy", ".spec.template.spec."),
    "HorizontalPodAutoscaler": (".spec.minReplicas", ".spec.maxReplicas", ".spec.metrics"),
    "PodDisruptionBudget": (".spec.maxUnavailable",),
}
_STEP = re.compile(r"\.([\w-]+)|\[([^\]]*)\]")


def without(found: Object, fields: Iterable[str]) -> tuple[Object, list[str]]:
    """Return an object without those of the ``fields`` in conflict that its owner may choose, and which those are.

    Fields are written as the API server names them: ``.spec.template.spec.containers[name="app"].image``; returned
    without what all of them begin with.
    """
    rest, left = copy.deepcopy(found), []
    for field in fields:
        if field.startswith(_OWNERS_CHOICE.get(found["kind"], ("nothing",))) and _remove(rest, _steps(field)):
            left.append(field.removeprefix(".spec.template.spec.").removeprefix(".spec."))
    return rest, left


def _steps(field: str) -> list[str | dict[str, Any]]:
    """Return the names of a path, and the keys of list members on it; empty where it cannot be read."""
    parts = list(_STEP.finditer(field))
    if "".join(part[0] for part in parts) != field:
        return []
    try:
        return [part[1] or _keys(part[2]) for part in parts]
    except ValueError:
        return []


def _keys(text: str) -> dict[str, Any]:
    pairs = (pair.partition("=") for pair in text.split(","))
    return {name: json.loads(value) for name, _, value in pairs}


def _remove(where: Any, steps: list[str | dict[str, Any]]) -> bool:
    """Take out what a path leads to, and what is empty without it; False where it leads to nothing."""
    if not steps:
        return False
    step, *rest = steps
    if isinstance(step, dict):
        members = where if isinstance(where, list) else []
        fitting = [one for one in members if all(one.get(key, value) == value for key, value in step.items())]
        return bool(fitting) and _remove(fitting[0], rest)
    if not isinstance(where, dict) or step not in where:
        return False
    if not rest:
        del where[step]
        return True
    removed = _remove(where[step], rest)
    if where[step] == {}:
        del where[step]
    return removed
