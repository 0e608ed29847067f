"""The mesh as data: what the API servers of all clusters say, put together. Pure: objects in, dataclasses out.

A service of the same name and namespace in several clusters is one service (namespace sameness). Endpoints are taken
from EndpointSlices; labels, identity and network from the pod behind each. A proxy is a pod with an ``istio-proxy``
container.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from meshbook.lab.envoy.clusters import Locality
from meshbook.lab.envoy.elements import identity
from meshbook.lab.istiod.meshconfig import MeshConfig
from meshbook.lab.topology import EAST_WEST_PORT, reachable
from meshbook.objects import (
    PROXY_CONTAINER,
    SERVICE_LABEL,
    SYSTEM_NAMESPACE,
    Object,
    containers_of,
    labels_of,
    load_balancer_ips,
)

Objects = Mapping[tuple[str, str], Object]

NETWORK_LABEL = "topology.istio.io/network"
TLS_MODE_LABEL = "security.istio.io/tlsMode"
GATEWAY_PORT_NAME = "tls"
DOMAIN = "svc.cluster.local"

NOT_HTTP = ("https", "tls", "tcp", "udp", "mongo", "mysql", "redis", "sctp")
HTTP2 = ("http2", "grpc")
NOTHING: Object = {"metadata": {}}


@dataclass(frozen=True, kw_only=True)
class ClusterView:
    """What is known of one cluster: objects by (namespace, name)."""

    name: str
    namespaces: Objects = field(default_factory=dict)
    services: Objects = field(default_factory=dict)
    slices: Objects = field(default_factory=dict)
    pods: Objects = field(default_factory=dict)
    nodes: Objects = field(default_factory=dict)

    @property
    def network(self) -> str:
        """The network that the system namespace is labelled with ("" when it is not)."""
        return labels_of(self.namespaces.get(("", SYSTEM_NAMESPACE), NOTHING)).get(NETWORK_LABEL, "")

    def locality(self, pod: Object) -> Locality:
        labels = labels_of(self.nodes.get(("", pod["spec"].get("nodeName", "")), NOTHING))
        region = labels.get("topology.kubernetes.io/region", "")
        return Locality(region=region, zone=labels.get("topology.kubernetes.io/zone", ""))

    def network_of(self, pod: Object) -> str:
        return labels_of(pod).get(NETWORK_LABEL) or self.network


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One ready endpoint of one service port."""

    address: str
    port: int
    network: str
    locality: Locality = field(default_factory=Locality)
    labels: Mapping[str, str] = field(default_factory=dict)
    mtls: bool = True


@dataclass(frozen=True, kw_only=True)
class MeshService:
    """A service of the mesh, wherever it runs."""

    namespace: str
    name: str
    clusters: frozenset[str]
    """Clusters that have the Service object."""
    instances: Mapping[int, tuple[Instance, ...]]
    """Ready endpoints by each service port that carries HTTP."""
    http2: frozenset[int] = frozenset()
    """Those of its ports that speak HTTP/2 to begin with."""

    @property
    def host(self) -> str:
        return full_host(self.name, self.namespace)


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """One Envoy that istiod configures."""

    cluster: str
    namespace: str
    name: str
    address: str
    shown: str
    """Its address as API objects have it."""
    network: str
    locality: Locality
    identity: str
    router: bool
    """A gateway, not a sidecar."""
    labels: Mapping[str, str]
    port_names: Mapping[str, int]
    """Named container ports of the pod."""

    @property
    def node(self) -> str:
        """By which its Envoy asks for its configuration."""
        return f"{self.name}.{self.namespace}"

    def selected_by(self, service: Object) -> bool:
        same = service["metadata"]["namespace"] == self.namespace
        return same and carries(self.labels, service["spec"].get("selector"))

    def target_port(self, port: Object) -> int:
        """Return the number of a Service port's target on this pod (0 when it names a port that the pod lacks)."""
        target = port.get("targetPort", port["port"])
        return target if isinstance(target, int) else self.port_names.get(str(target), 0)


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """All that one cluster's istiod knows."""

    services: Mapping[str, MeshService]
    """Of all clusters, by host."""
    gateways: Mapping[str, tuple[tuple[str, int], ...]]
    """Addresses of each network's east-west gateways."""
    proxies: Sequence[Proxy]
    """Of its own cluster, as are all that follow."""
    own_services: Sequence[Object]
    gateway_objects: Sequence[Object] = ()
    virtual_services: Sequence[Object] = ()
    destination_rules: Sequence[Object] = ()
    peer_authentications: Sequence[Object] = ()
    bindable: Callable[[int], int] = lambda port: port
    """From a pod's port number to the one that this user may bind."""
    config: MeshConfig = field(default_factory=MeshConfig)


def mesh(
    own: ClusterView,
    remotes: Sequence[ClusterView],
    istio: Mapping[str, Any] | None = None,
    bindable: Callable[[int], int] = lambda port: port,
) -> Mesh:
    """Put the clusters together, and what is Istio's by the names of ``Mesh``'s fields."""
    clusters = [own, *remotes]
    found: dict[tuple[str, str], list[tuple[ClusterView, Object]]] = defaultdict(list)
    for cluster in clusters:
        for key, service in cluster.services.items():
            if service["spec"].get("type") != "ExternalName":
                found[key].append((cluster, service))
    services = [_mesh_service(key, members) for key, members in sorted(found.items())]
    return Mesh(
        services={service.host: service for service in services},
        gateways=_gateways(clusters),
        proxies=[proxy for _, pod in sorted(own.pods.items()) if (proxy := _proxy(own, pod)) is not None],
        own_services=list(own.services.values()),
        bindable=bindable,
        **(istio or {}),
    )


