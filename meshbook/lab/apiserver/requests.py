"""Who asks what: from method, path, query and headers to one ``ApiRequest``. Pure.

Whether they may is decided in ``rbac``; what stands in the body is read in ``decoding``; what is done, in ``handlers``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from multidict import MultiMapping

from meshbook.lab.apiserver import kinds
from meshbook.lab.apiserver.errors import (
    bad_option,
    bad_request,
    bad_value,
    internal,
    method_not_allowed,
    not_allowed,
    not_supported,
    too_long,
    unauthorized,
    unknown_resource,
)
from meshbook.lab.apiserver.kinds import EVERYWHERE, Kind
from meshbook.lab.apiserver.rbac import AUTHENTICATED, Action, Authorizer, User, service_account
from meshbook.lab.apiserver.scalars import INT64
from meshbook.objects import Object, label_selector, labels_of

VERSION_MATCHES = ("Exact", "NotOlderThan")
LONGEST_MANAGER = 128
"""Bytes of a field manager's name."""
_INTEGER = re.compile(r"-?[0-9]{1,20}")
READING = ("get", "list", "watch")
_ACTING = ("binding", "exec")
"""Subresources that are posted to."""
_NAMED = re.compile(r"(?:^|,)metadata\.name==?([^,]+)")
_TRUE = ("true", "1", "t", "T", "TRUE", "True")
_FIELD_TERM = re.compile(r"(?P<path>[^=!\s]+)\s*(?P<operator>==|=|!=)\s*(?P<value>[^=!]*)")


@dataclass(frozen=True, kw_only=True)
class ApiRequest:
    """One request for a resource. ``name`` is empty for a collection, ``namespace`` for all or none."""

    verb: str
    kind: Kind
    version: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    query: MultiMapping[str]
    user: User
    headers: Mapping[str, str]
    body: bytes = b""
    warnings: list[str] = field(default_factory=list)
    """Sent back as ``Warning`` headers."""

    @property
    def api_version(self) -> str:
        return self.kind.version_string(self.version)

    @property
    def action(self) -> Action:
        """What must be allowed. A Namespace lies in itself; a list of one name is about that one."""
        selected = _NAMED.search(self.query.get("fieldSelector", "")) if not self.name else None
        return Action(
            verb=self.verb,
            group=self.kind.group,
            resource=self.kind.plural,
            subresource=self.subresource,
            namespace=self.name if self.kind.kind == "Namespace" else self.namespace,
            name=selected[1] if selected else self.name,
        )

    @property
    def content_type(self) -> str:
        return self.headers.get("Content-Type", "application/json").partition(";")[0].strip()

    @property
    def dry_run(self) -> bool:
        asked = self.query.getall("dryRun", [])
        if any(value != "All" for value in asked):
            raise bad_option(self.verb, not_supported("dryRun", asked[0], "All"))
        return bool(asked)

    @property
    def manager(self) -> str:
        """Name under which this client owns fields: as it says, else the program in its User-Agent."""
        name = self.query.get("fieldManager", "")
        if len(name.encode()) > LONGEST_MANAGER:
            raise bad_option(self.verb, too_long("fieldManager", LONGEST_MANAGER))
        if not name.isprintable():
            raise bad_option(self.verb, bad_value("fieldManager", name, "invalid character"))
        agent = self.headers.get("User-Agent", "unknown").partition("/")[0]
        return name or "".join(filter(str.isprintable, agent))[:LONGEST_MANAGER]

    def flag(self, name: str) -> bool:
        return self.query.get(name, "") in _TRUE

    def number(self, name: str) -> int | None:
        """Return an integer parameter, None when it is not given."""
        text = self.query.get(name, "")
        if not text:
            return None
        if not _INTEGER.fullmatch(text):
            raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax ({name})')
        if (number := int(text)) not in INT64:
            raise bad_request(f'strconv.ParseInt: parsing "{text}": value out of range ({name})')
        return number

    def check_list_options(self) -> None:
        """Refuse options of a list or a watch that have no meaning."""
        for name in ("limit", "timeoutSeconds"):
            self.number(name)
        if (self.number("resourceVersion") or 0) < 0:
            raise bad_request(f"invalid resource version: {self.query['resourceVersion']} is not a positive integer")
        match = self.query.get("resourceVersionMatch", "")
        if match not in ("", *VERSION_MATCHES):
            raise bad_option(self.verb, not_supported("resourceVersionMatch", match, *VERSION_MATCHES))
        if match and not self.query.get("resourceVersion") and not self.flag("sendInitialEvents"):
            why = "resourceVersionMatch is forbidden unless resourceVersion is provided"
            raise bad_option(self.verb, not_allowed("resourceVersionMatch", why))

    def selection(self) -> Callable[[Object], bool]:
        """Return the test that label and field selectors stand for; a field that the kind does not offer is refused."""
        labelled = label_selector(self.query.get("labelSelector", ""))
        terms = [self._field_term(part.strip()) for part in self.query.get("fieldSelector", "").split(",") if part]
        return lambda obj: (
            labelled(labels_of(obj)) and all((value_at(obj, path) == value) == equal for path, value, equal in terms)
        )

    def _field_term(self, text: str) -> tuple[str, str, bool]:
        term = _FIELD_TERM.fullmatch(text)
        if not term:
            raise bad_request(f"invalid field selector: '{text}'; can't understand '{text}'")
        if term["path"] not in EVERYWHERE + self.kind.fields:
            raise bad_request(f"field label not supported: {term['path']}")
        return term["path"], term["value"], term["operator"] != "!="


