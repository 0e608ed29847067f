"""What a user must be allowed to do in every cluster, by stage: from the manifests that are applied, and the calls.

``preflight`` asks for it, ``meshbook rights`` prints the roles that suffice. What a cluster answers is in ``clusters``;
the rights of a watchdog, which only who asks for one needs, in ``outage``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from meshbook import manifests
from meshbook.errors import UsageError
from meshbook.objects import EXEC_RIGHTS, SYSTEM_NAMESPACE, Object
from meshbook.settings import FLEET, LOAD_BALANCER, OWN_ADDRESS, OWNER_LABEL, entry_kind

MANIFESTS = Path(__file__).parents[1] / "manifests"
STAGES = ("0", "1", "2", "3", "4", "99")
SAMPLE, GATEWAY, SYSTEM, EVERYWHERE = "sample", "gateway", "system", "everywhere"
"""Where a right is needed: in the namespace of the sample, of the ingress gateways, of the mesh, or cluster-wide."""

_APPLIED = {"1": {"connectivity": SAMPLE}, "2": {"gateway": GATEWAY, "routing": SAMPLE}, "4": {"scratch": SAMPLE}}
_BALANCERS = {"loadbalancer": GATEWAY}
_ENTRY = {FLEET: {"multicluster": GATEWAY}, LOAD_BALANCER: _BALANCERS, OWN_ADDRESS: {}}
"""Folders of manifests by stage, and what stage 2 applies besides. What 1 and 2 apply, and Services, 99 deletes."""
_CLUSTER_WIDE = (
    "get,list namespaces",
    "list nodes",
    "list mutatingwebhookconfigurations.admissionregistration.k8s.io",
    "list gateways.networking.istio.io,virtualservices.networking.istio.io,destinationrules.networking.istio.io",
    "list peerauthentications.security.istio.io,endpointslices.discovery.k8s.io",
)
_LISTS = "list configmaps,deployments.apps,pods,services"
_ASKS = (_LISTS, "get deployments.apps,pods,services", "get pods/log", EXEC_RIGHTS)
_RESTORES = (
    "get,list,patch deployments.apps,services",
    "get,patch deployments.apps/scale",
    "get,list,delete leases.coordination.k8s.io",
)
_GATEWAYS = (_LISTS, "get services", EXEC_RIGHTS)
_CALLS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "0": {SYSTEM: (_LISTS, "get configmaps", "list secrets", EXEC_RIGHTS)},
    "1": {EVERYWHERE: ("create,patch namespaces",), SAMPLE: _ASKS},
    "2": {EVERYWHERE: ("create,patch namespaces",), GATEWAY: _GATEWAYS, SAMPLE: _ASKS},
    "3": {
        SAMPLE: (
            *_ASKS,
            *_RESTORES,
            "create,patch leases.coordination.k8s.io",
            "list horizontalpodautoscalers.autoscaling,pods.metrics.k8s.io",
        ),
        GATEWAY: (*_GATEWAYS, "get pods/log"),
        SYSTEM: (_LISTS, "get pods/log"),
    },
    "4": {
        SAMPLE: ("delete pods", "get gateways.networking.istio.io"),
        SYSTEM: ("get,patch deployments.apps", "get,patch deployments.apps/scale"),
    },
    "99": {
        EVERYWHERE: ("delete namespaces",),
        SAMPLE: ("list pods", *_RESTORES),
        SYSTEM: ("list deployments.apps,services",),
    },
}
"""What the code asks for besides, ``verbs resources``; 4 needs what 3 does, and all what is read cluster-wide.

What a stage without 0 may not look at in the mesh's namespace, when it seeks a cause, is told, and decides nothing.
"""
_OF_FLEET = ("get,list multiclusteringresses.networking.gke.io", "list backendconfigs.cloud.google.com")
"""What 2, 3 and 4 look at in GATEWAY where a fleet's ingress is the way in."""


@dataclass(frozen=True, order=True, kw_only=True)
class Right:
    """One thing that a user may do; ``namespace`` empty: cluster-wide."""

    namespace: str
    resource: str
    """As ``kubectl auth can-i`` takes it: ``deployments.apps/scale``."""
    verb: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}" + (f" in {self.namespace}" if self.namespace else "")


