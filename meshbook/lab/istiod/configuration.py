"""What one Envoy is to serve: a proxy and the mesh in, its ``Resources`` out. Pure.

A **sidecar** is reached by its pod's programs as an HTTP proxy, so requests are routed by authority: the names that the
cluster's DNS would resolve for this pod, with the service's port (or none for port 80). The addresses of this cluster's
gateway pods are passed through. Anything else is answered 502, where a real pod would fail to resolve the name.

A **gateway** serves what Gateway and VirtualService objects say: plain HTTP servers (the article's) and
``AUTO_PASSTHROUGH`` (east-west). ``unsupported`` names what else they ask for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from meshbook.lab.envoy import Resources, clusters, listeners
from meshbook.lab.envoy.elements import Json, identity
from meshbook.lab.istiod import authentication, balancing, virtualservices
from meshbook.lab.istiod.balancing import Policy
from meshbook.lab.istiod.registry import (
    Mesh,
    MeshService,
    Proxy,
    carries,
    full_host,
    host_covers,
    speaks_http2,
)
from meshbook.lab.istiod.virtualservices import MESH
from meshbook.lab.topology import PROXY_HEALTH_PORT
from meshbook.objects import Object, load_balancer_ips

HTTP_PORT = 80
HTTP_PROTOCOLS = ("HTTP", "HTTP2", "GRPC", "GRPC-WEB")
AUTO_PASSTHROUGH = "AUTO_PASSTHROUGH"
UNKNOWN_HOST = "no service of this cluster has this host and port: a program in this pod could not resolve the name\n"


def resources(proxy: Proxy, mesh: Mesh) -> Resources:
    """Return what ``proxy`` serves, but for its secrets."""
    return _gateway(proxy, mesh) if proxy.router else _sidecar(proxy, mesh)


def unsupported(obj: Object) -> list[str]:
    """Return what a Gateway, a VirtualService or a PeerAuthentication asks for that is not done here."""
    if obj["kind"] == "PeerAuthentication":
        return authentication.unsupported(obj)
    if obj["kind"] == "VirtualService":
        return virtualservices.unsupported(obj)
    servers = obj["spec"].get("servers") or []
    return [f"port {one['port']['number']} ({one['port'].get('protocol')})" for one in servers if _is_http(one) is None]


def _service_ports(mesh: Mesh, namespace: str) -> Iterator[tuple[MeshService, int, str, Policy]]:
    """Yield every (service, port, outbound cluster's name, policy), subsets too, as clients in ``namespace`` see it."""
    for known in mesh.services.values():
        service = authentication.authenticated(known, mesh.peer_authentications)
        for subset, policy in balancing.policies(service, namespace, mesh.destination_rules).items():
            for port in service.instances:
                yield service, port, clusters.outbound_name(service.host, port, subset), policy


def _outbound(proxy: Proxy, mesh: Mesh) -> Iterator[tuple[Json, Json]]:
    """Yield each cluster with its endpoints."""
    for service, port, name, policy in _service_ports(mesh, proxy.namespace):
        instances = service.instances[port]
        cluster = clusters.outbound(
            name,
            identities=identity(service.namespace, ""),
            plaintext=any(not one.mtls for one in instances if one.network == proxy.network),
            speaks_http2=policy.http2 or port in service.http2,
            policy=policy.cluster,
        )
        yield cluster, clusters.load_assignment(name, balancing.endpoints(proxy, instances, policy, mesh))


def _passed_through(proxy: Proxy, mesh: Mesh) -> Iterator[tuple[Json, Json]]:
    """Yield each cluster that an east-west gateway chooses by server name, with its endpoints."""
    for service, port, outbound, policy in _service_ports(mesh, proxy.namespace):
        name = clusters.server_name(outbound)
        members = balancing.passed_through(proxy, service.instances[port], policy)
        cluster = clusters.cluster(name, lb_policy=balancing.LEAST_REQUEST)
        yield cluster, clusters.load_assignment(name, members)


def _sidecar(proxy: Proxy, mesh: Mesh) -> Resources:
    is_plain = authentication.mode(proxy.namespace, proxy.labels, mesh.peer_authentications) == authentication.DISABLE
    served = [] if is_plain else sorted(_own_ports(proxy, mesh).items())
    inbound = [(port, names) for port, (_, names) in served]
    name, unknown = listeners.OUTBOUND, listeners.direct_response(502, UNKNOWN_HOST)
    log, outbound = mesh.config.access_log, list(_outbound(proxy, mesh))
    passed = list(_passed_by_address(mesh))
    hosts = [*_resolvable_hosts(proxy, mesh), *(host for host, _ in passed)]
    return Resources(
        listeners=[
            listeners.outbound(proxy.address, log),
            listeners.health(proxy.address),
            listeners.metrics(proxy.address),
            *([listeners.inbound(proxy.address, inbound, log)] if inbound else []),
        ],
        clusters=[
            *(cluster for cluster, _ in outbound),
            *(cluster for _, cluster in passed),
            *(clusters.inbound(proxy.address, port, speaks_http2=http2) for port, (http2, _) in served),
            clusters.admin(proxy.address),
        ],
        endpoints=[members for _, members in outbound],
        routes=[listeners.routes(name, hosts, otherwise=unknown)],
    )


def _passed_by_address(mesh: Mesh) -> Iterator[tuple[Json, Json]]:
    """Yield virtual host and cluster of each plain port of this cluster's gateways, as a sidecar passes addresses."""
    for gateway in (one for one in mesh.proxies if one.router):
        servers = [server for one in mesh.gateway_objects for server in _servers(one, gateway) if server.http]
        for port in sorted({_bound(server.port, gateway, mesh) for server in servers}):
            name = f"PassthroughCluster|{gateway.address}:{port}"
            members = [clusters.Endpoint(address=gateway.address, port=port, mtls=False)]
            domains = [f"{gateway.shown}:{port}", *([gateway.shown] if port == HTTP_PORT else [])]
            route = {"match": {"prefix": "/"}, "route": {"cluster": name, "timeout": "0s"}}
            yield {"name": name, "domains": domains, "routes": [route]}, clusters.cluster(name, members)


def _own_ports(proxy: Proxy, mesh: Mesh) -> dict[int, tuple[bool, list[str]]]:
    """Return (HTTP/2?, server names) by the pod's port, for all services that select this pod.

    Where two services disagree on a port's protocol, HTTP/1.1 is the safer word.
    """
    server_names: dict[tuple[str, int], list[str]] = defaultdict(list)
    for service, number, name, _ in _service_ports(mesh, proxy.namespace):
        server_names[service.host, number].append(clusters.server_name(name))
    found: dict[int, tuple[bool, list[str]]] = {}
    for own in mesh.own_services:
        host = full_host(own["metadata"]["name"], own["metadata"]["namespace"])
        for port in own["spec"].get("ports") or []:
            names, target = server_names.get((host, port["port"])), proxy.target_port(port)
            if names and target and proxy.selected_by(own):
                http2, known = found.get(target, (True, []))
                found[target] = (http2 and speaks_http2(port), [*known, *names])
    return found


def _resolvable_hosts(proxy: Proxy, mesh: Mesh) -> list[Json]:
    """Return a virtual host per service and port; only services that this very cluster has can be resolved by name."""
    of_mesh = [one for one in virtualservices.by_age(mesh.virtual_services) if MESH in one.gateways]
    hosts = []
    for service in (one for one in mesh.services.values() if proxy.cluster in one.clusters):
        rule = next((one for one in of_mesh if service.host in one.hosts), None)
        for port in service.instances:
            if rule is None:
                routes = [virtualservices.route_to(clusters.outbound_name(service.host, port))]
            else:
                routes = virtualservices.routes(rule, MESH, port, mesh.services)
            domains = _domains(service, port, proxy.namespace)
            hosts.append({"name": f"{service.host}:{port}", "domains": domains, "routes": routes})
    return hosts


def _domains(service: MeshService, port: int, namespace: str) -> list[str]:
    full = f"{service.name}.{service.namespace}"
    names = [full, f"{full}.svc", service.host]
    if service.namespace == namespace:
        names.insert(0, service.name)
    return [*(names if port == HTTP_PORT else []), *(f"{name}:{port}" for name in names)]


@dataclass(frozen=True, kw_only=True)
class _Server:
    """One server of one Gateway."""

    gateway: str
    """``namespace/name``."""
    port: int
    http: bool
    hosts: Sequence[str]


def _gateway(proxy: Proxy, mesh: Mesh) -> Resources:
    servers = [server for one in mesh.gateway_objects for server in _servers(one, proxy)]
    upstream, routes = list[tuple[Json, Json]](), list[Json]()
    for http, found in ((True, _outbound), (False, _passed_through)):
        if any(server.http is http for server in servers):
            upstream += found(proxy, mesh)
    for port in sorted({server.port for server in servers if server.http}):
        name = f"gateway-{port}"
        hosts = _virtual_hosts([one for one in servers if one.http and one.port == port], mesh)
        routes.append(listeners.routes(name, hosts, otherwise=listeners.direct_response(404), any_port=True))
    return Resources(
        clusters=[clusters.admin(proxy.address), *(cluster for cluster, _ in upstream)],
        endpoints=[members for _, members in upstream],
        listeners=_gateway_listeners(proxy, mesh, servers),
        routes=routes,
    )


def _is_http(server: Object) -> bool | None:
    """True: plain HTTP. False: TLS passed through. None: not served."""
    if (server.get("tls") or {}).get("mode") == AUTO_PASSTHROUGH:
        return False
    return True if server["port"].get("protocol", "").upper() in HTTP_PROTOCOLS else None


def _servers(gateway: Object, proxy: Proxy) -> list[_Server]:
    metadata, spec = gateway["metadata"], gateway["spec"]
    if not carries(proxy.labels, spec.get("selector")):
        return []
    name = f"{metadata['namespace']}/{metadata['name']}"
    return [
        _Server(gateway=name, port=one["port"]["number"], http=http, hosts=one.get("hosts") or ["*"])
        for one in spec.get("servers") or []
        if (http := _is_http(one)) is not None
    ]


def _gateway_listeners(proxy: Proxy, mesh: Mesh, servers: Sequence[_Server]) -> list[Json]:
    """Return the gateway's listeners; each also answers on its load balancers' addresses itself."""
    fronts: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for service in (service for service in mesh.own_services if proxy.selected_by(service)):
        for port in service["spec"].get("ports") or []:
            if target := proxy.target_port(port):
                fronts[target] += [(ip, mesh.bindable(port["port"])) for ip in sorted(load_balancer_ips(service))]
    found = [listeners.health(proxy.address, fronts[PROXY_HEALTH_PORT]), listeners.metrics(proxy.address)]
    for port, http in sorted({(server.port, server.http) for server in servers}):
        name, bound, also = f"gateway-{port}", _bound(port, proxy, mesh), fronts[_target(port, proxy, mesh)]
        if http:
            found.append(listeners.gateway(name, proxy.address, bound, mesh.config.access_log, also))
        else:
            found.append(listeners.passthrough(name, proxy.address, bound, mesh.config.access_log, also))
    return found


def _target(number: int, gateway: Proxy, mesh: Mesh) -> int:
    """Return the port at which a gateway serves a Gateway's port: where a Service in front of it sends that."""
    services = (one for one in mesh.own_services if gateway.selected_by(one))
    ports = (port for service in services for port in service["spec"].get("ports") or [] if port["port"] == number)
    return next(filter(None, map(gateway.target_port, ports)), number)


def _bound(number: int, gateway: Proxy, mesh: Mesh) -> int:
    return mesh.bindable(_target(number, gateway, mesh))


def _virtual_hosts(servers: Sequence[_Server], mesh: Mesh) -> list[Json]:
    """Return one virtual host per domain; several VirtualServices for one domain are merged, the oldest first."""
    found: dict[str, list[Json]] = defaultdict(list)
    for one in virtualservices.by_age(mesh.virtual_services):
        for server in (server for server in servers if server.gateway in one.gateways):
            allowed = [host for pattern in server.hosts if (host := _allowed(pattern, one.namespace, server))]
            # Of two hosts that agree, the narrower one counts.
            narrow = {host for host in one.hosts if any(host_covers(wide, host) for wide in allowed)}
            narrow |= {host for host in allowed if any(host_covers(wide, host) for wide in one.hosts)}
            for domain in sorted(narrow):
                found[domain] += virtualservices.routes(one, server.gateway, server.port, mesh.services)
    return [{"name": domain, "domains": [domain], "routes": routes} for domain, routes in sorted(found.items())]


def _allowed(pattern: str, namespace: str, server: _Server) -> str:
    """Return the host part of a server's ``[namespace/]host``; "" when it is not for this namespace."""
    scope, slash, host = pattern.rpartition("/")
    home = server.gateway.partition("/")[0]
    ours = {"*": namespace, ".": home}.get(scope, scope) == namespace
    return host if not slash or ours else ""
