"""Who owns whom: owner references, their adoption, and what becomes of the objects whose owner goes.

Garbage is collected in the background, in the foreground or orphaned, as deletion's finalizers ask for it, among the
kinds that the manager watches. An owner of any other kind counts as present, so nothing is deleted on a guess; that
an owner has gone is asked of the API server before a dependent is deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from meshbook.lab.client import DEPLOYMENTS, REPLICA_SETS, ApiError, Client, Informer, Key, Resource, key_of
from meshbook.lab.controllers.controller import Actions, Cache, Delete, Patch, WorkQueue, perform
from meshbook.objects import Object, is_deleting, labels_of, selects

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"

Found = tuple[Resource, Object]


def owner_reference(owner: Object) -> Object:
    metadata = owner["metadata"]
    reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": metadata["name"]}
    return {**reference, "uid": metadata["uid"], "controller": True, "blockOwnerDeletion": True}


def references_of(obj: Object) -> list[Object]:
    references: list[Object] = obj["metadata"].get("ownerReferences") or []
    return references


def controller_of(obj: Object) -> Object:
    """Return the owner reference that says ``controller: true``, or an empty dict."""
    return next((reference for reference in references_of(obj) if reference.get("controller")), {})


def is_controlled_by(obj: Object, owner: Object) -> bool:
    return bool(controller_of(obj).get("uid") == owner["metadata"]["uid"])


def claim(owner: Object, resource: Resource, candidates: Iterable[Object]) -> tuple[list[Object], Actions]:
    """Return what ``owner`` controls, and the patches that adopt orphans and let go what no longer matches."""
    owned: list[Object] = []
    actions: Actions = []
    for obj in candidates:
        matches = selects(owner["spec"]["selector"], labels_of(obj))
        if is_controlled_by(obj, owner):
            if matches or is_deleting(obj):
                owned.append(obj)
            else:
                actions.append(_owned_by(resource, obj, _others(obj, owner)))
        elif matches and not controller_of(obj) and not is_deleting(obj) and not is_deleting(owner):
            actions.append(_owned_by(resource, obj, [*_others(obj, owner), owner_reference(owner)]))
    return owned, actions


def claimants(cache: Cache, owners: Resource, obj: Object) -> list[Key]:
    """Return whose business a change of ``obj`` is: its controller, else all that might adopt it."""
    namespace, reference = obj["metadata"]["namespace"], controller_of(obj)
    if reference:
        return [(namespace, reference["name"])] if reference["kind"] == owners.kind else []
    found = cache.list(owners, namespace)
    return [key_of(owner) for owner in found if selects(owner["spec"]["selector"], labels_of(obj))]


def _others(obj: Object, owner: Object) -> list[Object]:
    return [reference for reference in references_of(obj) if reference["uid"] != owner["metadata"]["uid"]]


def _owned_by(resource: Resource, obj: Object, references: list[Object]) -> Patch:
    """Ask for ``references`` to be the object's owners, if nobody has changed it since."""
    version = obj["metadata"]["resourceVersion"]
    patch = {"metadata": {"ownerReferences": references or None, "resourceVersion": version}}
    return Patch(resource=resource, of=obj, patch=patch)


def collect(cache: Cache, resource: Resource, obj: Object, absent: list[Object]) -> Actions:
    """Say what becomes of an object some of whose owners are ``absent``, and of the dependents of one that goes."""
    if absent and not is_deleting(obj):
        kept = [reference for reference in references_of(obj) if reference not in absent]
        return [_owned_by(resource, obj, kept)] if kept else [Delete(resource=resource, of=obj)]
    finalizers = obj["metadata"].get("finalizers") or []
    if not is_deleting(obj) or not {ORPHAN, FOREGROUND} & set(finalizers):
        return []
    dependents = dependents_of(cache, obj)
    if ORPHAN in finalizers:
        detached = [_owned_by(kind, one, _others(one, obj)) for kind, one in dependents]
        return [*detached, _without_finalizer(resource, obj, ORPHAN)]
    if any(_blocks(one, obj) for _, one in dependents):
        return [_deletion(kind, one) for kind, one in dependents if not is_deleting(one)]
    return [_without_finalizer(resource, obj, FOREGROUND)]


def dependents_of(cache: Cache, owner: Object) -> list[Found]:
    """Return all objects that name ``owner`` among their owners."""
    uid = owner["metadata"]["uid"]
    return [
        (resource, obj)
        for resource, objects in cache.objects.items()
        for obj in objects.values()
        if any(reference["uid"] == uid for reference in references_of(obj))
    ]


def _blocks(obj: Object, owner: Object) -> bool:
    uid = owner["metadata"]["uid"]
    return any(found["uid"] == uid and found.get("blockOwnerDeletion") for found in references_of(obj))


def _deletion(resource: Resource, obj: Object) -> Delete:
    has_dependents = resource in (DEPLOYMENTS, REPLICA_SETS)
    return Delete(resource=resource, of=obj, propagation="Foreground" if has_dependents else "Background")


def _without_finalizer(resource: Resource, obj: Object, name: str) -> Patch:
    metadata = obj["metadata"]
    kept = [finalizer for finalizer in metadata["finalizers"] if finalizer != name]
    patch = {"metadata": {"finalizers": kept or None, "resourceVersion": metadata["resourceVersion"]}}
    return Patch(resource=resource, of=obj, patch=patch)


class GarbageCollector:
    """Collect among the watched kinds of one cluster."""

    def __init__(self, client: Client, cache: Cache, informers: Mapping[Resource, Informer]) -> None:
        self._client = client
        self._cache = cache
        self._informers = informers
        self._kinds = {(resource.api_version, resource.kind): resource for resource in informers}
        self._found: dict[str, Found] = {}
        self._queue: WorkQueue[str] = WorkQueue("garbage", self._collect)

    async def run(self) -> None:
        """Follow the informers (which are synced already) until cancelled."""
        for resource, informer in self._informers.items():
            informer.subscribe(partial(self._note, resource))
        await self._queue.run()

    def _note(self, resource: Resource, kind: str, obj: Object) -> None:
        uid = obj["metadata"]["uid"]
        if kind == "DELETED":
            self._found.pop(uid, None)
            touched = [found["metadata"]["uid"] for _, found in dependents_of(self._cache, obj)]
        else:
            self._found[uid] = (resource, obj)
            touched = [uid]
        for each in [*touched, *[reference["uid"] for reference in references_of(obj)]]:
            self._queue.add(each)

    async def _collect(self, uid: str) -> float | None:
        if uid not in self._found:
            return None
        resource, obj = self._found[uid]
        absent = [reference for reference in references_of(obj) if await self._is_gone(obj, reference)]
        return await perform(self._client, self._cache, collect(self._cache, resource, obj, absent))

    async def _is_gone(self, obj: Object, reference: Object) -> bool:
        """Whether an owner has gone; where the informers do not know it, the API server is asked."""
        kind = self._kinds.get((reference["apiVersion"], reference["kind"]))
        if kind is None or reference["uid"] in self._found:
            return False
        try:
            owner = await self._client.get(kind, reference["name"], key_of(obj)[0])
        except ApiError as error:
            if error.code != 404:
                raise
            return True
        return bool(owner["metadata"]["uid"] != reference["uid"])
