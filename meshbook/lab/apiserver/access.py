"""Who asks, and may they: bearer tokens, what their users may do, and the reviews by which a client asks that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from meshbook.lab.apiserver.failures import Failure, unauthorized
from meshbook.lab.apiserver.kinds import Json
from meshbook.lab.apiserver.rbac import Action, Grant

READING = ("get", "list", "watch")
SECRETIVE = ("exec", "attach", "portforward", "proxy")
"""Subresources that a reader may not GET: they act."""


@dataclass(frozen=True, kw_only=True)
class User:
    """Someone with a token. ``read_only`` users may get, list and watch, as the role ``view`` allows."""

    name: str
    groups: tuple[str, ...] = ("system:masters", "system:authenticated")
    read_only: bool = False
    grants: tuple[Grant, ...] | None = None
    """What roles give to a service account, which may do nothing else; None for the lab's own users."""


def authenticate(authorization: str, tokens: Mapping[str, User], account_of: Callable[[str], User | None]) -> User:
    """Return the user of an ``Authorization`` header; 401 without a token that is known or an account's."""
    scheme, _, token = authorization.partition(" ")
    token = token.strip() if scheme.lower() == "bearer" else ""
    user = tokens.get(token) or account_of(token)
    if user is None:
        raise unauthorized()
    return user


def allows(user: User, action: Action) -> bool:
    if action.resource.startswith("selfsubject"):
        return True
    if user.grants is not None:
        return any(grant.permits(action) for grant in user.grants)
    if not user.read_only:
        return True
    return action.verb in READING and action.resource != "secrets" and action.subresource not in SECRETIVE


def demand(user: User, action: Action) -> None:
    """Refuse with 403 what ``user`` may not do."""
    if not allows(user, action):
        raise _forbidden(user, action)


def refuse_impersonation(user: User, headers: Mapping[str, str]) -> None:
    """Refuse to act as somebody else, which nobody may here, rather than act as ``user``."""
    if "Impersonate-User" in headers:
        raise _forbidden(user, Action(verb="impersonate", resource="users", name=headers["Impersonate-User"]))


def _forbidden(user: User, action: Action) -> Failure:
    plural = f"{action.resource}/{action.subresource}" if action.subresource else action.resource
    where = f'in the namespace "{action.namespace}"' if action.namespace else "at the cluster scope"
    qualified = f"{action.resource}.{action.group}" if action.group else action.resource
    shown = f' "{action.name}"' if action.name else ""
    message = (
        f'{qualified}{shown} is forbidden: User "{user.name}" cannot {action.verb} resource "{plural}" '
        f'in API group "{action.group}" {where}'
    )
    details = {"name": action.name, "group": action.group, "kind": action.resource}
    return Failure(403, "Forbidden", message, {key: value for key, value in details.items() if value})


def access_review(user: User, body: Json) -> Json:
    """Answer a SelfSubjectAccessReview."""
    asked: dict[str, Any] = body.get("spec", {}).get("resourceAttributes") or {}
    names = ("verb", "group", "resource", "subresource", "namespace", "name")
    allowed = allows(user, Action(**{name: asked.get(name, "") for name in ("verb", *names)}))
    if not asked:
        path = body.get("spec", {}).get("nonResourceAttributes", {})
        allowed = not _is_bounded(user) or path.get("verb") in READING
    why = {"reason": "the user may only read"} if user.read_only and not allowed else {}
    status: Json = {"allowed": allowed, **why}
    return {**body, "metadata": {}, "status": status}


def _is_bounded(user: User) -> bool:
    return user.read_only or user.grants is not None


def rules_review(user: User, body: Json) -> Json:
    """Answer a SelfSubjectRulesReview (``kubectl auth can-i --list``), as far as rules can say it."""
    rules = {"resourceRules": _resource_rules(user, body.get("spec", {}).get("namespace", ""))}
    paths = {"nonResourceRules": [{"verbs": ["get"] if _is_bounded(user) else ["*"], "nonResourceURLs": ["*"]}]}
    exception = {"evaluationError": "secrets may not be read"} if user.read_only else {}
    return {**body, "metadata": {}, "status": {**rules, **paths, "incomplete": user.read_only, **exception}}


def _resource_rules(user: User, namespace: str) -> list[Json]:
    if user.grants is not None:
        return [grant.rule for grant in user.grants if grant.namespace in ("", namespace)]
    return [{"verbs": list(READING) if user.read_only else ["*"], "apiGroups": ["*"], "resources": ["*"]}]


def subject_review(user: User, body: Json) -> Json:
    """Answer a SelfSubjectReview (``kubectl auth whoami``)."""
    return {**body, "metadata": {}, "status": {"userInfo": {"username": user.name, "groups": list(user.groups)}}}
