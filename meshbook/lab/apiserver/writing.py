"""Writes: from a proposed object to the store, in the order of a real server.

Carry over what the request may not change → defaults → admission → validation → generation, ownership → store.
Bodies and patches become objects in ``bodies``; deletion is in ``deleting``.
"""

from __future__ import annotations

import uuid

from meshbook.lab.apiserver import patching
from meshbook.lab.apiserver.accounts import mount_token
from meshbook.lab.apiserver.admission import Admission
from meshbook.lab.apiserver.bodies import CUSTOM_PATCH_TYPES, PATCH_TYPES, applied, patched, taken_in
from meshbook.lab.apiserver.defaults import allocate, fill
from meshbook.lab.apiserver.failures import Cause, already_exists, bad_request, conflict, invalid, not_found, stale
from meshbook.lab.apiserver.kinds import Json
from meshbook.lab.apiserver.lifecycle import (
    account_exists,
    carried_over,
    counted,
    is_finished,
    name_new,
    namespace_accepts,
    newborn,
    timestamp,
)
from meshbook.lab.apiserver.ownership import Owner, shares_after, write_shares
from meshbook.lab.apiserver.reading import current
from meshbook.lab.apiserver.requests import ApiRequest
from meshbook.lab.apiserver.shapes import missing, shape_of
from meshbook.lab.apiserver.store import AlreadyStored, NotStored, StaleWrite, Store, Stored
from meshbook.lab.apiserver.validation import check
from meshbook.lab.topology import ClusterTopology

PATCH_TRIES = 5
UNTRACKED = ("Event",)
"""Kinds of whose ownership nobody asks, and which are written often."""


class Writer:
    """Creates, replaces and patches the objects of one cluster."""

    def __init__(self, store: Store, cluster: ClusterTopology, admission: Admission) -> None:
        self.store = store
        self._cluster = cluster
        self._admission = admission

    async def create(self, request: ApiRequest) -> Stored:
        obj = taken_in(request, request.document())
        if obj["metadata"].get("resourceVersion"):
            raise bad_request("resourceVersion should not be set on objects to be created")
        return await self._create(request, obj, tracked=True)

    async def update(self, request: ApiRequest) -> Stored:
        return await self.put(request, taken_in(request, request.document()))

    async def put(self, request: ApiRequest, obj: Json) -> Stored:
        """Replace the object that ``request`` names by ``obj``."""
        before = current(self.store, request)
        _check_preconditions(request, obj, before)
        try:
            return await self._replace(request, obj, before, tracked=True)
        except StaleWrite:
            raise stale(request.kind, request.name) from None

    async def patch(self, request: ApiRequest) -> tuple[Stored, bool]:
        """Patch, anew where another write came between. Returns the object, and whether apply created it."""
        body = request.document(CUSTOM_PATCH_TYPES if request.kind.custom else PATCH_TYPES)
        applying = request.content_type == patching.APPLY_PATCH
        for _ in range(PATCH_TRIES):
            before = self.store.get(request.kind.bucket, request.namespace, request.name)
            if before is None:
                if not applying or request.subresource:
                    raise not_found(request.kind, request.name)
                return await self._create(request, applied(request, body, None), tracked=False), True
            obj = (applied if applying else patched)(request, body, before.object)
            _check_preconditions(request, obj, before)
            try:
                return await self._replace(request, obj, before, tracked=not applying), False
            except StaleWrite:
                request.warnings.clear()
        raise stale(request.kind, request.name)

    async def _create(self, request: ApiRequest, obj: Json, *, tracked: bool) -> Stored:
        kind = request.kind
        name_new(obj["metadata"], lambda name: self.store.get(kind.bucket, request.namespace, name) is not None)
        namespace_accepts(self.store, kind, obj["metadata"])
        obj = await self._finish(request, newborn(kind, obj, str(uuid.uuid4())), None, tracked=tracked)
        name = obj["metadata"]["name"]
        if request.dry_run and self.store.get(kind.bucket, request.namespace, name) is None:
            return Stored(obj, self.store.revision)
        namespace_accepts(self.store, kind, obj["metadata"])
        try:
            return self.store.create(kind.bucket, obj)
        except AlreadyStored:
            raise already_exists(kind, name) from None

    async def _replace(self, request: ApiRequest, obj: Json, before: Stored, *, tracked: bool) -> Stored:
        kind = request.kind
        obj = carried_over(kind, request.subresource, obj, before.object)
        obj = await self._finish(request, obj, before.object, tracked=tracked)
        if obj == before.object:
            return before
        if request.dry_run:
            return Stored(obj, before.revision)
        try:
            if is_finished(kind, obj):
                return self.store.delete(kind.bucket, obj, before)
            return self.store.replace(kind.bucket, obj, before)
        except NotStored:
            raise not_found(kind, request.name) from None

    async def _finish(self, request: ApiRequest, obj: Json, before: Json | None, *, tracked: bool) -> Json:
        """Return ``obj`` with defaults, admitted, checked, counted and owned."""
        kind = request.kind
        if request.subresource in ("", "scale"):
            self._fill(request, obj, before)
            admitted = await self._admission.mutate(request, obj, before)
            if admitted is not obj:
                obj = taken_in(request, admitted, from_webhook=True)
                self._fill(request, obj, before)
            check(kind, obj, before)
        obj = counted(kind, obj, before)
        if tracked and kind.kind not in UNTRACKED:
            owner = Owner(manager=request.manager, operation="Update", subresource=request.subresource)
            shares = shares_after(before, obj, shape_of(kind.shape), owner, timestamp())
            obj = obj | {"metadata": obj["metadata"] | {"managedFields": write_shares(shares, kind.api_version)}}
        return obj

    def _fill(self, request: ApiRequest, obj: Json, before: Json | None) -> None:
        """Fill in defaults where the object has the parts that defaults go into; ``check`` refuses it otherwise."""
        kind = request.kind
        if any(missing(obj, shape_of(kind.shape))):
            return
        fill(kind, obj)
        if kind.kind == "Service":
            others = [entry.object for entry in self.store.list(kind.bucket)]
            allocate(obj, [o for o in others if before is None or o is not before], self._cluster)
        if kind.kind == "Pod" and before is None:
            account_exists(self.store, obj, kind)
            mount_token(self.store, obj)


def _check_preconditions(request: ApiRequest, obj: Json, before: Stored) -> None:
    there, given = before.object["metadata"], obj["metadata"]
    if given.get("resourceVersion") not in (None, "", there["resourceVersion"]):
        raise stale(request.kind, request.name)
    if given.get("uid") not in (None, "", there["uid"]):
        why = f"Precondition failed: UID in precondition: {given['uid']}, UID in object meta: {there['uid']}"
        raise conflict(request.kind, request.name, why)
    if request.kind.custom and request.verb == "update" and not given.get("resourceVersion"):
        cause = Cause(
            field="metadata.resourceVersion",
            reason="FieldValueInvalid",
            message="Invalid value: 0x0: must be specified for an update",
        )
        raise invalid(request.kind, request.name, [cause])
