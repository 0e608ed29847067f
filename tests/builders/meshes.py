"""A healthy mesh of two clusters as plain objects, and a fleet that serves them: faults are planted by changing a list.

v1 runs in ``a``, v2 in ``b``; each has a client, an east-west gateway, and a remote secret for the other.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any

from meshbook.clusters import ExecResult
from meshbook.errors import ClusterError

Objects = dict[str, list[dict[str, Any]]]
SYSTEM = "istio-system"
NETWORK = "topology.istio.io/network"
REVISION = "asm-1175-9"
HOST = "helloworld.sample.svc.cluster.local"


def named(name: str, namespace: str = "", labels: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "labels": labels or {}, "annotations": {}}
    return {"metadata": metadata | ({"namespace": namespace} if namespace else {}), **fields}


def pod(name: str, namespace: str, labels: dict[str, str], node: str = "node", *, ready: bool = True) -> dict[str, Any]:
    """A running pod with a sidecar."""
    condition = {"type": "Ready", "status": str(ready)}
    containers = [{"name": labels["app"]}, {"name": "istio-proxy"}]
    found = named(name, namespace, {"security.istio.io/tlsMode": "istio", **labels})
    found["metadata"]["annotations"] = {"sidecar.istio.io/status": json.dumps({"revision": REVISION})}
    status = {"phase": "Running", "conditions": [condition]}
    return {**found, "spec": {"nodeName": node, "containers": containers}, "status": status}


def endpoints(service: str, pods: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The EndpointSlice of a Service with these pods."""
    found = [
        {"conditions": {"ready": True}, "targetRef": {"kind": "Pod", "name": one["metadata"]["name"]}} for one in pods
    ]
    return named(f"{service}-x", "sample", {"kubernetes.io/service-name": service}, endpoints=found)


def servers(cluster: str, version: str, count: int) -> list[dict[str, Any]]:
    names = [f"helloworld-{version}-{cluster}{number}" for number in range(count)]
    return [pod(name, "sample", {"app": "helloworld", "version": version}) for name in names]


def remote_secret(name: str, config: dict[str, Any]) -> dict[str, Any]:
    data = {name: base64.b64encode(json.dumps(config).encode()).decode()}
    return named(f"istio-remote-secret-{name}", SYSTEM, {"istio/multiCluster": "true"}, data=data)


def kubeconfig(user: dict[str, Any], server: str = "https://127.0.0.1:9") -> dict[str, Any]:
    return {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "c", "user": user}],
    }


def cluster_objects(name: str, other: str, version: str, count: int = 1) -> Objects:
    """All objects of one cluster of a healthy mesh; ``count`` pods serve."""
    gateway = {"app": "istio-eastwestgateway", "istio": "eastwestgateway"}
    serving = servers(name, version, count)
    service = named(
        "istio-eastwestgateway",
        SYSTEM,
        {**gateway, NETWORK: f"network-{name}"},
        spec={"selector": gateway, "ports": [{"port": 15443}]},
        status={"loadBalancer": {"ingress": [{"ip": f"192.0.2.{ord(name)}"}]}},
    )
    passing = {"port": {"number": 15443, "protocol": "TLS"}, "tls": {"mode": "AUTO_PASSTHROUGH"}, "hosts": ["*.local"]}
    root = {"root-cert.pem": "ONE ROOT"}
    locality = {"topology.kubernetes.io/region": f"region-{name}", "topology.kubernetes.io/zone": f"zone-{name}"}
    return {
        "Namespace": [
            named(SYSTEM, labels={NETWORK: f"network-{name}"}),
            named("sample", labels={"istio.io/rev": REVISION}),
        ],
        "Node": [named("node", labels=locality)],
        "MutatingWebhookConfiguration": [named("injector", labels={"istio.io/rev": REVISION})],
        "Service": [named("helloworld", "sample", spec={"selector": {"app": "helloworld"}}), service],
        "Deployment": [
            named("helloworld", "sample", spec={"template": {"metadata": {"labels": {"app": "helloworld"}}}}),
            named("istio-eastwestgateway", SYSTEM, spec={"template": {"metadata": {"labels": gateway}}}),
        ],
        "Pod": [*serving, pod(f"sleep-{name}", "sample", {"app": "sleep"}), pod(f"gateway-{name}", SYSTEM, gateway)],
        "EndpointSlice": [endpoints("helloworld", serving)],
        "ConfigMap": [named("istio-ca-root-cert", place, data=root) for place in ("sample", SYSTEM)],
        "Secret": [remote_secret(other, kubeconfig({"token": "secret"}))],
        "Gateway": [named("cross-network", SYSTEM, spec={"selector": gateway, "servers": [passing]})],
        "VirtualService": [],
        "DestinationRule": [],
        "security.istio.io/v1beta1/PeerAuthentication": [],
    }


Exec = Callable[[str, Sequence[str]], ExecResult]


class FakeCluster:
    """A cluster of prepared objects: kind → objects."""

    def __init__(self, name: str, objects: Objects) -> None:
        self.name = self.context = name
        self.objects = objects
        self.server = "v1.31.2"
        self.denied: set[str] = set()
        self.refused: set[str] = set()
        self.log = ""
        self.run: Exec = lambda pod, argv: ExecResult(exit_code=35, stdout="", stderr="")

    def version(self) -> str:
        return self.server

    def uid(self) -> str:
        return f"uid-{self.name}"

    def can_i(self, verb: str, resource: str, namespace: str = "") -> bool:
        return resource not in self.denied

    def list(self, kind: str, namespace: str = "", *, labels: str = "", fields: str = "") -> list[dict[str, Any]]:
        if kind in self.refused:
            raise ClusterError(f"{self.name}: may not list {kind}", code=403, reason="Forbidden")
        found = self.objects.get(kind, [])
        return [one for one in found if not namespace or one["metadata"].get("namespace", namespace) == namespace]

    def get(self, kind: str, name: str, namespace: str = "") -> dict[str, Any]:
        for found in self.list(kind, namespace):
            if found["metadata"]["name"] == name:
                return found
        raise ClusterError(f"{self.name}: no {kind} {name}", code=404, reason="NotFound")

    def find(self, kind: str, name: str, namespace: str = "") -> dict[str, Any] | None:
        return next((found for found in self.list(kind) if found["metadata"]["name"] == name), None)

    def logs(self, pod: str, namespace: str, *, container: str, since: Any = None) -> str:
        return self.log

    def tell_kubectl(self, *words: str, namespace: str = "") -> None: ...

    def exec(
        self, pod: str, command: Sequence[str], *, namespace: str, container: str = "", timeout_s: float = 60
    ) -> ExecResult:
        if "pods/exec" in self.refused:
            raise ClusterError(f"{self.name}: no exec", code=403, reason="Forbidden")
        return self.run(pod, command)


class FakeFleet:
    """Clusters by name, one after the other."""

    def __init__(self, *clusters: FakeCluster) -> None:
        self.clusters = clusters

    def __getitem__(self, name: str) -> FakeCluster:
        return next(cluster for cluster in self.clusters if cluster.name == name)

    def __iter__(self) -> Any:
        return iter(self.clusters)

    def each(self, task: Callable[[FakeCluster], Any]) -> dict[str, Any]:
        return {cluster.name: task(cluster) for cluster in self.clusters}


def healthy_mesh(second: int = 1) -> FakeFleet:
    """Two clusters, ``a`` with one pod of v1 and ``b`` with ``second`` pods of v2."""
    return FakeFleet(
        FakeCluster("a", cluster_objects("a", "b", "v1")), FakeCluster("b", cluster_objects("b", "a", "v2", second))
    )
