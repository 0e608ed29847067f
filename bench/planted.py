"""What can be wrong with a mesh of two clusters, planted on a ``Ground`` and mended again: ``FAULTS`` by name.

Rehearsals plant some of them, ``causes`` all.
"""

from __future__ import annotations

import base64
import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ground import (
    CONNECTIVITY,
    HOST,
    REVISION,
    SERVER,
    Ground,
    Planted,
    container,
    created,
    deleted,
    patched,
    scaled,
    template,
)

from meshbook.clusters import Cluster
from meshbook.lab import pki
from meshbook.lab.faults import FaultSpec
from meshbook.objects import PROXY_CONTAINER, REVISION_LABEL, SYSTEM_NAMESPACE, timestamp

EAST_WEST = "istio-eastwestgateway"
INGRESS = "istio-ingressgateway"
VERSIONS = [{"name": name, "labels": {"version": name}} for name in ("v1", "v2", "v9")]
PEER_AUTHENTICATION = "security.istio.io/v1beta1/PeerAuthentication"


def _remote_secret(cluster: Cluster) -> str:
    return str(cluster.list("Secret", SYSTEM_NAMESPACE, labels="istio/multiCluster=true")[0]["metadata"]["name"])


@contextmanager
def both_secrets_gone(ground: Ground) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for cluster in ground.fleet:
            stack.enter_context(deleted(cluster, "Secret", _remote_secret(cluster)))
        yield


@contextmanager
def token_over(ground: Ground) -> Iterator[None]:
    """The first cluster's remote secret has a token that ended an hour ago."""
    name = _remote_secret(ground.first)
    before = ground.first.get("Secret", name, SYSTEM_NAMESPACE)["data"]
    ((called, value),) = before.items()
    ended = base64.urlsafe_b64encode(json.dumps({"exp": int(time.time()) - 3600}).encode()).decode().rstrip("=")
    config = yaml.safe_load(base64.b64decode(value))
    config["users"][0]["user"] = {"token": f"e30.{ended}.signature"}
    data = {called: base64.b64encode(json.dumps(config).encode()).decode()}
    with patched(ground.first, "Secret", name, SYSTEM_NAMESPACE, {"data": data}, {"data": before}):
        yield


@contextmanager
def wrong_revision(ground: Ground) -> Iterator[None]:
    """The second cluster's server was made while the namespace asked for a revision that is not installed."""
    planted, right = ({"metadata": {"labels": {REVISION_LABEL: value}}} for value in ("asm-0000-0", REVISION))
    ground.second.patch("Namespace", ground.namespace, planted)
    with contextlib.ExitStack() as stack:
        stack.enter_context(template(ground.second, SERVER, ground.namespace, {"planted": "revision"}))
        stack.callback(ground.second.patch, "Namespace", ground.namespace, right)  # before the pod is made anew
        yield


def unready(ground: Ground) -> Planted:
    """The second cluster's server has a probe that nothing answers."""
    probe = {"httpGet": {"path": "/none", "port": 5000}, "periodSeconds": 1}
    return container(ground.second, SERVER, ground.namespace, readinessProbe=probe)


@contextmanager
def another_root(ground: Ground) -> Iterator[None]:
    """The second cluster's mesh has a root of its own, and its server a certificate by it."""
    cluster, kept = ground.second, ground.second.find("Secret", "cacerts", SYSTEM_NAMESPACE)
    with tempfile.TemporaryDirectory(prefix="meshbook-bench-") as folder:
        root = pki.Authority(Path(folder), "another root")
    pem = {name: root.root_pem for name in ("ca-cert.pem", "cert-chain.pem", "root-cert.pem")}
    pem["ca-key.pem"] = root.key_pem
    data = {name: base64.b64encode(text.encode()).decode() for name, text in pem.items()}
    istiods = [one["metadata"]["name"] for one in cluster.list("Deployment", SYSTEM_NAMESPACE, labels="app=istiod")]

    def renewed(*, planted: bool) -> None:
        """Have the control plane, where it runs in a pod, read its root, and the server get a certificate by it."""

        def look() -> tuple[bool | None, str]:
            trusted = cluster.get("ConfigMap", "istio-ca-root-cert", ground.namespace)["data"]["root-cert.pem"]
            return (trusted.strip() == root.root_pem.strip()) is planted or None, trusted[-80:]

        for name in istiods:
            _restart(ground, name, SYSTEM_NAMESPACE)
        cluster.wait_until("the root is trusted", look, ground.rollout_s)
        _restart(ground, SERVER, ground.namespace)

    with contextlib.ExitStack() as stack:
        stack.callback(renewed, planted=False)
        if kept:
            values = ({"data": some} for some in (data, kept["data"]))
            stack.enter_context(patched(cluster, "Secret", "cacerts", SYSTEM_NAMESPACE, *values))
        else:
            cluster.create("Secret", {"metadata": {"name": "cacerts", "namespace": SYSTEM_NAMESPACE}, "data": data})
            stack.callback(cluster.delete_object, "Secret", "cacerts", SYSTEM_NAMESPACE)
        renewed(planted=True)
        yield


