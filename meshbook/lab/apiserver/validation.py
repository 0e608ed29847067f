"""What the server refuses: names, labels, required fields, selectors, and changes of what may not change.

Pure. Each check yields causes; ``check`` gathers them into one Invalid failure. Only what a client of the runbook can
get wrong is checked here, not everything that a real server knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from meshbook.lab.apiserver.errors import (
    bad_value,
    duplicate,
    invalid,
    not_allowed,
    not_supported,
    required,
    too_long,
)
from meshbook.lab.apiserver.kinds import RBAC, Kind
from meshbook.lab.apiserver.scalars import scalar
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
_HANDLERS = ("exec", "grpc", "httpGet", "tcpSocket")
_VARIABLE = re.compile(r"[ -<>-~]+")
_VARIABLE_RULE = "a valid environment variable name must consist only of printable ASCII characters other than '='"
_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_CONFIG_KEY_RULE = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
    f"'key-name', regex used for validation is '{_CONFIG_KEY.pattern}')"
)
_ADDRESS = re.compile(r"(\d{1,3}\.){3}\d{1,3}|[0-9a-f:.]*:[0-9a-f:.]*", re.ASCII)
_DEADLINE_RULE = "must be greater than minReadySeconds"
_STANDARD_FINALIZERS = ("foregroundDeletion", "kubernetes", "orphan")
MOST_ANNOTATED = 256 * 1024
MOST_DATA = 1024 * 1024
"""Bytes in the annotations of an object, and in a ConfigMap or Secret."""
_FREE_IN_PODS = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds")


def check(kind: Kind, obj: Object, before: Object | None) -> None:
    """Refuse ``obj`` with all that is wrong with it; ``before`` is the state that it replaces."""
    causes = [*_metadata(obj["metadata"], kind), *faults(obj, schema_of(kind.kind))]
    if not causes and kind.kind in _SPECIFIC:
        causes += _SPECIFIC[kind.kind](obj, before)
    if causes:
        raise invalid(kind, obj["metadata"].get("name", ""), *causes)


def faults(value: Any, schema: Schema, path: str = "") -> Iterator[Object]:
    """Yield a cause for each required field that is absent or empty, and for each value that is out of its bounds."""
    if schema.form == "list":
        for i, item in enumerate(value):
            yield from faults(item, schema.element, f"{path}[{i}]")
    elif schema.form == "map" and schema.name != "str":
        for name, item in value.items():
            yield from faults(item, schema.element, f"{path}[{name}]")
    elif schema.form == "struct":
        for name, child in schema.fields.items():
            inner = f"{path}.{name}" if path else name
            if name in value:
                yield from faults(value[name], child, inner)
            if child.required and value.get(name) in (None, "", [], {}):
                yield required(inner)
        if schema.name == "LabelSelector":
            yield from _selector(value, path)
    elif schema.alternatives and value not in schema.alternatives:
        yield not_supported(path, value, *schema.alternatives)
    elif schema.form == "scalar" and (why := scalar(schema.name).rule(value)):
        yield bad_value(path, value, why)


def _selector(selector: Object, path: str) -> Iterator[Object]:
    yield from _labels(selector.get("matchLabels", {}), f"{path}.matchLabels")
    for i, one in enumerate(selector.get("matchExpressions", ())):
        inner, values, operator = f"{path}.matchExpressions[{i}]", one.get("values", []), one.get("operator")
        yield from _labels({one.get("key", ""): value for value in values or [""]}, f"{inner}.key")
        if operator in ("In", "NotIn") and not values:
            yield required(f"{inner}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif operator in ("Exists", "DoesNotExist") and values:
            why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            yield not_allowed(f"{inner}.values", why)
        elif operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            yield bad_value(f"{inner}.operator", operator, "not a valid selector operator")


def _metadata(metadata: Object, kind: Kind) -> Iterator[Object]:
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
    annotations = metadata.get("annotations", {})
    for key in annotations:
        yield from _key(key, "metadata.annotations")
    if sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items()) > MOST_ANNOTATED:
        yield too_long("metadata.annotations", MOST_ANNOTATED)
    for i, finalizer in enumerate(metadata.get("finalizers", ())):
        if "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS:
            why = "name is neither a standard finalizer name nor is it fully qualified"
            yield bad_value(f"metadata.finalizers[{i}]", finalizer, why)


def _labels(labels: Object, path: str) -> Iterator[Object]:
    for key, value in labels.items():
        yield from _key(key, path)
        if value and not (_QUALIFIED.fullmatch(value) and len(value) <= 63):
            yield bad_value(path, value, _VALUE_RULE if len(value) <= 63 else "must be no more than 63 characters")


def _key(key: str, path: str) -> Iterator[Object]:
    prefix, slash, name = key.rpartition("/")
    if slash and not _SUBDOMAIN.fullmatch(prefix):
        yield bad_value(path, key, f"prefix part {_SUBDOMAIN_RULE}")
    elif not (_QUALIFIED.fullmatch(name) and len(name) <= 63):
        yield bad_value(path, key, _KEY_RULE)


def _workload(obj: Object, before: Object | None) -> Iterator[Object]:
    spec, template = obj["spec"], obj["spec"]["template"]
    selector, labels = spec["selector"], template.get("metadata", {}).get("labels", {})
    yield from _labels(labels, "spec.template.metadata.labels")
    if not selects(selector, labels):
        yield bad_value("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    if template["spec"]["restartPolicy"] != "Always":
        yield not_supported("spec.template.spec.restartPolicy", template["spec"]["restartPolicy"], "Always")
    least = spec.get("minReadySeconds", 0)
    if spec.get("progressDeadlineSeconds", least + 1) <= least:
        yield bad_value("spec.progressDeadlineSeconds", spec["progressDeadlineSeconds"], _DEADLINE_RULE)
    rolling = spec.get("strategy", {}).get("rollingUpdate")
    if rolling is not None and spec["strategy"]["type"] == "Recreate":
        why = "may not be specified when strategy `type` is 'Recreate'"
        yield not_allowed("spec.strategy.rollingUpdate", why)
    elif rolling and {str(rolling[name]).rstrip("%").lstrip("0") for name in ("maxSurge", "maxUnavailable")} == {""}:
        why = "may not be 0 when `maxSurge` is 0"
        yield bad_value("spec.strategy.rollingUpdate.maxUnavailable", rolling["maxUnavailable"], why)
    if before and selector != before["spec"]["selector"]:
        yield bad_value("spec.selector", selector, "field is immutable")
    yield from _containers(template["spec"], "spec.template.spec")


def _pod(obj: Object, before: Object | None) -> Iterator[Object]:
    yield from _containers(obj["spec"], "spec")
    node, deadline = obj["spec"].get("nodeName"), obj["spec"].get("activeDeadlineSeconds", 1)
    if node and not _SUBDOMAIN.fullmatch(node):
        yield bad_value("spec.nodeName", node, _SUBDOMAIN_RULE)
    if not 1 <= deadline < 1 << 31:
        yield bad_value("spec.activeDeadlineSeconds", deadline, "must be between 1 and 2147483647, inclusive")
    if before and _fixed(obj["spec"]) != _fixed(before["spec"]):
        yield not_allowed("spec", _POD_CHANGES)


def _fixed(spec: Object) -> Object:
    fixed = {name: value for name, value in spec.items() if name not in _FREE_IN_PODS}
    for part in ("containers", "initContainers"):
        fixed[part] = [container | {"image": ""} for container in spec.get(part, ())]
    return fixed


def _containers(spec: Object, path: str) -> Iterator[Object]:
    seen = set()
    yield from _labels(spec.get("nodeSelector", {}), f"{path}.nodeSelector")
    parts = ("containers", "initContainers")
    listed = [(f"{path}.{part}[{i}]", one) for part in parts for i, one in enumerate(spec.get(part, ()))]
    for field, container in listed:
        name = container["name"]
        if not _LABEL.fullmatch(name) or len(name) > 63:
            yield bad_value(f"{field}.name", name, _LABEL_RULE)
        if name in seen:
            yield duplicate(f"{field}.name", name)
        seen.add(name)
        for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
            given = [name for name in _HANDLERS if name in container.get(kind, {})]
            if kind in container and not given:
                yield required(f"{field}.{kind}", "must specify a handler type")
            for name in given[1:]:
                yield not_allowed(f"{field}.{kind}.{name}", "may not specify more than 1 handler type")
        for j, variable in enumerate(container.get("env", ())):
            if not _VARIABLE.fullmatch(variable["name"]):
                yield bad_value(f"{field}.env[{j}].name", variable["name"], _VARIABLE_RULE)


def _service(obj: Object, before: Object | None) -> Iterator[Object]:
    spec = obj["spec"]
    ports, seen = spec.get("ports", []), set()
    yield from _labels(spec.get("selector", {}), "spec.selector")
    if not ports and spec.get("clusterIP") != "None" and spec["type"] != "ExternalName":
        yield required("spec.ports")
    for i, port in enumerate(ports):
        name, field = port.get("name", ""), f"spec.ports[{i}]"
        if name and not _LABEL.fullmatch(name):
            yield bad_value(f"{field}.name", name, _LABEL_RULE)
        if len(ports) > 1 and not name:
            yield required(f"{field}.name")
        if name and name in seen:
            yield duplicate(f"{field}.name", name)
        seen.add(name)
    for address in (spec.get("clusterIP", ""), *spec.get("externalIPs", ())):
        if address not in ("", "None") and not _ADDRESS.fullmatch(address):
            yield bad_value("spec.clusterIPs[0]", address, "must be a valid IP address, (e.g. 10.9.8.7)")
    if before and "ExternalName" not in (spec["type"], before["spec"].get("type")):
        address = spec.get("clusterIP")
        if address != before["spec"].get("clusterIP"):
            yield bad_value("spec.clusterIPs[0]", address, "may not change once set")


def _autoscaler(obj: Object, _before: Object | None) -> Iterator[Object]:
    most, least = obj["spec"]["maxReplicas"], obj["spec"]["minReplicas"]
    if least < 1:
        yield bad_value("spec.minReplicas", least, "must be greater than or equal to 1")
    if most < 1:
        yield bad_value("spec.maxReplicas", most, "must be greater than or equal to 1")
    elif most < least:
        yield bad_value("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`")


def _data(obj: Object, _before: Object | None) -> Iterator[Object]:
    data = obj.get("data", {}) | obj.get("binaryData", {})
    for key in data:
        if not _CONFIG_KEY.fullmatch(key):
            yield bad_value(f"data[{key}]", key, _CONFIG_KEY_RULE)
    if sum(len(value) for value in data.values()) > MOST_DATA:
        yield too_long("[]", MOST_DATA)


def _event(obj: Object, _before: Object | None) -> Iterator[Object]:
    namespace = obj["involvedObject"].get("namespace", "")
    if namespace != obj["metadata"]["namespace"] and (namespace or obj["metadata"]["namespace"] != "default"):
        yield bad_value("involvedObject.namespace", namespace, "does not match event.namespace")


def _budget(obj: Object, _before: Object | None) -> Iterator[Object]:
    if {"minAvailable", "maxUnavailable"} <= obj.get("spec", {}).keys():
        yield bad_value("spec", obj["spec"], "minAvailable and maxUnavailable cannot be both set")


def _lease(obj: Object, _before: Object | None) -> Iterator[Object]:
    if (duration := obj.get("spec", {}).get("leaseDurationSeconds", 1)) <= 0:
        yield bad_value("spec.leaseDurationSeconds", duration, "must be greater than 0")


def _role_binding(obj: Object, before: Object | None) -> Iterator[Object]:
    ref, everywhere = obj["roleRef"], obj["kind"] == "ClusterRoleBinding"
    if everywhere and ref["kind"] != "ClusterRole":
        yield not_supported("roleRef.kind", ref["kind"], "ClusterRole")
    for i, subject in enumerate(obj.get("subjects", ())):
        if everywhere and subject["kind"] == "ServiceAccount" and not subject.get("namespace"):
            yield required(f"subjects[{i}].namespace")
    if before and ref != before["roleRef"]:
        yield bad_value("roleRef", ref, "cannot change roleRef")


def _webhooks(obj: Object, _before: Object | None) -> Iterator[Object]:
    for i, webhook in enumerate(obj.get("webhooks", ())):
        url = webhook["clientConfig"].get("url", "https://")
        if not url.startswith("https://"):
            why = "'https' is the only allowed URL scheme; desired format: https://host[/path]"
            yield bad_value(f"webhooks[{i}].clientConfig.url", url.partition(":")[0], why)
        if not 1 <= webhook["timeoutSeconds"] <= 30:
            why = "the timeout value must be between 1 and 30 seconds"
            yield bad_value(f"webhooks[{i}].timeoutSeconds", webhook["timeoutSeconds"], why)


def _secret(obj: Object, before: Object | None) -> Iterator[Object]:
    yield from _data(obj, before)
    if before and obj["type"] != before["type"]:
        yield bad_value("type", obj["type"], "field is immutable")


_SPECIFIC: dict[str, Callable[[Object, Object | None], Iterator[Object]]] = {
    "ClusterRoleBinding": _role_binding,
    "ConfigMap": _data,
    "Deployment": _workload,
    "Event": _event,
    "HorizontalPodAutoscaler": _autoscaler,
    "Lease": _lease,
    "MutatingWebhookConfiguration": _webhooks,
    "Pod": _pod,
    "PodDisruptionBudget": _budget,
    "ReplicaSet": _workload,
    "RoleBinding": _role_binding,
    "Secret": _secret,
    "Service": _service,
}
