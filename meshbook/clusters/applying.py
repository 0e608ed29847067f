"""Objects into a cluster and out of it: all are checked by the server before the first is changed.

The manifests were read by ``manifests``; single requests are ``api``'s.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from meshbook import manifests
from meshbook.clusters import waiting
from meshbook.clusters.api import Api, kind_of
from meshbook.clusters.records import Applied, Object, Objects, Outcome
from meshbook.errors import ClusterError

_CHURN = {"resourceVersion", "managedFields", "generation"}
"""Metadata that changes though the object says the same."""


def place(api: Api, objects: Sequence[Object], namespace: str) -> Objects:
    """Return the objects in the namespaces in which they belong on this cluster."""
    return [manifests.placed(found, namespace, namespaced=_namespaced(api, objects, found)) for found in objects]


def _namespaced(api: Api, objects: Sequence[Object], found: Object) -> bool:
    try:
        return api.resource(kind_of(found)).namespaced
    except ClusterError:
        for other in objects:
            if other["kind"] == "CustomResourceDefinition" and other["spec"]["names"]["kind"] == found["kind"]:
                return bool(other["spec"]["scope"] == "Namespaced")
        raise


def apply(api: Api, objects: Sequence[Object], *, force: bool) -> list[Applied]:
    """Apply placed objects in order. Nothing is changed when the server refuses any of them beforehand."""
    for found in objects:
        if not _waits_for_another(found, objects):
            _apply_one(api, found, force=force, dry_run=True)
    return [_apply(api, found, force) for found in objects]


def _waits_for_another(found: Object, objects: Sequence[Object]) -> bool:
    """Tell whether an object needs a namespace or a kind that the same manifests make."""
    for other in objects:
        if other["kind"] == "Namespace" and other["metadata"]["name"] == found["metadata"].get("namespace"):
            return True
        if other["kind"] == "CustomResourceDefinition" and other["spec"]["names"]["kind"] == found["kind"]:
            return True
    return False


def _apply(api: Api, found: Object, force: bool) -> Applied:
    metadata = found["metadata"]
    before = api.find(kind_of(found), metadata["name"], metadata.get("namespace", ""))
    code, after = _apply_one(api, found, force=force, dry_run=False)
    if code == 201 or before is None:
        return record(api, found, "created")
    same = before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
    return record(api, found, "unchanged" if same or _intent(before) == _intent(after) else "configured")


def _intent(found: Object) -> Object:
    """Return an object without its status and bookkeeping, which controllers change meanwhile."""
    metadata = {key: value for key, value in found["metadata"].items() if key not in _CHURN}
    return {**{key: value for key, value in found.items() if key != "status"}, "metadata": metadata}


def _apply_one(api: Api, found: Object, *, force: bool, dry_run: bool) -> tuple[int, Object]:
    try:
        return api.apply_object(found, force=force, dry_run=dry_run)
    except ClusterError as error:
        done = "nothing was changed" if dry_run else "objects before it in the manifests are applied"
        hint = error.hint
        if error.code == 409:
            hint = "another owner set these fields: take them out of the manifest, or force=True to take them over"
        raise ClusterError(
            f"{api.name}: cannot apply {manifests.title(found)}: {error.message.removeprefix(f'{api.name}: ')}",
            code=error.code,
            reason=error.reason,
            hint=hint,
            state=done,
        ) from error


def delete(api: Api, objects: Sequence[Object], timeout_s: float) -> list[Applied]:
    """Delete placed objects, the last first, and wait until they are gone. What is not there is no error."""
    deadline = time.monotonic() + timeout_s
    going, records = [], []
    for found in reversed(objects):
        kind, name, namespace = kind_of(found), found["metadata"]["name"], found["metadata"].get("namespace", "")
        live = api.find(kind, name, namespace)
        there = live is not None and api.delete_object(kind, name, namespace)
        if live is not None:
            going.append((kind, name, namespace, live["metadata"].get("uid", "")))
        records.append(record(api, found, "deleted" if there else "not found"))
    for item in going:
        waiting.gone(api, *item, timeout_s=max(0.0, deadline - time.monotonic()))
    return records


def record(api: Api, found: Object, outcome: Outcome) -> Applied:
    """Return what happened to an object as a record."""
    metadata = found["metadata"]
    return Applied(
        context=api.name,
        kind=found["kind"],
        name=metadata["name"],
        namespace=metadata.get("namespace", ""),
        outcome=outcome,
    )
