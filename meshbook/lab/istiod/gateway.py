"""A gateway's listeners and routes, from Gateway and VirtualService objects. Pure.

Served are plain HTTP servers (the article's) and ``AUTO_PASSTHROUGH`` (east-west). ``unsupported`` names others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from meshbook.lab.envoy import clusters, folders, listeners, routes
from meshbook.lab.envoy.elements import Json, discovery_response
from meshbook.lab.envoy.folders import ProxyFolder
from meshbook.lab.envoy.routes import VirtualHost
from meshbook.lab.istiod import upstreams, virtualservices
from meshbook.lab.istiod.policies import full_host, host_covers
from meshbook.lab.istiod.proxies import Proxy, carries
from meshbook.lab.istiod.registry import Object, load_balancer_addresses
from meshbook.lab.istiod.upstreams import Files, Mesh
from meshbook.lab.istiod.virtualservices import Entry
from meshbook.lab.topology import PROXY_ADMIN_PORT, PROXY_HEALTH_PORT

HTTP_PROTOCOLS = ("HTTP", "HTTP2", "GRPC", "GRPC-WEB")
AUTO_PASSTHROUGH = "AUTO_PASSTHROUGH"


@dataclass(frozen=True, kw_only=True)
class Server:
    """One server of one Gateway."""

    gateway: str
    """``namespace/name``."""
    port: int
    http: bool
    hosts: tuple[str, ...]


def unsupported(gateway: Object) -> list[str]:
    """Return the servers of this Gateway that are not served here."""
    servers = gateway["spec"].get("servers") or []
    return [f"port {one['port']['number']} ({one['port'].get('protocol')})" for one in servers if _kind(one) is None]


def files(proxy: Proxy, mesh: Mesh, folder: ProxyFolder) -> Files:
    """Return listeners, clusters with their endpoints, and routes of a gateway."""
    servers = [server for one in mesh.gateways for server in _servers(one, proxy)]
    wanted: list[Json] = [clusters.admin(proxy.address, PROXY_ADMIN_PORT)]
    if any(server.http for server in servers):
        wanted += upstreams.outbound(proxy, mesh, folder)
    if any(not server.http for server in servers):
        wanted += upstreams.passthrough(proxy, mesh)
    return {
        folders.CLUSTERS: discovery_response(wanted),
        **_route_files(servers, mesh),
        folders.LISTENERS: discovery_response(_listeners(proxy, mesh, servers, folder)),
    }


def _kind(server: Object) -> bool | None:
    """True: plain HTTP. False: TLS passed through. None: not served."""
    mode = (server.get("tls") or {}).get("mode", "")
    if mode == AUTO_PASSTHROUGH:
        return False
    return True if server["port"].get("protocol", "").upper() in HTTP_PROTOCOLS else None


def _servers(gateway: Object, proxy: Proxy) -> list[Server]:
    metadata, spec = gateway["metadata"], gateway["spec"]
    if not carries(proxy.labels, spec.get("selector")):
        return []
    name = f"{metadata['namespace']}/{metadata['name']}"
    return [
        Server(gateway=name, port=one["port"]["number"], http=kind, hosts=tuple(one.get("hosts") or ["*"]))
        for one in spec.get("servers") or []
        if (kind := _kind(one)) is not None
    ]


def _listeners(proxy: Proxy, mesh: Mesh, servers: Sequence[Server], folder: ProxyFolder) -> list[Json]:
    selecting = [service for service in mesh.services if proxy.selected_by(service)]
    fronts = _fronts(proxy, selecting, mesh)
    found = [
        listeners.health(proxy.address, folder, fronts.get(PROXY_HEALTH_PORT, ())),
        listeners.metrics(proxy.address, folder),
    ]
    for port, http in sorted({(server.port, server.http) for server in servers}):
        make = listeners.gateway if http else listeners.passthrough
        target = _target(proxy, selecting, port)
        bound = mesh.bindable(target)
        found.append(make(_name(port), proxy.address, bound, folder, fronts.get(target, ())))
    return found


def _name(port: int) -> str:
    return f"gateway-{port}"


def _target(proxy: Proxy, selecting: Sequence[Object], port: int) -> int:
    """Return the port to bind for a Gateway's port: the target of the Service in front, else the same number."""
    targets = (
        proxy.target_port(one) for service in selecting for one in service["spec"]["ports"] if one["port"] == port
    )
    return next((target for target in targets if target), port)


def _fronts(proxy: Proxy, selecting: Sequence[Object], mesh: Mesh) -> dict[int, list[tuple[str, int]]]:
    """Return load balancer addresses by target port: this Envoy answers there itself."""
    fronts: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for service in selecting:
        for ip in load_balancer_addresses(service):
            for port in service["spec"].get("ports") or []:
                fronts[proxy.target_port(port)].append((ip, mesh.bindable(port["port"])))
    return fronts


def _route_files(servers: Sequence[Server], mesh: Mesh) -> Files:
    ports = sorted({server.port for server in servers if server.http})
    found: Files = {}
    for port in ports:
        hosts = _virtual_hosts([one for one in servers if one.http and one.port == port], mesh)
        name = _name(port)
        found[folders.routes_file(name)] = routes.file(name, hosts, otherwise=routes.answer(404), any_port=True)
    return found


def _virtual_hosts(servers: Sequence[Server], mesh: Mesh) -> list[VirtualHost]:
    """Return one host per domain; several VirtualServices for one domain are merged, the oldest first."""
    found: dict[str, list[routes.Route]] = defaultdict(list)
    for one in virtualservices.by_age(mesh.virtual_services):
        bound = virtualservices.gateways_of(one)
        for server in (server for server in servers if server.gateway in bound):
            entry = Entry(gateway=server.gateway, port=server.port)
            for domain in _domains(one, server):
                found[domain] += virtualservices.routes(one, entry, mesh.registry)
    return [VirtualHost(name=domain, domains=[domain], routes=way) for domain, way in sorted(found.items())]


def _domains(virtual_service: Object, server: Server) -> list[str]:
    """Return the narrower host of each pair that agrees: the VirtualService's and the server's."""
    namespace = virtual_service["metadata"]["namespace"]
    found = set()
    for host in (full_host(host, namespace) for host in virtual_service["spec"].get("hosts") or []):
        for allowed in (_allowed(pattern, namespace, server) for pattern in server.hosts):
            if allowed and host_covers(allowed, host):
                found.add(host)
            elif allowed and host_covers(host, allowed):
                found.add(allowed)
    return sorted(found)


def _allowed(pattern: str, namespace: str, server: Server) -> str:
    """Return the host part of a server's ``[namespace/]host``; "" when it is not for this namespace."""
    scope, slash, host = pattern.rpartition("/")
    home = server.gateway.partition("/")[0]
    allowed = {"*": namespace, ".": home}.get(scope, scope) == namespace
    return host if not slash or allowed else ""
