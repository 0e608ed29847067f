"""Ingress gateways, by which requests from outside come in: are any there, and does each of them answer.

A pod whose proxy hangs may count as ready for a minute, and a load balancer goes on sending to it. Each is asked for
its own health by exec, and only where requests went wrong. A load balancer shows one address for all of them, and sends
nothing to a cluster that is no backend of it: ``ingress_gateways`` says where ``probes`` can ask each by itself. Which
addresses there are (``Entry``) is found by ``meshbook.entries``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

from meshbook import tables
from meshbook.clusters import Fleet, gather
from meshbook.mesh.findings import Finding, Look
from meshbook.mesh.reachability import TIMED_OUT, WAIT_S, curl, run_in
from meshbook.mesh.snapshot import NotSeen, Snapshot, take
from meshbook.mesh.workloads import url_at
from meshbook.objects import PROXY_CONTAINER, Object, containers_of, describe_pod, is_deleting, is_ready, labels_of

_HEALTH_PORT = 15021
_PLAIN, _HTTP = ("HTTP", "HTTP2", "GRPC", "GRPC-WEB"), 80
"""Protocols of a Gateway's port without TLS, and the port of a URL that names none."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An address for requests from outside, and the clusters to whose ingress gateways it may lead."""

    url: str
    clusters: tuple[str, ...] = ()
    path: str = tables.ADDRESS
    """How rows of ANSWERS name this way."""
    trouble: str = ""
    """Why it has no address, and its URL no host."""

    @property
    def source(self) -> str:
        """How rows of ANSWERS name who asks by it: with the cluster, where each has an address of its own."""
        return f"{tables.OUTSIDE} via {self.clusters[0]}" if self.path == tables.BALANCER else tables.OUTSIDE

    def __str__(self) -> str:
        return f"{self.source}: {self.trouble or self.url}"


def entries_of(outside: str | Sequence[Entry]) -> list[Entry]:
    """Return the entries that have an address; a URL alone is one."""
    if isinstance(outside, str):
        return [Entry(url=outside)] if outside else []
    return [one for one in outside if not one.trouble]


@dataclass(frozen=True, kw_only=True)
class IngressGateway:
    """One pod of an ingress gateway, and the URL by which pods of its own cluster reach it."""

    cluster: str
    pod: str = ""
    url: str = ""
    """Empty: it cannot be asked."""
    need: str = ""
    """What would be needed to know it."""

    @property
    def path(self) -> str:
        """How rows of ANSWERS name this way."""
        return f"{tables.GATEWAY} {self.pod}".strip()


def ingress_gateways(fleet: Fleet, entries: Sequence[Entry], namespace: str) -> list[IngressGateway]:
    """Return the ingress gateway pods in ``namespace`` of every cluster that run, with what is asked for at each.

    One that is still to come, or has ended, is no gateway. In front of somebody's own address may stand what changes
    ports: one that neither a Service nor a Gateway has says nothing there.
    """
    found: list[IngressGateway] = []
    for cluster, view in take(fleet, {namespace}).items():
        entry = next((one for one in entries if cluster in one.clusters), entries[0])
        parts, opened = urlsplit(entry.url), [port for one in view.list("Gateway") for port in _plain_ports(one)]
        port = parts.port or _HTTP
        usual = min(opened, key=lambda one: one != _HTTP, default=_HTTP)
        else_port = usual if entry.path == tables.ADDRESS and port not in opened else 0
        at = partial(url_at, port=port, path=parts.path or "/", view=view, else_port=else_port)
        try:
            pods = [pod for pod in _gateways(view, namespace) if (pod.get("status") or {}).get("phase") == "Running"]
            found += [IngressGateway(cluster=cluster, pod=str(pod["metadata"]["name"]), url=at(pod)) for pod in pods]
        except NotSeen as error:
            found.append(IngressGateway(cluster=cluster, need=error.need))
    return found


def ingress(look: Look, view: Snapshot, namespace: str, *, failed: bool) -> Iterator[Finding]:
    """Look at the ingress gateways of one cluster; ``failed``: some requests from outside got no good answer."""
    pods = _gateways(view, namespace)
    ready = [pod for pod in pods if is_ready(pod)]
    kubectl = view.kubectl(namespace)
    if not ready:
        owners = [one for one in view.list("Deployment", namespace) if not one["spec"].get("replicas", 1)]
        why = f": Deployment {owners[0]['metadata']['name']} has 0 replicas" if owners else ""
        yield look.cause(f"{view.cluster} has no ready ingress gateway{why}.", f"{kubectl} get deployments,pods")
        return
    asked = {str(pod["metadata"]["name"]): partial(_hangs, pod, view) for pod in ready if failed}
    hangs = gather(asked)
    silent = [pod for pod in ready if hangs.get(pod["metadata"]["name"])]
    unready = [pod for pod in pods if pod not in ready] if failed else []
    for pod, how in [*((one, "its proxy hangs") for one in silent), *((one, describe_pod(one)) for one in unready)]:
        name = pod["metadata"]["name"]
        seen = f"{view.cluster}'s ingress gateway pod {name}, one of {len(pods)}, does not answer: {how}."
        yield look.cause(seen, f"{kubectl} delete pod {name}")
    if not silent and not unready:
        yield look.fine(f"{len(ready)} ready ingress gateway pods in {view.cluster}.")


def _gateways(view: Snapshot, namespace: str) -> list[Object]:
    """Return the proxies of a namespace; where Gateways open a plain port at some of them, those alone."""
    opened = [one["spec"].get("selector") for one in view.list("Gateway") if _plain_ports(one)]
    pods = [pod for pod in view.list("Pod", namespace) if not is_deleting(pod)]
    pods = [pod for pod in pods if any(one["name"] == PROXY_CONTAINER for one in containers_of(pod))]
    chosen = [pod for pod in pods if any(one and one.items() <= labels_of(pod).items() for one in opened)]
    return chosen or pods


def _plain_ports(gateway: Object) -> list[int]:
    ports = [one["port"] for one in gateway["spec"].get("servers") or []]
    return [int(port["number"]) for port in ports if str(port.get("protocol", "")).upper() in _PLAIN]


def _hangs(pod: Object, view: Snapshot) -> bool:
    """Tell whether a proxy takes a connection and says nothing; False where it cannot be asked."""
    argv = curl(f"http://{pod['status'].get('podIP', '')}:{_HEALTH_PORT}/healthz/ready", wait_s=WAIT_S)
    try:
        return run_in(view, [pod], argv, lambda done: done.exit_code == TIMED_OUT)[1]
    except NotSeen:
        return False
