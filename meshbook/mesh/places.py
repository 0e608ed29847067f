"""Where a run takes place: of each cluster who runs it, its Kubernetes, the mesh's revisions, and whether it is a lab.

For people who read a report, so it is never refused: what this user may not see is said to be unknown. What decides
whether anything may be taken down is ``outage``'s own look.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from meshbook.clusters import Cluster, Fleet, is_loopback
from meshbook.errors import ClusterError
from meshbook.objects import LAB_LABEL, Object, labels_of, revisions

T = TypeVar("T")

_PROVIDERS = {"gce": "Google Cloud", "aws": "AWS", "azure": "Azure", "ibm": "IBM Cloud", "oci": "Oracle Cloud"}
"""Scheme of a node's providerID → the provider's name; any other scheme is its own name (``baremetal``, ``kind``)."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """One cluster as a reader of the report knows it. Empty texts: not told, or not to be seen by this user."""

    name: str
    """What people call it."""
    context: str
    user: str
    """The kubeconfig's user; empty where it is called as the context or its cluster."""
    lab: bool
    provider: str
    kubernetes: str
    mesh: tuple[str, ...]
    """Revisions whose sidecars are injected, and the tags that stand for them."""


def places(fleet: Fleet) -> list[Place]:
    """Look at each cluster of ``fleet``; two requests and a small third."""
    return list(fleet.each(_place).values())


def _place(cluster: Cluster) -> Place:
    nothing: list[Object] = []
    nodes = _seen(lambda: cluster.connection.request("GET", "/api/v1/nodes", query={"limit": "1"})[1]["items"], nothing)
    scheme = str(nodes[0].get("spec", {}).get("providerID", "")).partition(":")[0] if nodes else ""
    return Place(
        name=cluster.name,
        context=cluster.context,
        user=cluster.user,
        lab=is_loopback(cluster.connection.server) and any(LAB_LABEL in labels_of(node) for node in nodes),
        provider=_PROVIDERS.get(scheme, scheme),
        kubernetes=_seen(cluster.version, ""),
        mesh=_seen(lambda: tuple(sorted(revisions(cluster.list("MutatingWebhookConfiguration")))), ()),
    )


def _seen(look: Callable[[], T], otherwise: T) -> T:
    try:
        return look()
    except (ClusterError, KeyError):
        return otherwise
