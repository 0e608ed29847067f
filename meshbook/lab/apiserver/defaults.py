"""What the server fills in where a client said nothing: the defaults of built-in kinds, and allocated addresses.

Functions change the tree that they are given, which is the request's own copy. Values of other objects (used Service
addresses) come in as arguments.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from typing import Any

from meshbook.lab.apiserver.failures import internal
from meshbook.lab.apiserver.kinds import Json, Kind
from meshbook.lab.topology import ClusterTopology

NODE_PORTS = range(30000, 32768)
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def _default(obj: Json, **values: Any) -> None:
    for name, value in values.items():
        obj.setdefault(name, value)


def fill(kind: Kind, obj: Json) -> None:
    """Fill in the defaults of a kind that depend on the object alone. Filling in twice changes nothing."""
    filler = _FILLERS.get(kind.kind) if not kind.custom else None
    if filler:
        filler(obj)


def _pod_spec(spec: Json) -> None:
    _default(spec, restartPolicy="Always", dnsPolicy="ClusterFirst", terminationGracePeriodSeconds=30)
    _default(spec, schedulerName="default-scheduler", securityContext={})
    if name := spec.get("serviceAccountName") or spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"] = name
    for container in (*spec.get("containers", ()), *spec.get("initContainers", ())):
        _container(container)
    for volume in spec.get("volumes", ()):
        for source, key in (("configMap", "defaultMode"), ("secret", "defaultMode"), ("projected", "defaultMode")):
            if isinstance(volume.get(source), dict):
                volume[source].setdefault(key, 420)


def _container(container: Json) -> None:
    image = container.get("image", "")
    tag = image.rpartition("/")[2].partition(":")[2]
    fresh = "@" not in image and tag in ("", "latest")
    _default(container, imagePullPolicy="Always" if fresh else "IfNotPresent", resources={})
    _default(container, terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File")
    for port in container.get("ports", ()):
        _default(port, protocol="TCP")
    for variable in container.get("env", ()):
        if isinstance(reference := (variable.get("valueFrom") or {}).get("fieldRef"), dict):
            _default(reference, apiVersion="v1")
    for probe in (container[name] for name in _PROBES if name in container):
        _default(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
        if "httpGet" in probe:
            _default(probe["httpGet"], path="/", scheme="HTTP")
    limits = container["resources"].get("limits", {})
    if limits:
        container["resources"]["requests"] = limits | container["resources"].get("requests", {})


def _pod(pod: Json) -> None:
    spec = pod["spec"]
    _pod_spec(spec)
    _default(spec, enableServiceLinks=True, preemptionPolicy="PreemptLowerPriority", priority=0)
    _default(spec, serviceAccountName="default", serviceAccount="default")
    status = pod.setdefault("status", {})
    _default(status, phase="Pending")
    status["qosClass"] = _quality((*spec["containers"], *spec.get("initContainers", ())))


def _quality(containers: Iterable[Json]) -> str:
    resources = [container["resources"] for container in containers]
    if not any(resources):
        return "BestEffort"
    full = all({"cpu", "memory"} <= r.get("limits", {}).keys() and r["limits"] == r["requests"] for r in resources)
    return "Guaranteed" if full else "Burstable"


def _deployment(deployment: Json) -> None:
    spec = deployment["spec"]
    _default(deployment, status={})
    _default(spec, replicas=1, strategy={}, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    strategy = spec["strategy"]
    _default(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _default(strategy.setdefault("rollingUpdate", {}), maxSurge="25%", maxUnavailable="25%")
    _template(spec)


def _replica_set(replica_set: Json) -> None:
    _default(replica_set["spec"], replicas=1)
    _template(replica_set["spec"])
    _default(replica_set.setdefault("status", {}), replicas=0)


def _job(job: Json) -> None:
    spec = job["spec"]
    _default(job, status={})
    _default(spec, completions=1, parallelism=1, backoffLimit=6, completionMode="NonIndexed", suspend=False)
    _default(spec, podReplacementPolicy="TerminatingOrFailed", manualSelector=False)
    _template(spec)
    if not spec["manualSelector"]:
        _mark_pods_of(job)


def _mark_pods_of(job: Json) -> None:
    """Have a Job's pods carry its name and uid, by which it knows them."""
    metadata, template = job["metadata"], job["spec"]["template"]["metadata"]
    names = {"job-name": metadata.get("name", ""), "controller-uid": metadata.get("uid", "")}
    marks = {f"{prefix}{name}": value for prefix in ("", "batch.kubernetes.io/") for name, value in names.items()}
    template["labels"] = template.get("labels", {}) | marks
    uid = "batch.kubernetes.io/controller-uid"
    _default(job["spec"], selector={"matchLabels": {uid: marks[uid]}})
    metadata["labels"] = metadata.get("labels") or dict(template["labels"])


