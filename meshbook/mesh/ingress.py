"""Ingress gateways, by which requests from outside come in: are any there, and does each of them answer.

A pod whose proxy hangs may count as ready for a minute, and a load balancer goes on sending to it. Each is asked for
its own health by exec, and only where requests went wrong. A load balancer shows one address for all of them, and sends
nothing to a cluster that is no backend of it: ``ingress_gateways`` says where ``probes`` can ask each by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from meshbook import tables
from meshbook.clusters import Cluster, Fleet
from meshbook.errors import ClusterError
from meshbook.mesh.findings import Finding, Look
from meshbook.mesh.snapshot import NotSeen, Snapshot, take
from meshbook.objects import PROXY_CONTAINER, Object, describe_pod, is_deleting, is_ready, labels_of, selects

_HEALTH_PORT = 15021
_WAIT_S = 4
_EXEC_S = 10.0
_TIMED_OUT = 28
"""curl's exit code for an answer that did not come in time."""
_PLAIN, _HTTP = ("HTTP", "HTTP2", "GRPC", "GRPC-WEB"), 80
"""Protocols of a Gateway's port without TLS, and the port of a URL that names none."""


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


def ingress_gateways(fleet: Fleet, url: str, namespace: str) -> list[IngressGateway]:
    """Return the ingress gateway pods in ``namespace`` of every cluster that run, with what ``url`` is at each.

    One that is still to come, or has ended, is no gateway.
    """
    found: list[IngressGateway] = []
    for cluster, view in take(fleet, {namespace}).items():
        try:
            pods = [pod for pod in _gateways(view, namespace) if (pod.get("status") or {}).get("phase") == "Running"]
            found += [
                IngressGateway(cluster=cluster, pod=str(pod["metadata"]["name"]), url=_at(pod, url, view))
                for pod in pods
            ]
        except NotSeen as error:
            found.append(IngressGateway(cluster=cluster, need=error.need))
    return found


def ingress(look: Look, view: Snapshot, namespace: str, cluster: Cluster, *, failed: bool) -> Iterator[Finding]:
    """Look at the ingress gateways of one cluster; ``failed``: some requests from outside got no good answer."""
    pods = _gateways(view, namespace)
    ready = [pod for pod in pods if is_ready(pod)]
    kubectl = f"kubectl --context {view.cluster} -n {namespace}"
    if not ready:
        owners = [one for one in view.list("Deployment", namespace) if not one["spec"].get("replicas", 1)]
        why = f": Deployment {owners[0]['metadata']['name']} has 0 replicas" if owners else ""
        yield look.cause(f"{view.cluster} has no ready ingress gateway{why}.", f"{kubectl} get deployments,pods")
        return
    silent = [pod for pod in ready if failed and _hangs(pod, namespace, cluster)]
    unready = [pod for pod in pods if pod not in ready] if failed else []
    for pod, how in [*((one, "its proxy hangs") for one in silent), *((one, describe_pod(one)) for one in unready)]:
        name = pod["metadata"]["name"]
        seen = f"{view.cluster}'s ingress gateway pod {name}, one of {len(pods)}, does not answer: {how}."
        yield look.cause(seen, f"{kubectl} delete pod {name}")
    if not silent and not unready:
        yield look.fine(f"{len(ready)} ready ingress gateway pods in {view.cluster}.")


def _gateways(view: Snapshot, namespace: str) -> list[Object]:
    """Return the proxies of a namespace; where Gateways open a plain port at some of them, those alone."""
    opened = [one["spec"].get("selector") for one in view.list("Gateway") if _is_plain(one)]
    pods = [pod for pod in view.list("Pod", namespace) if not is_deleting(pod) and _has_proxy(pod)]
    chosen = [pod for pod in pods if any(one and one.items() <= labels_of(pod).items() for one in opened)]
    return chosen or pods


def _is_plain(gateway: Object) -> bool:
    servers = gateway["spec"].get("servers") or []
    return any(str(one["port"].get("protocol", "")).upper() in _PLAIN for one in servers)


def _has_proxy(pod: Object) -> bool:
    return any(one["name"] == PROXY_CONTAINER for one in pod["spec"].get("containers", []))


def _at(pod: Object, url: str, view: Snapshot) -> str:
    """Return ``url`` at the pod itself: at the port that a Service in front of it sends the same port to."""
    parts, address = urlsplit(url), str(pod["status"].get("podIP", ""))
    number = parts.port or _HTTP
    services = [
        one
        for one in view.list("Service", pod["metadata"]["namespace"])
        if selects({"matchLabels": one["spec"].get("selector") or {"": ""}}, labels_of(pod))
    ]
    ports = [port for one in services for port in one["spec"].get("ports") or [] if port["port"] == number]
    target = next(filter(None, (_number(port.get("targetPort", number), pod) for port in ports)), number)
    return f"http://{f'[{address}]' if ':' in address else address}:{target}{parts.path or '/'}"


def _number(port: int | str, pod: Object) -> int:
    """Return the number of a Service port's target on a pod; 0 where the pod names no such port."""
    if isinstance(port, int):
        return port
    named = [one for container in pod["spec"]["containers"] for one in container.get("ports") or []]
    return next((int(one["containerPort"]) for one in named if one.get("name") == port), 0)


def _hangs(pod: Object, namespace: str, cluster: Cluster) -> bool:
    """Tell whether a proxy takes a connection and says nothing; False where it cannot be asked."""
    address = (pod.get("status") or {}).get("podIP", "")
    argv = ["curl", "-q", "-s", "-m", str(_WAIT_S), "--noproxy", "*"]
    argv += ["-o", "/dev/null", f"http://{address}:{_HEALTH_PORT}/healthz/ready"]
    try:
        done = cluster.exec(
            pod["metadata"]["name"], argv, namespace=namespace, container=PROXY_CONTAINER, timeout_s=_EXEC_S
        )
    except ClusterError:
        return False
    return done.exit_code == _TIMED_OUT
