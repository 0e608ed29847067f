"""What the mesh offers to a proxy: clusters and endpoints of all services. Pure.

Sidecars and ingress gateways want ``outbound``, east-west gateways ``passthrough``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from meshbook.lab.envoy import clusters, tls
from meshbook.lab.envoy.clusters import Upstream
from meshbook.lab.envoy.elements import Json
from meshbook.lab.envoy.folders import ProxyFolder
from meshbook.lab.istiod import balancing, policies
from meshbook.lab.istiod.policies import Policy
from meshbook.lab.istiod.proxies import Proxy
from meshbook.lab.istiod.registry import MeshService, Object, Registry

Files = dict[str, Json]


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """All that istiod knows: services of all clusters, and the Services and Istio objects of its own."""

    registry: Registry
    services: Sequence[Object] = ()
    gateways: Sequence[Object] = ()
    virtual_services: Sequence[Object] = ()
    destination_rules: Sequence[Object] = ()
    bindable: Callable[[int], int] = lambda port: port
    """From a pod's port number to the one that this user may bind."""


def service_ports(mesh: Mesh, namespace: str) -> Iterator[tuple[MeshService, int, str, Policy]]:
    """Yield every (service, port, subset, policy) as clients in ``namespace`` see them."""
    for service in mesh.registry.services.values():
        for subset, policy in policies.of_service(service, namespace, mesh.destination_rules).items():
            for port in service.ports:
                yield service, port.number, subset, policy


def outbound(proxy: Proxy, mesh: Mesh, folder: ProxyFolder) -> list[Json]:
    """Return the clusters of all services."""
    wanted = []
    for service, port, subset, policy in service_ports(mesh, proxy.namespace):
        instances = service.instances.get(port, ())
        upstream = Upstream(
            name=clusters.outbound_name(service.host, port, subset),
            identities=tls.identity(service.namespace, ""),
            plaintext=any(not one.mtls for one in balancing.own_network(proxy, instances)),
            balance=policy.balance,
            outliers=policy.outliers,
        )
        members = balancing.endpoints(proxy, instances, mesh.registry, policy, mesh.bindable)
        wanted.append(clusters.outbound(upstream, members, folder))
    return wanted


def passthrough(proxy: Proxy, mesh: Mesh) -> list[Json]:
    """Return an east-west gateway's clusters, named like the SNI of the connections."""
    wanted = []
    for service, port, subset, policy in service_ports(mesh, proxy.namespace):
        name = clusters.server_name(clusters.outbound_name(service.host, port, subset))
        wanted.append(
            clusters.passthrough(name, balancing.passed_through(proxy, service.instances.get(port, ()), policy))
        )
    return wanted
