"""Which Envoys a cluster has: the pods with an ``istio-proxy`` container and an address. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshbook.lab.envoy import tls
from meshbook.lab.envoy.endpoints import Locality
from meshbook.lab.istiod.registry import ClusterView, Object, labels_of
from meshbook.lab.topology import reachable

PROXY_CONTAINER = "istio-proxy"
ROUTER = "router"


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """One Envoy that istiod configures."""

    cluster: str
    namespace: str
    name: str
    address: str
    network: str
    locality: Locality
    service_account: str
    router: bool
    """A gateway, not a sidecar."""
    terminating: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    port_names: Mapping[str, int] = field(default_factory=dict)
    """Named container ports of the pod."""

    @property
    def identity(self) -> str:
        return tls.identity(self.namespace, self.service_account)

    def selected_by(self, service: Object) -> bool:
        """Tell whether a Service of the same namespace selects this pod."""
        return service["metadata"]["namespace"] == self.namespace and carries(
            self.labels, service["spec"].get("selector")
        )

    def target_port(self, port: Object) -> int:
        """Return the number of a Service port's target on this pod (0 when it names a port that the pod lacks)."""
        target = port.get("targetPort", port["port"])
        return target if isinstance(target, int) else self.port_names.get(str(target), 0)


def carries(labels: Mapping[str, str], selector: Mapping[str, str] | None) -> bool:
    """Tell whether ``labels`` satisfy ``selector``; an empty selector selects nothing."""
    return bool(selector) and all(labels.get(key) == value for key, value in (selector or {}).items())


def of_cluster(cluster: ClusterView) -> list[Proxy]:
    """Return the cluster's proxies that have an address and have not ended."""
    found = (_proxy(cluster, pod) for _, pod in sorted(cluster.pods.items()))
    return [proxy for proxy in found if proxy is not None]


def _proxy(cluster: ClusterView, pod: Object) -> Proxy | None:
    arguments = proxy_arguments(pod)
    status, metadata = pod.get("status", {}), pod["metadata"]
    if not arguments or not status.get("podIP") or status.get("phase") in ("Succeeded", "Failed"):
        return None
    ports = [port for one in pod["spec"]["containers"] for port in one.get("ports") or []]
    return Proxy(
        cluster=cluster.name,
        namespace=metadata["namespace"],
        name=metadata["name"],
        address=reachable(status["podIP"]),
        network=cluster.network_of(pod),
        locality=cluster.locality(pod),
        service_account=pod["spec"].get("serviceAccountName") or "default",
        router=ROUTER in arguments,
        terminating="deletionTimestamp" in metadata,
        labels=labels_of(pod),
        port_names={port["name"]: port["containerPort"] for port in ports if port.get("name")},
    )


def proxy_arguments(pod: Object) -> list[str]:
    """Return how the pod's proxy was started; nothing for a pod that has none, or waits in vain for its injection."""
    containers = pod["spec"].get("containers") or []
    found: list[str] = next((one.get("args") or [] for one in containers if one["name"] == PROXY_CONTAINER), [])
    return found
