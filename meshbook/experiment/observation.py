"""What clusters show during an outage: endpoints and pods again and again, access logs, the load balancer's backends.

Seen only, and each with its limits; what it means is for ``analysis`` (``observations``, ``phases``, ``attribution``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime

from meshbook import analysis, tables
from meshbook.analysis import REACHABLE, UNREACHABLE, AccessLogs, Change, LoadBalancer, Observation, Subject
from meshbook.clusters import Cluster, Fleet, Object
from meshbook.errors import ClusterError, GatheredError, UsageError
from meshbook.objects import PROXY_CONTAINER, SERVICE_LABEL, containers_of, is_ready, selector_text

POLL_S = 0.2
"""Seconds between two lists of the same kind: so exactly is known when something changed."""
SILENCE_S = 1.0
"""Seconds after which a cluster that does not answer is called unreachable."""
GATEWAYS = "istio=ingressgateway"

Rows = list[dict[str, object]]
Watched = tuple[Subject, tuple[str, str, str], Callable[[Iterable[Object]], tuple[str, ...]]]
"""One subject of one cluster: what to list (kind, namespace, labels), and how to read it."""


class Observer:
    """What happens to the endpoints and pods of one Service in every cluster's API server. A context manager.

    Each cluster has been seen once when it is made: who may not look, or finds no selector, is told at once. From then
    on a thread for each cluster lists again and again. ``changes`` may be read at any time.
    """

    def __init__(self, fleet: Fleet, service: str, namespace: str) -> None:
        self._observations: list[Observation] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        watched = fleet.each(lambda cluster: _watched(cluster, service, namespace))
        fleet.each(lambda cluster: self._look(cluster, watched[cluster.name]))
        self._threads = [
            threading.Thread(target=self._observe, args=(cluster, watched[cluster.name]), daemon=True)
            for cluster in fleet
        ]
        for thread in self._threads:
            thread.start()

    @property
    def changes(self) -> list[Change]:
        """The changes that have been seen so far, each between two times."""
        with self._lock:
            return analysis.changes(list(self._observations))

    def __enter__(self) -> Observer:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(2 * SILENCE_S + 1)

    def _observe(self, cluster: Cluster, watched: Sequence[Watched]) -> None:
        while not self._stopped.wait(POLL_S):
            try:
                self._look(cluster, watched)
            except ClusterError:  # it answered, but not with a list: there is nothing to be seen in that
                continue

    def _look(self, cluster: Cluster, watched: Sequence[Watched]) -> None:
        for subject, scope, read in watched:
            asked = datetime.now(UTC)
            try:
                found = cluster.list_once(*scope, silence_s=SILENCE_S)
            except ClusterError as error:
                if error.code:
                    raise
                self._add(cluster, "api", UNREACHABLE, asked)
                return
            self._add(cluster, subject, read(found), asked)
            self._add(cluster, "api", REACHABLE, asked)

    def _add(self, cluster: Cluster, subject: Subject, state: tuple[str, ...], asked: datetime) -> None:
        now = datetime.now(UTC)
        seen = Observation(context=cluster.name, subject=subject, state=state, asked=asked, answered=now)
        with self._lock:
            self._observations.append(seen)


def _watched(cluster: Cluster, service: str, namespace: str) -> list[Watched]:
    """Return what to list: the Service's endpoint slices, and the pods behind its selector."""
    selector = cluster.get("Service", service, namespace)["spec"].get("selector")
    if not selector:
        raise UsageError(f"{cluster.name}: Service {service} in {namespace} has no selector, so its pods are unknown")
    slices = ("EndpointSlice", namespace, f"{SERVICE_LABEL}={service}")
    pods = ("Pod", namespace, selector_text({"matchLabels": selector}))
    return [("endpoints", slices, analysis.endpoint_names), ("pods", pods, analysis.pod_states)]


def access_logs(fleet: Fleet, namespaces: Sequence[str], since: datetime, until: datetime) -> AccessLogs:
    """Read what the proxies in ``namespaces`` of every cluster have logged between two moments.

    Best effort: a mesh without ``accessLogFile`` prints nothing, a pod that has gone has taken its log with it, and
    lines are stamped by its clock. What was not read is said, not left out.
    """
    parts = [part for some in fleet.each(lambda one: list(_proxies(one, namespaces, since))).values() for part in some]
    read = {name: rows for name, rows in parts if rows is not None}
    frame = tables.from_rows([row for rows in read.values() for row in rows], tables.ACCESS)
    return AccessLogs(
        frame=frame[frame["time"].between(since, until)].sort_values("time", ignore_index=True),
        pods=len(read),
        unread=tuple(name for name, rows in parts if rows is None),
    )


def _proxies(cluster: Cluster, namespaces: Sequence[str], since: datetime) -> Iterator[tuple[str, Rows | None]]:
    """Yield what each proxy has logged, by its name; None where it could not be asked."""
    for namespace in namespaces:
        try:
            pods = cluster.list("Pod", namespace)
        except ClusterError:
            yield f"{cluster.name}/{namespace}", None
            continue
        for pod in pods:
            names = [container["name"] for container in containers_of(pod)]
            if PROXY_CONTAINER in names:
                role = "gateway" if names == [PROXY_CONTAINER] else "sidecar"
                yield f"{cluster.name}/{namespace}/{pod['metadata']['name']}", _lines(cluster, pod, role, since)


def _lines(cluster: Cluster, pod: Object, role: str, since: datetime) -> Rows | None:
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    try:
        text = cluster.logs(name, namespace, container=PROXY_CONTAINER, since=since)
    except ClusterError:
        return None
    entries = filter(None, map(analysis.parse_access_log, text.splitlines()))
    return [{"context": cluster.name, "pod": name, "role": role, **entry} for entry in entries]


def health_check(config: Cluster, namespace: str) -> str:
    """Return what the load balancer asks, ``port 15021, /healthz/ready``; empty where no BackendConfig says so.

    To be read before an outage: the config cluster may be the one that falls silent.
    """
    try:
        found = config.list_once("BackendConfig", namespace, silence_s=SILENCE_S)
    except ClusterError:
        return ""
    checks = [one["spec"].get("healthCheck") or {} for one in found]
    return ", ".join(f"port {check.get('port', '?')}, {check.get('requestPath', '/')}" for check in checks)


def load_balancer(fleet: Fleet, namespace: str, path: str, checked: str) -> LoadBalancer:
    """Look once at the pods behind the way from outside, the ingress gateways, in every cluster that answers at once.

    Its own view of its backends is not in the Kubernetes API, so it is not claimed to be known.
    """

    def ready(cluster: Cluster) -> tuple[int, int]:
        pods = cluster.list_once("Pod", namespace, GATEWAYS, silence_s=SILENCE_S)
        return sum(map(is_ready, pods)), len(pods)

    try:
        gateways = fleet.each(ready)
    except GatheredError as error:
        gateways = {name: found for name, found in error.results.items() if isinstance(found, tuple)}
    unreachable = tuple(cluster.name for cluster in fleet if cluster.name not in gateways)
    return LoadBalancer(path=path, health_check=checked, gateways=gateways, unreachable=unreachable)
