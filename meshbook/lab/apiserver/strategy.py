"""What the server itself does to an object: identity, defaults, addresses, what an update keeps, generation, deletion.

Functions of data; ``defaults`` and ``allocate`` change the tree that they are given, which is the request's own copy,
the others return new trees. What other objects say (names, addresses) comes in as arguments.
"""

from __future__ import annotations

import base64
import random
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from meshbook.lab.apiserver.errors import internal, invalid, not_allowed
from meshbook.lab.apiserver.kinds import RBAC, Kind
from meshbook.lab.topology import ClusterTopology
from meshbook.objects import NAME_LETTERS, Object, containers_of, timestamp

GENERATED_LENGTH = 5
LONGEST_PREFIX = 63 - GENERATED_LENGTH
NAME_TRIES = 8
ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"
NODE_PORTS = range(30000, 32768)

_FIXED = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")


def generate_name(metadata: Object, taken: Callable[[str], bool]) -> None:
    """Give a new object that has only ``generateName`` a name that is not ``taken``."""
    if metadata.get("name") or not metadata.get("generateName"):
        return
    for _ in range(NAME_TRIES):
        letters = "".join(random.choices(NAME_LETTERS, k=GENERATED_LENGTH))
        metadata["name"] = metadata["generateName"][:LONGEST_PREFIX] + letters
        if not taken(metadata["name"]):
            return


def for_create(kind: Kind, obj: Object) -> Object:
    """Return a new object with its identity, and without what only the server or a controller says."""
    metadata = {name: value for name, value in obj["metadata"].items() if name not in (*_FIXED, "resourceVersion")}
    metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": timestamp()}
    metadata |= {"generation": 1} if kind.generations else {}
    new = obj | {"metadata": metadata}
    if "status" in kind.subresources and kind.kind != "Node":
        new.pop("status", None)
    if kind.kind == "Namespace":
        new["spec"] = {"finalizers": ["kubernetes"]}
    return new


def for_update(kind: Kind, subresource: str, obj: Object, old: Object) -> Object:
    """Return the object that results when ``obj`` is written over ``old`` through ``subresource``."""
    if subresource in ("status", "finalize"):
        part = "spec" if subresource == "finalize" else "status"
        kept = ("managedFields",) if kind.custom else ("annotations", "managedFields")
        written = {name: value for name, value in obj["metadata"].items() if name in kept}
        return old | {"metadata": old["metadata"] | written, part: obj.get(part, {})}
    new = {name: value for name, value in obj.items() if name != "status" or "status" not in kind.subresources}
    if "status" in kind.subresources and "status" in old:
        new["status"] = old["status"]
    if kind.kind == "Namespace":
        new["spec"] = old.get("spec", {})
    if kind.kind == "Service":
        new["spec"] = _addresses_kept(new.get("spec", {}), old["spec"])
    return new | {"metadata": _metadata_kept(kind, obj["metadata"], old["metadata"])}


def _metadata_kept(kind: Kind, new: Object, old: Object) -> Object:
    added = set(new.get("finalizers", ())) - set(old.get("finalizers", ()))
    if added - {ORPHAN, FOREGROUND} and "deletionTimestamp" in old:
        detail = f"no new finalizers can be added if the object is being deleted, found new finalizers {sorted(added)}"
        raise invalid(kind, old["name"], not_allowed("metadata.finalizers", detail))
    kept = {name: old[name] for name in (*_FIXED, "resourceVersion") if name in old}
    return {name: value for name, value in new.items() if name not in _FIXED} | kept


def _addresses_kept(new: Object, old: Object) -> Object:
    """A Service that does not say its addresses keeps those that it has."""
    if "ExternalName" in (new.get("type"), old.get("type")):
        return new
    kept: Object = {name: old[name] for name in ("clusterIP", "clusterIPs") if name in old and not new.get(name)}
    node_ports = {port["port"]: {"nodePort": port["nodePort"]} for port in old.get("ports", ()) if "nodePort" in port}
    if new.get("type") in ("LoadBalancer", "NodePort") and new.get("ports"):
        kept["ports"] = [node_ports.get(port.get("port"), {}) | port for port in new["ports"]]
    return new | kept


