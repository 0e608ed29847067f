"""PeerAuthentications: whether a workload takes mutual TLS, plain text, or both. Pure.

Each istiod reads those of its own cluster, and follows them for the pods of all: as in Istio, one that disables mutual
TLS cuts the way over the gateways in both directions, since nothing else is passed on there. Understood are
``selector`` and ``mtls.mode``. Plain text goes to a program's own port, which no proxy guards: STRICT keeps nobody out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from meshbook.lab.istiod.registry import MeshService, carries
from meshbook.objects import SYSTEM_NAMESPACE, Object

DISABLE, PERMISSIVE, UNSET = "DISABLE", "PERMISSIVE", "UNSET"


def mode(namespace: str, labels: Mapping[str, str], rules: Sequence[Object]) -> str:
    """Return the mode of a workload: a rule for its labels counts before its namespace's, that before the mesh's."""
    found: list[tuple[int, str, str]] = []
    for rule in rules:
        home, spec = rule["metadata"]["namespace"], rule.get("spec") or {}
        selector = (spec.get("selector") or {}).get("matchLabels")
        said = (spec.get("mtls") or {}).get("mode", UNSET)
        if said == UNSET or home not in (namespace, SYSTEM_NAMESPACE):
            continue
        if selector and (home != namespace or not carries(labels, selector)):
            continue
        found.append((0 if selector else 1 if home == namespace else 2, rule["metadata"]["name"], said))
    return min(found, default=(3, "", PERMISSIVE))[2]


def authenticated(service: MeshService, rules: Sequence[Object]) -> MeshService:
    """Return the service with endpoints in plain text where mutual TLS is disabled."""
    instances = {
        port: tuple(
            replace(one, mtls=one.mtls and mode(service.namespace, one.labels, rules) != DISABLE) for one in members
        )
        for port, members in service.instances.items()
    }
    return replace(service, instances=instances)


def unsupported(rule: Object) -> list[str]:
    """Return what this PeerAuthentication asks for that is not done here."""
    return ["portLevelMtls"] if (rule.get("spec") or {}).get("portLevelMtls") else []
