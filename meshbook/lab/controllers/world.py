"""What a controller sees of its cluster, and the actions that it may ask for.

A controller is a pure function: ``decide(world, key) -> actions``. ``World`` is the cached cluster; ``perform`` is
the only place that writes. It returns when the informers have seen what was written, so that no decision is taken on a
picture that is older than the controller's own last deed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from meshbook.lab.client import EVENTS, ApiError, Client, Resource, event
from meshbook.lab.controllers.objects import Key, Object, is_deleting, key_of

SEEN_WITHIN_S = 1.0
"""Longest wait for the informers; a watch that is slower than this costs a superfluous decision, not a wrong one."""
LOOK_EVERY_S = 0.003


@dataclass(frozen=True, kw_only=True)
class Create:
    """Create ``obj``; that its name is taken, or its namespace on the way out, is no error."""

    resource: Resource
    obj: Object
    name: str = ""
    """Name of the parent, where ``subresource`` is set."""
    subresource: str = ""
    told: Object | None = None
    """An Event for afterwards; ``{name}`` in its message becomes the name of what was created."""


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
    propagation: str = ""


@dataclass(frozen=True, kw_only=True)
class Again:
    """Decide once more after a while: something depends on the clock."""

    after_s: float


Action = Create | Patch | Delete | Again
Actions = list[Action]


def emit(subject: Object, *, reason: str, message: str, component: str, kind: str = "Normal") -> Create:
    """Ask for an Event on ``subject``."""
    told = event(subject, reason=reason, message=message, component=component, kind=kind)
    return Create(resource=EVENTS, obj=told)


def patch_status(resource: Resource, obj: Object, status: Object) -> Actions:
    """Ask for ``status`` (a merge patch below ``status``), unless it is empty."""
    return [Patch(resource=resource, of=obj, patch={"status": status}, subresource="status")] if status else []


class World:
    """The cached objects of one cluster, and its clock."""

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

    def has_seen(self, resource: Resource, written: Object) -> bool:
        """Whether the informers are at least as new as ``written``."""
        if resource not in self.objects or "resourceVersion" not in written.get("metadata", {}):
            return True
        known = self.get(resource, key_of(written))
        return is_deleting(written) if known is None else _version(known) >= _version(written)


def _version(obj: Object) -> int:
    version: str = obj["metadata"]["resourceVersion"]
    return int(version) if version.isdigit() else 0


async def perform(client: Client, world: World, actions: Sequence[Action]) -> float | None:
    """Carry ``actions`` out in order and wait until the world shows them; return when to decide again."""
    again: float | None = None
    for action in actions:
        match action:
            case Again():
                again = action.after_s if again is None else min(again, action.after_s)
            case Create():
                await _create(client, world, action)
            case Patch():
                await _patch(client, world, action)
            case Delete():
                await _delete(client, world, action)
    return again


async def _create(client: Client, world: World, action: Create) -> None:
    try:
        written = await client.create(action.resource, action.obj, name=action.name, subresource=action.subresource)
    except ApiError as error:
        there_already = error.code == 409 and "name" in action.obj["metadata"]
        namespace_goes = error.code == 404 or (error.code == 403 and "being terminated" in error.message)
        if not there_already and not namespace_goes:
            raise
        return
    if not action.subresource:
        await _until(lambda: world.has_seen(action.resource, written))
    if action.told:
        message = action.told["message"].format(name=written["metadata"]["name"])
        await _create(client, world, Create(resource=EVENTS, obj=action.told | {"message": message}))


async def _patch(client: Client, world: World, action: Patch) -> None:
    namespace, name = key_of(action.of)
    try:
        written = await client.merge_patch(
            action.resource, name, action.patch, namespace=namespace, subresource=action.subresource
        )
    except ApiError as error:
        if error.code != 404:
            raise
        return
    if action.subresource in ("", "status"):
        await _until(lambda: world.has_seen(action.resource, written))


async def _delete(client: Client, world: World, action: Delete) -> None:
    (namespace, name), uid = key_of(action.of), action.of["metadata"]["uid"]
    options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
    if action.propagation:
        options["propagationPolicy"] = action.propagation
    try:
        await client.request("DELETE", action.resource.path(namespace, name), options)
    except ApiError as error:
        if error.code not in (404, 409):
            raise

    def gone() -> bool:
        known = world.objects.get(action.resource, {}).get((namespace, name))
        return known is None or is_deleting(known) or known["metadata"]["uid"] != uid

    await _until(gone)


async def _until(seen: Callable[[], bool]) -> None:
    deadline = asyncio.get_running_loop().time() + SEEN_WITHIN_S
    while not seen() and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(LOOK_EVERY_S)
