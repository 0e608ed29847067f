"""A sidecar's listeners and routes. Pure.

Programs reach it as an HTTP proxy, so requests are routed by authority: the names that the cluster's DNS would resolve
for this pod, with the service's port (or none for port 80). Anything else is answered 502, where a real pod would fail
to resolve the name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from meshbook.lab.envoy import clusters, folders, listeners, routes
from meshbook.lab.envoy.elements import Json, discovery_response
from meshbook.lab.envoy.folders import ProxyFolder
from meshbook.lab.envoy.routes import Route, Target, VirtualHost
from meshbook.lab.istiod import upstreams, virtualservices
from meshbook.lab.istiod.proxies import Proxy
from meshbook.lab.istiod.registry import DOMAIN, MeshService, Object, ServicePort
from meshbook.lab.istiod.upstreams import Files, Mesh
from meshbook.lab.istiod.virtualservices import MESH, Entry
from meshbook.lab.topology import PROXY_ADMIN_PORT

HTTP_PORT = 80
UNKNOWN_HOST = "no service of this cluster has this host and port: a program in this pod could not resolve the name\n"


def files(proxy: Proxy, mesh: Mesh, folder: ProxyFolder) -> Files:
    """Return listeners, clusters with their endpoints, and routes of a sidecar."""
    wanted = upstreams.outbound(proxy, mesh, folder)
    targets = _own_targets(proxy, mesh)
    wanted += [clusters.inbound(proxy.address, port, http2=http2) for port, (http2, _) in sorted(targets.items())]
    wanted.append(clusters.admin(proxy.address, PROXY_ADMIN_PORT))
    return {
        folders.CLUSTERS: discovery_response(wanted),
        folders.routes_file(listeners.OUTBOUND_ROUTES): routes.file(
            listeners.OUTBOUND_ROUTES, _virtual_hosts(proxy, mesh), otherwise=routes.answer(502, UNKNOWN_HOST)
        ),
        folders.LISTENERS: discovery_response(_listeners(proxy, targets, folder)),
    }


def _listeners(proxy: Proxy, targets: dict[int, tuple[bool, list[str]]], folder: ProxyFolder) -> list[Json]:
    found = [
        listeners.outbound(proxy.address, folder),
        listeners.health(proxy.address, folder),
        listeners.metrics(proxy.address, folder),
    ]
    if targets:
        doors = [(port, names) for port, (_, names) in sorted(targets.items())]
        found.append(listeners.inbound(proxy.address, doors, folder))
    return found


def _own_targets(proxy: Proxy, mesh: Mesh) -> dict[int, tuple[bool, list[str]]]:
    """Return (HTTP/2?, server names) by target port, for all services that select this pod."""
    names: dict[tuple[int, bool], list[str]] = defaultdict(list)
    selecting = {_host(service): service for service in mesh.services if proxy.selected_by(service)}
    for service, number, subset, _ in upstreams.service_ports(mesh, proxy.namespace):
        if service.host not in selecting:
            continue
        for port in selecting[service.host]["spec"].get("ports") or []:
            target = proxy.target_port(port)
            if port["port"] == number and target:
                http2 = ServicePort(number=number, name=port.get("name", "")).http2
                cluster = clusters.outbound_name(service.host, number, subset)
                names[target, http2].append(clusters.server_name(cluster))
    return _merged(names)


def _merged(names: dict[tuple[int, bool], list[str]]) -> dict[int, tuple[bool, list[str]]]:
    """Join what two services say of one port; where they disagree, HTTP/1.1 is the safer word."""
    merged: dict[int, tuple[bool, list[str]]] = {}
    for (target, http2), found in names.items():
        known_http2, known = merged.get(target, (True, []))
        merged[target] = (known_http2 and http2, [*known, *found])
    return merged


def _host(service: Object) -> str:
    metadata = service["metadata"]
    return f"{metadata['name']}.{metadata['namespace']}.{DOMAIN}"


def _virtual_hosts(proxy: Proxy, mesh: Mesh) -> list[VirtualHost]:
    """Return a host per service and port; only services that this very cluster has can be resolved by name."""
    return [
        VirtualHost(
            name=f"{service.host}:{port.number}",
            domains=_domains(service, port.number, proxy.namespace),
            routes=_routes(service, port.number, mesh),
        )
        for service in mesh.registry.services.values()
        if proxy.cluster in service.clusters
        for port in service.ports
    ]


def _domains(service: MeshService, port: int, namespace: str) -> list[str]:
    full = f"{service.name}.{service.namespace}"
    names = [full, f"{full}.svc", service.host]
    if service.namespace == namespace:
        names.insert(0, service.name)
    bare = names if port == HTTP_PORT else []
    return [*bare, *(f"{name}:{port}" for name in names)]


def _routes(service: MeshService, port: int, mesh: Mesh) -> Sequence[Route]:
    entry = Entry(gateway=MESH, port=port)
    for one in virtualservices.by_age(mesh.virtual_services):
        if MESH in virtualservices.gateways_of(one) and service.host in virtualservices.hosts_of(one):
            return virtualservices.routes(one, entry, mesh.registry)
    return [Route(targets=[Target(cluster=clusters.outbound_name(service.host, port))])]
