"""Who may do what: Roles and ClusterRoles as they are bound, evaluated as Kubernetes' RBAC authorizer does.

What the bindings grant a user is kept until a role or a binding changes, since each request is authorized. Who makes or
binds a role must have what it grants, or may ``escalate`` or ``bind``. Who asks is found out in ``requests``; the roles
that every cluster has are in ``bootstrap.yaml``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

from meshbook.lab.apiserver.errors import Failure, forbidden, not_found
from meshbook.lab.apiserver.kinds import RBAC, Kind, kind_named
from meshbook.lab.apiserver.store import Store
from meshbook.objects import Object

MASTERS, AUTHENTICATED = "system:masters", "system:authenticated"
_ROLES, _BINDINGS = ("Role", "ClusterRole"), ("ClusterRoleBinding", "RoleBinding")
KEPT_USERS = 64
"""Whose grants are kept at a time: whoever may impersonate may ask as any number of users."""


@dataclass(frozen=True, kw_only=True)
class User:
    """Who asks. A member of ``system:masters`` may do everything, whatever the roles say."""

    name: str
    groups: tuple[str, ...] = (MASTERS, AUTHENTICATED)


def service_account(namespace: str, name: str) -> User:
    """Return the user that a service account is."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED)
    return User(name=f"system:serviceaccount:{namespace}:{name}", groups=groups)


@dataclass(frozen=True, kw_only=True)
class Action:
    """What someone wants to do to which resource, or to a ``path`` that names none."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def combined(self) -> str:
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource

    @property
    def meant_by(self) -> tuple[str, ...]:
        """What a rule may call the resource; empty for a path."""
        if self.path:
            return ("",)
        return (self.combined, "*", f"*/{self.subresource}") if self.subresource else (self.resource, "*")


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What one binding gives a user, in ``namespace`` or, where that is empty, everywhere."""

    namespace: str
    source: str
    """Which binding of which role to whom."""
    rules: Sequence[Object] = ()
    missing: str = ""
    """That the role is not found, where it is not."""


class _Granted:
    """What all bindings give one user, made ready to be asked."""

    def __init__(self, grants: Iterable[Grant]) -> None:
        self.grants = tuple(grants)
        self.rules: dict[tuple[str, str], list[tuple[Grant, Object]]] = defaultdict(list)
        """By verb and resource, as they stand in the rule; no resource: paths."""
        for grant in self.grants:
            for rule in grant.rules:
                for key in product(rule["verbs"], rule.get("resources") or ("",)):
                    self.rules[key].append((grant, rule))


