"""What becomes of a pod that the API server shows to the webhook: pure, an AdmissionReview in, an answer out.

Which pods are shown at all is decided by the selectors of the MutatingWebhookConfiguration: the namespace's label
``istio.io/rev``, or the pod's where the namespace has none; never in a namespace labelled ``istio-injection``.
"""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import jsonpatch

from meshbook.lab.istiod import templates
from meshbook.lab.istiod.templates import Workload
from meshbook.lab.topology import REVISION

INJECT = "sidecar.istio.io/inject"
TEMPLATES = "inject.istio.io/templates"
SIDECAR, GATEWAY = "sidecar", "gateway"
IGNORED_NAMESPACES = ("kube-system", "kube-public", "kube-node-lease")
LIST_KEYS = {"env": "name", "ports": "containerPort", "volumeMounts": "name"}
"""By which field the members of a container's lists are the same."""

Object = dict[str, Any]


class UnknownTemplate(ValueError):
    """A pod asks for an injection template that is not there."""


def review(request: Object, cluster: str, network: str) -> Object:
    """Answer an AdmissionReview (v1) for a pod of ``cluster``."""
    question = request["request"]
    answer: Object = {"uid": question["uid"], "allowed": True}
    pod, namespace = question["object"], question.get("namespace", "")
    try:
        operations = jsonpatch.make_patch(pod, patched(pod, namespace, cluster, network)).patch
    except UnknownTemplate as error:
        answer |= {"allowed": False, "status": {"code": 400, "message": str(error)}}
        operations = []
    if operations:
        answer |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(operations).encode()).decode()}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}


def patched(pod: Object, namespace: str, cluster: str, network: str) -> Object:
    """Return the pod with its proxy, or as it was when it does not want one."""
    if not wanted(pod, namespace):
        return pod
    template = _template(pod)
    result = copy.deepcopy(pod)
    workload = _workload(pod, namespace, cluster, network)
    _add_container(result["spec"], templates.container(workload, router=template == GATEWAY))
    _add_by_name(result["spec"].setdefault("volumes", []), templates.volumes())
    metadata = result["metadata"]
    metadata["labels"] = templates.pod_labels(workload, router=template == GATEWAY) | (metadata.get("labels") or {})
    first = result["spec"]["containers"][0]["name"]
    metadata["annotations"] = templates.pod_annotations(first, _status()) | (metadata.get("annotations") or {})
    return result


def wanted(pod: Object, namespace: str) -> bool:
    """Tell whether a pod that was shown to the webhook gets a proxy."""
    metadata, spec = pod.get("metadata", {}), pod["spec"]
    said = (metadata.get("labels") or {}).get(INJECT) or (metadata.get("annotations") or {}).get(INJECT, "true")
    return said != "false" and not spec.get("hostNetwork") and namespace not in IGNORED_NAMESPACES


def _template(pod: Object) -> str:
    name: str = (pod.get("metadata", {}).get("annotations") or {}).get(TEMPLATES, SIDECAR)
    if name not in (SIDECAR, GATEWAY):
        raise UnknownTemplate(f"injection template {name!r} is not there; known: {SIDECAR}, {GATEWAY}")
    return name


def _workload(pod: Object, namespace: str, cluster: str, network: str) -> Workload:
    metadata = pod["metadata"]
    labels = metadata.get("labels") or {}
    generated = metadata.get("generateName", "").rstrip("-")
    owner = generated.removesuffix(f"-{labels.get('pod-template-hash', '')}") if generated else metadata.get("name", "")
    names = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
    return Workload(
        name=next((labels[name] for name in names if name in labels), owner),
        namespace=namespace,
        cluster=cluster,
        network=network,
        version=labels.get("service.istio.io/canonical-revision") or labels.get("version", "latest"),
    )


def _status() -> str:
    return json.dumps(
        {
            "initContainers": None,
            "containers": [templates.CONTAINER],
            "volumes": [volume["name"] for volume in templates.volumes()],
            "imagePullSecrets": None,
            "revision": REVISION,
        }
    )


def _add_container(spec: Object, template: Object) -> None:
    """Append the proxy, or complete the pod's own container of that name: what the pod says itself counts."""
    for position, own in enumerate(spec["containers"]):
        if own["name"] == template["name"]:
            spec["containers"][position] = _merged(template, _without_auto(own))
            return
    spec["containers"].append(template)


def _without_auto(container: Object) -> Object:
    return {key: value for key, value in container.items() if (key, value) != ("image", templates.AUTO_IMAGE)}


def _merged(template: Object, own: Object) -> Object:
    result = dict(template)
    for key, value in own.items():
        if key in LIST_KEYS and isinstance(value, list):
            result[key] = list(value)
            _add_by_name(result[key], template.get(key, []), LIST_KEYS[key])
        elif isinstance(value, dict) and isinstance(template.get(key), dict) and key != "readinessProbe":
            result[key] = _merged(template[key], value)
        else:
            result[key] = value
    return result


def _add_by_name(members: list[Object], more: list[Object], key: str = "name") -> None:
    known = {member.get(key) for member in members}
    members += [copy.deepcopy(one) for one in more if one.get(key) not in known]
