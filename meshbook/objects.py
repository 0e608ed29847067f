"""Kubernetes objects as plain dicts: selectors, readiness, times, and the names that everybody uses. Pure.

The one home of what both the helpers and the lab must know of an object. What needs a cluster is in ``clusters`` and
``lab``, what is read from YAML in ``manifests``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from meshbook.errors import UsageError

Object = dict[str, Any]
Requirement = Callable[[Mapping[str, str]], bool]
"""A test on an object's labels."""

SYSTEM_NAMESPACE = "istio-system"
PROXY_CONTAINER = "istio-proxy"
"""The sidecar's container, in every injected pod and every gateway."""
EAST_WEST, EAST_WEST_PORT = "istio=eastwestgateway", 15443
"""Label and port of the gateways that take mesh traffic from another cluster's network."""
EXEC_RIGHTS = "get,create pods/exec"
"""Both: RBAC takes the WebSocket of an exec, an HTTP GET, for ``get``; newer servers ask for ``create`` besides."""
LAB_LABEL = "meshbook.io/lab"
"""On every node of a lab: by it anyone can tell, over the API, that a cluster is no service to anybody."""
SERVICE_LABEL = "kubernetes.io/service-name"
"""On an EndpointSlice: which Service its endpoints are of."""
NAME_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""Of generated names: no vowels, nothing that looks like something else."""
REVISION_LABEL = "istio.io/rev"
TAG_LABEL = "istio.io/tag"
INJECTION_LABEL = "istio-injection"
_DEFAULT_TAG = "default"
"""Name of the tag, or revision, that injects where a namespace says ``istio-injection=enabled``."""

_NAME = r"[\w./-]+"
_SET = re.compile(rf"\s*({_NAME})\s+(in|notin)\s*\(([^()]*)\)\s*")
_EQUAL = re.compile(rf"\s*({_NAME})\s*(==|!=|=)\s*([\w.-]*)\s*")
_EXISTS = re.compile(rf"\s*(!?)\s*({_NAME})\s*")
_COMMA = re.compile(r",(?![^(]*\))")


def labels_of(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def annotations_of(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("annotations") or {}


def is_deleting(obj: Object) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def condition(obj: Object, name: str) -> Object:
    """Return the condition ``name`` of an object's status, or an empty dict."""
    conditions = (obj.get("status") or {}).get("conditions") or []
    return next((found for found in conditions if found["type"] == name), {})


def is_ready(pod: Object) -> bool:
    """Tell whether a pod is ready and not being deleted: whether a Service sends it requests."""
    return condition(pod, "Ready").get("status") == "True" and not is_deleting(pod)


def is_finished(pod: Object) -> bool:
    """Tell whether a pod has run to its end: it is not started again, whoever looks at it."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    """Tell whether a pod counts for its owner: neither being deleted nor finished."""
    return not is_deleting(pod) and not is_finished(pod)


def containers_of(pod: Object) -> list[Object]:
    """Return the containers of a pod and, after them, its init containers."""
    return [*(pod["spec"].get("containers") or ()), *(pod["spec"].get("initContainers") or ())]


def ready_endpoints(slices: Iterable[Object]) -> list[Object]:
    """Return the endpoints of EndpointSlices that take requests: those that do not say count as ready."""
    every = (one for found in slices for one in found.get("endpoints") or ())
    return [one for one in every if (one.get("conditions") or {}).get("ready", True) is not False]


def load_balancer_ingress(service: Object) -> list[Object]:
    """Return what a Service's load balancer has been given: an ``ip`` or ``hostname`` each, and perhaps ``ports``."""
    return ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []


def load_balancer_ips(service: Object) -> list[str]:
    """Return the addresses that a Service's load balancer has been given."""
    return [entry["ip"] for entry in load_balancer_ingress(service) if entry.get("ip")]


def describe_pod(pod: Object) -> str:
    """Return a pod's phase and what its containers wait for, in one line."""
    status = pod.get("status") or {}
    parts = [f"pod {pod['metadata']['name']} {'Terminating' if is_deleting(pod) else status.get('phase', 'no phase')}"]
    for container in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
        state = container.get("state") or {}
        detail = state.get("waiting") or state.get("terminated") or {}
        if detail.get("reason", "") not in ("Completed", "ContainerCreating", "PodInitializing", ""):
            parts.append(f"container {container['name']} {detail['reason']}: {detail.get('message', '')}".rstrip(": "))
        elif "running" in state and not container.get("ready"):
            parts.append(f"container {container['name']} runs but is not ready")
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False" and scheduled.get("message"):
        parts.append(f"PodScheduled: {scheduled['message']}")
    return ", ".join(parts)


