"""What share of a source's answers each cluster should give, by what the API servers say of the mesh.

``routing`` decides; here the clusters are read, or the user's own number is taken.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from urllib.parse import urlsplit

from meshbook.analysis import ExpectedShares
from meshbook.clusters import Fleet
from meshbook.errors import UsageError
from meshbook.mesh import routing
from meshbook.mesh.ingress import Entry
from meshbook.mesh.routing import Asked
from meshbook.mesh.snapshot import NotSeen, Snapshot, take
from meshbook.objects import labels_of, selects
from meshbook.settings import AUTO


def expected_share(
    fleet: Fleet, url: str, *, namespace: str = "sample", gateway_namespace: str = "", share: str = AUTO
) -> dict[str, ExpectedShares]:
    """Return by source what share of the answers to ``url`` each cluster should give, as the mesh is configured.

    Sources are the contexts: the clients in ``namespace``, or with ``gateway_namespace`` the ingress gateways there,
    which route by their VirtualService. Shares that cannot be told are empty, and say why. ``share`` is ``auto``, or
    the user's own number for the last of the clusters, which counts before the mesh's.
    """
    home = gateway_namespace or namespace
    if share != AUTO:
        names = [cluster.name for cluster in fleet]
        return dict.fromkeys(names, _chosen(share, names))
    views = take(fleet, {namespace, home})
    found = {}
    for name, view in views.items():
        try:
            asked = at_gateway(view, url, home) if gateway_namespace else Asked.of(url, namespace)
            found[name] = routing.expected(asked, view, list(views.values()))
        except NotSeen as error:
            found[name] = ExpectedShares(shares={}, why=error.message)
    return found


def expected_by(entries: Collection[Entry], at_gateways: Mapping[str, ExpectedShares]) -> dict[str, ExpectedShares]:
    """Return the expected shares of who asks by each entry: as at the ingress gateways that it may lead to.

    Where these differ, the share is not known. ``at_gateways`` is ``expected_share`` of the gateways.
    """
    found = {}
    for entry in entries:
        first, *others = (at_gateways[name] for name in entry.clusters)
        differ = any(one.shares != first.shares for one in others)
        why = (
            f"the gateways of {' and '.join(entry.clusters)} share out differently, and which of them answer is unknown"
        )
        found[entry.source] = ExpectedShares(shares={}, why=why) if differ else first
    return found


def at_gateway(view: Snapshot, url: str, namespace: str) -> Asked:
    """Return what an ingress gateway in ``namespace`` is asked by ``url``: by the Gateway that its pods carry."""
    for labels in map(labels_of, view.list("Pod", namespace)):
        for one in view.list("Gateway"):
            if selects({"matchLabels": one["spec"].get("selector") or {"": ""}}, labels):
                path = urlsplit(url).path or "/"
                return Asked(
                    service="",
                    namespace=namespace,
                    path=path,
                    client_namespace=namespace,
                    client_labels=labels,
                    gateway=routing.title(one),
                )
    raise NotSeen(f"an ingress gateway in {namespace} that a Gateway selects ({view.cluster})")


def _chosen(share: str, clusters: Sequence[str]) -> ExpectedShares:
    """Return a user's own number for the last of the clusters; the others share the rest evenly."""
    try:
        number = float(share)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise UsageError(f"share is {share!r}", hint="auto, or a number from 0 to 1")
    *others, last = clusters
    return ExpectedShares(
        shares={**dict.fromkeys(others, (1 - number) / len(others)), last: number}, why="your own number"
    )
