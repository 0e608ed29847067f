"""The served kinds: names, versions, subresources, field selectors. Data only.

A kind that neither the lab acts on nor the runbook applies is not served, so that nobody can create an object that does
nothing: no Jobs, no definitions of further kinds. Istio's and Google's kinds are served from the start, as on a cluster
that has their CustomResourceDefinitions. How an object looks inside is in ``schema``; how it is printed, in
``printers``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from meshbook.objects import Object

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
RBAC = "rbac.authorization.k8s.io"
EVERYWHERE = ("metadata.name", "metadata.namespace")


@dataclass(frozen=True)
class PrinterColumn:
    """A printed column of a custom kind, as ``additionalPrinterColumns`` of its definition say it."""

    name: str
    path: str
    type: str = "string"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One served kind. The first of ``versions`` is the preferred one, and the one that is stored."""

    kind: str
    plural: str
    group: str = ""
    versions: tuple[str, ...] = ("v1",)
    short: tuple[str, ...] = ()
    namespaced: bool = True
    subresources: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    """Paths that a field selector may name, besides those of every kind."""
    custom: bool = False
    """Defined by a CustomResourceDefinition on a real cluster: no strategic merge, stricter updates."""
    generations: bool = False
    """Whether ``metadata.generation`` counts the changes of the spec."""
    categories: tuple[str, ...] = ()
    columns: tuple[PrinterColumn, ...] = ()
    """Of a custom kind, besides its name."""
    bucket: str = field(init=False)
    """Key of the kind in the store."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "bucket", f"{self.group}/{self.plural}")

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
        return tuple(verb for verb in VERBS if verb != "deletecollection" or self.kind != "Namespace")


_ALL = ("all",)
_STATUS, _SCALE = ("status",), ("scale", "status")
_POD_FIELDS = tuple(f"spec.{name}" for name in ("nodeName", "restartPolicy", "schedulerName", "serviceAccountName"))
_EVENT_FIELDS = tuple(f"involvedObject.{n}" for n in ("kind", "namespace", "name", "uid", "apiVersion", "fieldPath"))


def _built_in(kind: str, short: str, **more: Any) -> Kind:
    names = {"kind": kind, "plural": f"{kind.lower()}s", "short": (short,) if short else ()}
    return Kind(**(names | more))


def _istio(kind: str, short: str, *columns: PrinterColumn, area: str = "networking") -> Kind:
    return Kind(
        group=f"{area}.istio.io",
        versions=("v1beta1", "v1", "v1alpha3") if area == "networking" else ("v1beta1", "v1"),
        kind=kind,
        plural=f"{kind.lower()}s",
        short=(short,),
        subresources=_STATUS,
        custom=True,
        generations=True,
        categories=("istio-io", f"{area}-istio-io"),
        columns=(*columns, _AGE),
    )


def _google(kind: str, plural: str, short: str, *columns: PrinterColumn, group: str = "networking.gke.io") -> Kind:
    names: Object = {"group": group, "kind": kind, "plural": plural, "short": (short,), "columns": (*columns, _AGE)}
    return Kind(**names, subresources=_STATUS, custom=True, generations=True)


_AGE = PrinterColumn("Age", ".metadata.creationTimestamp", "date")
CUSTOM_KINDS: tuple[Kind, ...] = (
    _istio("DestinationRule", "dr", PrinterColumn("Host", ".spec.host")),
    _istio("Gateway", "gw"),
    _istio("PeerAuthentication", "pa", PrinterColumn("Mode", ".spec.mtls.mode"), area="security"),
    _istio("VirtualService", "vs", PrinterColumn("Gateways", ".spec.gateways"), PrinterColumn("Hosts", ".spec.hosts")),
    _google("MultiClusterIngress", "multiclusteringresses", "mci", PrinterColumn("VIP", ".status.VIP")),
    _google("MultiClusterService", "multiclusterservices", "mcs"),
    _google("BackendConfig", "backendconfigs", "bc", group="cloud.google.com"),
)
KINDS: tuple[Kind, ...] = (
    _built_in("ConfigMap", "cm"),
    _built_in("Endpoints", "ep", plural="endpoints"),
    _built_in("Event", "ev", fields=(*_EVENT_FIELDS, "reason", "reportingComponent", "source", "type")),
    _built_in("Namespace", "ns", namespaced=False, subresources=("finalize", "status"), fields=("status.phase",)),
    _built_in("Node", "no", namespaced=False, subresources=_STATUS, fields=("spec.unschedulable",)),
    _built_in(
        "Pod",
        "po",
        subresources=("binding", "exec", "log", "status"),
        fields=(*_POD_FIELDS, "status.phase", "status.podIP"),
        generations=True,
        categories=_ALL,
    ),
    _built_in("Secret", "", fields=("type",)),
    _built_in("ServiceAccount", "sa"),
    _built_in("Service", "svc", subresources=_STATUS, fields=("spec.clusterIP", "spec.type"), categories=_ALL),
    _built_in("Deployment", "deploy", group="apps", subresources=_SCALE, generations=True, categories=_ALL),
    _built_in(
        "ReplicaSet",
        "rs",
        group="apps",
        subresources=_SCALE,
        fields=("status.replicas",),
        generations=True,
        categories=_ALL,
    ),
    _built_in(
        "HorizontalPodAutoscaler", "hpa", group="autoscaling", versions=("v2",), subresources=_STATUS, categories=_ALL
    ),
    _built_in("PodDisruptionBudget", "pdb", group="policy", subresources=_STATUS, generations=True),
    _built_in("EndpointSlice", "", group="discovery.k8s.io", generations=True),
    _built_in(
        "MutatingWebhookConfiguration",
        "",
        group="admissionregistration.k8s.io",
        namespaced=False,
        generations=True,
        categories=("api-extensions",),
    ),
    _built_in("Lease", "", group="coordination.k8s.io"),
    _built_in("Role", "", group=RBAC),
    _built_in("RoleBinding", "", group=RBAC),
    _built_in("ClusterRole", "", group=RBAC, namespaced=False),
    _built_in("ClusterRoleBinding", "", group=RBAC, namespaced=False),
    *CUSTOM_KINDS,
)
_BY_BUCKET = {kind.bucket: kind for kind in KINDS}


def find(group: str, version: str, plural: str) -> Kind | None:
    kind = _BY_BUCKET.get(f"{group}/{plural}")
    return kind if kind and version in kind.versions else None


def kind_named(name: str) -> Kind:
    return next(kind for kind in KINDS if kind.kind == name)


def kinds_of(group: str, version: str) -> list[Kind]:
    return [kind for kind in KINDS if kind.group == group and version in kind.versions]


def groups() -> dict[str, tuple[str, ...]]:
    """Return group → versions, preferred first, without the core group."""
    return {kind.group: kind.versions for kind in KINDS if kind.group}