def _restart(ground: Ground, name: str, namespace: str) -> None:
    note = {"kubectl.kubernetes.io/restartedAt": timestamp()}
    change = {"spec": {"template": {"metadata": {"annotations": note}}}}
    ground.second.patch("Deployment", name, change, namespace=namespace)
    ground.second.wait_for_rollout(namespace, [name], timeout_s=ground.rollout_s)


@contextmanager
def mutual_tls_disagrees(ground: Ground) -> Iterator[None]:
    """The first cluster wants mutual TLS in the sample's namespace, the second has none there."""
    with contextlib.ExitStack() as stack:
        for cluster, mode in ((ground.first, "STRICT"), (ground.second, "DISABLE")):
            content = {"spec": {"mtls": {"mode": mode}}}
            stack.enter_context(created([cluster], PEER_AUTHENTICATION, ground.namespace, **content))
        yield


def weights(first: int, second: int, subset: str = "v2") -> Callable[[Ground], Planted]:
    """Sidecars send so many of 100 requests to v1 and to the other subset."""

    @contextmanager
    def plant(ground: Ground) -> Iterator[None]:
        rule, route = {"host": HOST, "subsets": VERSIONS}, {"hosts": [HOST], "http": [_route(first, second, subset)]}
        with (
            created(ground.fleet, "DestinationRule", ground.namespace, spec=rule),
            created(ground.fleet, "VirtualService", ground.namespace, spec=route),
        ):
            yield

    return plant


def _route(first: int, second: int, subset: str = "v2") -> dict[str, Any]:
    parts = {"v1": first, subset: second}
    destination = {"host": HOST, "port": {"number": 5000}}
    return {
        "route": [
            {"destination": {**destination, "subset": name}, "weight": weight}
            for name, weight in parts.items()
            if weight
        ]
    }


@contextmanager
def gateway_weights(ground: Ground) -> Iterator[None]:
    """Ingress gateways send 90 of 100 requests to v1."""
    with contextlib.ExitStack() as stack:
        rule = {"host": HOST, "subsets": VERSIONS}
        stack.enter_context(created(ground.fleet, "DestinationRule", ground.namespace, spec=rule))
        for cluster in ground.fleet:
            before = cluster.get("VirtualService", "helloworld", ground.namespace)["spec"]["http"]
            specs = ({"spec": {"http": http}} for http in ([_route(90, 10)], before))
            stack.enter_context(patched(cluster, "VirtualService", "helloworld", ground.namespace, *specs))
        yield


@contextmanager
def islands(ground: Ground) -> Iterator[None]:
    """Both versions run in each cluster, and no cluster reads the other."""
    with both_secrets_gone(ground), contextlib.ExitStack() as stack:
        for cluster, version in zip(ground.fleet, ("v2", "v1"), strict=True):
            name = f"helloworld-{version}"
            cluster.apply(CONNECTIVITY / "helloworld.yaml", ground.namespace, f"version={version}")
            stack.callback(cluster.delete_object, "Deployment", name, ground.namespace)
            cluster.wait_for_rollout(ground.namespace, [name], timeout_s=ground.rollout_s)
        yield


@contextmanager
def slow(ground: Ground, *, clusters: int = 1, burn_ms: int = 3000) -> Iterator[None]:
    """Servers, the last first, take so long for a request (images that know BURN_MS)."""
    burning = {"env": [{"name": "BURN_MS", "value": str(burn_ms)}]}
    with contextlib.ExitStack() as stack:
        for cluster, name in [(ground.second, SERVER), (ground.first, "helloworld-v1")][:clusters]:
            # a probe is asked in the same queue, and would fail
            stack.enter_context(container(cluster, name, ground.namespace, **burning, readinessProbe=None))
            cluster.wait_for_rollout(ground.namespace, [name], timeout_s=ground.rollout_s)
        yield


@contextmanager
def frozen_gateway(ground: Ground) -> Iterator[None]:
    """One of two ingress gateway pods, to which the load balancer sends, hangs."""
    cluster, namespace = ground.second, ground.gateways
    with scaled(cluster, INGRESS, namespace, 2):
        where = {"namespace": namespace, "container": PROXY_CONTAINER}
        pod = cluster.ready_pod("istio=ingressgateway", namespace)
        if ground.lab:
            with ground.lab.injected(FaultSpec(kind="freeze", context=cluster.name, pod=pod, **where)):
                yield
            return
        cluster.exec(pod, ["pkill", "-STOP", "envoy"], **where)
        try:
            yield
        finally:
            cluster.exec(pod, ["pkill", "-CONT", "envoy"], **where)


