"""Reads: one object, or a list that selectors narrow, as JSON text or as a Table. Nothing here changes anything."""

from __future__ import annotations

from meshbook.lab.apiserver import tables
from meshbook.lab.apiserver.failures import Failure, not_acceptable, not_found
from meshbook.lab.apiserver.kinds import Json
from meshbook.lab.apiserver.requests import ApiRequest
from meshbook.lab.apiserver.selectors import Predicate, both, field_predicate, label_predicate
from meshbook.lab.apiserver.store import Store, Stored, encode

ACCEPTABLE = ("application/json", "application/*", "*/*", "")


def current(store: Store, request: ApiRequest) -> Stored:
    """Return the object that ``request`` names, or refuse with 404."""
    stored = store.get(request.kind.bucket, request.namespace, request.name)
    if stored is None:
        raise not_found(request.kind, request.name)
    return stored


def selection(request: ApiRequest) -> Predicate:
    """Return the predicate of the request's label and field selectors, and of its name."""
    labels = label_predicate(request.query.get("labelSelector", ""))
    fields = field_predicate(request.query.get("fieldSelector", ""), request.kind)
    return both(labels, fields)


def selected(store: Store, request: ApiRequest) -> list[Stored]:
    """Return the objects that a list request names, all of them: a server may pass over the wish in ``limit``."""
    predicate = selection(request)
    return [entry for entry in store.list(request.kind.bucket, request.namespace) if predicate(entry.object)]


def wants_table(request: ApiRequest) -> bool:
    """Say which of the offered media types is taken: Table, if it comes before plain JSON."""
    for offer in request.headers.get("Accept", "").split(","):
        media, *parameters = [part.strip() for part in offer.split(";")]
        asked = [part for part in parameters if part.startswith("as=")]
        if media == "application/json" and asked == ["as=Table"] and "g=meta.k8s.io" in parameters:
            return True
        if media in ACCEPTABLE and not asked:
            return False
    raise not_acceptable()


def one_body(request: ApiRequest, stored: Stored) -> bytes:
    """Return one object's text as the request wants it."""
    if not wants_table(request):
        return stored.encoded(request.api_version)
    return encode(tables.table(request.kind, [stored], str(stored.revision), request.query.get("includeObject", "")))


def list_body(store: Store, request: ApiRequest) -> bytes:
    """Return a list's text as the request wants it."""
    _check_version(store, request)
    entries, revision = selected(store, request), str(store.revision)
    if wants_table(request):
        return encode(tables.table(request.kind, entries, revision, request.query.get("includeObject", "")))
    head: Json = {"kind": f"{request.kind.kind}List", "apiVersion": request.api_version}
    items = b",".join(entry.encoded(request.api_version) for entry in entries)
    return encode(head | {"metadata": {"resourceVersion": revision}})[:-1] + b',"items":[' + items + b"]}"


def _check_version(store: Store, request: ApiRequest) -> None:
    asked = request.number("resourceVersion") or 0
    if asked > store.revision:
        raise too_large(asked, store.revision)
    if request.query.get("resourceVersionMatch") == "Exact" and asked != store.revision:
        raise Failure(410, "Expired", f"The resourceVersion for the provided list is too old: {asked}")
    if request.query.get("continue"):
        raise Failure(410, "Expired", "The provided continue parameter is too old: lists come whole, start again")


def too_large(asked: int, revision: int) -> Failure:
    message = f"Timeout: Too large resource version: {asked}, current: {revision}"
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    return Failure(504, "Timeout", message, {"causes": [cause], "retryAfterSeconds": 1})