class Authorizer:
    """Decides by the roles and bindings in ``store``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._granted = lru_cache(KEPT_USERS)(lambda user: _Granted(self._bound(user)))
        for name in (*_ROLES, *_BINDINGS):
            store.subscribe(kind_named(name).bucket, self._granted.cache_clear)

    def decide(self, user: User, action: Action) -> tuple[bool, str]:
        """Return whether ``user`` may do it, and the reason, if there is one."""
        if MASTERS in user.groups:
            return True, ""
        rules = self._granted(user).rules
        for key in product((action.verb, "*"), action.meant_by):
            for grant, rule in rules.get(key, ()):
                if grant.namespace in ("", action.namespace) and _covers(rule, action):
                    return True, f"RBAC: allowed by {grant.source}"
        missing = [grant.missing for grant in self.grants(user, action.namespace) if grant.missing]
        return False, f"RBAC: {_listed(missing)}" if missing else ""

    def authorize(self, user: User, action: Action) -> None:
        """Refuse with 403 what ``user`` may not do."""
        allowed, reason = self.decide(user, action)
        if not allowed:
            raise _denied(user, action, reason)

    def grants(self, user: User, namespace: str) -> list[Grant]:
        """Return what the bindings give ``user`` in ``namespace`` and everywhere."""
        return [grant for grant in self._granted(user).grants if grant.namespace in ("", namespace)]

    def confirm_no_escalation(self, user: User, kind: Kind, obj: Object) -> None:
        """Refuse a role, or a binding to one, that grants what ``user`` does not have."""
        if MASTERS in user.groups or kind.group != RBAC:
            return
        namespace, ref = obj["metadata"].get("namespace", ""), obj.get("roleRef")
        role, name = (kind_named(ref["kind"]), ref["name"]) if ref else (kind, obj["metadata"]["name"])
        verb = "bind" if ref else "escalate"
        if self.decide(user, Action(verb=verb, group=RBAC, resource=role.plural, namespace=namespace, name=name))[0]:
            return
        rules = self._rules(role, namespace, name) if ref else obj.get("rules") or ()
        if rules is None:
            raise not_found(role, name)
        lacking = [text for rule in rules for text in self._lacking(user, rule, namespace)]
        if lacking:
            what = "is attempting to grant RBAC permissions not currently held"
            why = f'user "{user.name}" (groups={_quoted(user.groups)}) {what}:\n' + "\n".join(lacking)
            raise forbidden(kind, obj["metadata"]["name"], why)

    def _lacking(self, user: User, rule: Object, namespace: str) -> Iterator[str]:
        """Yield what of a rule ``user`` does not have, as the real server writes it."""
        for action, text in _actions(rule, namespace):
            verbs = [verb for verb in rule["verbs"] if not self.decide(user, replace(action, verb=verb))[0]]
            if verbs:
                yield f"{{{text}, Verbs:{_quoted(verbs)}}}"

    def _bound(self, user: User) -> Iterator[Grant]:
        """Yield what each binding to ``user`` gives: the first of its subjects that means the user is named."""
        for binding in (stored.object for name in _BINDINGS for stored in self._store.list(kind_named(name).bucket)):
            namespace, ref = binding["metadata"].get("namespace", ""), binding["roleRef"]
            who = next((one for one in binding.get("subjects") or () if _means(one, user, namespace)), None)
            if who is None:
                continue
            rules = self._rules(kind_named(ref["kind"]), namespace, ref["name"])
            name = "/".join(filter(None, (binding["metadata"]["name"], namespace)))
            subject = "/".join(filter(None, (who["name"], who.get("namespace"))))
            source = f'{binding["kind"]} "{name}" of {ref["kind"]} "{ref["name"]}" to {who["kind"]} "{subject}"'
            missing = f'{ref["kind"].lower()}.{RBAC} "{ref["name"]}" not found' if rules is None else ""
            yield Grant(namespace=namespace, source=source, rules=rules or (), missing=missing)

    def _rules(self, role: Kind, namespace: str, name: str) -> Sequence[Object] | None:
        found = self._store.get(role.bucket, namespace if role.namespaced else "", name)
        return None if found is None else found.object.get("rules") or ()


def _means(subject: Object, user: User, namespace: str) -> bool:
    match subject["kind"]:
        case "ServiceAccount":
            return user.name == service_account(subject.get("namespace") or namespace, subject["name"]).name
        case "Group":
            return subject["name"] in user.groups
    return bool(subject["name"] == user.name)


def _covers(rule: Object, action: Action) -> bool:
    """Tell whether a rule that has the verb, and the resource, is about this group and name, or about this path."""
    if action.path:
        urls = rule.get("nonResourceURLs") or ()
        return any(url == action.path or (url[-1:] == "*" and action.path.startswith(url[:-1])) for url in urls)
    groups, names = rule.get("apiGroups") or (), rule.get("resourceNames")
    return (action.group in groups or "*" in groups) and (not names or action.name in names)


def _actions(rule: Object, namespace: str) -> Iterator[tuple[Action, str]]:
    """Yield each thing that a rule is about, without a verb, and how the real server writes it."""
    for path in rule.get("nonResourceURLs") or ():
        yield Action(verb="", path=path), f"NonResourceURLs:{_quoted([path])}"
    for group in rule.get("apiGroups") or ():
        for combined in rule.get("resources") or ():
            resource, _, subresource = combined.partition("/")
            text = f"APIGroups:{_quoted([group])}, Resources:{_quoted([combined])}"
            about = {"group": group, "resource": resource, "subresource": subresource, "namespace": namespace}
            for name in rule.get("resourceNames") or ("",):
                named = f", ResourceNames:{_quoted([name])}" if name else ""
                yield Action(verb="", name=name, **about), text + named


def _quoted(words: Iterable[str]) -> str:
    return "[" + " ".join(f'"{word}"' for word in words) + "]"


def _listed(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def _denied(user: User, action: Action, reason: str) -> Failure:
    if action.path:
        what, head = f'path "{action.path}"', "forbidden"
    else:
        qualified = f"{action.resource}.{action.group}" if action.group else action.resource
        where = f'in the namespace "{action.namespace}"' if action.namespace else "at the cluster scope"
        what = f'resource "{action.combined}" in API group "{action.group}" {where}'
        head = qualified + (f' "{action.name}"' if action.name else "") + " is forbidden"
    message = f'{head}: User "{user.name}" cannot {action.verb} {what}' + (f": {reason}" if reason else "")
    details = {"name": action.name, "group": action.group, "kind": action.resource}
    return Failure(403, "Forbidden", message, {key: value for key, value in details.items() if value})
