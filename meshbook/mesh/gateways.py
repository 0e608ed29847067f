"""East-west gateways: what a cluster must have so that another network's requests get in. Pure.

A Service that the mesh knows by its network label, with an address and port 15443; ready pods behind it; and a Gateway
that opens the port for mutual TLS to pass through.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshbook.mesh.findings import Finding, Look
from meshbook.mesh.routing import covers, title
from meshbook.mesh.snapshot import NETWORK_LABEL, Snapshot
from meshbook.mesh.workloads import none_ready
from meshbook.objects import (
    EAST_WEST,
    EAST_WEST_PORT,
    SYSTEM_NAMESPACE,
    Object,
    addresses_of,
    is_ready,
    labels_of,
)

PASSTHROUGH = "AUTO_PASSTHROUGH"


def services(view: Snapshot) -> list[Object]:
    """Return the Services of a cluster's east-west gateways: those that name a network, else those of that label."""
    named = view.list("Service", SYSTEM_NAMESPACE, labels=NETWORK_LABEL)
    return named or view.list("Service", SYSTEM_NAMESPACE, labels=EAST_WEST)


def gateway(look: Look, source: Snapshot, destination: Snapshot, host: str = "") -> Iterator[Finding]:
    """Look at the way into ``destination``; ``host`` is the service that is to be reached by it."""
    if source.network and source.network == destination.network:
        yield look.cause(
            f"{source.cluster} and {destination.cluster} are labelled with one network ({source.network}), so no"
            " gateway is used between them.",
            f"{destination.kubectl('')} label namespace {SYSTEM_NAMESPACE} --overwrite {NETWORK_LABEL}=ANOTHER",
        )
        return
    kubectl = destination.kubectl()
    found = services(destination)
    if not found:
        seen = f"{destination.cluster} has no east-west gateway: no Service {EAST_WEST} in {SYSTEM_NAMESPACE}."
        yield look.cause(seen, "part 3 of the article makes it")
        return
    service = next((one for one in found if not _lacking(one)), found[0])
    name = service["metadata"]["name"]
    if lacking := _lacking(service):
        seen = f"{destination.cluster}'s Service {name} lacks {', '.join(lacking)}."
        yield look.cause(seen, f"{kubectl} describe service {name}")
        return
    ready = [pod for pod in destination.behind(service) if is_ready(pod)]
    if not ready:
        yield look.cause(*none_ready(service, destination, "the east-west gateway"))
        return
    if trouble := _unopened(ready, destination, host):
        yield look.cause(*trouble)
        return
    address = addresses_of(service)[0]
    yield look.fine(
        f"{destination.cluster}'s {name}: {len(ready)} ready pods at {address}, port {EAST_WEST_PORT} open."
    )


def _lacking(service: Object) -> list[str]:
    opened = any(port.get("port") == EAST_WEST_PORT for port in service["spec"].get("ports") or [])
    lacks = {
        f"the label {NETWORK_LABEL}": labels_of(service).get(NETWORK_LABEL),
        "an address": addresses_of(service),
        f"port {EAST_WEST_PORT}": opened,
    }
    return [what for what, there in lacks.items() if not there]


def _unopened(ready: list[Object], view: Snapshot, host: str) -> tuple[str, str] | None:
    """Return why no Gateway opens the port for these pods, and the command that mends it."""
    kubectl = view.kubectl()
    apply = f"{kubectl} apply -f samples/multicluster/expose-services.yaml (of Istio's release)"
    passing = [(one, server) for one in view.list("Gateway") for server in _servers(one)]
    if not passing:
        seen = f"{view.cluster} has no Gateway that opens port {EAST_WEST_PORT} in mode {PASSTHROUGH}."
        return seen, apply
    fitting = [
        (one, server)
        for one, server in passing
        if any((one["spec"].get("selector") or {}).items() <= labels_of(pod).items() for pod in ready)
    ]
    if not fitting:
        one = passing[0][0]
        chosen = ", ".join(f"{key}={value}" for key, value in (one["spec"].get("selector") or {}).items())
        home, name = one["metadata"].get("namespace", ""), one["metadata"]["name"]
        seen = f"{view.cluster}'s Gateway {title(one)} selects {chosen}, which no east-west gateway pod has."
        return seen, f"{view.kubectl(home)} edit gateway {name}"
    hosts = [pattern.rpartition("/")[2] for _, server in fitting for pattern in server.get("hosts") or ["*"]]
    if host and not any(covers(pattern, host) for pattern in hosts):
        seen = f"{view.cluster}'s Gateway {title(fitting[0][0])} lets {', '.join(hosts)} through, not {host}."
        return seen, apply
    return None


def _servers(found: Object) -> list[Object]:
    servers = found["spec"].get("servers") or []
    return [
        one
        for one in servers
        if one["port"].get("number") == EAST_WEST_PORT and (one.get("tls") or {}).get("mode") == PASSTHROUGH
    ]
