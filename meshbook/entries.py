"""How requests from outside come in: what makes the addresses for them, and which these are.

Three kinds, told apart by ``settings.entry_kind``: the VIP of a fleet's MultiClusterIngress, an address of each cluster
by a Service of type LoadBalancer, or an address that exists already. What the latter two need is Kubernetes alone; the
fleet's feature is ``gkehub``'s. Requests are sent by ``probes``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from meshbook import gkehub
from meshbook.clusters import Applied, Cluster, Fleet, Object
from meshbook.errors import ClusterError, UsageError, WaitTimeout
from meshbook.mesh import Entry
from meshbook.objects import addresses_of, load_balancer_ingress
from meshbook.settings import FLEET, LOAD_BALANCER, OWN_ADDRESS, entry_kind
from meshbook.tables import BALANCER, VIP

SERVICE = "meshbook-entry"
"""The Service of type LoadBalancer, by a name that nobody else gives."""
_PENDING = "a controller that gives addresses to Services of type LoadBalancer there; or entry: http://ADDRESS"
_PATH, _HTTP = "/hello", 80


def manifests_of(entry: str, folder: Path) -> Path | None:
    """Return what of ``folder`` makes the addresses; None where they exist already."""
    name = {FLEET: "multicluster", LOAD_BALANCER: "loadbalancer"}.get(entry_kind(entry))
    return folder / name if name else None


def apply(
    fleet: Fleet, entry: str, folder: Path, namespace: str, config: Cluster, *, take_over: bool = False
) -> list[Applied]:
    """Apply what makes the addresses, from ``folder``: in ``config`` for a fleet, else in every cluster, or nothing."""
    path = manifests_of(entry, folder)
    if path is None:
        return []
    return (config if entry == FLEET else fleet).apply(path, namespace, take_over=take_over)


def find(fleet: Fleet, entry: str, namespace: str, *, timeout_s: float = 900.0) -> list[Entry]:
    """Return the addresses, once there are; one that does not come within ``timeout_s`` says why not.

    A URL is its own. FLEET, which nobody has to name, finds what stage 2 has made otherwise, too. UsageError where
    there is nothing, or where it is not clear what is meant.
    """
    kind = entry_kind(entry)
    if kind == OWN_ADDRESS:
        parts = urlsplit(entry)
        url = parts._replace(path=parts.path.rstrip("/") or _PATH).geturl()
        return [Entry(url=url, clusters=tuple(cluster.name for cluster in fleet))]
    looks = {"MultiClusterIngress": _of_fleet} if kind == FLEET else {}
    looks[f"Service {SERVICE}"] = _of_services
    for look in looks.values():
        if found := look(fleet, namespace, timeout_s):
            return found
    raise UsageError(
        f"nothing leads into {namespace} from outside: there is no {' and no '.join(looks)} there",
        hint=f"run stage 2 first, which makes one (entry: {FLEET} or {LOAD_BALANCER}); or entry: http://ADDRESS",
    )


def _of_fleet(fleet: Fleet, namespace: str, timeout_s: float) -> list[Entry]:
    def names(cluster: Cluster) -> list[str]:
        try:
            return [str(found["metadata"]["name"]) for found in cluster.list("MultiClusterIngress", namespace)]
        except ClusterError as error:
            if error.code != 404:  # only the config cluster has this kind
                raise
            return []

    found = [(fleet[context], name) for context, some in fleet.each(names).items() for name in some]
    if len(found) > 1:
        told = ", ".join(f"{name} in {cluster.name}" for cluster, name in found)
        raise UsageError(f"there is one MultiClusterIngress in {namespace}, not: {told}", hint="delete the others")
    return [
        _waited(config, VIP, partial(gkehub.wait_for_vip, config, namespace, name, timeout_s=timeout_s))
        for config, name in found
    ]


def _of_services(fleet: Fleet, namespace: str, timeout_s: float) -> list[Entry]:
    if not any(fleet.each(lambda cluster: cluster.find("Service", SERVICE, namespace)).values()):
        return []

    def wait(cluster: Cluster) -> str:
        return _address(cluster.wait_for("Service", SERVICE, namespace, _address, timeout_s=timeout_s))

    return [*fleet.each(lambda cluster: _waited(cluster, BALANCER, partial(wait, cluster))).values()]


def _waited(cluster: Cluster, path: str, wait: Callable[[], str]) -> Entry:
    address = trouble = ""
    try:
        address = wait()
    except WaitTimeout as error:
        trouble = error.in_words(_PENDING)
    return Entry(url=f"http://{address}{_PATH}", clusters=(cluster.name,), path=path, trouble=trouble)


def _address(service: Object) -> str:
    """Return ``203.0.113.7``, with the port where it is not 80; empty while there is none."""
    ingress = load_balancer_ingress(service)
    port = next((port["port"] for one in ingress[:1] for port in one.get("ports") or []), _HTTP)
    address = next(iter(addresses_of(service)), "")
    host = f"[{address}]" if ":" in address else address
    return host if not host or port == _HTTP else f"{host}:{port}"