def with_generation(kind: Kind, subresource: str, obj: Object, old: Object | None) -> Object:
    """Return ``obj`` with its generation one higher when more than metadata and status changed.

    Annotations of a Deployment count too, since its ReplicaSets take them over.
    """
    if old is None or not kind.generations or subresource == "status":
        return obj
    counted = [{name: value for name, value in one.items() if name not in ("metadata", "status")} for one in (obj, old)]
    if kind.kind == "Deployment":
        counted = [
            part | {"": one["metadata"].get("annotations", {})} for part, one in zip(counted, (obj, old), strict=True)
        ]
    if counted[0] == counted[1]:
        return obj
    return obj | {"metadata": obj["metadata"] | {"generation": old["metadata"].get("generation", 0) + 1}}


LONGEST_GRACE_S = 1 << 30


def grace_of(kind: Kind, obj: Object, asked: int | None) -> int:
    """Return the seconds that an object keeps after its deletion: some for a pod on a node, none for the rest."""
    over = obj.get("status", {}).get("phase") in ("Succeeded", "Failed")
    if kind.kind != "Pod" or not obj["spec"].get("nodeName") or over:
        return 0
    grace = obj["spec"].get("terminationGracePeriodSeconds", 30) if asked is None else asked
    return min(int(grace), LONGEST_GRACE_S) if grace >= 0 else 1


def marked_for_deletion(kind: Kind, obj: Object, policy: str | None, grace_s: int) -> Object:
    """Return ``obj`` as a deletion leaves it before finalizers and grace are over."""
    metadata = dict(obj["metadata"])
    finalizers = [name for name in metadata.pop("finalizers", ()) if not policy or name not in (ORPHAN, FOREGROUND)]
    finalizers += [{"Orphan": ORPHAN, "Foreground": FOREGROUND}[policy]] if policy in ("Orphan", "Foreground") else []
    metadata |= {"finalizers": finalizers} if finalizers else {}
    if "deletionTimestamp" not in metadata or grace_s < metadata.get("deletionGracePeriodSeconds", 0):
        at = timestamp(datetime.now(UTC) + timedelta(seconds=grace_s))
        metadata |= {"deletionTimestamp": at, "deletionGracePeriodSeconds": grace_s}
    marked = obj | {"metadata": metadata}
    return marked | ({"status": obj.get("status", {}) | {"phase": "Terminating"}} if kind.kind == "Namespace" else {})


def is_finished(kind: Kind, obj: Object) -> bool:
    """Tell whether nothing holds an object that was marked for deletion any more."""
    metadata = obj["metadata"]
    if "deletionTimestamp" not in metadata or metadata.get("finalizers"):
        return False
    if kind.kind == "Namespace" and obj.get("spec", {}).get("finalizers"):
        return False
    return bool(metadata.get("deletionGracePeriodSeconds", 0) == 0)


def allocate(service: Object, others: Iterable[Object], cluster: ClusterTopology) -> None:
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
        ports = {port.get("nodePort") for other in (*taken, spec) for port in other.get("ports", ())}
        left = (number for number in NODE_PORTS if number not in ports)
        for port in spec.get("ports", ()):
            if "nodePort" in port:
                continue
            port["nodePort"] = next(left, 0)
            if not port["nodePort"]:
                raise internal("failed to allocate a nodePort: range is full")


def defaults(kind: Kind, obj: Object) -> None:
    """Fill in the defaults of a kind that depend on the object alone. Filling in twice changes nothing."""
    fill = _DEFAULTS.get(kind.kind)
    if fill and not kind.custom:
        fill(obj)


def _default(obj: Object, **values: Any) -> None:
    for name, value in values.items():
        obj.setdefault(name, value)


def _pod_spec(spec: Object) -> None:
    _default(spec, restartPolicy="Always", dnsPolicy="ClusterFirst", terminationGracePeriodSeconds=30)
    _default(spec, schedulerName="default-scheduler", securityContext={})
    if name := spec.get("serviceAccountName") or spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"] = name
    for container in containers_of({"spec": spec}):
        _container(container)
    for volume in spec.get("volumes", ()):
        for source in ("configMap", "secret", "projected"):
            if isinstance(volume.get(source), dict):
                volume[source].setdefault("defaultMode", 420)


