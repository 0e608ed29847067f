"""Garbage collection by owner reference: background, foreground and orphan, as deletion's finalizers ask for it.

It knows the kinds that the manager informers; an owner of any other kind counts as present, so nothing is deleted on a
guess. That an owner has gone is asked of the API server before a dependent is deleted.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from meshbook.lab.client import DEPLOYMENTS, REPLICA_SETS, ApiError, Client, Informer, Resource
from meshbook.lab.controllers.loop import WorkQueue
from meshbook.lab.controllers.objects import Object, is_deleting
from meshbook.lab.controllers.world import Action, Actions, Delete, Patch, World, perform

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
WITH_DEPENDENTS = (DEPLOYMENTS, REPLICA_SETS)

Found = tuple[Resource, Object]


def references_of(obj: Object) -> list[Object]:
    references: list[Object] = obj["metadata"].get("ownerReferences") or []
    return references


def dependents_of(world: World, owner: Object) -> list[Found]:
    """Return all objects that name ``owner`` among their owners."""
    uid = owner["metadata"]["uid"]
    return [
        (resource, obj)
        for resource, objects in world.objects.items()
        for obj in objects.values()
        if any(reference["uid"] == uid for reference in references_of(obj))
    ]


def release(world: World, resource: Resource, owner: Object) -> Actions:
    """Do for an owner that is being deleted what its finalizers ask: delete or orphan its dependents, then let go."""
    finalizers = owner["metadata"].get("finalizers") or []
    if not is_deleting(owner):
        return []
    dependents = dependents_of(world, owner)
    if ORPHAN in finalizers:
        return [*[_disown(kind, obj, owner) for kind, obj in dependents], _without_finalizer(resource, owner, ORPHAN)]
    if FOREGROUND not in finalizers:
        return []
    if any(_blocks(obj, owner) for _, obj in dependents):
        return [_deletion(kind, obj) for kind, obj in dependents if not is_deleting(obj)]
    return [_without_finalizer(resource, owner, FOREGROUND)]


def _blocks(obj: Object, owner: Object) -> bool:
    uid = owner["metadata"]["uid"]
    return any(found["uid"] == uid and found.get("blockOwnerDeletion") for found in references_of(obj))


def _deletion(resource: Resource, obj: Object) -> Delete:
    return Delete(resource=resource, of=obj, propagation="Foreground" if resource in WITH_DEPENDENTS else "Background")


def _disown(resource: Resource, obj: Object, owner: Object) -> Action:
    uid = owner["metadata"]["uid"]
    return keep_owners(resource, obj, [found for found in references_of(obj) if found["uid"] != uid])


def keep_owners(resource: Resource, obj: Object, references: list[Object]) -> Patch:
    """Ask for ``references`` to be the object's owners, if nobody has changed it since."""
    version = obj["metadata"]["resourceVersion"]
    patch = {"metadata": {"ownerReferences": references or None, "resourceVersion": version}}
    return Patch(resource=resource, of=obj, patch=patch)


def _without_finalizer(resource: Resource, obj: Object, name: str) -> Patch:
    metadata = obj["metadata"]
    kept = [finalizer for finalizer in metadata["finalizers"] if finalizer != name]
    patch = {"metadata": {"finalizers": kept or None, "resourceVersion": metadata["resourceVersion"]}}
    return Patch(resource=resource, of=obj, patch=patch)


def judge(resource: Resource, obj: Object, absent: list[Object]) -> Actions:
    """Say what becomes of an object some of whose owners are ``absent``: deleted with the last, else detached."""
    if not absent or is_deleting(obj):
        return []
    kept = [reference for reference in references_of(obj) if reference not in absent]
    return [keep_owners(resource, obj, kept)] if kept else [Delete(resource=resource, of=obj, propagation="Background")]


class GarbageCollector:
    """Collect among the cached kinds of one cluster."""

    def __init__(self, client: Client, world: World, informers: Mapping[Resource, Informer]) -> None:
        self._client = client
        self._world = world
        self._kinds = {(resource.api_version, resource.kind): resource for resource in informers}
        self._found: dict[str, Found] = {}
        self._queue: WorkQueue[str] = WorkQueue("garbage", self._collect)
        self._informers = informers

    async def run(self) -> None:
        """Follow the informers (which are synced already) until cancelled."""
        for resource, informer in self._informers.items():
            for obj in list(informer.objects.values()):
                self._note(resource, "ADDED", obj)
            informer.subscribe(partial(self._note, resource))
        await self._queue.run()

    def _note(self, resource: Resource, event: str, obj: Object) -> None:
        uid = obj["metadata"]["uid"]
        if event == "DELETED":
            self._found.pop(uid, None)
            touched = [found["metadata"]["uid"] for _, found in dependents_of(self._world, obj)]
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
        actions = judge(resource, obj, absent) or release(self._world, resource, obj)
        return await perform(self._client, self._world, actions)

    async def _is_gone(self, obj: Object, reference: Object) -> bool:
        """Whether an owner has gone; where the informers do not know it, the API server is asked."""
        kind = self._kinds.get((reference["apiVersion"], reference["kind"]))
        if kind is None or reference["uid"] in self._found:
            return False
        try:
            namespace = obj["metadata"].get("namespace", "")
            owner = await self._client.get(kind, reference["name"], namespace)
        except ApiError as error:
            if error.code != 404:
                raise
            return True
        return bool(owner["metadata"]["uid"] != reference["uid"])
