"""What roles allow: from bindings and roles to grants, and whether a grant permits an action. Pure, over the store.

Only service accounts are judged by it; what the lab's own users may do stands with their tokens (``access``). Roles are
taken as they are written: none is built in, and ``aggregationRule`` gathers nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from meshbook.lab.apiserver.kinds import Json
from meshbook.lab.apiserver.store import Store

GROUP = "rbac.authorization.k8s.io"


@dataclass(frozen=True, kw_only=True)
class Action:
    """What someone wants to do to which resource."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Grant:
    """One rule of a role, as it is bound to somebody."""

    rule: Json
    namespace: str = ""
    """Where it holds; empty for everywhere."""

    def permits(self, action: Action) -> bool:
        names = self.rule.get("resourceNames")
        return (
            self.namespace in ("", action.namespace)
            and _has(self.rule, "verbs", action.verb)
            and _has(self.rule, "apiGroups", action.group)
            and _names_resource(self.rule.get("resources", ()), action)
            and (not names or action.name in names)
        )


def _has(rule: Json, field: str, value: str) -> bool:
    return bool({value, "*"} & set(rule.get(field, ())))


def _names_resource(resources: list[str], action: Action) -> bool:
    """Resources are named with their subresource: who may change Deployments may not scale them."""
    if "*" in resources:
        return True
    if not action.subresource:
        return action.resource in resources
    return bool({f"{action.resource}/{action.subresource}", f"*/{action.subresource}"} & set(resources))


def grants_of(store: Store, name: str, groups: tuple[str, ...]) -> tuple[Grant, ...]:
    """Return all that is bound to a user of this name or to one of these groups."""
    return tuple(
        Grant(rule=rule, namespace=namespace)
        for plural in ("clusterrolebindings", "rolebindings")
        for binding in (entry.object for entry in store.list(f"{GROUP}/{plural}"))
        for namespace in (binding["metadata"].get("namespace", ""),)
        if any(_means(subject, name, groups, namespace) for subject in binding.get("subjects", ()))
        for rule in _rules(store, binding["roleRef"], namespace)
    )


def _means(subject: Json, name: str, groups: tuple[str, ...], namespace: str) -> bool:
    if subject["kind"] == "ServiceAccount":
        return account_name(subject.get("namespace") or namespace, subject["name"]) == name
    return subject["name"] in (groups if subject["kind"] == "Group" else (name,))


def account_name(namespace: str, account: str) -> str:
    """Return the user name of a service account."""
    return f"system:serviceaccount:{namespace}:{account}"


def _rules(store: Store, reference: Json, namespace: str) -> Iterator[Json]:
    plural, where = ("roles", namespace) if reference["kind"] == "Role" else ("clusterroles", "")
    role = store.get(f"{GROUP}/{plural}", where, reference["name"])
    yield from role.object.get("rules", ()) if role else ()