def _container(container: Object) -> None:
    image = container.get("image", "")
    tag = image.rpartition("/")[2].partition(":")[2]
    fresh = "@" not in image and tag in ("", "latest")
    _default(container, imagePullPolicy="Always" if fresh else "IfNotPresent", resources={})
    _default(container, terminationMessagePath="/dev/termination-log", terminationMessagePolicy="File")
    for port in container.get("ports", ()):
        _default(port, protocol="TCP")
    for variable in container.get("env", ()):
        if reference := variable.get("valueFrom", {}).get("fieldRef"):
            _default(reference, apiVersion="v1")
    for probe in (container[name] for name in _PROBES if name in container):
        _default(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
        if "httpGet" in probe:
            _default(probe["httpGet"], path="/", scheme="HTTP")
    limits = container["resources"].get("limits", {})
    if limits:
        container["resources"]["requests"] = limits | container["resources"].get("requests", {})


def _pod(pod: Object) -> None:
    spec = pod["spec"]
    _pod_spec(spec)
    _default(spec, enableServiceLinks=True, preemptionPolicy="PreemptLowerPriority", priority=0)
    _default(spec, serviceAccountName="default", serviceAccount="default")
    status = pod.setdefault("status", {})
    _default(status, phase="Pending")
    resources = [container["resources"] for container in containers_of(pod)]
    full = all({"cpu", "memory"} <= r.get("limits", {}).keys() and r["limits"] == r["requests"] for r in resources)
    status["qosClass"] = "BestEffort" if not any(resources) else "Guaranteed" if full else "Burstable"


def _template(spec: Object) -> None:
    if "spec" in spec.get("template", {}):
        _pod_spec(spec["template"]["spec"])
        spec["template"].setdefault("metadata", {})


def _deployment(deployment: Object) -> None:
    spec = deployment["spec"]
    _default(deployment, status={})
    _default(spec, replicas=1, strategy={}, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    strategy = spec["strategy"]
    _default(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _default(strategy.setdefault("rollingUpdate", {}), maxSurge="25%", maxUnavailable="25%")
    _template(spec)


def _replica_set(replica_set: Object) -> None:
    _default(replica_set["spec"], replicas=1)
    _template(replica_set["spec"])
    _default(replica_set.setdefault("status", {}), replicas=0)


def _service(service: Object) -> None:
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


def _namespace(namespace: Object) -> None:
    metadata = namespace["metadata"]
    metadata["labels"] = metadata.get("labels", {}) | {"kubernetes.io/metadata.name": metadata.get("name", "")}
    namespace.setdefault("status", {}).setdefault("phase", "Active")


def _secret(secret: Object) -> None:
    _default(secret, type="Opaque")
    if texts := secret.pop("stringData", {}):
        coded = {key: base64.b64encode(text.encode()).decode() for key, text in texts.items()}
        secret["data"] = secret.get("data", {}) | coded


def _autoscaler(autoscaler: Object) -> None:
    target = {"type": "Utilization", "averageUtilization": 80}
    metric = {"type": "Resource", "resource": {"name": "cpu", "target": target}}
    _default(autoscaler["spec"], minReplicas=1, metrics=[metric])


def _endpoint_slice(endpoint_slice: Object) -> None:
    for port in endpoint_slice.get("ports", ()):
        _default(port, protocol="TCP", name="")


def _role_binding(binding: Object) -> None:
    named = [binding["roleRef"], *(one for one in binding.get("subjects", ()) if one["kind"] != "ServiceAccount")]
    for one in named:
        one["apiGroup"] = one.get("apiGroup") or RBAC


def _webhooks(configuration: Object) -> None:
    for webhook in configuration.get("webhooks", ()):
        _default(webhook, failurePolicy="Fail", matchPolicy="Equivalent", reinvocationPolicy="Never")
        _default(webhook, timeoutSeconds=10, namespaceSelector={}, objectSelector={})
        for rule in webhook.get("rules", ()):
            _default(rule, scope="*")


_DEFAULTS: dict[str, Callable[[Object], None]] = {
    "ClusterRoleBinding": _role_binding,
    "Deployment": _deployment,
    "EndpointSlice": _endpoint_slice,
    "HorizontalPodAutoscaler": _autoscaler,
    "MutatingWebhookConfiguration": _webhooks,
    "Namespace": _namespace,
    "Pod": _pod,
    "ReplicaSet": _replica_set,
    "RoleBinding": _role_binding,
    "Secret": _secret,
    "Service": _service,
}
