"""A local copy of one kind that a watch keeps current: what client-go calls an informer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from meshbook.errors import LabError
from meshbook.lab.client import REQUEST_TIMEOUT_S, ApiError, Client, Object, Resource

log = logging.getLogger(__name__)

RELIST_PAUSE_S = 0.2
"""Pause before a lost watch is taken up again: an API server that restarts is not flooded."""


class Mirror:
    """A copy of one kind's objects, kept current by list and watch for as long as ``run`` runs.

    Subscribers are called in order of subscription with (``ADDED`` | ``MODIFIED`` | ``DELETED``, object) and must not
    block.
    """

    def __init__(
        self, client: Client, resource: Resource, *, namespace: str = "", labels: str = "", fields: str = ""
    ) -> None:
        self.client = client
        self.resource = resource
        self.objects: dict[tuple[str, str], Object] = {}
        self._scope = {"namespace": namespace, "labels": labels, "fields": fields}
        self._subscribers: list[Callable[[str, Object], None]] = []
        self._synced = asyncio.Event()

    def subscribe(self, callback: Callable[[str, Object], None]) -> None:
        self._subscribers.append(callback)

    async def synced(self, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        """Wait until the first list has come; ``LabError`` after ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._synced.wait()
        except TimeoutError as error:
            raise LabError(f"{self.client.context}: no list of {self.resource.plural} in {timeout_s:g} s") from error

    async def run(self) -> None:
        """List, then watch; list again when the watch is lost or too old. Ends by cancellation only."""
        while True:
            try:
                since = await self._relist()
                while True:
                    since = await self._follow(since)
            except ApiError as error:
                if error.code not in (0, 410):
                    log.warning("%s", error.message)
            await asyncio.sleep(RELIST_PAUSE_S)

    async def _relist(self) -> str:
        objects, since = await self.client.list(self.resource, **self._scope)
        fresh = {_key(obj): obj for obj in objects}
        for key in [key for key in self.objects if key not in fresh]:
            self._tell("DELETED", self.objects.pop(key))
        for key, obj in fresh.items():
            self._store(key, obj)
        self._synced.set()
        return since

    async def _follow(self, since: str) -> str:
        async for kind, obj in self.client.watch(self.resource, since, **self._scope):
            since = obj["metadata"]["resourceVersion"]
            if kind == "DELETED":
                self.objects.pop(_key(obj), None)
                self._tell(kind, obj)
            elif kind != "BOOKMARK":
                self._store(_key(obj), obj)
        return since

    def _store(self, key: tuple[str, str], obj: Object) -> None:
        known = self.objects.get(key)
        if known is not None and known["metadata"]["resourceVersion"] == obj["metadata"]["resourceVersion"]:
            return
        self.objects[key] = obj
        self._tell("ADDED" if known is None else "MODIFIED", obj)

    def _tell(self, event: str, obj: Object) -> None:
        for callback in self._subscribers:
            callback(event, obj)


def _key(obj: Object) -> tuple[str, str]:
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
