"""A world of two clusters as their API servers would show it, without any API server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from meshbook.lab.envoy import Resources
from meshbook.lab.istiod import ClusterView, Mesh, mesh, resources
from meshbook.lab.loopback import claim_block, lowest_port
from meshbook.lab.topology import LabTopology, two_clouds
from meshbook.objects import Object

TLS_LABEL = {"security.istio.io/tlsMode": "istio"}


class World:
    """Objects of both clusters; endpoint slices follow from Services and Pods, as a controller would have it."""

    def __init__(self, topology: LabTopology) -> None:
        self.topology = topology
        self.services: dict[str, dict[tuple[str, str], Object]] = {one.name: {} for one in topology.clusters}
        self.pods: dict[str, dict[tuple[str, str], Object]] = {one.name: {} for one in topology.clusters}
        self.config: dict[str, Any] = {"gateway_objects": [], "virtual_services": [], "destination_rules": []}
        self.unready: set[str] = set()
        self.peers: dict[str, list[Object]] = {}
        """PeerAuthentications by cluster."""

    def add_service(
        self,
        cluster: str,
        namespace: str,
        name: str,
        ports: Mapping[str, int],
        selector: Mapping[str, str],
        *,
        ingress: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
    ) -> None:
        self.services[cluster][namespace, name] = {
            "metadata": {"namespace": namespace, "name": name, "labels": dict(labels or {})},
            "spec": {
                "selector": dict(selector),
                "ports": [{"name": key, "port": port, "targetPort": port} for key, port in ports.items()],
            },
            "status": {"loadBalancer": {"ingress": [{"ip": ip} for ip in ingress]}},
        }

    def add_pod(
        self, cluster: str, namespace: str, name: str, labels: Mapping[str, str], *, proxy: str = "sidecar"
    ) -> str:
        """Add a running pod and return its address; ``proxy`` is sidecar, router or nothing."""
        where = self.topology.cluster(cluster)
        address = where.pod_address(len(self.pods[cluster]))
        containers: list[Object] = [{"name": "app"}] if proxy != "router" else []
        containers += [{"name": "istio-proxy", "args": ["proxy", proxy]}] if proxy else []
        self.pods[cluster][namespace, name] = {
            "metadata": {
                "namespace": namespace,
                "name": name,
                "labels": {**labels, **(TLS_LABEL if proxy == "sidecar" else {})},
            },
            "spec": {"nodeName": where.node_name, "containers": containers},
            "status": {"phase": "Running", "podIP": address},
        }
        return address

    def view(self, cluster: str) -> ClusterView:
        where = self.topology.cluster(cluster)
        zone = {"topology.kubernetes.io/region": where.region, "topology.kubernetes.io/zone": where.zone}
        system = {"metadata": {"name": "istio-system", "labels": {"topology.istio.io/network": where.network}}}
        return ClusterView(
            name=cluster,
            namespaces={("", "istio-system"): system},
            services=self.services[cluster],
            slices={key: self._slice(cluster, service) for key, service in self.services[cluster].items()},
            pods=self.pods[cluster],
            nodes={("", where.node_name): {"metadata": {"name": where.node_name, "labels": zone}}},
        )

    def mesh(self, cluster: str) -> Mesh:
        """Return what the istiod of ``cluster`` would know."""
        own = self.view(cluster)
        others = [self.view(one.name) for one in self.topology.clusters if one.name != cluster]
        istio = {**self.config, "peer_authentications": self.peers.get(cluster, [])}
        return mesh(own, others, istio, self.topology.bindable)

    def served(self, pod: str, cluster: str = "cluster1") -> Resources:
        """Return what a pod's Envoy is to serve."""
        known = self.mesh(cluster)
        proxy = next(one for one in known.proxies if one.name == pod)
        return resources(proxy, known)

    def _slice(self, cluster: str, service: Object) -> Object:
        namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
        selector = service["spec"]["selector"].items()
        behind = [
            pod
            for (home, _), pod in self.pods[cluster].items()
            if home == namespace and selector <= pod["metadata"]["labels"].items()
        ]
        ports = service["spec"]["ports"]
        return {
            "metadata": {"namespace": namespace, "name": name, "labels": {"kubernetes.io/service-name": name}},
            "ports": [{"name": port["name"], "port": port["targetPort"]} for port in ports],
            "endpoints": [self._endpoint(pod) for pod in behind],
        }

    def _endpoint(self, pod: Object) -> Object:
        name = pod["metadata"]["name"]
        return {
            "addresses": [pod["status"]["podIP"]],
            "conditions": {"ready": name not in self.unready},
            "targetRef": {"kind": "Pod", "name": name, "namespace": pod["metadata"]["namespace"]},
        }


