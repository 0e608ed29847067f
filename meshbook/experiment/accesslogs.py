"""Read the access logs of proxies as ``kubectl logs -c istio-proxy`` does: sidecars and gateways, of every cluster.

Best effort: a mesh without ``accessLogFile`` prints nothing, a pod that has gone has taken its log with it, and its
clock stamps the lines. What was not read is said, not left out. What the lines mean is in ``attribution``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from meshbook import tables
from meshbook.analysis import AccessLogs, parse_access_log
from meshbook.clusters import Cluster, Fleet, Object
from meshbook.errors import ClusterError

PROXY = "istio-proxy"

Rows = list[dict[str, object]]


def access_logs(
    fleet: Fleet, namespaces: Sequence[str], *, since: datetime, until: datetime | None = None
) -> AccessLogs:
    """Read what the proxies in ``namespaces`` of every cluster have logged between two moments."""
    found = fleet.each(lambda cluster: list(_of_cluster(cluster, namespaces, since)))
    parts = [part for some in found.values() for part in some]
    read = {name: some for name, some in parts if some is not None}
    rows = [row for some in read.values() for row in some]
    frame = tables.from_rows(rows, tables.ACCESS) if rows else tables.empty(tables.ACCESS)
    end = until or datetime.now(UTC)
    return AccessLogs(
        frame=frame[frame["time"].between(since, end)].sort_values("time", ignore_index=True),
        pods=len(read),
        silent=tuple(name for name, some in read.items() if not some),
        unread=tuple(name for name, some in parts if some is None),
    )


def _of_cluster(cluster: Cluster, namespaces: Sequence[str], since: datetime) -> Iterator[tuple[str, Rows | None]]:
    """Yield what each proxy has logged, by its name; None where it could not be asked."""
    for namespace in namespaces:
        try:
            pods = cluster.list("Pod", namespace)
        except ClusterError:
            yield f"{cluster.name}/{namespace}", None
            continue
        for pod in pods:
            names = [str(container["name"]) for container in _containers(pod)]
            if PROXY in names:
                yield f"{cluster.name}/{namespace}/{pod['metadata']['name']}", _of_pod(cluster, pod, names, since)


def _containers(pod: Object) -> list[Object]:
    """Return all containers: a sidecar may be an init container that stays."""
    return [*(pod["spec"].get("initContainers") or []), *pod["spec"]["containers"]]


def _of_pod(cluster: Cluster, pod: Object, names: list[str], since: datetime) -> Rows | None:
    name, namespace = str(pod["metadata"]["name"]), str(pod["metadata"]["namespace"])
    try:
        text = cluster.logs(name, namespace, container=PROXY, since=since)
    except ClusterError:
        return None
    fixed = {"context": cluster.name, "pod": name, "role": "gateway" if names == [PROXY] else "sidecar"}
    return [fixed | asdict(entry) for entry in map(parse_access_log, text.splitlines()) if entry is not None]
