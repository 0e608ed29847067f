"""How every controller reads Kubernetes objects: owners, selectors, conditions, pods, and patches between two states.

Pure functions of plain dicts. What belongs to one kind only stands with that kind's controller.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

Object = dict[str, Any]
Key = tuple[str, str]
"""(namespace, name), the namespace empty for what has none."""

SAFE_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""The API's own alphabet for generated names: no vowels, nothing that looks like something else."""


def key_of(obj: Object) -> Key:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def labels_of(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def annotations_of(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


def is_deleting(obj: Object) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def age_rank(obj: Object) -> tuple[str, str]:
    """Sort key: oldest first, by name where the second is the same."""
    return obj["metadata"].get("creationTimestamp", ""), obj["metadata"]["name"]


def short_hash(data: object, length: int) -> str:
    """Return ``length`` letters that name ``data`` (anything that JSON can write), safe in an object's name."""
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).digest()
    return "".join(SAFE_ALPHABET[byte % len(SAFE_ALPHABET)] for byte in digest[:length])


def controller_of(obj: Object) -> Object | None:
    """Return the owner reference that says ``controller: true``."""
    references = obj["metadata"].get("ownerReferences") or []
    return next((reference for reference in references if reference.get("controller")), None)


def is_controlled_by(obj: Object, owner: Object) -> bool:
    reference = controller_of(obj)
    return reference is not None and reference["uid"] == owner["metadata"]["uid"]


def owner_reference(owner: Object) -> Object:
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def selects(selector: Object | None, labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector matches; none at all matches nothing, an empty one everything."""
    if selector is None:
        return False
    wanted = selector.get("matchLabels") or {}
    expressions = selector.get("matchExpressions") or []
    return contains(labels, wanted) and all(_holds(expression, labels) for expression in expressions)


def contains(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(labels.get(name) == value for name, value in wanted.items())


def _holds(expression: Object, labels: Mapping[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or []
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case _:
            return value is None


def timestamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_since(stamp: str, now: datetime) -> float:
    return (now - datetime.fromisoformat(stamp).astimezone(UTC)).total_seconds()


def condition(obj: Object, name: str) -> Object:
    """Return the condition ``name`` of an object's status, or an empty dict."""
    conditions = (obj.get("status") or {}).get("conditions") or []
    return next((found for found in conditions if found["type"] == name), {})


def with_condition(conditions: Iterable[Object], fresh: Object, now: datetime) -> list[Object]:
    """Return ``conditions`` with ``fresh`` in them; its transition time moves only when its status does."""
    kept = [found for found in conditions if found["type"] != fresh["type"]]
    known: Object = next((found for found in conditions if found["type"] == fresh["type"]), {})
    same = known.get("status") == fresh["status"]
    since = known["lastTransitionTime"] if same and "lastTransitionTime" in known else timestamp(now)
    return [*kept, {**fresh, "lastTransitionTime": since}]


def is_ready(pod: Object) -> bool:
    return condition(pod, "Ready").get("status") == "True"


def is_finished(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    return not is_finished(pod) and not is_deleting(pod)


def difference(old: object, new: Mapping[str, Any]) -> Object:
    """Return the merge patch that turns ``old`` into ``new``; empty when nothing differs."""
    before: Mapping[str, Any] = old if isinstance(old, Mapping) else {}
    patch: Object = {name: None for name in before if name not in new}
    for name, value in new.items():
        if name not in before or not isinstance(value, Mapping):
            if before.get(name) != value:
                patch[name] = value
        elif nested := difference(before[name], value):
            patch[name] = nested
    return patch


def scaled_value(value: object, total: int, *, up: bool) -> int:
    """Return an IntOrString as a number; a percentage of ``total`` is rounded up or down."""
    if isinstance(value, int):
        return value
    share = int(str(value).removesuffix("%")) * total
    return -(-share // 100) if up else share // 100
