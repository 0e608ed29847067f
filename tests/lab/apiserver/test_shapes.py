"""The notation of the built-in kinds agrees with the models of the Kubernetes client, field by field."""

from __future__ import annotations

import re
from typing import Any

import kubernetes.client as models
import pytest

from meshbook.lab.apiserver.failures import Failure
from meshbook.lab.apiserver.kinds import KINDS
from meshbook.lab.apiserver.protobuf import MAGIC, decode_protobuf
from meshbook.lab.apiserver.shapes import Shape, shape_of

RENAMED = {"Event": "CoreV1Event", "Subject": "RbacV1Subject"}
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


def _disagreements(shape: Shape, model: Any, path: str) -> list[str]:
    if shape.form == "any" or path.endswith("metadata"):
        return []
    theirs = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
    ours = shape.fields.keys() | ({"apiVersion", "kind"} if "apiVersion" in theirs else set())
    found = [f"{path}.{name} is missing" for name in theirs.keys() - ours - LATER]
    found += [f"{path}.{name} is unknown" for name in shape.fields.keys() - theirs.keys()] if path else []
    for name, child in shape.fields.items():
        inner = child.element if child.form in ("list", "map") else child
        match = re.search(r"(\w+)\]?$", theirs.get(name, ""))
        if inner.form == "struct" and inner.name != "Condition" and match and hasattr(models, match[1]):
            found += _disagreements(inner, getattr(models, match[1]), f"{path}.{name}")
    return found


@pytest.mark.parametrize("kind", BUILT_IN, ids=lambda kind: kind.kind)
def test_the_notation_has_the_fields_of_the_kind(kind: Any) -> None:
    version = kind.versions[0].upper()
    model = getattr(models, RENAMED.get(kind.kind, f"{version}{kind.kind}"))
    assert _disagreements(shape_of(kind.shape), model, kind.kind) == []


def _field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2, len(value)]) + value


def test_a_namespace_in_protobuf_reads_as_in_json() -> None:
    metadata = _field(1, b"sample") + _field(2, b"") + _field(11, _field(1, b"a") + _field(2, b"b"))
    head = _field(1, _field(1, b"v1") + _field(2, b"Namespace"))
    body = MAGIC + head + _field(2, _field(1, metadata) + _field(2, b"") + _field(3, _field(1, b"")))
    assert decode_protobuf(body) == {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "sample", "labels": {"a": "b"}},
    }


def _deployment_in_protobuf(pod_spec: bytes) -> bytes:
    template = _field(2, pod_spec)
    selector = _field(1, _field(1, b"app") + _field(2, b"x"))
    spec = bytes([1 << 3, 0]) + _field(2, selector) + _field(3, template) + _field(4, b"")
    head = _field(1, _field(1, b"apps/v1") + _field(2, b"Deployment"))
    return MAGIC + head + _field(2, _field(1, _field(1, b"x")) + _field(2, spec) + _field(3, b""))


def test_a_deployment_in_protobuf_reads_as_in_json() -> None:
    container = _field(1, b"app") + _field(2, b"curl") + _field(8, b"")
    read = decode_protobuf(_deployment_in_protobuf(_field(2, container)))
    assert read["spec"]["replicas"] == 0
    assert read["spec"]["selector"] == {"matchLabels": {"app": "x"}}
    assert read["spec"]["template"]["spec"]["containers"] == [{"name": "app", "image": "curl"}]


def test_a_field_in_protobuf_that_would_be_passed_over_is_refused() -> None:
    with pytest.raises(Failure) as refusal:
        decode_protobuf(_deployment_in_protobuf(_field(8, b"some account")))
    assert refusal.value.code == 415
    assert "field 8 of PodSpec" in refusal.value.message
