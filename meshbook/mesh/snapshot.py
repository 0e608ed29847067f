"""What the API servers say of a mesh at one time: objects by kind and namespace, and what may not be read.

``take`` reads, one list each and all at once; the rest of this package decides on a ``Snapshot``. A list that is
refused is remembered with the right that it needs, and asking for it raises ``NotSeen``: what nobody looked at is
neither right nor wrong. A kind that a cluster does not serve has no objects there.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd

from meshbook import tables
from meshbook.clusters import Cluster, Fleet, gather
from meshbook.errors import ClusterError, MeshbookError
from meshbook.objects import SYSTEM_NAMESPACE, Object, is_deleting, label_selector, labels_of, selects

NETWORK_LABEL = "topology.istio.io/network"
PEER_AUTHENTICATION = "security.istio.io/v1beta1/PeerAuthentication"
ROOT_CERTIFICATE = "istio-ca-root-cert"
"""ConfigMap in every namespace of the mesh, with the root that its proxies trust."""
REMOTE_SECRETS = "istio/multiCluster=true"
"""Label of the Secrets by which an istiod learns the endpoints of other clusters."""

_OF_NAMESPACE = ("ConfigMap", "Deployment", "EndpointSlice", "Pod", "Service")
_ANYWHERE = ("DestinationRule", "Gateway", "VirtualService", PEER_AUTHENTICATION)
"""Rules count for a service whatever namespace they are in; who may not list them all lists those of the namespaces."""
_OF_CLUSTER = ("MutatingWebhookConfiguration", "Namespace", "Node")
_LABELS = {"Secret": REMOTE_SECRETS}
_FIELDS = {"ConfigMap": f"metadata.name={ROOT_CERTIFICATE}"}

Key = tuple[str, str]
"""Kind and namespace; namespace "" for all of them."""


class NotSeen(MeshbookError):
    """Something was not looked at; ``need`` says what would be needed for that, and where."""

    def __init__(self, need: str) -> None:
        self.need = need
        super().__init__(f"not looked at: needs {need}")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The objects of one cluster that a mesh is made of. ``cluster`` is what people call it."""

    cluster: str
    api: Cluster = field(repr=False)
    """The cluster itself, for looks by exec."""
    lists: Mapping[Key, Sequence[Object]] = field(repr=False)  # with Secrets among them
    unseen: Mapping[Key, str] = field(default_factory=dict)
    """What each list that is missing would need."""

    def list(self, kind: str, namespace: str = "", *, labels: str = "") -> list[Object]:
        """Return the objects of ``namespace`` (of all that were read: "") with these ``labels``, or raise NotSeen."""
        keys = [key for key in self.lists if key[0] == kind and (not namespace or key[1] in ("", namespace))]
        if not keys:
            needs = [need for key, need in self.unseen.items() if key[0] == kind and key[1] in ("", namespace)]
            raise NotSeen(f"{needs[-1] if needs else f'a list of {kind} in {namespace}'} ({self.cluster})")
        fits = label_selector(labels)
        found = [one for key in keys for one in self.lists[key] if fits(labels_of(one))]
        return [one for one in found if not namespace or one["metadata"].get("namespace", namespace) == namespace]

    def find(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """Return one object, or None where it is not there; NotSeen where that cannot be known."""
        return next((one for one in self.list(kind, namespace) if one["metadata"]["name"] == name), None)

    def behind(self, service: Object | None) -> Sequence[Object]:
        """Return the pods that a Service selects, but for those that are going; none where there is no Service."""
        selector = ((service or {}).get("spec") or {}).get("selector")
        if not service or not selector:
            return []
        pods = self.list("Pod", service["metadata"]["namespace"])
        return [pod for pod in pods if selects({"matchLabels": selector}, labels_of(pod)) and not is_deleting(pod)]

    def kubectl(self, namespace: str = SYSTEM_NAMESPACE) -> str:
        """Return how a command for people begins; no ``namespace`` leaves it to the command."""
        return shlex.join(["kubectl", "--context", self.api.context, *(["-n", namespace] if namespace else [])])

    @property
    def network(self) -> str:
        """Return the network that the system namespace is labelled with; "" where it is with none."""
        namespace = self.find("Namespace", SYSTEM_NAMESPACE)
        return labels_of(namespace).get(NETWORK_LABEL, "") if namespace else ""


def take(fleet: Fleet, namespaces: Collection[str] = ()) -> dict[str, Snapshot]:
    """Read what each cluster has of the mesh in ``namespaces`` and in the system namespace; by context."""
    places = list(dict.fromkeys([*namespaces, SYSTEM_NAMESPACE]))
    return fleet.each(lambda cluster: _taken(cluster, places))


def _taken(cluster: Cluster, places: Sequence[str]) -> Snapshot:
    keys = [("Secret", SYSTEM_NAMESPACE), *((kind, "") for kind in (*_OF_CLUSTER, *_ANYWHERE))]
    keys += [(kind, place) for kind in _OF_NAMESPACE for place in places]
    read = _read_all(cluster, keys)
    refused = [kind for kind, place in keys if kind in _ANYWHERE and isinstance(read[kind, place], str)]
    read |= _read_all(cluster, [(kind, place) for kind in refused for place in places])
    return Snapshot(
        cluster=cluster.name,
        api=cluster,
        lists={key: found for key, found in read.items() if not isinstance(found, str)},
        unseen={key: found for key, found in read.items() if isinstance(found, str)},
    )


def _read_all(cluster: Cluster, keys: Collection[Key]) -> dict[Key, list[Object] | str]:
    work: dict[str, Callable[[], list[Object] | str]] = {" ".join(key): partial(_read, cluster, *key) for key in keys}
    found = gather(work)
    return {key: found[" ".join(key)] for key in keys}


def _read(cluster: Cluster, kind: str, namespace: str) -> list[Object] | str:
    """Return the objects, or what would be needed to read them."""
    try:
        return cluster.list(kind, namespace, labels=_LABELS.get(kind, ""), fields=_FIELDS.get(kind, ""))
    except ClusterError as error:
        if error.code == 404:
            return []
        if error.code in (401, 403):
            plural = f"{kind.rpartition('/')[2].lower()}s"
            return f"list {plural} in {namespace}" if namespace else f"list {plural}"
        return f"an answer to a list of {kind}: {error.message}"


def pods_by_name(fleet: Fleet, namespace: str) -> dict[str, str]:
    """Return which cluster each pod of ``namespace`` is in, by the pod's name: who an answer's ``instance`` is.

    Pods come and go: list before and after the requests, and join the two. A name that two clusters have is left out,
    since it tells nothing.
    """
    listed = fleet.each(lambda cluster: [str(pod["metadata"]["name"]) for pod in cluster.list("Pod", namespace)])
    counts = Counter(name for found in listed.values() for name in found)
    return {name: cluster for cluster, found in listed.items() for name in found if counts[name] == 1}


def looked_up(
    fleet: Fleet, namespace: str, ask: Callable[..., pd.DataFrame], /, *args: Any, **kwargs: Any
) -> pd.DataFrame:
    """Return the ANSWERS that ``ask`` gives, with the cluster of each: pods are listed before and after."""
    before = pods_by_name(fleet, namespace)
    answers = ask(*args, **kwargs)
    return answered_by(answers, before, pods_by_name(fleet, namespace))


def answered_by(answers: pd.DataFrame, *listed: Mapping[str, str]) -> pd.DataFrame:
    """Return ANSWERS with the cluster of each good answer: the one that has the pod of the answer's ``instance``.

    ``listed`` are ``pods_by_name`` from before and after the requests. A pod that is in none of them, or not always in
    the same cluster, is "unknown".
    """
    pods = {name: cluster for found in listed for name, cluster in found.items()}
    known = {
        name: cluster for name, cluster in pods.items() if all(one.get(name, cluster) == cluster for one in listed)
    }
    found = answers["instance"].map(known).astype("string").fillna(tables.UNKNOWN)
    return tables.conform(answers.assign(cluster=found.where(answers["error"] == "", "")), tables.ANSWERS)
