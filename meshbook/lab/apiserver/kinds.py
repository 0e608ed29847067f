"""The table of served kinds: names, versions, subresources, field selectors. Data only.

A built-in kind that the lab's controllers do not act on is not in the table, so that nobody can create an object that
does nothing. How an object of a kind looks inside is in ``shapes``; how it is printed, in ``tables``. ``CUSTOM_KINDS``
are those that a new cluster has a CustomResourceDefinition for; which ones it serves, its definitions say.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
EVERYWHERE = ("metadata.name", "metadata.namespace")


@dataclass(frozen=True)
class Printed:
    """A printed column of a custom kind."""

    name: str
    path: str
    """In the JSONPath of definitions: ``.spec.hosts``."""
    type: str = "string"
    wide: bool = False


_AGE = Printed("Age", ".metadata.creationTimestamp", "date")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One served kind. The first of ``versions`` is the preferred one, and the one that is stored."""

    group: str
    versions: tuple[str, ...] = ("v1",)
    kind: str
    plural: str
    short: tuple[str, ...] = ()
    namespaced: bool = True
    subresources: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    """Paths that a field selector may name, besides those of every kind."""
    custom: bool = False
    """Defined by a CustomResourceDefinition on a real cluster: no strategic merge, stricter updates."""
    counts_generations: bool = False
    categories: tuple[str, ...] = ()
    shape: str = "Object"
    """Name in ``shapes``."""
    printed: tuple[Printed, ...] = ()
    """Columns of a custom kind besides its name; those of built-in kinds are in ``columns``."""
    bucket: str = field(init=False)
    """Key of the kind in the store."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "bucket", f"{self.group}/{self.plural}")

    @property
    def singular(self) -> str:
        return self.kind.lower()

    @property
    def qualified(self) -> str:
        """Name in messages: ``pods``, ``deployments.apps``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        """``apiVersion`` of stored objects."""
        return self.version_string(self.versions[0])

    def version_string(self, version: str) -> str:
        return f"{self.group}/{version}" if self.group else version

    @property
    def verbs(self) -> tuple[str, ...]:
        return tuple(v for v in ALL_VERBS if v != "deletecollection" or self.plural != "namespaces")

    @property
    def selectable(self) -> tuple[str, ...]:
        return EVERYWHERE + self.fields


def _core(kind: str, plural: str, **more: Any) -> Kind:
    return Kind(group="", kind=kind, plural=plural, **({"shape": kind} | more))


def _rbac(kind: str, plural: str, *, namespaced: bool = True) -> Kind:
    return Kind(group="rbac.authorization.k8s.io", kind=kind, plural=plural, namespaced=namespaced, shape=kind)


def _istio(kind: str, plural: str, short: str, *printed: Printed) -> Kind:
    return Kind(
        group="networking.istio.io",
        versions=("v1beta1", "v1", "v1alpha3"),
        kind=kind,
        plural=plural,
        short=(short,),
        subresources=("status",),
        custom=True,
        counts_generations=True,
        categories=("istio-io", "networking-istio-io"),
        printed=(*printed, _AGE),
    )


def _gke(kind: str, plural: str, short: str, *printed: Printed, group: str = "networking.gke.io") -> Kind:
    names: Json = {"group": group, "kind": kind, "plural": plural, "short": (short,), "subresources": ("status",)}
    return Kind(**names, custom=True, counts_generations=True, printed=(*printed, _AGE))


_ALL = ("all",)
_POD_FIELDS = ("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName")
_EVENT_FIELDS = tuple(f"involvedObject.{n}" for n in ("kind", "namespace", "name", "uid", "apiVersion", "fieldPath"))

