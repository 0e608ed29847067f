"""The thin loop around every controller: a keyed queue that never forgets, and retries with bounded back-off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from meshbook.errors import LabError
from meshbook.lab.client import ApiError, Client, Informer, Resource
from meshbook.lab.controllers.objects import Key, Object
from meshbook.lab.controllers.world import Actions, World, perform

log = logging.getLogger(__name__)

FIRST_RETRY_S, LAST_RETRY_S = 0.05, 5.0

K = TypeVar("K", bound=Hashable)


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


Concerns = Callable[[World, Object], Iterable[Key]]


@dataclass(frozen=True, kw_only=True)
class Controller:
    """One controller as data."""

    name: str
    decide: Callable[[World, Key], Actions]
    concerns: Mapping[Resource, Concerns]
    """For each kind that it watches: whose decision a change of such an object concerns."""
    on_refusal: Callable[[World, Key, ApiError], Actions] = field(default=lambda world, key, error: [])
    """What to do when the API server refuses an action, beside trying again."""


async def run_controller(
    controller: Controller, client: Client, world: World, informers: Mapping[Resource, Informer]
) -> None:
    """Follow the informers (which are synced already) and act, until cancelled."""

    async def work(key: Key) -> float | None:
        try:
            return await perform(client, world, controller.decide(world, key))
        except ApiError as error:
            if error.code not in (0, 409):
                await perform(client, world, controller.on_refusal(world, key, error))
            raise

    queue = WorkQueue(controller.name, work)

    def note(concerns: Concerns, _: str, obj: Object) -> None:
        for key in concerns(world, obj):
            queue.add(key)

    for resource, concerns in controller.concerns.items():
        for obj in list(informers[resource].objects.values()):
            note(concerns, "ADDED", obj)
        informers[resource].subscribe(partial(note, concerns))
    await queue.run()
