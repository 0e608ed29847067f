"""What parts 1 to 3 of the article leave behind, as objects: data only, nothing is sent from here.

Each cluster has ``istio-system`` with its network label, the revision's injection webhook, an east-west gateway behind
a load balancer address with the Gateway that passes mesh traffic through, and a remote secret for every other cluster.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from meshbook.lab import pki
from meshbook.lab.client import (
    CLUSTER_ROLE_BINDINGS,
    DEPLOYMENTS,
    GATEWAYS,
    MUTATING_WEBHOOKS,
    NAMESPACES,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    Resource,
)
from meshbook.lab.topology import EAST_WEST_PORT, REVISION, WEBHOOK_PORT, ClusterTopology, LabTopology

SYSTEM = "istio-system"
VIEWERS = "meshbook:viewers"
"""Group of users who may look and change nothing."""
GATEWAY_NAME = "istio-eastwestgateway"
GATEWAY_LABELS = {"app": GATEWAY_NAME, "istio": "eastwestgateway"}
GATEWAY_PORTS = (
    ("status-port", 15021),
    ("tls", EAST_WEST_PORT),
    ("tls-istiod", 15012),
    ("tls-webhook", 15017),
)

Object = dict[str, Any]


def of_cluster(
    topology: LabTopology, cluster: ClusterTopology, root_pem: str, tokens: Mapping[str, str]
) -> list[tuple[Resource, Object]]:
    """Return the objects of one cluster in the order in which they must be applied."""
    others = [other for other in topology.clusters if other.name != cluster.name]
    return [
        (NAMESPACES, _namespace(cluster)),
        (CLUSTER_ROLE_BINDINGS, _viewers()),
        (MUTATING_WEBHOOKS, _webhook(cluster, root_pem)),
        (SERVICE_ACCOUNTS, _object(SERVICE_ACCOUNTS, GATEWAY_NAME, GATEWAY_LABELS)),
        (SERVICES, _gateway_service(cluster)),
        (GATEWAYS, _cross_network_gateway()),
        *[(SECRETS, _remote_secret(other, root_pem, tokens[other.name])) for other in others],
        (DEPLOYMENTS, _gateway_deployment(cluster)),
    ]


def _object(resource: Resource, name: str, labels: Mapping[str, str] | None = None, **fields: Any) -> Object:
    metadata: Object = {"name": name, "labels": dict(labels or {})}
    if resource.namespaced:
        metadata["namespace"] = SYSTEM
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **fields}


def _namespace(cluster: ClusterTopology) -> Object:
    return _object(NAMESPACES, SYSTEM, {"topology.istio.io/network": cluster.network})


def _viewers() -> Object:
    """Real API servers evaluate this; the lab's own knows from the token who may only look."""
    group = "rbac.authorization.k8s.io"
    role = {"apiGroup": group, "kind": "ClusterRole", "name": "view"}
    subjects = [{"apiGroup": group, "kind": "Group", "name": VIEWERS}]
    return _object(CLUSTER_ROLE_BINDINGS, "meshbook-viewers", roleRef=role, subjects=subjects)


def _expression(key: str, operator: str, *values: str) -> Object:
    return {"key": key, "operator": operator, "values": list(values)} if values else {"key": key, "operator": operator}


def _webhook(cluster: ClusterTopology, root_pem: str) -> Object:
    """Injection by the namespace's revision label, or by the pod's where the namespace says nothing."""
    not_refused = _expression("sidecar.istio.io/inject", "NotIn", "false")
    no_legacy_label = _expression("istio-injection", "DoesNotExist")
    by_namespace = [_expression("istio.io/rev", "In", REVISION), no_legacy_label]
    by_pod = [_expression("istio.io/rev", "DoesNotExist"), no_legacy_label]
    return _object(
        MUTATING_WEBHOOKS,
        f"istio-sidecar-injector-{REVISION}",
        {"istio.io/rev": REVISION, "app": "sidecar-injector"},
        webhooks=[
            _injector(cluster, root_pem, "rev.namespace", by_namespace, [not_refused]),
            _injector(
                cluster, root_pem, "rev.object", by_pod, [_expression("istio.io/rev", "In", REVISION), not_refused]
            ),
        ],
    )


def _injector(
    cluster: ClusterTopology, root_pem: str, prefix: str, namespaces: list[Object], pods: list[Object]
) -> Object:
    return {
        "name": f"{prefix}.sidecar-injector.istio.io",
        "clientConfig": {
            "url": f"https://{cluster.istiod_address}:{WEBHOOK_PORT}/inject",
            "caBundle": base64.b64encode(root_pem.encode()).decode(),
        },
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
        "namespaceSelector": {"matchExpressions": namespaces},
        "objectSelector": {"matchExpressions": pods},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 10,
    }


def _gateway_service(cluster: ClusterTopology) -> Object:
    ports = [{"name": name, "port": port, "targetPort": port, "protocol": "TCP"} for name, port in GATEWAY_PORTS]
    labels = GATEWAY_LABELS | {"topology.istio.io/network": cluster.network}
    spec = {"type": "LoadBalancer", "selector": GATEWAY_LABELS, "ports": ports}
    return _object(SERVICES, GATEWAY_NAME, labels, spec=spec)


def _gateway_deployment(cluster: ClusterTopology) -> Object:
    labels = GATEWAY_LABELS | {
        "topology.istio.io/network": cluster.network,
        "istio.io/rev": REVISION,
        "sidecar.istio.io/inject": "true",
    }
    view = {"name": "ISTIO_META_REQUESTED_NETWORK_VIEW", "value": cluster.network}
    pod = {
        "metadata": {"labels": labels, "annotations": {"inject.istio.io/templates": "gateway"}},
        "spec": {
            "serviceAccountName": GATEWAY_NAME,
            "containers": [{"name": "istio-proxy", "image": "auto", "env": [view]}],
        },
    }
    spec = {"replicas": 1, "selector": {"matchLabels": GATEWAY_LABELS}, "template": pod}
    return _object(DEPLOYMENTS, GATEWAY_NAME, labels, spec=spec)


def _cross_network_gateway() -> Object:
    server = {
        "port": {"number": EAST_WEST_PORT, "name": "tls", "protocol": "TLS"},
        "tls": {"mode": "AUTO_PASSTHROUGH"},
        "hosts": ["*.local"],
    }
    spec = {"selector": {"istio": "eastwestgateway"}, "servers": [server]}
    return _object(GATEWAYS, "cross-network-gateway", spec=spec)


def _remote_secret(other: ClusterTopology, root_pem: str, token: str) -> Object:
    text = pki.cluster_kubeconfig(other, root_pem, token)
    secret = _object(
        SECRETS,
        f"istio-remote-secret-{other.name}",
        {"istio/multiCluster": "true"},
        type="Opaque",
        data={other.name: base64.b64encode(text.encode()).decode()},
    )
    secret["metadata"]["annotations"] = {"networking.istio.io/cluster": other.name}
    return secret
