"""What the server refuses: names, labels, required fields, selectors, and changes of what may not change.

Pure. Each check yields causes; ``check`` gathers them into one Invalid failure. Only what a client of the runbook can
get wrong is checked here, not everything that a real server knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from meshbook.lab.apiserver.failures import Cause, bad_value, invalid, not_allowed, required
from meshbook.lab.apiserver.kinds import Json, Kind
from meshbook.lab.apiserver.selectors import selector_matches
from meshbook.lab.apiserver.shapes import missing, shape_of

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SERVICE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_PATH_SEGMENT = re.compile(r"(?!\.{1,2}$)[^/%]+")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    "with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    f"'{_LABEL.pattern}')"
)
_SERVICE_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    f"'{_SERVICE.pattern}')"
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
_NAME_RULES = {"Namespace": (_LABEL, 63, _LABEL_RULE), "Service": (_SERVICE, 63, _SERVICE_RULE)}


def check(kind: Kind, obj: Json, before: Json | None) -> None:
    """Refuse ``obj`` with all that is wrong with it; ``before`` is the state that it replaces."""
    causes = [*_metadata(obj["metadata"], kind), *missing(obj, shape_of(kind.shape))]
    if not causes:
        causes += _SPECIFIC.get(kind.kind, _nothing)(obj, before)
    if causes:
        raise invalid(kind, obj["metadata"].get("name", ""), causes)


def _nothing(_obj: Json, _before: Json | None) -> Iterator[Cause]:
    return iter(())


def _metadata(metadata: Json, kind: Kind) -> Iterator[Cause]:
    name = metadata.get("name", "")
    if not name:
        yield required("metadata.name", "name or generateName is required")
    elif kind.group.startswith("rbac."):
        if not _PATH_SEGMENT.fullmatch(name):
            yield bad_value("metadata.name", name, "may not contain '/' or '%'")
    else:
        pattern, longest, rule = _NAME_RULES.get(kind.kind, (_SUBDOMAIN, 253, _SUBDOMAIN_RULE))
        if not pattern.fullmatch(name):
            yield bad_value("metadata.name", name, rule)
        elif len(name) > longest:
            yield bad_value("metadata.name", name, f"must be no more than {longest} characters")
    yield from labels_wrong(metadata.get("labels", {}), "metadata.labels")
    for key in metadata.get("annotations", {}):
        yield from _key(key, "metadata.annotations")


def labels_wrong(labels: Json, path: str) -> Iterator[Cause]:
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


def _same(path: str, obj: Json, before: Json | None) -> Iterator[Cause]:
    if before is None:
        return
    new, old = _at(obj, path), _at(before, path)
    if new != old:
        yield bad_value(path, new, "field is immutable")


def _at(obj: Any, path: str) -> Any:
    for name in path.split("."):
        obj = obj.get(name) if isinstance(obj, dict) else None
    return obj


def _at_least(obj: Json, path: str, least: int) -> Iterator[Cause]:
    value = _at(obj, path)
    if value is not None and value < least:
        yield bad_value(path, value, f"must be greater than or equal to {least}")


def _workload(obj: Json, before: Json | None) -> Iterator[Cause]:
    spec = obj["spec"]
    labels = spec["template"].get("metadata", {}).get("labels", {})
    selector = spec["selector"]
    yield from _at_least(obj, "spec.replicas", 0)
    yield from labels_wrong(selector.get("matchLabels", {}), "spec.selector.matchLabels")
    yield from labels_wrong(labels, "spec.template.metadata.labels")
    if not selector_matches(selector, labels):
        yield bad_value("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    policy = spec["template"]["spec"].get("restartPolicy")
    if policy != "Always":
        detail = f'Unsupported value: "{policy}": supported values: "Always"'
        yield Cause(field="spec.template.spec.restartPolicy", reason="FieldValueNotSupported", message=detail)
    yield from _same("spec.selector", obj, before)
    yield from _container_names(spec["template"]["spec"], "spec.template.spec")


_JOBS_OF_ONE_POD = {"completions": 1, "parallelism": 1, "completionMode": "NonIndexed", "suspend": False}
_LEFT_OUT_OF_JOBS = (
    "backoffLimitPerIndex",
    "managedBy",
    "maxFailedIndexes",
    "podFailurePolicy",
    "scheduling",
    "successPolicy",
)


def _job(obj: Json, before: Json | None) -> Iterator[Cause]:
    spec = obj["spec"]
    for name in ("activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"):
        yield from _at_least(obj, f"spec.{name}", 0)
    if spec["template"]["spec"].get("restartPolicy") not in ("OnFailure", "Never"):
        yield required("spec.template.spec.restartPolicy", 'valid values: "OnFailure", "Never"')
    labels = spec["template"]["metadata"].get("labels", {})
    yield from labels_wrong(labels, "spec.template.metadata.labels")
    if not selector_matches(spec.get("selector"), labels):
        yield bad_value("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    yield from _container_names(spec["template"]["spec"], "spec.template.spec")
    for name in ("selector", "template"):
        yield from _same(f"spec.{name}", obj, before)
    yield from _beyond_the_lab(spec)


def _beyond_the_lab(spec: Json) -> Iterator[Cause]:
    for name, only in _JOBS_OF_ONE_POD.items():
        if spec[name] != only:
            yield bad_value(f"spec.{name}", spec[name], f"the lab does Jobs with {only} only")
    for name in _LEFT_OUT_OF_JOBS:
        if name in spec:
            yield not_allowed(f"spec.{name}", "the lab does not do this")


def _pod(obj: Json, before: Json | None) -> Iterator[Cause]:
    yield from _container_names(obj["spec"], "spec")
    if before and _fixed(obj["spec"]) != _fixed(before["spec"]):
        yield not_allowed("spec", _POD_CHANGES)


def _fixed(spec: Json) -> Json:
    free = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds")
    fixed = {name: value for name, value in spec.items() if name not in free}
    for part in ("containers", "initContainers"):
        fixed[part] = [container | {"image": ""} for container in spec.get(part, ())]
    return fixed


def _container_names(spec: Json, path: str) -> Iterator[Cause]:
    seen = set()
    for i, container in enumerate(spec["containers"]):
        name, field = container["name"], f"{path}.containers[{i}].name"
        if not _LABEL.fullmatch(name) or len(name) > 63:
            yield bad_value(field, name, _LABEL_RULE)
        if name in seen:
            yield Cause(field=field, reason="FieldValueDuplicate", message=f'Duplicate value: "{name}"')
        seen.add(name)
        for j, port in enumerate(container.get("ports", ())):
            yield from _port(port["containerPort"], f"{path}.containers[{i}].ports[{j}].containerPort")


def _port(number: int, field: str) -> Iterator[Cause]:
    if not 1 <= number <= 65535:
        yield bad_value(field, number, "must be between 1 and 65535, inclusive")


def _service(obj: Json, before: Json | None) -> Iterator[Cause]:
    spec = obj["spec"]
    ports, seen = spec.get("ports", []), set()
    if not ports and spec.get("clusterIP") != "None" and spec["type"] != "ExternalName":
        yield required("spec.ports")
    for i, port in enumerate(ports):
        yield from _port(port["port"], f"spec.ports[{i}].port")
        if len(ports) > 1 and not port.get("name"):
            yield required(f"spec.ports[{i}].name")
        if port.get("name") in seen:
            message = f'Duplicate value: "{port["name"]}"'
            yield Cause(field=f"spec.ports[{i}].name", reason="FieldValueDuplicate", message=message)
        seen.add(port.get("name", i))
    if before:
        yield from _same_address(spec, before["spec"])


def _same_address(spec: Json, before: Json) -> Iterator[Cause]:
    if "ExternalName" not in (spec["type"], before.get("type")) and spec.get("clusterIP") != before.get("clusterIP"):
        yield bad_value("spec.clusterIPs[0]", spec.get("clusterIP"), "may not change once set")


def _autoscaler(obj: Json, _before: Json | None) -> Iterator[Cause]:
    yield from _at_least(obj, "spec.maxReplicas", 1)
    if obj["spec"]["maxReplicas"] < obj["spec"]["minReplicas"]:
        detail = "must be greater than or equal to `minReplicas`"
        yield bad_value("spec.maxReplicas", obj["spec"]["maxReplicas"], detail)


def _definition(obj: Json, _before: Json | None) -> Iterator[Cause]:
    spec = obj["spec"]
    wanted = f"{spec['names']['plural']}.{spec['group']}"
    if obj["metadata"]["name"] != wanted:
        yield bad_value("metadata.name", obj["metadata"]["name"], 'must be spec.names.plural+"."+spec.group')
    if sum(version["storage"] for version in spec["versions"]) != 1:
        yield bad_value("spec.versions", spec["versions"], "must have exactly one version marked as storage version")


def _secret(obj: Json, before: Json | None) -> Iterator[Cause]:
    yield from _same("type", obj, before)


def _binding(obj: Json, before: Json | None) -> Iterator[Cause]:
    for cause in _same("roleRef", obj, before):
        yield Cause(field="roleRef", reason=cause.reason, message=f"{cause.message}: cannot change roleRef")


_SPECIFIC: dict[str, Callable[[Json, Json | None], Iterator[Cause]]] = {
    "ClusterRoleBinding": _binding,
    "CustomResourceDefinition": _definition,
    "Deployment": _workload,
    "HorizontalPodAutoscaler": _autoscaler,
    "Job": _job,
    "Pod": _pod,
    "ReplicaSet": _workload,
    "RoleBinding": _binding,
    "Secret": _secret,
    "Service": _service,
}
