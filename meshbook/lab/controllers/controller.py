"""What a controller is: a pure ``decide(cache, key) -> actions``, and the loop that carries the actions out.

``Cache`` is what it sees of its cluster; ``perform`` is the only place that writes. It returns when the informers have
seen what was written, so that no decision is taken on a cache that is older than the controller's own last write.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Generic, TypeVar

from meshbook.errors import LabError
from meshbook.lab.client import EVENTS, ApiError, Client, Informer, Key, Resource, event, key_of
from meshbook.objects import NAME_LETTERS, Object, condition, is_deleting, moment_of, timestamp

log = logging.getLogger(__name__)

SEEN_WITHIN_S = 1.0
"""Longest wait for the informers; a watch that is slower costs a superfluous decision, not a wrong one."""
LOOK_EVERY_S = 0.003
FIRST_RETRY_S, LAST_RETRY_S = 0.05, 5.0

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Create:
    """Create ``obj``, or a ``subresource`` of ``parent``; a name that is taken or a namespace that goes is no error."""

    resource: Resource
    obj: Object
    parent: str = ""
    subresource: str = ""


@dataclass(frozen=True, kw_only=True)
class Patch:
    """Merge ``patch`` into ``of``; that it has gone is no error."""

    resource: Resource
    of: Object
    patch: Object
    subresource: str = ""


@dataclass(frozen=True, kw_only=True)
class Delete:
    """Delete ``of``, that very object; its dependents follow by ``propagation``."""

    resource: Resource
    of: Object
    propagation: str = "Background"


@dataclass(frozen=True, kw_only=True)
class Again:
    """Decide once more after a while: something depends on the clock."""

    after_s: float


Action = Create | Patch | Delete | Again
Actions = list[Action]
Conditions = list[Object]


def emit(subject: Object, *, reason: str, message: str, component: str, kind: str = "Normal") -> Create:
    """Ask for an Event on ``subject``."""
    obj = event(subject, reason=reason, message=message, component=component, kind=kind)
    return Create(resource=EVENTS, obj=obj)


def patch_status(resource: Resource, obj: Object, status: Object) -> Actions:
    """Ask for ``status`` (a merge patch below ``status``), unless it is empty."""
    return [Patch(resource=resource, of=obj, patch={"status": status}, subresource="status")] if status else []


def difference(old: object, new: Mapping[str, Any]) -> Object:
    """Return the merge patch that turns ``old`` into ``new``; empty when nothing differs."""
    before: Mapping[str, Any] = old if isinstance(old, Mapping) else {}
    patch: Object = {name: None for name in before if name not in new}
    for name, value in new.items():
        if name not in before or not isinstance(value, Mapping):
            if before.get(name) != value:
                patch[name] = value
        elif nested := difference(before[name], value):
            patch[name] = nested
    return patch


def settle(
    resource: Resource, known: Iterable[Object], wanted: Iterable[Object], ours: Callable[[Object], Object]
) -> Actions:
    """Ask for what makes ``known`` into ``wanted``; of what is there already, only the part that is ``ours`` counts."""
    left = {key_of(obj): obj for obj in known}
    actions: Actions = []
    for obj in wanted:
        before = left.pop(key_of(obj), None)
        if before is None:
            actions.append(Create(resource=resource, obj=obj))
        elif patch := difference(ours(before), ours(obj)):
            actions.append(Patch(resource=resource, of=before, patch=patch))
    return [*actions, *[Delete(resource=resource, of=obj) for obj in left.values()]]


def short_hash(data: object, length: int) -> str:
    """Return ``length`` letters that name ``data`` (anything that JSON can write), safe in an object's name."""
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).digest()
    return "".join(NAME_LETTERS[byte % len(NAME_LETTERS)] for byte in digest[:length])


