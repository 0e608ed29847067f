"""Deletions: at once, or marked until finalizers and grace are over. What depends on an object is not ours to delete:
the garbage collector and the namespace controller do that, as clients.
"""

from __future__ import annotations

from meshbook.lab.apiserver.failures import conflict, forbidden, method_not_allowed, not_found, stale
from meshbook.lab.apiserver.kinds import Json, Kind
from meshbook.lab.apiserver.lifecycle import grace_of, is_finished, marked_for_deletion
from meshbook.lab.apiserver.reading import current, selected
from meshbook.lab.apiserver.requests import ApiRequest, delete_options
from meshbook.lab.apiserver.store import NotStored, StaleWrite, Store, Stored, encode

KEEPS_PODS = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or "
    "set propagationPolicy=Orphan to suppress this warning"
)
UNDELETABLE = ("default", "kube-public", "kube-system")


def delete(store: Store, request: ApiRequest) -> bytes:
    """Delete the object that ``request`` names; returns the text of the answer."""
    kind, before = request.kind, current(store, request)
    if kind.kind == "Namespace" and request.name in UNDELETABLE:
        raise forbidden(kind, request.name, "this namespace may not be deleted")
    options = delete_options(request)
    _check_preconditions(request, options.get("preconditions") or {}, before)
    after, gone = _deleted(store, request, before, options)
    if gone and kind.kind != "Pod":
        return encode(_success(kind, before.object["metadata"]))
    return after.encoded(request.api_version)


def delete_collection(store: Store, request: ApiRequest) -> bytes:
    """Delete what the request's selectors select; returns the text of the list of these objects."""
    if "deletecollection" not in request.kind.verbs:
        raise method_not_allowed(request.kind)
    options = delete_options(request)
    after = [_deleted(store, request, before, options)[0] for before in selected(store, request)]
    head: Json = {"kind": f"{request.kind.kind}List", "apiVersion": request.api_version}
    items = b",".join(entry.encoded(request.api_version) for entry in after)
    head["metadata"] = {"resourceVersion": str(store.revision)}
    return encode(head)[:-1] + b',"items":[' + items + b"]}"


def _deleted(store: Store, request: ApiRequest, before: Stored, options: Json) -> tuple[Stored, bool]:
    """Delete or mark one object. Returns its last state, and whether it is gone."""
    kind, dry_run = request.kind, request.dry_run or options.get("dryRun") == ["All"]
    grace_s = grace_of(kind, before.object, options.get("gracePeriodSeconds"))
    marked = marked_for_deletion(kind, before.object, _policy(request, options), grace_s)
    gone = is_finished(kind, marked)
    if dry_run or marked == before.object:
        return (Stored(marked, before.revision) if dry_run else before), gone
    try:
        return (store.delete if gone else store.replace)(kind.bucket, marked, before), gone
    except NotStored:
        raise not_found(kind, request.name) from None
    except StaleWrite:
        raise stale(kind, request.name) from None


def _policy(request: ApiRequest, options: Json) -> str | None:
    """Return what becomes of the dependents; for Jobs, and for them alone, they stay where nobody says."""
    policy: str | None = options.get("propagationPolicy")
    if policy or request.kind.kind != "Job":
        return policy
    request.warnings.append(KEEPS_PODS)
    return "Orphan"


def _check_preconditions(request: ApiRequest, wanted: Json, before: Stored) -> None:
    there = before.object["metadata"]
    for name, label in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        if wanted.get(name) not in (None, there[name]):
            why = f"Precondition failed: {label} in precondition: {wanted[name]}, {label} in object meta: {there[name]}"
            raise conflict(request.kind, request.name, why)


def _success(kind: Kind, metadata: Json) -> Json:
    details = {"name": metadata["name"], "kind": kind.plural, "uid": metadata["uid"]}
    if kind.group:
        details["group"] = kind.group
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
