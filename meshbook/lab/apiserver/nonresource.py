"""Paths that name no resource: health, version, discovery, OpenAPI, and the reviews that are answered and not kept.

Discovery comes in the form that every client knows, group by group. OpenAPI is served just far enough that clients
leave the checking of fields to this server: for each kind the PATCH operation with ``fieldValidation``, and no schemas.
"""

from __future__ import annotations

from collections.abc import Callable

from meshbook.lab.apiserver.decoding import BODY_TYPES, decode, typed
from meshbook.lab.apiserver.errors import Failure, bad_request, cause, unsupported_media
from meshbook.lab.apiserver.kinds import Kind, groups, kinds_of
from meshbook.lab.apiserver.rbac import Action, Authorizer, User
from meshbook.lab.apiserver.store import encode
from meshbook.objects import Object

HEALTH = ("/healthz", "/livez", "/readyz")
PUBLIC = (*HEALTH, "/version")
"""Served to everyone."""
_VERSION: Object = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.0-meshbook",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "2026-04-22T00:00:00Z",
    "goVersion": "",
    "compiler": "cpython",
    "platform": "linux/amd64",
}
_OPENAPI_V2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_SUBRESOURCES: dict[str, Object] = {
    "binding": {"kind": "Binding", "verbs": ["create"]},
    "exec": {"kind": "PodExecOptions", "verbs": ["create", "get"]},
    "finalize": {"verbs": ["update"]},
    "log": {"verbs": ["get"]},
    "scale": {"group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["get", "patch", "update"]},
    "status": {"verbs": ["get", "patch", "update"]},
}


def find(path: str, address: str) -> tuple[bytes, str] | None:
    """Return the document at ``path`` and its media type; None when there is none. ``address`` is the server's own."""
    document: Object | None = None
    match path.strip("/").split("/"):
        case ["version"]:
            document = _VERSION
        case ["api"]:
            addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
            document = {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}
        case ["apis"]:
            listed = [_group(name, versions) for name, versions in _all_groups().items()]
            document = {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
        case ["apis", group] if group in _all_groups():
            document = {"kind": "APIGroup", "apiVersion": "v1"} | _group(group, _all_groups()[group])
        case ["api", "v1"]:
            document = _resource_list("", "v1")
        case ["apis", group, version] if version in _all_groups().get(group, ()):
            document = _resource_list(group, version)
        case ["openapi", "v2"]:
            return b"", _OPENAPI_V2  # a document that describes nothing: what there is, stands in version 3
        case ["openapi", "v3"]:
            names = ["api/v1", *(f"apis/{name}/{v}" for name, versions in groups().items() for v in versions)]
            document = {"paths": {name: {"serverRelativeURL": f"/openapi/v3/{name}?hash=1"} for name in names}}
        case ["openapi", "v3", "api", version]:
            document = _openapi("", version)
        case ["openapi", "v3", "apis", group, version]:
            document = _openapi(group, version)
    return (encode(document), "application/json") if document else None


def _all_groups() -> dict[str, tuple[str, ...]]:
    return groups() | {path.split("/")[2]: ("v1",) for path in REVIEWS}


def _group(name: str, versions: tuple[str, ...]) -> Object:
    offered = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": offered, "preferredVersion": offered[0]}


def _resource_list(group: str, version: str) -> Object:
    resources = [entry for kind in kinds_of(group, version) for entry in _resources(kind)]
    for path, (review, _) in REVIEWS.items():
        if path.startswith(f"/apis/{group}/"):
            head: Object = {"name": path.split("/")[4], "singularName": review.lower(), "namespaced": False}
            resources.append(head | {"kind": review, "verbs": ["create"]})
    api_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": resources}


def _resources(kind: Kind) -> list[Object]:
    main: Object = {"name": kind.plural, "singularName": kind.kind.lower(), "namespaced": kind.namespaced}
    main |= {"kind": kind.kind, "verbs": list(kind.verbs)}
    main |= {"shortNames": list(kind.short)} if kind.short else {}
    main |= {"categories": list(kind.categories)} if kind.categories else {}
    head: Object = {"singularName": "", "namespaced": kind.namespaced, "kind": kind.kind}
    return [main, *(head | {"name": f"{kind.plural}/{name}"} | _SUBRESOURCES[name] for name in kind.subresources)]


def _openapi(group: str, version: str) -> Object | None:
    root = f"/apis/{group}/{version}" if group else f"/api/{version}"
    paths = {}
    for kind in kinds_of(group, version):
        path = f"{root}/{'namespaces/{namespace}/' if kind.namespaced else ''}{kind.plural}/{{name}}"
        paths[path] = {"patch": _patch_operation(kind, version)}
    head: Object = {"openapi": "3.0.0", "info": {"title": "meshbook lab", "version": _VERSION["gitVersion"]}}
    return head | {"paths": paths, "components": {"schemas": {}}} if paths else None


def _patch_operation(kind: Kind, version: str) -> Object:
    names = ("dryRun", "fieldManager", "fieldValidation", "force")
    parameters = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names]
    identity = {"group": kind.group, "version": version, "kind": kind.kind}
    operation: Object = {"x-kubernetes-action": "patch", "x-kubernetes-group-version-kind": identity}
    return operation | {"parameters": parameters, "responses": {"200": {"description": "OK"}}}


def review(path: str, user: User, body: bytes, media_type: str, authorizer: Authorizer) -> Object:
    """Answer a review: what ``user`` may do, or who that is."""
    group, version, resource = path.removeprefix("/apis/").split("/")
    authorizer.authorize(user, Action(verb="create", group=group, resource=resource))
    if media_type not in BODY_TYPES:
        raise unsupported_media(BODY_TYPES)
    kind, answer = REVIEWS[path]
    asked = typed(decode(body, media_type), kind, version)
    head = {"kind": kind, "apiVersion": f"{group}/{version}", "metadata": {}}
    return {**asked, **head, "status": answer(authorizer, user, asked.get("spec", {}))}


def _access_review(authorizer: Authorizer, user: User, spec: Object) -> Object:
    """``kubectl auth can-i VERB RESOURCE``."""
    given = [spec[name] for name in ("resourceAttributes", "nonResourceAttributes") if name in spec]
    if len(given) != 1:
        message = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        why = cause("spec.resourceAttributes", "FieldValueInvalid", f"Invalid value: {message}")
        details = {"group": "authorization.k8s.io", "causes": [why]}
        text = f'.authorization.k8s.io "" is invalid: {why["field"]}: {why["message"]}'
        raise Failure(422, "Invalid", text, details)
    names = ("verb", "group", "resource", "subresource", "namespace", "name", "path")
    allowed, reason = authorizer.decide(user, Action(**{name: given[0].get(name, "") for name in names}))
    return {"allowed": allowed} | ({"reason": reason} if reason else {})


def _rules_review(authorizer: Authorizer, user: User, spec: Object) -> Object:
    """``kubectl auth can-i --list``."""
    if not spec.get("namespace"):
        raise bad_request("no namespace on request")
    grants = authorizer.grants(user, spec["namespace"])
    rules = [rule for grant in grants for rule in grant.rules]
    paths = [rule for grant in grants if not grant.namespace for rule in grant.rules if "nonResourceURLs" in rule]
    missing = ", ".join(grant.missing for grant in grants if grant.missing)
    answer = {"resourceRules": [rule for rule in rules if "resources" in rule], "nonResourceRules": paths}
    return answer | {"incomplete": bool(missing)} | ({"evaluationError": missing} if missing else {})


def _subject_review(_authorizer: Authorizer, user: User, _spec: Object) -> Object:
    """``kubectl auth whoami``."""
    return {"userInfo": {"username": user.name, "groups": list(user.groups)}}


_AUTHORIZATION, _AUTHENTICATION = "/apis/authorization.k8s.io/v1", "/apis/authentication.k8s.io/v1"
REVIEWS: dict[str, tuple[str, Callable[[Authorizer, User, Object], Object]]] = {
    f"{_AUTHORIZATION}/selfsubjectaccessreviews": ("SelfSubjectAccessReview", _access_review),
    f"{_AUTHORIZATION}/selfsubjectrulesreviews": ("SelfSubjectRulesReview", _rules_review),
    f"{_AUTHENTICATION}/selfsubjectreviews": ("SelfSubjectReview", _subject_review),
}
"""Path → kind and answer."""