class Cache:
    """The informers' objects of one cluster, and its clock."""

    def __init__(
        self,
        objects: Mapping[Resource, Mapping[Key, Object]],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.objects = objects
        self.now = now

    def get(self, resource: Resource, key: Key) -> Object | None:
        return self.objects[resource].get(key)

    def list(self, resource: Resource, namespace: str = "") -> list[Object]:
        """Return the objects of a namespace, or of the whole cluster."""
        found = self.objects[resource].items()
        return [obj for (where, _), obj in found if not namespace or where == namespace]

    def seconds_since(self, stamp: str) -> float:
        return (self.now() - moment_of(stamp)).total_seconds()

    def stamped(self, obj: Object, fresh: Object) -> Object:
        """Return a condition of ``obj`` with its transition time, which moves only when the condition's status does."""
        known = condition(obj, fresh["type"])
        same = known.get("status") == fresh["status"] and "lastTransitionTime" in known
        return {**fresh, "lastTransitionTime": known["lastTransitionTime"] if same else timestamp(self.now())}

    def with_condition(self, obj: Object, fresh: Object) -> Conditions:
        """Return the conditions of ``obj`` with ``fresh`` in them."""
        conditions = (obj.get("status") or {}).get("conditions") or []
        kept = [found for found in conditions if found["type"] != fresh["type"]]
        return [*kept, self.stamped(obj, fresh)]

    def has_seen(self, resource: Resource, written: Object) -> bool:
        """Whether the informers are at least as new as ``written``."""
        if resource not in self.objects or "resourceVersion" not in written.get("metadata", {}):
            return True
        known = self.get(resource, key_of(written))
        return is_deleting(written) if known is None else _version(known) >= _version(written)

    def has_lost(self, resource: Resource, deleted: Object) -> bool:
        known = self.objects.get(resource, {}).get(key_of(deleted))
        return known is None or is_deleting(known) or known["metadata"]["uid"] != deleted["metadata"]["uid"]


def _version(obj: Object) -> int:
    version: str = obj["metadata"]["resourceVersion"]
    return int(version) if version.isdigit() else 0


async def perform(client: Client, cache: Cache, actions: Sequence[Action]) -> float | None:
    """Carry ``actions`` out in order and wait until the cache shows them; return when to decide again."""
    again: float | None = None
    for action in actions:
        match action:
            case Again():
                again = action.after_s if again is None else min(again, action.after_s)
            case Create():
                await _create(client, cache, action)
            case Patch():
                await _patch(client, cache, action)
            case Delete():
                await _delete(client, cache, action)
    return again


async def _create(client: Client, cache: Cache, action: Create) -> None:
    try:
        written = await client.create(action.resource, action.obj, name=action.parent, subresource=action.subresource)
    except ApiError as error:
        namespace_goes = error.code == 404 or (error.code == 403 and "being terminated" in error.message)
        if error.code != 409 and not namespace_goes:
            raise
        return
    if not action.subresource:
        await _until(lambda: cache.has_seen(action.resource, written))


async def _patch(client: Client, cache: Cache, action: Patch) -> None:
    (namespace, name), where = key_of(action.of), action.subresource
    try:
        written = await client.merge_patch(action.resource, name, action.patch, namespace=namespace, subresource=where)
    except ApiError as error:
        if error.code != 404:
            raise
        return
    if where != "scale":
        await _until(lambda: cache.has_seen(action.resource, written))


async def _delete(client: Client, cache: Cache, action: Delete) -> None:
    options = {"propagationPolicy": action.propagation, "preconditions": {"uid": action.of["metadata"]["uid"]}}
    try:
        await client.request("DELETE", action.resource.path(*key_of(action.of)), options)
    except ApiError as error:
        if error.code not in (404, 409):
            raise
    await _until(lambda: cache.has_lost(action.resource, action.of))


async def _until(seen: Callable[[], bool]) -> None:
    deadline = asyncio.get_running_loop().time() + SEEN_WITHIN_S
    while not seen() and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(LOOK_EVERY_S)


class WorkQueue(Generic[K]):
    """Work on keys, one at a time, earliest first. A key that waits is there once; one that fails comes again."""

    def __init__(self, name: str, work: Callable[[K], Awaitable[float | None]]) -> None:
        self._name = name
        self._work = work
        self._due: dict[K, float] = {}
        self._failures: dict[K, int] = {}
        self._changed = asyncio.Event()

    def add(self, key: K, after_s: float = 0.0) -> None:
        due = asyncio.get_running_loop().time() + after_s
        self._due[key] = min(due, self._due.get(key, due))
        self._changed.set()

    async def run(self) -> None:
        """Work until cancelled. What ``work`` returns is the time in seconds after which the key is due again."""
        while True:
            key = await self._next()
            again = await self._attempt(key)
            if again is not None:
                self.add(key, again)

    async def _next(self) -> K:
        while True:
            self._changed.clear()
            now = asyncio.get_running_loop().time()
            key = min(self._due, key=self._due.__getitem__, default=None)
            if key is not None and self._due[key] <= now:
                del self._due[key]
                return key
            try:
                async with asyncio.timeout(None if key is None else self._due[key] - now):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _attempt(self, key: K) -> float | None:
        try:
            again = await self._work(key)
        except ApiError as error:
            level = logging.DEBUG if error.code == 409 else logging.WARNING
            log.log(level, "%s: %s: %s", self._name, key, error.message)
        except Exception:
            log.exception("%s: %s: a fault of the controller itself", self._name, key)
        else:
            self._failures.pop(key, None)
            return again
        self._failures[key] = self._failures.get(key, 0) + 1
        return min(FIRST_RETRY_S * 2.0 ** (self._failures[key] - 1), LAST_RETRY_S)


async def all_synced(informers: Iterable[Informer]) -> None:
    """Wait for the first list of every informer, however long the API server takes; say so when it takes long."""
    for informer in informers:
        while True:
            try:
                await informer.synced()
                break
            except LabError as error:
                log.warning("%s", error.message)


KeysOf = Callable[[Cache, Object], Iterable[Key]]


def itself(_: Cache, obj: Object) -> list[Key]:
    return [key_of(obj)]


@dataclass(frozen=True, kw_only=True)
class Controller:
    """One controller as data."""

    name: str
    decide: Callable[[Cache, Key], Actions]
    watches: Mapping[Resource, KeysOf]
    """For each kind that it watches: the keys on which to decide when such an object changes."""
    on_refusal: Callable[[Cache, Key, ApiError], Actions] = field(default=lambda cache, key, error: [])
    """What to do when the API server refuses an action, beside trying again."""

    async def run(self, client: Client, cache: Cache, informers: Mapping[Resource, Informer]) -> None:
        """Follow the informers (which are synced already) and act, until cancelled."""

        async def work(key: Key) -> float | None:
            try:
                return await perform(client, cache, self.decide(cache, key))
            except ApiError as error:
                if error.code not in (0, 409):
                    await perform(client, cache, self.on_refusal(cache, key, error))
                raise

        queue = WorkQueue(self.name, work)

        def note(keys_of: KeysOf, _: str, obj: Object) -> None:
            for key in keys_of(cache, obj):
                queue.add(key)

        for resource, keys_of in self.watches.items():
            informers[resource].subscribe(partial(note, keys_of))
        await queue.run()