def label_selector(text: str) -> Requirement:
    """Return the test that a ``kubectl -l`` selector stands for; an empty one holds for every object.

    Raises UsageError where the text cannot be read.
    """
    requirements = [_parsed(part, text) for part in _COMMA.split(text)] if text.strip() else []
    return lambda labels: all(requirement(labels) for requirement in requirements)


def _parsed(part: str, whole: str) -> Requirement:
    if found := _SET.fullmatch(part):
        values = [value.strip() for value in found[3].split(",")]
        return _membership(found[1], values, within=found[2] == "in")
    if found := _EQUAL.fullmatch(part):
        return _membership(found[1], [found[3]], within=found[2] != "!=")
    if found := _EXISTS.fullmatch(part):
        key, present = found[2], not found[1]
        return lambda labels: (key in labels) == present
    raise UsageError(
        f"cannot read {part.strip()!r} in the selector {whole!r}", hint="app=x, app!=x, app in (x,y), app, !app"
    )


def _membership(key: str, values: list[str], *, within: bool) -> Requirement:
    if within:
        return lambda labels: labels.get(key) in values
    return lambda labels: key not in labels or labels[key] not in values


def selects(selector: Object | None, labels: Mapping[str, str] | None) -> bool:
    """Tell whether a LabelSelector object matches ``labels``; None matches nothing, an empty one everything."""
    return selector is not None and label_selector(selector_text(selector))(labels or {})


def selector_text(selector: Object) -> str:
    """Return a LabelSelector object (matchLabels, matchExpressions) as ``kubectl -l`` takes it."""
    equal = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    return ",".join([*equal, *map(_expression, selector.get("matchExpressions") or [])])


def _expression(expression: Object) -> str:
    key, operator = expression["key"], expression["operator"]
    if operator in ("Exists", "DoesNotExist"):
        return f"!{key}" if operator == "DoesNotExist" else str(key)
    return f"{key} {operator.lower()} ({','.join(expression['values'])})"


def addresses_of(*services: Object) -> list[str]:
    """Return the addresses (or host names) at which Services take requests from outside of their cluster."""
    given: list[str] = []
    for one in services:
        given += [entry.get("ip") or entry.get("hostname") or "" for entry in load_balancer_ingress(one)]
        given += one["spec"].get("externalIPs") or []
    return [address for address in given if address]


def revisions(webhooks: Iterable[Object]) -> dict[str, str]:
    """Return the revisions that a cluster's webhooks inject, by the name that selects each: its own, or a tag."""
    found = [labels for labels in map(labels_of, webhooks) if REVISION_LABEL in labels]
    return {labels.get(TAG_LABEL, labels[REVISION_LABEL]): labels[REVISION_LABEL] for labels in found}


def injecting_revision(namespace: Object, webhooks: Iterable[Object]) -> str:
    """Return the revision that injects the pods of a namespace, by its labels; "" for none.

    Where ``istio-injection`` is set, ``istio.io/rev`` does not count: the webhooks' selectors have it so.
    """
    labels = labels_of(namespace)
    name = {"": labels.get(REVISION_LABEL, ""), "enabled": _DEFAULT_TAG}.get(labels.get(INJECTION_LABEL, ""), "")
    return revisions(webhooks).get(name, "")


def last_writer(obj: Object, part: str) -> str:
    """Return who wrote ``part`` of an object's spec last, as its managed fields tell, and how and when.

    A scale subresource that is patched twice leaves no writer there at all: so does ``kubectl scale``.
    """
    fields = obj["metadata"].get("managedFields") or []
    owners = [one for one in fields if f"f:{part}" in ((one.get("fieldsV1") or {}).get("f:spec") or {})]
    last = max(owners, key=lambda one: str(one.get("time") or ""), default=None)
    if last is None:
        return "somebody whom its managed fields do not name, as after kubectl scale"
    how = " of ".join(filter(None, (str(last.get("operation", "")), last.get("subresource"))))
    return f"{last.get('manager', 'unknown')} ({how}, {last.get('time') or 'at an unknown time'})"


def timestamp(moment: datetime | None = None) -> str:
    """Return a moment (default: now) as the API writes times: UTC, whole seconds, ``Z``."""
    return (moment or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(moment: datetime | None = None) -> str:
    """Return a moment (default: now) as the API's MicroTime: UTC, microseconds, ``Z``."""
    return (moment or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def moment_of(stamp: str) -> datetime:
    """Return a time of the API as a moment in UTC. Raises ValueError where it is none, or of no zone."""
    moment = datetime.fromisoformat(stamp)
    if moment.tzinfo is None:
        raise ValueError(f"{stamp!r} has no time zone")
    return moment.astimezone(UTC)