def _template(spec: Json) -> None:
    if "spec" in spec.get("template", {}):
        _pod_spec(spec["template"]["spec"])
        spec["template"].setdefault("metadata", {})


def _service(service: Json) -> None:
    spec = service["spec"]
    _default(spec, type="ClusterIP", sessionAffinity="None")
    for port in spec.get("ports", ()):
        _default(port, protocol="TCP", targetPort=port.get("port"))
    service.setdefault("status", {}).setdefault("loadBalancer", {})
    if spec["type"] == "ExternalName":
        return
    _default(spec, internalTrafficPolicy="Cluster", ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack")
    if spec["type"] == "LoadBalancer":
        _default(spec, allocateLoadBalancerNodePorts=True)
    if spec["type"] in ("LoadBalancer", "NodePort"):
        _default(spec, externalTrafficPolicy="Cluster")


def _namespace(namespace: Json) -> None:
    metadata = namespace["metadata"]
    metadata["labels"] = metadata.get("labels", {}) | {"kubernetes.io/metadata.name": metadata["name"]}
    namespace.setdefault("status", {}).setdefault("phase", "Active")


def _secret(secret: Json) -> None:
    _default(secret, type="Opaque")
    texts = secret.pop("stringData", {})
    if texts:
        coded = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
        secret["data"] = secret.get("data", {}) | coded


def _autoscaler(autoscaler: Json) -> None:
    utilization = {"type": "Utilization", "averageUtilization": 80}
    _default(autoscaler["spec"], minReplicas=1)
    _default(autoscaler["spec"], metrics=[{"type": "Resource", "resource": {"name": "cpu", "target": utilization}}])


def _endpoint_slice(endpoint_slice: Json) -> None:
    for port in endpoint_slice.get("ports", ()):
        _default(port, protocol="TCP", name="")


def _webhooks(configuration: Json) -> None:
    for webhook in configuration.get("webhooks", ()):
        _default(webhook, failurePolicy="Fail", matchPolicy="Equivalent", reinvocationPolicy="Never")
        _default(webhook, timeoutSeconds=10, namespaceSelector={}, objectSelector={})
        for rule in webhook.get("rules", ()):
            _default(rule, scope="*")


def _definition(definition: Json) -> None:
    names = definition["spec"]["names"]
    _default(names, singular=names["kind"].lower(), listKind=f"{names['kind']}List")
    _default(definition["spec"], conversion={"strategy": "None"})
    reached = {"status": "True", "lastTransitionTime": definition["metadata"].get("creationTimestamp")}
    accepted = {"type": "NamesAccepted", "reason": "NoConflicts", "message": "no conflicts found", **reached}
    established = {"type": "Established", "reason": "InitialNamesAccepted", **reached}
    established["message"] = "the initial names have been accepted"
    stored = [version["name"] for version in definition["spec"]["versions"] if version["storage"]]
    status = {"conditions": [accepted, established], "acceptedNames": dict(names), "storedVersions": stored}
    definition.setdefault("status", status)


def _role_binding(binding: Json) -> None:
    for subject in binding.get("subjects", ()):
        if subject.get("kind") in ("User", "Group"):
            _default(subject, apiGroup="rbac.authorization.k8s.io")


_FILLERS: dict[str, Callable[[Json], None]] = {
    "ClusterRoleBinding": _role_binding,
    "CustomResourceDefinition": _definition,
    "Deployment": _deployment,
    "EndpointSlice": _endpoint_slice,
    "HorizontalPodAutoscaler": _autoscaler,
    "Job": _job,
    "MutatingWebhookConfiguration": _webhooks,
    "Namespace": _namespace,
    "Pod": _pod,
    "ReplicaSet": _replica_set,
    "RoleBinding": _role_binding,
    "Secret": _secret,
    "Service": _service,
}


def allocate(service: Json, others: Iterable[Json], cluster: ClusterTopology) -> None:
    """Give a Service its cluster address and its node ports, such as no other one has."""
    spec, taken = service["spec"], [other["spec"] for other in others]
    if spec["type"] == "ExternalName":
        return
    if not spec.get("clusterIP"):
        used = {other.get("clusterIP") for other in taken}
        free = (address for address in map(cluster.cluster_ip, range(250)) if address not in used)
        spec["clusterIP"] = next(free, "")
        if not spec["clusterIP"]:
            raise internal("failed to allocate a serviceIP: range is full")
    spec["clusterIPs"] = [spec["clusterIP"]]
    if spec["type"] in ("LoadBalancer", "NodePort") and spec.get("allocateLoadBalancerNodePorts", True):
        ports = {port.get("nodePort") for other in taken for port in other.get("ports", ())}
        ports |= {port.get("nodePort") for port in spec.get("ports", ())}
        left = (number for number in NODE_PORTS if number not in ports)
        for port in spec.get("ports", ()):
            port.setdefault("nodePort", next(left))