def needed(
    stages: Iterable[str] = STAGES,
    *,
    namespace: str = "sample",
    gateway_namespace: str = "nifc-istio-gateway",
    entry: str = FLEET,
) -> list[Right]:
    """Return what ``stages`` need, with the repository's manifests, each right once and in order.

    ``entry`` says how requests from outside come in (``settings.entry_kind``).
    """
    stages = list(stages)
    if unknown := [stage for stage in stages if stage not in STAGES]:
        raise UsageError(f"there is no stage {', '.join(unknown)}", hint=f"one of {', '.join(STAGES)}")
    places = {SAMPLE: namespace, GATEWAY: gateway_namespace, SYSTEM: SYSTEM_NAMESPACE, EVERYWHERE: ""}
    found = {
        Right(namespace=places[place], resource=resource, verb=verb)
        for stage in stages
        for place, verb, resource in _of_stage(stage, entry_kind(entry))
    }
    everywhere = {(one.resource, one.verb) for one in found if not one.namespace}
    return sorted(one for one in found if not one.namespace or (one.resource, one.verb) not in everywhere)


def _of_stage(stage: str, kind: str) -> Iterator[tuple[str, str, str]]:
    if kind == FLEET and stage in ("2", "3", "4"):
        yield from ((GATEWAY, verb, resource) for word in _OF_FLEET for verb, resource in _read(word))
    for word in _CLUSTER_WIDE:
        yield from ((EVERYWHERE, verb, resource) for verb, resource in _read(word))
    for one in {"4": ("3", "4")}.get(stage, (stage,)):
        for place, words in _CALLS[one].items():
            yield from ((place, verb, resource) for word in words for verb, resource in _read(word))
    second = _APPLIED["2"] | _ENTRY[kind]
    applied = second if stage == "2" else _APPLIED.get(stage, {})
    if stage == "99":
        applied = _APPLIED["1"] | second | _BALANCERS
    verbs = ("get", "delete") if stage == "99" else ("get", "create", "patch", "delete") if stage == "4" else _APPLY
    for name, place in applied.items():
        for found in manifests.load(MANIFESTS / name):
            yield from ((place, verb, _resource(found)) for verb in verbs)
            if stage != "99":  # who makes a Role must have what it gives
                yield from ((place, verb, resource) for verb, resource in _given(found))


_APPLY = ("get", "create", "patch")


def _read(word: str) -> Iterator[tuple[str, str]]:
    verbs, resources = word.split()
    yield from ((verb, resource) for verb in verbs.split(",") for resource in resources.split(","))


def _resource(found: Object) -> str:
    group, kind = found["apiVersion"].rpartition("/")[0], found["kind"].lower()
    plural = f"{kind}es" if kind.endswith("ss") else f"{kind}s"
    return f"{plural}.{group}" if group else plural


def _given(found: Object) -> Iterator[tuple[str, str]]:
    for rule in found.get("rules") or []:
        for group in rule["apiGroups"]:
            yield from ((verb, f"{one}.{group}".rstrip(".")) for verb in rule["verbs"] for one in rule["resources"])


def roles(rights: Iterable[Right]) -> list[Object]:
    """Return the ClusterRole, and the Role of each namespace, that grant ``rights``."""
    by_place: dict[str, dict[tuple[str, ...], dict[str, list[str]]]] = {}
    for one in rights:
        full, _, subresource = one.resource.partition("/")
        plural, _, group = full.partition(".")
        rule = by_place.setdefault(one.namespace, {}).setdefault((group,), {})
        rule.setdefault(f"{plural}/{subresource}".rstrip("/"), []).append(one.verb)
    return [_role(place, groups) for place, groups in sorted(by_place.items())]


def namespaces(rights: Iterable[Right]) -> list[str]:
    """Return how to make the namespaces of ``rights`` that are not there, in comments of YAML.

    Not as objects to apply: one that is there is its owner's, and with meshbook's label it would be deleted.
    """
    names = sorted({one.namespace for one in rights} - {"", SYSTEM_NAMESPACE})
    mine = " ".join(f"{key}={value}" for key, value in OWNER_LABEL.items())
    made = [f"#   kubectl create namespace {name} && kubectl label namespace {name} {mine}" for name in names]
    return ["# Namespaces that are not there yet, so that 99_cleanup may delete them:", *made] if made else []


def _role(place: str, groups: Mapping[tuple[str, ...], Mapping[str, list[str]]]) -> Object:
    rules = [
        {"apiGroups": list(group), "resources": [resource], "verbs": verbs}
        for group, resources in groups.items()
        for resource, verbs in resources.items()
    ]
    metadata = {"name": "meshbook"} | ({"namespace": place} if place else {})
    kind = "Role" if place else "ClusterRole"
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata, "rules": rules}
