"""Subresources with bodies of their own: ``scale`` and ``binding``. (``status`` and ``finalize`` are plain writes.)"""

from __future__ import annotations

import dataclasses
from typing import Any

from meshbook.lab.apiserver import patching
from meshbook.lab.apiserver.failures import bad_request, bad_value, conflict, invalid, stale
from meshbook.lab.apiserver.kinds import Json
from meshbook.lab.apiserver.reading import current
from meshbook.lab.apiserver.requests import ApiRequest
from meshbook.lab.apiserver.shapes import Intake, shape_of
from meshbook.lab.apiserver.store import Store, Stored
from meshbook.lab.apiserver.writing import Writer


def scale_of(obj: Json) -> Json:
    """Return the Scale object of a workload."""
    names = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    labels = obj["spec"]["selector"].get("matchLabels", {})
    selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: obj["metadata"][name] for name in names if name in obj["metadata"]},
        "spec": {"replicas": obj["spec"]["replicas"]},
        "status": {"replicas": obj.get("status", {}).get("replicas", 0), "selector": selector},
    }


def read_scale(store: Store, request: ApiRequest) -> Json:
    return scale_of(current(store, request).object)


async def write_scale(writer: Writer, request: ApiRequest) -> Json:
    """Set the replicas of a workload through its Scale, by PUT or by a patch."""
    before = current(writer.store, request)
    wanted = _proposed(request, scale_of(before.object))
    replicas = wanted.get("spec", {}).get("replicas", 0)
    if replicas < 0:
        cause = bad_value("spec.replicas", replicas, "must be greater than or equal to 0")
        raise invalid(request.kind, request.name, [cause])
    given = wanted["metadata"].get("resourceVersion")
    if given and given != before.object["metadata"]["resourceVersion"]:
        raise stale(request.kind, request.name)
    obj = before.object | {"spec": before.object["spec"] | {"replicas": replicas}}
    return scale_of((await writer.put(request, obj)).object)


def _proposed(request: ApiRequest, scale: Json) -> Json:
    body: Any = request.document((*patching.PLAIN_PATCHES,) if request.verb == "patch" else ("application/json",))
    shape = shape_of("Scale")
    if request.verb == "patch":
        body = _patched(request.content_type, scale, body)
    if not isinstance(body, dict) or body.get("kind", "Scale") != "Scale":
        raise bad_request("the body must be a Scale")
    return Intake("Scale", "v1").conform(body, shape)


def _patched(content_type: str, scale: Json, body: Any) -> Any:
    if content_type == patching.JSON_PATCH:
        return patching.json_patch(scale, body)
    return patching.merge_patch(scale, body)


async def bind(writer: Writer, request: ApiRequest) -> Json:
    """Bind a pod to a node: how a scheduler sets ``spec.nodeName``."""
    binding = Intake("Binding", "v1").conform(request.document(), shape_of("Binding"))
    pod, node = current(writer.store, request).object, binding.get("target", {}).get("name", "")
    if not node:
        raise bad_request("target.name: Required value")
    if pod["spec"].get("nodeName"):
        why = f'pod {request.name} is already assigned to node "{pod["spec"]["nodeName"]}"'
        raise conflict(request.kind, request.name, why)
    if "deletionTimestamp" in pod["metadata"]:
        raise conflict(request.kind, request.name, f"pod {request.name} is being deleted, cannot be assigned to a host")
    await _write_bound(writer, request, pod | {"spec": pod["spec"] | {"nodeName": node}})
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


async def _write_bound(writer: Writer, request: ApiRequest, pod: Json) -> Stored:
    return await writer.put(dataclasses.replace(request, subresource="binding"), pod)
