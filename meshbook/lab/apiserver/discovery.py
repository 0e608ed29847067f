"""Discovery: which groups, versions and kinds there are, in the old form and in the aggregated one, and the version.

OpenAPI is served just far enough that clients leave the checking of fields to this server: for each kind the PATCH
operation with its ``fieldValidation`` parameter, and no schemas.
"""

from __future__ import annotations

from meshbook.lab.apiserver.kinds import Json, Kind, KindTable

AGGREGATED = ("v2", "v2beta1")
REVIEWS = {
    "authorization.k8s.io": ("SelfSubjectAccessReview", "SelfSubjectRulesReview"),
    "authentication.k8s.io": ("SelfSubjectReview",),
}
"""Kinds that are asked and not kept: group → kinds. Version v1, verb create, no namespace."""

OPENAPI_V2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"

VERSION: Json = {
    "major": "1",
    "minor": "32",
    "gitVersion": "v1.32.0-meshbook-lab",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "2024-12-11T00:00:00Z",
    "goVersion": "",
    "compiler": "cpython",
    "platform": "linux/amd64",
}
_SUBRESOURCE_VERBS = {
    "binding": ("create",),
    "exec": ("create", "get"),
    "finalize": ("update",),
    "log": ("get",),
    "scale": ("get", "patch", "update"),
    "status": ("get", "patch", "update"),
    "token": ("create",),
}
_SUBRESOURCE_KINDS = {"binding": "Binding", "exec": "PodExecOptions", "scale": "Scale", "token": "TokenRequest"}
_SUBRESOURCE_GROUPS = {
    "scale": {"group": "autoscaling", "version": "v1"},
    "token": {"group": "authentication.k8s.io", "version": "v1"},
}


def groups(kinds: KindTable) -> dict[str, list[str]]:
    """Return group → versions, preferred first, of all groups but the core one."""
    return kinds.groups() | {group: ["v1"] for group in REVIEWS}


def group_list(kinds: KindTable) -> Json:
    """Return what ``/apis`` answers."""
    listed = [group(name, versions) for name, versions in groups(kinds).items()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}


def group(name: str, versions: list[str]) -> Json:
    offered = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": offered, "preferredVersion": offered[0]}


def core_versions(address: str) -> Json:
    """Return what ``/api`` answers."""
    addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": addresses}


def resource_list(kinds: KindTable, name: str, version: str) -> Json | None:
    """Return what ``/api/v1`` or ``/apis/GROUP/VERSION`` answers; None when it is not served."""
    if version not in groups(kinds).get(name, ["v1"] if not name else []):
        return None
    resources = [entry for kind in kinds.in_group_version(name, version) for entry in _resources(kind)]
    for review in REVIEWS.get(name, ()):
        head: Json = {"name": f"{review.lower()}s", "singularName": review.lower(), "namespaced": False}
        resources.append(head | {"kind": review, "verbs": ["create"]})
    api_version = f"{name}/{version}" if name else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": resources}


def _resources(kind: Kind) -> list[Json]:
    main: Json = {"name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced}
    main |= {"kind": kind.kind, "verbs": list(kind.verbs)}
    main |= {"shortNames": list(kind.short)} if kind.short else {}
    main |= {"categories": list(kind.categories)} if kind.categories else {}
    return [main] + [_subresource(kind, name) for name in kind.subresources]


def _subresource(kind: Kind, name: str) -> Json:
    head: Json = {"name": f"{kind.plural}/{name}", "singularName": "", "namespaced": kind.namespaced}
    foreign = _SUBRESOURCE_GROUPS.get(name, {})
    return head | foreign | {"kind": _SUBRESOURCE_KINDS.get(name, kind.kind), "verbs": list(_SUBRESOURCE_VERBS[name])}


def aggregated(kinds: KindTable, version: str, *, core: bool) -> Json:
    """Return everything in one document (``APIGroupDiscoveryList``)."""
    offered = {"": ["v1"]} if core else groups(kinds)
    items = [
        {"metadata": {"name": name} if name else {}, "versions": [_discovered(kinds, name, v) for v in versions]}
        for name, versions in offered.items()
    ]
    head: Json = {"kind": "APIGroupDiscoveryList", "apiVersion": f"apidiscovery.k8s.io/{version}"}
    return head | {"metadata": {}, "items": items}


def _discovered(kinds: KindTable, name: str, version: str) -> Json:
    listed = resource_list(kinds, name, version) or {"resources": []}
    resources: list[Json] = []
    for entry in listed["resources"]:
        own = {"group": entry.get("group", name), "version": entry.get("version", version), "kind": entry["kind"]}
        if "/" in entry["name"]:
            sub = {"subresource": entry["name"].partition("/")[2], "responseKind": own, "verbs": entry["verbs"]}
            resources[-1].setdefault("subresources", []).append(sub)
            continue
        found: Json = {"resource": entry["name"], "responseKind": own, "verbs": entry["verbs"]}
        found |= {"scope": "Namespaced" if entry["namespaced"] else "Cluster"}
        found |= {"singularResource": entry["singularName"]}
        resources.append(found | {key: entry[key] for key in ("shortNames", "categories") if key in entry})
    return {"version": version, "resources": resources, "freshness": "Current"}


def openapi_index(kinds: KindTable) -> Json:
    """Return what ``/openapi/v3`` answers."""
    names = ["api/v1", *(f"apis/{name}/{v}" for name, versions in kinds.groups().items() for v in versions)]
    return {"paths": {name: {"serverRelativeURL": f"/openapi/v3/{name}?hash=1"} for name in names}}


def openapi(kinds: KindTable, name: str, version: str) -> Json | None:
    """Return the OpenAPI v3 document of one group version; None when it is not served."""
    served = kinds.in_group_version(name, version)
    root = f"/apis/{name}/{version}" if name else f"/api/{version}"
    paths = {f"{root}/{_pattern(kind)}": {"patch": _patch_operation(kind, version)} for kind in served}
    if not paths:
        return None
    head: Json = {"openapi": "3.0.0", "info": {"title": "meshbook lab", "version": VERSION["gitVersion"]}}
    return head | {"paths": paths, "components": {"schemas": {}}}


def _pattern(kind: Kind) -> str:
    return ("namespaces/{namespace}/" if kind.namespaced else "") + kind.plural + "/{name}"


def _patch_operation(kind: Kind, version: str) -> Json:
    names = ("dryRun", "fieldManager", "fieldValidation", "force")
    parameters = [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names]
    identity = {"group": kind.group, "version": version, "kind": kind.kind}
    operation: Json = {"x-kubernetes-action": "patch", "x-kubernetes-group-version-kind": identity}
    return operation | {"parameters": parameters, "responses": {"200": {"description": "OK"}}}