def link(direction: str) -> Callable[[Ground], AbstractContextManager[object]]:
    name = {"in": "link cut inward", "out": "link cut outward", "both": "link cut"}[direction]

    def plant(ground: Ground) -> AbstractContextManager[object]:
        where = ground.second.extension("meshbook.io/lab").get("cluster", ground.second.name)
        return ground.broken(name, FaultSpec(kind="link-cut", context=where, direction=direction))

    return plant


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault, and what the cause tree must say first of a direction."""

    plant: Callable[[Ground], AbstractContextManager[object]]
    look: str
    seen: str
    """Part of what must be said; {first} and {second} are the clusters."""
    way: str = "there"
    """``there`` or ``back``: between the clusters; ``outside``: what was asked through the load balancer."""
    silent: bool = True
    """No answer comes that way while it is there."""


FAULTS: dict[str, Fault] = {
    "remote secret gone, one side": Fault(
        plant=lambda ground: deleted(ground.first, "Secret", _remote_secret(ground.first)),
        look="remote secret", seen="no Secret istio/multi",
    ),
    "remote secrets gone, both": Fault(
        plant=both_secrets_gone, look="remote secret", seen="no Secret istio/multi", way="back",
    ),
    "remote secret's token expired": Fault(plant=token_over, look="remote secret", seen="Its token expired at"),
    "east-west gateway at 0": Fault(
        plant=lambda ground: scaled(ground.second, EAST_WEST, SYSTEM_NAMESPACE, 0),
        look="gateway", seen=f"{EAST_WEST} has 0 replicas",
    ),
    "cross-network Gateway gone": Fault(
        plant=lambda ground: deleted(ground.second, "Gateway", "cross-network-gateway"),
        look="gateway", seen="has no Gateway that opens port 15443",
    ),
    "link cut inward": Fault(plant=link("in"), look="way", seen="packets vanish on the way"),
    "link cut outward": Fault(plant=link("out"), look="way", seen="packets vanish on the way", way="back"),
    "link cut": Fault(plant=link("both"), look="way", seen="packets vanish on the way", way="back"),
    "different root": Fault(plant=another_root, look="roots", seen="trust different root certificates"),
    "pod without sidecar": Fault(
        plant=lambda ground: template(ground.second, SERVER, ground.namespace, {"sidecar.istio.io/inject": "false"}),
        look="servers", seen="its own sidecar.istio.io/inject is false",
    ),
    "wrong revision": Fault(
        plant=wrong_revision, look="servers", seen="no injection webhook is of revision asm-0000-0",
    ),
    "readiness false": Fault(plant=unready, look="servers", seen="None of {second}'s 1 pods of helloworld is ready"),
    "scaled to 0": Fault(
        plant=lambda ground: scaled(ground.second, SERVER, ground.namespace, 0),
        look="servers", seen="helloworld-v2 has 0 replicas",
    ),
    "mesh weights 90/10": Fault(
        plant=weights(90, 10), look="routes", silent=False, seen="VirtualService sample/planted sends 90 % to v1",
    ),
    "VIP weights 90/10": Fault(
        plant=gateway_weights, look="routes", way="outside", silent=False,
        seen="VirtualService sample/helloworld sends 90 % to v1",
    ),
    "traffic to an empty subset": Fault(
        plant=weights(0, 100, "v9"), look="routes", seen="sends 100 % to v9, but no ready pod has",
    ),
    "both versions everywhere, mesh cut": Fault(plant=islands, look="remote secret", seen="no Secret istio/multi"),
    "ingress gateways of one cluster at 0": Fault(
        plant=lambda ground: scaled(ground.first, INGRESS, ground.gateways, 0),
        look="ingress", way="outside", silent=False, seen=f"no ready ingress gateway: Deployment {INGRESS} has 0",
    ),
    "one of two ingress gateway pods frozen": Fault(
        plant=frozen_gateway, look="ingress", way="outside", silent=False, seen="does not answer: its proxy hangs",
    ),
    "mutual TLS that disagrees": Fault(
        plant=mutual_tls_disagrees, look="mutual TLS", seen="disables mutual TLS ({first}: STRICT)",
    ),
    "v2 slow": Fault(plant=slow, look="answers", silent=False, seen="{second}'s pods answer {first} late"),
    "v2 slower than clients wait": Fault(plant=slow, look="answers", seen="asked from within itself,"),
}  # fmt: skip
