"""Bodies in Kubernetes' protobuf form, which kubectl's ``create`` and ``auth`` commands send whatever a server prefers.

Only the kinds below, read only; answers are always JSON. Other kinds, and fields of workloads that would be passed
over, are refused as an unknown media type; the same object as a file (``kubectl create -f``) comes in JSON.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from functools import cache
from typing import Any

from meshbook.lab.apiserver.errors import Failure, bad_request
from meshbook.objects import Object

PROTOBUF = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"

_MESSAGES = """
Unknown 1=typeMeta:TypeMeta 2=raw:raw
TypeMeta 1=apiVersion 2=kind
ObjectMeta 1=name 2=generateName 3=namespace 11=labels:str{} 12=annotations:str{} 14=finalizers:str[]
Namespace 1=metadata:ObjectMeta
ConfigMap 1=metadata:ObjectMeta 2=data:str{} 3=binaryData:bytes{} 4=immutable:bool
Secret 1=metadata:ObjectMeta 2=data:bytes{} 3=type 4=stringData:str{} 5=immutable:bool
ServiceAccount 1=metadata:ObjectMeta 4=automountServiceAccountToken:bool
Deployment! 1=metadata:ObjectMeta 2=spec:DeploymentSpec 3=status:Nothing
DeploymentSpec! 1=replicas:int 2=selector:LabelSelector 3=template:PodTemplate 4=strategy:Nothing
LabelSelector! 1=matchLabels:str{}
PodTemplate! 1=metadata:ObjectMeta 2=spec:PodSpec
PodSpec! 2=containers:Container[] 3=restartPolicy
Container! 1=name 2=image 3=command:str[] 4=args:str[] 6=ports:ContainerPort[] 8=resources:Nothing
ContainerPort! 1=name 2=hostPort:int 3=containerPort:int 4=protocol 5=hostIP
Nothing!
SelfSubjectReview 1=metadata:ObjectMeta
SelfSubjectRulesReview 1=metadata:ObjectMeta 2=spec:RulesSpec
RulesSpec 1=namespace
SelfSubjectAccessReview 1=metadata:ObjectMeta 2=spec:AccessSpec
AccessSpec 1=resourceAttributes:Resource 2=nonResourceAttributes:Path
Resource 1=namespace 2=verb 3=group 4=version 5=resource 6=subresource 7=name
Path 1=path 2=verb
DeleteOptions 1=gracePeriodSeconds:int 2=preconditions:Preconditions 3=orphanDependents:bool 4=propagationPolicy
  5=dryRun:str[]
Preconditions 1=uid 2=resourceVersion
"""
"""Per message: numbers, names and types of its fields, text where there is no type. ``!`` marks messages of which no
field may be passed over: what runs would not be what was asked for."""


@cache
def _fields(message: str) -> tuple[dict[int, str], bool]:
    """Return number → ``name:type`` of a message, and whether it is read whole."""
    lines = (line.split() for line in _MESSAGES.strip().replace("\n  ", " ").splitlines())
    name, *fields = next(words for words in lines if words[0].rstrip("!") == message)
    pairs = (field.split("=") for field in fields)
    return {int(number): field for number, field in pairs}, name.endswith("!")


def decode_protobuf(body: bytes) -> Object:
    """Return the object in ``body`` as JSON would show it."""
    if not body.startswith(MAGIC):
        raise bad_request("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    try:
        envelope = _message(body[len(MAGIC) :], "Unknown")
        head: Object = envelope["typeMeta"]
        return head | _message(envelope.get("raw", b""), head["kind"])
    except StopIteration:
        raise _unread(head["kind"]) from None
    except (LookupError, RecursionError, ValueError) as error:
        raise bad_request(f"the protobuf body cannot be read: {error}") from error


def _message(data: bytes, name: str) -> Object:
    decoded: Object = {}
    fields, whole = _fields(name)
    for number, value in _entries(data):
        field, _, kind = fields.get(number, "").partition(":")
        if not field and whole and _says_something(value):
            raise _unread(f"field {number} of {name}")
        if not field:
            continue
        if kind.endswith("{}"):
            entry = dict(_entries(value))
            decoded.setdefault(field, {})[_value(entry.get(1, b""), "")] = _value(entry.get(2, b""), kind[:-2])
        elif kind.endswith("[]"):
            decoded.setdefault(field, []).append(_value(value, kind[:-2]))
        elif value != b"":
            decoded[field] = _value(value, kind)
    return {field: value for field, value in decoded.items() if value != {}}


def _says_something(value: Any) -> bool:
    """Tell whether a field is set: messages that hold nothing but empty ones are sent for each struct."""
    if not isinstance(value, bytes):
        return bool(value)
    try:
        return any(_says_something(inner) for _, inner in _entries(value)) if value else False
    except (IndexError, KeyError):
        return True


def _unread(what: str) -> Failure:
    hint = "send JSON or YAML, as kubectl does with a file: --dry-run=client -o yaml | kubectl apply -f -"
    return Failure(415, "UnsupportedMediaType", f"the lab does not read {what} in protobuf; {hint}")


def _value(value: Any, kind: str) -> Any:
    if isinstance(value, int) != (kind in ("int", "bool")):
        raise ValueError(f"a {kind or 'str'} has another wire type")
    if kind in ("", "str"):
        return value.decode()
    if kind == "bytes":
        return base64.b64encode(value).decode()
    if kind in ("int", "bool"):
        return bool(value) if kind == "bool" else value - (value >> 63 << 64)
    return value if kind == "raw" else _message(value, kind)


def _entries(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield (field number, value): an int for a varint, bytes for what carries its length."""
    at = 0
    if not isinstance(data, bytes):
        raise ValueError("a message has another wire type")
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
        elif wire == 2:
            length, at = _varint(data, at)
            if length > len(data) - at:
                raise ValueError("a field is longer than its message")
            yield tag >> 3, data[at : at + length]
            at += length
        else:
            at += {1: 8, 5: 4}[wire]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