KINDS: tuple[Kind, ...] = (
    _core("ConfigMap", "configmaps", short=("cm",)),
    _core("Endpoints", "endpoints", short=("ep",)),
    _core("Event", "events", short=("ev",), fields=(*_EVENT_FIELDS, "reason", "reportingComponent", "source", "type")),
    _core(
        "Namespace",
        "namespaces",
        short=("ns",),
        namespaced=False,
        subresources=("finalize", "status"),
        fields=("status.phase",),
    ),
    _core("Node", "nodes", short=("no",), namespaced=False, subresources=("status",), fields=("spec.unschedulable",)),
    _core(
        "Pod",
        "pods",
        short=("po",),
        subresources=("binding", "exec", "log", "status"),
        fields=(*_POD_FIELDS, "status.phase", "status.podIP"),
        categories=_ALL,
    ),
    _core("Secret", "secrets", fields=("type",)),
    _core("ServiceAccount", "serviceaccounts", short=("sa",), subresources=("token",)),
    _core(
        "Service",
        "services",
        short=("svc",),
        subresources=("status",),
        fields=("spec.clusterIP", "spec.type"),
        categories=_ALL,
    ),
    Kind(
        group="apps",
        kind="Deployment",
        plural="deployments",
        short=("deploy",),
        subresources=("scale", "status"),
        counts_generations=True,
        categories=_ALL,
        shape="Deployment",
    ),
    Kind(
        group="apps",
        kind="ReplicaSet",
        plural="replicasets",
        short=("rs",),
        subresources=("scale", "status"),
        fields=("status.replicas",),
        counts_generations=True,
        categories=_ALL,
        shape="ReplicaSet",
    ),
    Kind(
        group="batch",
        kind="Job",
        plural="jobs",
        subresources=("status",),
        counts_generations=True,
        categories=_ALL,
        shape="Job",
    ),
    Kind(
        group="autoscaling",
        versions=("v2",),
        kind="HorizontalPodAutoscaler",
        plural="horizontalpodautoscalers",
        short=("hpa",),
        subresources=("status",),
        categories=_ALL,
        shape="HorizontalPodAutoscaler",
    ),
    Kind(
        group="policy",
        kind="PodDisruptionBudget",
        plural="poddisruptionbudgets",
        short=("pdb",),
        subresources=("status",),
        counts_generations=True,
        shape="PodDisruptionBudget",
    ),
    Kind(
        group="discovery.k8s.io",
        kind="EndpointSlice",
        plural="endpointslices",
        counts_generations=True,
        shape="EndpointSlice",
    ),
    Kind(
        group="admissionregistration.k8s.io",
        kind="MutatingWebhookConfiguration",
        plural="mutatingwebhookconfigurations",
        namespaced=False,
        counts_generations=True,
        categories=("api-extensions",),
        shape="MutatingWebhookConfiguration",
    ),
    _rbac("ClusterRole", "clusterroles", namespaced=False),
    _rbac("ClusterRoleBinding", "clusterrolebindings", namespaced=False),
    _rbac("Role", "roles"),
    _rbac("RoleBinding", "rolebindings"),
    Kind(
        group="apiextensions.k8s.io",
        kind="CustomResourceDefinition",
        plural="customresourcedefinitions",
        short=("crd", "crds"),
        namespaced=False,
        subresources=("status",),
        counts_generations=True,
        categories=("api-extensions",),
        shape="CustomResourceDefinition",
    ),
    Kind(group="coordination.k8s.io", kind="Lease", plural="leases", shape="Lease"),
)

CUSTOM_KINDS: tuple[Kind, ...] = (
    _istio("DestinationRule", "destinationrules", "dr", Printed("Host", ".spec.host")),
    _istio("Gateway", "gateways", "gw"),
    _istio(
        "VirtualService",
        "virtualservices",
        "vs",
        Printed("Gateways", ".spec.gateways"),
        Printed("Hosts", ".spec.hosts"),
    ),
    _gke("MultiClusterIngress", "multiclusteringresses", "mci", Printed("VIP", ".status.VIP")),
    _gke("MultiClusterService", "multiclusterservices", "mcs"),
    _gke("BackendConfig", "backendconfigs", "bc", group="cloud.google.com"),
)


class KindTable:
    """The kinds that one server serves: the built-in ones, and those that ``define`` was last given."""

    def __init__(self) -> None:
        self._by_bucket = {kind.bucket: kind for kind in KINDS}

    def define(self, kinds: Iterable[Kind]) -> list[Kind]:
        """Serve just these custom kinds; return those that are served no longer."""
        before = [kind for kind in self if kind.custom]
        self._by_bucket = {kind.bucket: kind for kind in (*kinds, *KINDS)}
        return [kind for kind in before if kind.bucket not in self._by_bucket]

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._by_bucket.values())

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        kind = self._by_bucket.get(f"{group}/{plural}")
        return kind if kind and version in kind.versions else None

    def named(self, group: str, plural: str) -> Kind:
        return self._by_bucket[f"{group}/{plural}"]

    def in_group_version(self, group: str, version: str) -> list[Kind]:
        return [kind for kind in self if kind.group == group and version in kind.versions]

    def groups(self) -> dict[str, list[str]]:
        """Return group → versions, preferred first, without the core group."""
        found: dict[str, list[str]] = {}
        for kind in self:
            if kind.group:
                versions = found.setdefault(kind.group, [])
                versions += [version for version in kind.versions if version not in versions]
        return found