def value_at(obj: Object, path: str) -> str:
    """Return the scalar at a dotted path as text, empty when it is absent."""
    found: object = obj
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    if found is None:
        return ""
    return str(found).lower() if isinstance(found, bool) else str(found)


def resource_request(
    method: str, path: str, *, query: MultiMapping[str], headers: Mapping[str, str], user: User, body: bytes
) -> ApiRequest:
    """Return what is asked of which resource: 404 for a path that is not served, 405 for a method it does not have."""
    parts = _target(path)
    kind, name = parts["kind"], parts["name"]
    verb = _verb(method, kind, name, parts["subresource"], query.get("watch", "") in _TRUE)
    if kind.namespaced and not parts["namespace"] and verb not in READING:
        raise method_not_allowed(kind)
    return ApiRequest(verb=verb, **parts, query=query, headers=headers, user=user, body=body)


def _target(path: str) -> dict[str, Any]:
    """Return what ``/api/v1/…`` or ``/apis/GROUP/VERSION/…`` names."""
    match path.strip("/").split("/"):
        case ["api", "v1" as version, *rest] if rest:
            group = ""
        case ["apis", group, version, *rest] if rest:
            pass
        case _:
            raise unknown_resource(path)
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2:] not in (["finalize"], ["status"]):
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource = [*rest, "", ""][:3]
    kind = kinds.find(group, version, plural)
    where = f"{group}/{version}" if group else version
    if kind is None:
        raise unknown_resource(f"{plural} of {where}")
    if len(rest) > 3 or (subresource and subresource not in kind.subresources):
        raise unknown_resource(f"{plural}/{'/'.join(rest[2:])} of {where}")
    if kind.namespaced != bool(namespace) and (name or namespace):
        raise unknown_resource(f"{plural} {'within' if namespace else 'without'} a namespace")
    return {"kind": kind, "version": version, "namespace": namespace, "name": name, "subresource": subresource}


def _verb(method: str, kind: Kind, name: str, subresource: str, watching: bool) -> str:
    if method == "GET":
        return "get" if name else "watch" if watching else "list"
    if method == "POST" and (not name or subresource in _ACTING):
        return "create"
    if method == "DELETE" and not subresource:
        return "delete" if name else "deletecollection"
    if method in ("PUT", "PATCH") and name and subresource not in (*_ACTING, "log"):
        return {"PUT": "update", "PATCH": "patch"}[method]
    raise method_not_allowed(kind)


def authenticate(headers: Mapping[str, str], tokens: Mapping[str, User]) -> User:
    """Return whose bearer token came; 401 without one that is known."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    user = tokens.get(token.strip()) if scheme.lower() == "bearer" else None
    if user is None:
        raise unauthorized()
    return user


def impersonated(user: User, headers: MultiMapping[str], authorizer: Authorizer) -> User:
    """Return as whom ``user`` wants to act; 403 where it may not."""
    asked = {name.title() for name in headers if name.title().startswith("Impersonate-")}
    if not asked:
        return user
    if "Impersonate-User" not in asked:
        raise internal(f"requested {', '.join(sorted(asked))} without impersonating a user")
    if others := asked - {"Impersonate-User", "Impersonate-Group"}:
        raise bad_request(f"the lab does not do {', '.join(sorted(others))}")
    name, given = headers["Impersonate-User"], tuple(headers.getall("Impersonate-Group", ()))
    groups, whom = given, Action(verb="impersonate", resource="users", name=name)
    match name.split(":"):
        case ["system", "serviceaccount", namespace, account]:
            groups = given or service_account(namespace, account).groups
            whom = Action(verb="impersonate", resource="serviceaccounts", namespace=namespace, name=account)
    for action in (whom, *(Action(verb="impersonate", resource="groups", name=group) for group in given)):
        authorizer.authorize(user, action)
    return User(name=name, groups=tuple(dict.fromkeys((*groups, AUTHENTICATED))))