def full_host(host: str, namespace: str) -> str:
    """Return a host as Istio reads it: a name without dots is a service of the object's own namespace."""
    return host if "." in host or host == "*" else f"{host}.{namespace}.{DOMAIN}"


def host_covers(pattern: str, host: str) -> bool:
    """Tell whether ``pattern`` (a host, ``*`` or ``*.suffix``) covers ``host``."""
    return pattern in ("*", host) or (pattern.startswith("*.") and host.endswith(pattern[1:]))


def carries(labels: Mapping[str, str], selector: Mapping[str, str] | None) -> bool:
    """Tell whether a Service's or Gateway's ``selector`` selects ``labels``; an empty one selects nothing."""
    return bool(selector) and (selector or {}).items() <= labels.items()


def speaks_http2(port: Object) -> bool:
    return port.get("name", "").split("-")[0] in HTTP2


def _mesh_service(key: tuple[str, str], members: Sequence[tuple[ClusterView, Object]]) -> MeshService:
    instances: dict[int, list[Instance]] = defaultdict(list)
    http2 = set()
    for cluster, service in members:
        for port in filter(_carries_http, service["spec"].get("ports") or []):
            instances[port["port"]] += _instances(cluster, key, port.get("name", ""))
            http2 |= {port["port"]} if speaks_http2(port) else set()
    return MeshService(
        namespace=key[0],
        name=key[1],
        clusters=frozenset(cluster.name for cluster, _ in members),
        instances={
            number: tuple(sorted(found, key=lambda one: (one.network, one.address, one.port)))
            for number, found in sorted(instances.items())
        },
        http2=frozenset(http2),
    )


def _carries_http(port: Object) -> bool:
    protocol = port.get("appProtocol") or port.get("name", "").split("-")[0]
    return port.get("protocol", "TCP") == "TCP" and protocol.lower() not in NOT_HTTP


def _instances(cluster: ClusterView, service: tuple[str, str], port_name: str) -> Iterator[Instance]:
    for (namespace, _), piece in cluster.slices.items():
        if (namespace, labels_of(piece).get(SERVICE_LABEL, "")) != service:
            continue
        numbers = [port["port"] for port in piece.get("ports") or [] if (port.get("name") or "") == port_name]
        for endpoint in piece.get("endpoints") or []:
            if (endpoint.get("conditions") or {}).get("ready", True):
                for number in numbers:
                    yield from _endpoint(cluster, namespace, endpoint, number)


def _endpoint(cluster: ClusterView, namespace: str, endpoint: Object, port: int) -> Iterator[Instance]:
    """Yield the endpoint's addresses; none while the pod behind it is not known yet, since its labels decide."""
    reference = endpoint.get("targetRef") or {}
    if reference.get("kind") != "Pod":
        for address in endpoint["addresses"]:
            yield Instance(address=reachable(address), port=port, network=cluster.network, mtls=False)
        return
    pod = cluster.pods.get((reference.get("namespace", namespace), reference["name"]))
    if pod is None:
        return
    for address in endpoint["addresses"]:
        yield Instance(
            address=reachable(address),
            port=port,
            network=cluster.network_of(pod),
            locality=cluster.locality(pod),
            labels=labels_of(pod),
            mtls=labels_of(pod).get(TLS_MODE_LABEL) == "istio",
        )


def _gateways(clusters: Sequence[ClusterView]) -> dict[str, tuple[tuple[str, int], ...]]:
    found: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for service in (service for cluster in clusters for service in cluster.services.values()):
        if network := labels_of(service).get(NETWORK_LABEL):
            ports = {port.get("name", ""): port["port"] for port in service["spec"].get("ports") or []}
            port = ports.get(GATEWAY_PORT_NAME, EAST_WEST_PORT)
            found[network] |= {(ip, port) for ip in load_balancer_ips(service)}
    return {network: tuple(sorted(addresses)) for network, addresses in found.items() if addresses}


def _proxy(cluster: ClusterView, pod: Object) -> Proxy | None:
    """Return the pod's proxy; None for one that has none, waits in vain for its injection, or has ended."""
    status, spec, metadata = pod.get("status", {}), pod["spec"], pod["metadata"]
    containers = containers_of(pod)
    arguments = next((one.get("args") or [] for one in containers if one["name"] == PROXY_CONTAINER), [])
    if not arguments or not status.get("podIP") or status.get("phase") in ("Succeeded", "Failed"):
        return None
    ports = [port for one in containers for port in one.get("ports") or []]
    return Proxy(
        cluster=cluster.name,
        namespace=metadata["namespace"],
        name=metadata["name"],
        address=reachable(status["podIP"]),
        shown=status["podIP"],
        network=cluster.network_of(pod),
        locality=cluster.locality(pod),
        identity=identity(metadata["namespace"], spec.get("serviceAccountName") or "default"),
        router="router" in arguments,
        labels=labels_of(pod),
        port_names={port["name"]: port["containerPort"] for port in ports if port.get("name")},
    )
