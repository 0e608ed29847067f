"""What injection puts into a pod: the ``istio-proxy`` container, labels, annotations. Pure data.

As with Istio's CNI plugin there is no init container: traffic is not redirected, programs use the sidecar as proxy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from meshbook.lab.topology import PROXY_HEALTH_PORT, PROXY_METRICS_PORT, REVISION, TRUST_DOMAIN

IMAGE = "gcr.io/gke-release/asm/proxyv2:1.17.5-asm.9"
AUTO_IMAGE = "auto"
CONTAINER = "istio-proxy"
ROOT_CONFIG_MAP = "istio-ca-root-cert"
ROOT_VOLUME = "istiod-ca-cert"

PROBE_PERIOD_S = 1
"""Istio asks every 2 s after 1 s; the lab is ready sooner than that."""

Object = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What a template needs to know of a pod."""

    name: str
    namespace: str
    cluster: str
    network: str
    version: str


def container(workload: Workload, *, router: bool) -> Object:
    """Return the proxy's container, of a sidecar or of a gateway (``router``)."""
    return {
        "name": CONTAINER,
        "image": IMAGE,
        "args": [
            "proxy",
            "router" if router else "sidecar",
            "--domain",
            "$(POD_NAMESPACE).svc.cluster.local",
            "--proxyLogLevel=warning",
        ],
        "env": _environment(workload),
        "ports": [{"name": "http-envoy-prom", "containerPort": PROXY_METRICS_PORT, "protocol": "TCP"}],
        "readinessProbe": {
            "httpGet": {"path": "/healthz/ready", "port": PROXY_HEALTH_PORT},
            "periodSeconds": PROBE_PERIOD_S,
            "timeoutSeconds": 3,
            "failureThreshold": 30,
        },
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"cpu": "2", "memory": "1Gi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsGroup": 1337,
            "runAsNonRoot": True,
            "runAsUser": 1337,
        },
        "volumeMounts": [{"name": ROOT_VOLUME, "mountPath": "/var/run/secrets/istio"}],
    }


def volumes() -> list[Object]:
    return [{"name": ROOT_VOLUME, "configMap": {"name": ROOT_CONFIG_MAP}}]


def pod_labels(workload: Workload, *, router: bool) -> dict[str, str]:
    """Return the labels that a pod without them gets; the TLS mode tells clients that a sidecar listens."""
    canonical = {
        "service.istio.io/canonical-name": workload.name,
        "service.istio.io/canonical-revision": workload.version,
    }
    return canonical if router else {"security.istio.io/tlsMode": "istio", **canonical}


def pod_annotations(first_container: str, status: str) -> dict[str, str]:
    """Return the annotations: what was injected, and the container that ``kubectl logs`` and ``exec`` mean."""
    return {
        "sidecar.istio.io/status": status,
        "istio.io/rev": REVISION,
        "kubectl.kubernetes.io/default-container": first_container,
        "kubectl.kubernetes.io/default-logs-container": first_container,
    }


def _environment(workload: Workload) -> list[Object]:
    return [
        _field("POD_NAME", "metadata.name"),
        _field("POD_NAMESPACE", "metadata.namespace"),
        _field("INSTANCE_IP", "status.podIP"),
        {"name": "ISTIO_META_CLUSTER_ID", "value": workload.cluster},
        {"name": "ISTIO_META_NETWORK", "value": workload.network},
        {"name": "ISTIO_META_WORKLOAD_NAME", "value": workload.name},
        {"name": "TRUST_DOMAIN", "value": TRUST_DOMAIN},
    ]


def _field(name: str, path: str) -> Object:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