def article(world: World) -> World:
    """Fill the world with what stage 1 and 2 of the runbook make: v1 here, v2 there, gateways in both."""
    for number, cluster in enumerate(world.topology.clusters, start=1):
        gateway = {"istio": "eastwestgateway"}
        front = [cluster.load_balancer_address(0)]
        network = {"topology.istio.io/network": cluster.network}
        world.add_service(
            cluster.name, "istio-system", "eastwest", {"tls": 15443}, gateway, ingress=front, labels=network
        )
        world.add_pod(cluster.name, "istio-system", f"eastwest-{number}", gateway, proxy="router")
        world.add_service(cluster.name, "sample", "helloworld", {"http": 5000}, {"app": "helloworld"})
        hello = {"app": "helloworld", "version": f"v{number}"}
        world.add_pod(cluster.name, "sample", f"helloworld-v{number}", hello)
        world.add_service(cluster.name, "sample", "sleep", {"http": 80}, {"app": "sleep"})
        world.add_pod(cluster.name, "sample", f"sleep-{number}", {"app": "sleep"})
        world.add_pod(cluster.name, "front", f"ingress-{number}", {"istio": "ingressgateway"}, proxy="router")
    world.config["gateway_objects"] = [
        _gateway("eastwestgateway", 15443, "TLS"),
        _gateway("ingressgateway", 80, "HTTP"),
    ]
    world.config["virtual_services"] = [_virtual_service()]
    return world


def peers(mode: str, namespace: str = "sample", **spec: Any) -> Object:
    """Return a PeerAuthentication."""
    metadata = {"namespace": namespace, "name": mode.lower()}
    return {"kind": "PeerAuthentication", "metadata": metadata, "spec": {"mtls": {"mode": mode}, **spec}}


def _gateway(selected: str, port: int, protocol: str) -> Object:
    server: Object = {"port": {"number": port, "name": "one", "protocol": protocol}, "hosts": ["*"]}
    if protocol == "TLS":
        server |= {"hosts": ["*.local"], "tls": {"mode": "AUTO_PASSTHROUGH"}}
    metadata = {"namespace": "sample", "name": f"for-{selected}"}
    return {"kind": "Gateway", "metadata": metadata, "spec": {"selector": {"istio": selected}, "servers": [server]}}


def _virtual_service() -> Object:
    destination = {"host": "helloworld", "port": {"number": 5000}}
    rule = {"match": [{"uri": {"exact": "/hello"}}], "route": [{"destination": destination}]}
    spec = {"hosts": ["*"], "gateways": ["for-ingressgateway"], "http": [rule]}
    return {"kind": "VirtualService", "metadata": {"namespace": "sample", "name": "helloworld"}, "spec": spec}


@pytest.fixture(scope="session")
def peer_authentication() -> Callable[..., Object]:
    return peers


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two clusters of the article, on paper."""
    return article(World(two_clouds(tmp_path, 64)))


@pytest.fixture(scope="module")
def new_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], World]]:
    """Return a world on a block of addresses that nobody else uses now, each time another one."""
    with ExitStack() as stack:

        def new() -> World:
            block, claim = claim_block()
            stack.enter_context(claim)
            return article(World(two_clouds(tmp_path_factory.mktemp("lab"), block, lowest_port(block))))

        yield new
