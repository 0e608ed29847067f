"""Schemas of built-in kinds have the fields of the Kubernetes client's models; protobuf reads as JSON does."""

from __future__ import annotations

import re
from typing import Any

import kubernetes.client as models
import pytest

from meshbook.lab.apiserver import KINDS, Kind, Schema, schema_of

RENAMED = {"Event": "CoreV1Event", "Subject": "RbacV1Subject"}
PROTOBUF = "application/vnd.kubernetes.protobuf"
BUILT_IN = [kind for kind in KINDS if not kind.custom]
LATER = {
    "evictionResponders",
    "schedulingGroup",
    "volumeHealth",
    "hostnameOverride",
    "nodeAllocatableResourceClaimStatuses",
}
LATER |= {"extendedResourceClaimStatus", "podPreemptionPolicy", "protocol", "bindMountOptions"}
"""Fields that came after the version that the lab stands for."""


def _disagreements(schema: Schema, model: Any, path: str) -> list[str]:
    if schema.form == "any" or path.endswith("metadata"):
        return []
    theirs = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
    ours = schema.fields.keys() | ({"apiVersion", "kind"} if "apiVersion" in theirs else set())
    found = [f"{path}.{name} is missing" for name in theirs.keys() - ours - LATER]
    found += [f"{path}.{name} is unknown" for name in schema.fields.keys() - theirs.keys()] if path else []
    for name, child in schema.fields.items():
        inner = child.element if child.form in ("list", "map") else child
        match = re.search(r"(\w+)\]?$", theirs.get(name, ""))
        if inner.form == "struct" and inner.name != "Condition" and match and hasattr(models, match[1]):
            found += _disagreements(inner, getattr(models, match[1]), f"{path}.{name}")
    return found


@pytest.mark.parametrize("kind", BUILT_IN, ids=lambda kind: kind.kind)
def test_a_schema_has_the_fields_of_the_kind(kind: Kind) -> None:
    version = kind.versions[0].upper()
    model = getattr(models, RENAMED.get(kind.kind, f"{version}{kind.kind}"))
    assert _disagreements(schema_of(kind.kind), model, kind.kind) == []


def _field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2, len(value)]) + value


def _protobuf(api_version: bytes, kind: bytes, obj: bytes) -> bytes:
    return b"k8s\0" + _field(1, _field(1, api_version) + _field(2, kind)) + _field(2, obj)


def _deployment(pod_spec: bytes) -> bytes:
    template = _field(1, _field(11, _field(1, b"app") + _field(2, b"x"))) + _field(2, pod_spec)
    selector = _field(1, _field(1, b"app") + _field(2, b"x"))
    spec = bytes([1 << 3, 0]) + _field(2, selector) + _field(3, template) + _field(4, b"")
    return _protobuf(b"apps/v1", b"Deployment", _field(1, _field(1, b"x")) + _field(2, spec) + _field(3, b""))


async def test_what_kubectl_creates_in_protobuf_is_read_as_in_json(api: Any) -> None:
    metadata = _field(1, b"sample") + _field(2, b"") + _field(11, _field(1, b"a") + _field(2, b"b"))
    namespace = _protobuf(b"v1", b"Namespace", _field(1, metadata) + _field(2, b"") + _field(3, _field(1, b"")))
    made = await api("POST", "/api/v1/namespaces", namespace, type=PROTOBUF)
    assert (made.code, made.body["metadata"]["labels"]["a"]) == (201, "b")
    container = _field(1, b"app") + _field(2, b"curl") + _field(8, b"")
    made = await api("POST", api.DEPLOYMENTS, _deployment(_field(2, container)), type=PROTOBUF)
    assert (made.code, made.body["spec"]["replicas"]) == (201, 0)
    assert made.body["spec"]["template"]["spec"]["containers"][0]["image"] == "curl"


async def test_a_field_in_protobuf_that_would_be_passed_over_is_refused(api: Any) -> None:
    answer = await api("POST", api.DEPLOYMENTS, _deployment(_field(8, b"some account")), type=PROTOBUF)
    assert answer.code == 415
    assert "field 8 of PodSpec" in answer.message
