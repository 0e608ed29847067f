"""What the server refuses: names, labels, required fields, selectors, and changes of what may not change.

Pure. Each check yields causes; ``check`` gathers them into one Invalid failure. Only what a client of the runbook can
get wrong is checked here, not everything that a real server knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from meshbook.lab.apiserver.errors import Cause, bad_value, duplicate, invalid, not_allowed, not_supported, required
from meshbook.lab.apiserver.kinds import RBAC, Kind
from meshbook.lab.apiserver.schema import Schema, schema_of
from meshbook.objects import Object, selects

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    f"'{_LABEL.pattern}')"
)
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    f"'{_SUBDOMAIN.pattern}')"
)
_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start "
    "and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation "
    f"is '({_QUALIFIED.pattern})?')"
)
_KEY_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    f"'{_QUALIFIED.pattern}')"
)
_POD_CHANGES = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_FREE_IN_PODS = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds")


def check(kind: Kind, obj: Object, before: Object | None) -> None:
    """Refuse ``obj`` with all that is wrong with it; ``before`` is the state that it replaces."""
    causes = [*_metadata(obj["metadata"], kind), *missing(obj, schema_of(kind.schema))]
    if not causes and kind.kind in _SPECIFIC:
        causes += _SPECIFIC[kind.kind](obj, before)
    if causes:
        raise invalid(kind, obj["metadata"].get("name", ""), *causes)


def missing(value: Any, schema: Schema, path: str = "") -> Iterator[Cause]:
    """Yield a cause for each required field that is absent or empty."""
    if schema.form == "list":
        for i, item in enumerate(value):
            yield from missing(item, schema.element, f"{path}[{i}]")
    elif schema.form == "struct":
        for name, child in schema.fields.items():
            inner = f"{path}.{name}" if path else name
            if name in value:
                yield from missing(value[name], child, inner)
            if child.required and value.get(name) in (None, "", [], {}):
                yield required(inner)


def _metadata(metadata: Object, kind: Kind) -> Iterator[Cause]:
    name = metadata.get("name", "")
    label = kind.kind in ("Namespace", "Service")
    pattern, longest, rule = (_LABEL, 63, _LABEL_RULE) if label else (_SUBDOMAIN, 253, _SUBDOMAIN_RULE)
    if not name:
        yield required("metadata.name", "name or generateName is required")
    elif kind.group != RBAC and not pattern.fullmatch(name):
        yield bad_value("metadata.name", name, "must not contain dots" if _SUBDOMAIN.fullmatch(name) else rule)
    elif len(name) > longest:
        yield bad_value("metadata.name", name, f"must be no more than {longest} characters")
    yield from _labels(metadata.get("labels", {}), "metadata.labels")
    for key in metadata.get("annotations", {}):
        yield from _key(key, "metadata.annotations")


def _labels(labels: Object, path: str) -> Iterator[Cause]:
    for key, value in labels.items():
        yield from _key(key, path)
        if value and not (_QUALIFIED.fullmatch(value) and len(value) <= 63):
            yield bad_value(path, value, _VALUE_RULE if len(value) <= 63 else "must be no more than 63 characters")


def _key(key: str, path: str) -> Iterator[Cause]:
    prefix, slash, name = key.rpartition("/")
    if slash and not _SUBDOMAIN.fullmatch(prefix):
        yield bad_value(path, key, f"prefix part {_SUBDOMAIN_RULE}")
    elif not (_QUALIFIED.fullmatch(name) and len(name) <= 63):
        yield bad_value(path, key, _KEY_RULE)


def _workload(obj: Object, before: Object | None) -> Iterator[Cause]:
    spec, template = obj["spec"], obj["spec"]["template"]
    selector, labels = spec["selector"], template.get("metadata", {}).get("labels", {})
    if spec["replicas"] < 0:
        yield bad_value("spec.replicas", spec["replicas"], "must be greater than or equal to 0")
    unreadable = list(_labels(selector.get("matchLabels", {}), "spec.selector.matchLabels"))
    yield from unreadable
    yield from _labels(labels, "spec.template.metadata.labels")
    if not unreadable and not selects(selector, labels):
        yield bad_value("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    if template["spec"]["restartPolicy"] != "Always":
        yield not_supported("spec.template.spec.restartPolicy", template["spec"]["restartPolicy"], "Always")
    if before and selector != before["spec"]["selector"]:
        yield bad_value("spec.selector", selector, "field is immutable")
    yield from _containers(template["spec"], "spec.template.spec")


def _pod(obj: Object, before: Object | None) -> Iterator[Cause]:
    yield from _containers(obj["spec"], "spec")
    if before and _fixed(obj["spec"]) != _fixed(before["spec"]):
        yield not_allowed("spec", _POD_CHANGES)


def _fixed(spec: Object) -> Object:
    fixed = {name: value for name, value in spec.items() if name not in _FREE_IN_PODS}
    for part in ("containers", "initContainers"):
        fixed[part] = [container | {"image": ""} for container in spec.get(part, ())]
    return fixed


def _containers(spec: Object, path: str) -> Iterator[Cause]:
    seen = set()
    for i, container in enumerate(spec["containers"]):
        name, field = container["name"], f"{path}.containers[{i}]"
        if not _LABEL.fullmatch(name) or len(name) > 63:
            yield bad_value(f"{field}.name", name, _LABEL_RULE)
        if name in seen:
            yield duplicate(f"{field}.name", name)
        seen.add(name)
        for j, port in enumerate(container.get("ports", ())):
            yield from _port(port["containerPort"], f"{field}.ports[{j}].containerPort")


def _port(number: int, field: str) -> Iterator[Cause]:
    if not 1 <= number <= 65535:
        yield bad_value(field, number, "must be between 1 and 65535, inclusive")


def _service(obj: Object, before: Object | None) -> Iterator[Cause]:
    spec = obj["spec"]
    ports, seen = spec.get("ports", []), set()
    if not ports and spec.get("clusterIP") != "None" and spec["type"] != "ExternalName":
        yield required("spec.ports")
    for i, port in enumerate(ports):
        name, field = port.get("name", ""), f"spec.ports[{i}]"
        yield from _port(port["port"], f"{field}.port")
        if len(ports) > 1 and not name:
            yield required(f"{field}.name")
        if name and name in seen:
            yield duplicate(f"{field}.name", name)
        seen.add(name)
    if before and "ExternalName" not in (spec["type"], before["spec"].get("type")):
        address = spec.get("clusterIP")
        if address != before["spec"].get("clusterIP"):
            yield bad_value("spec.clusterIPs[0]", address, "may not change once set")


def _autoscaler(obj: Object, _before: Object | None) -> Iterator[Cause]:
    most, least = obj["spec"]["maxReplicas"], obj["spec"]["minReplicas"]
    if most < 1:
        yield bad_value("spec.maxReplicas", most, "must be greater than or equal to 1")
    elif most < least:
        yield bad_value("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`")


def _secret(obj: Object, before: Object | None) -> Iterator[Cause]:
    if before and obj["type"] != before["type"]:
        yield bad_value("type", obj["type"], "field is immutable")


_SPECIFIC: dict[str, Callable[[Object, Object | None], Iterator[Cause]]] = {
    "Deployment": _workload,
    "HorizontalPodAutoscaler": _autoscaler,
    "Pod": _pod,
    "ReplicaSet": _workload,
    "Secret": _secret,
    "Service": _service,
}
