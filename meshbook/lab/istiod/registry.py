"""The mesh's services: what the API servers of all clusters say, put together. Pure: objects in, dataclasses out.

A service of the same name and namespace in several clusters is one service (namespace sameness). Endpoints are taken
from EndpointSlices; labels, identity and network from the pod behind each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from meshbook.lab.envoy.endpoints import Locality
from meshbook.lab.topology import EAST_WEST_PORT, reachable

Object = dict[str, Any]
Objects = Mapping[tuple[str, str], Object]

SYSTEM_NAMESPACE = "istio-system"
NETWORK_LABEL = "topology.istio.io/network"
TLS_MODE_LABEL = "security.istio.io/tlsMode"
SLICE_SERVICE_LABEL = "kubernetes.io/service-name"
GATEWAY_PORT_NAME = "tls"
DOMAIN = "svc.cluster.local"

NOT_HTTP = ("https", "tls", "tcp", "udp", "mongo", "mysql", "redis", "sctp")
HTTP2 = ("http2", "grpc")


@dataclass(frozen=True, kw_only=True)
class ClusterView:
    """What is known of one cluster: objects by (namespace, name), as an Informer keeps them."""

    name: str
    namespaces: Objects = field(default_factory=dict)
    services: Objects = field(default_factory=dict)
    slices: Objects = field(default_factory=dict)
    pods: Objects = field(default_factory=dict)
    nodes: Objects = field(default_factory=dict)

    @property
    def network(self) -> str:
        """Return the network that the system namespace is labelled with ("" when it is not)."""
        return labels_of(self.namespaces.get(("", SYSTEM_NAMESPACE), {})).get(NETWORK_LABEL, "")

    def locality(self, pod: Object) -> Locality:
        """Return the region and zone of the pod's node."""
        labels = labels_of(self.nodes.get(("", pod["spec"].get("nodeName", "")), {}))
        region = labels.get("topology.kubernetes.io/region", "")
        return Locality(region=region, zone=labels.get("topology.kubernetes.io/zone", ""))

    def network_of(self, pod: Object) -> str:
        return labels_of(pod).get(NETWORK_LABEL) or self.network


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One ready endpoint of one service port."""

    address: str
    port: int
    cluster: str
    network: str
    locality: Locality = field(default_factory=Locality)
    labels: Mapping[str, str] = field(default_factory=dict)
    mtls: bool = True


@dataclass(frozen=True, kw_only=True)
class ServicePort:
    """One port that carries HTTP."""

    number: int
    name: str = ""

    @property
    def http2(self) -> bool:
        return self.name.split("-")[0] in HTTP2


@dataclass(frozen=True, kw_only=True)
class MeshService:
    """A service of the mesh, wherever it runs."""

    namespace: str
    name: str
    clusters: frozenset[str]
    """Clusters that have the Service object."""
    ports: tuple[ServicePort, ...]
    instances: Mapping[int, tuple[Instance, ...]]
    """Ready endpoints by service port."""

    @property
    def host(self) -> str:
        return f"{self.name}.{self.namespace}.{DOMAIN}"


@dataclass(frozen=True, kw_only=True)
class Registry:
    """All services by host, and the addresses of each network's east-west gateways."""

    services: Mapping[str, MeshService]
    gateways: Mapping[str, tuple[tuple[str, int], ...]]


def build(clusters: Sequence[ClusterView]) -> Registry:
    """Put the clusters together; where they disagree on a port, the first one's word counts."""
    found: dict[tuple[str, str], list[tuple[ClusterView, Object]]] = defaultdict(list)
    for cluster in clusters:
        for key, service in cluster.services.items():
            if service["spec"].get("type") != "ExternalName":
                found[key].append((cluster, service))
    services = (_mesh_service(key, members) for key, members in sorted(found.items()))
    return Registry(services={service.host: service for service in services}, gateways=_gateways(clusters))


def labels_of(obj: Object) -> Mapping[str, str]:
    labels: Mapping[str, str] = obj.get("metadata", {}).get("labels") or {}
    return labels


def load_balancer_addresses(service: Object) -> list[str]:
    entries = service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    return sorted(entry["ip"] for entry in entries if entry.get("ip"))


def _mesh_service(key: tuple[str, str], members: Sequence[tuple[ClusterView, Object]]) -> MeshService:
    ports: dict[int, ServicePort] = {}
    instances: dict[int, list[Instance]] = defaultdict(list)
    for cluster, service in members:
        for port in filter(_carries_http, service["spec"].get("ports") or []):
            number, name = port["port"], port.get("name", "")
            ports.setdefault(number, ServicePort(number=number, name=name))
            instances[number] += _instances(cluster, key, name)
    return MeshService(
        namespace=key[0],
        name=key[1],
        clusters=frozenset(cluster.name for cluster, _ in members),
        ports=tuple(sorted(ports.values(), key=lambda port: port.number)),
        instances={number: tuple(sorted(found, key=_place)) for number, found in instances.items()},
    )


def _place(instance: Instance) -> tuple[str, str, int]:
    return instance.network, instance.address, instance.port


def _carries_http(port: Object) -> bool:
    protocol = port.get("appProtocol") or port.get("name", "").split("-")[0]
    return port.get("protocol", "TCP") == "TCP" and protocol.lower() not in NOT_HTTP


def _instances(cluster: ClusterView, service: tuple[str, str], port_name: str) -> list[Instance]:
    instances = []
    for (namespace, _), piece in cluster.slices.items():
        if (namespace, labels_of(piece).get(SLICE_SERVICE_LABEL, "")) != service:
            continue
        numbers = [port["port"] for port in piece.get("ports") or [] if (port.get("name") or "") == port_name]
        ready = [one for one in piece.get("endpoints") or [] if (one.get("conditions") or {}).get("ready", True)]
        instances += [
            instance for number in numbers for one in ready for instance in _endpoint(cluster, namespace, one, number)
        ]
    return instances


def _endpoint(cluster: ClusterView, namespace: str, endpoint: Object, port: int) -> list[Instance]:
    """Return the endpoint's addresses; none while the pod behind it is not known yet, since its labels decide."""
    addresses, reference = map(reachable, endpoint["addresses"]), endpoint.get("targetRef") or {}
    if reference.get("kind") != "Pod":
        return [
            Instance(address=address, port=port, cluster=cluster.name, network=cluster.network, mtls=False)
            for address in addresses
        ]
    pod = cluster.pods.get((reference.get("namespace", namespace), reference["name"]))
    if pod is None:
        return []
    return [
        Instance(
            address=address,
            port=port,
            cluster=cluster.name,
            network=cluster.network_of(pod),
            locality=cluster.locality(pod),
            labels=labels_of(pod),
            mtls=labels_of(pod).get(TLS_MODE_LABEL) == "istio",
        )
        for address in addresses
    ]


def _gateways(clusters: Sequence[ClusterView]) -> dict[str, tuple[tuple[str, int], ...]]:
    found: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for service in (service for cluster in clusters for service in cluster.services.values()):
        network = labels_of(service).get(NETWORK_LABEL)
        if network:
            port = _gateway_port(service)
            found[network] |= {(ip, port) for ip in load_balancer_addresses(service)}
    return {network: tuple(sorted(addresses)) for network, addresses in found.items() if addresses}


def _gateway_port(service: Object) -> int:
    ports: dict[str, int] = {port.get("name", ""): port["port"] for port in service["spec"].get("ports") or []}
    return ports.get(GATEWAY_PORT_NAME, EAST_WEST_PORT)
