"""Who asks, and may they: bearer tokens, users who may only read, and the reviews by which a client asks that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meshbook.lab.apiserver.failures import Failure, unauthorized
from meshbook.lab.apiserver.kinds import Json

READING = ("get", "list", "watch")
SECRETIVE = ("exec", "attach", "portforward", "proxy")
"""Subresources that a reader may not GET: they act."""


@dataclass(frozen=True, kw_only=True)
class User:
    """Someone with a token. ``read_only`` users may get, list and watch, as the role ``view`` allows."""

    name: str
    groups: tuple[str, ...] = ("system:masters", "system:authenticated")
    read_only: bool = False


@dataclass(frozen=True, kw_only=True)
class Action:
    """What someone wants to do to which resource."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""


def authenticate(authorization: str, tokens: Mapping[str, User]) -> User:
    """Return the user of an ``Authorization`` header; 401 without a known token."""
    scheme, _, token = authorization.partition(" ")
    user = tokens.get(token.strip()) if scheme.lower() == "bearer" else None
    if user is None:
        raise unauthorized()
    return user


def allows(user: User, action: Action) -> bool:
    if not user.read_only or action.resource.startswith("selfsubject"):
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
        allowed = not user.read_only or path.get("verb") in READING
    status: Json = {"allowed": allowed} if allowed else {"allowed": False, "reason": "the user may only read"}
    return {**body, "metadata": {}, "status": status}


def rules_review(user: User, body: Json) -> Json:
    """Answer a SelfSubjectRulesReview (``kubectl auth can-i --list``), as far as rules can say it."""
    verbs = list(READING) if user.read_only else ["*"]
    rules = {"resourceRules": [{"verbs": verbs, "apiGroups": ["*"], "resources": ["*"]}]}
    paths = {"nonResourceRules": [{"verbs": ["get"] if user.read_only else ["*"], "nonResourceURLs": ["*"]}]}
    exception = {"evaluationError": "secrets may not be read"} if user.read_only else {}
    return {**body, "metadata": {}, "status": {**rules, **paths, "incomplete": user.read_only, **exception}}


def subject_review(user: User, body: Json) -> Json:
    """Answer a SelfSubjectReview (``kubectl auth whoami``)."""
    return {**body, "metadata": {}, "status": {"userInfo": {"username": user.name, "groups": list(user.groups)}}}
