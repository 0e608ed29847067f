"""What a watch does at the edges of its time. What all API servers have in common is in tests/contract."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

HISTORY = 1001
"""More changes of a kind than a server keeps."""


async def test_forgotten_history_ends_a_watch_with_410(api: Any) -> None:
    version = (await api.made(api.CONFIG_MAPS, api.config_map()))["metadata"]["resourceVersion"]
    async with api.watching(api.CONFIG_MAPS, resourceVersion=version) as running:
        for number in range(HISTORY):
            api.server.store.create("/configmaps", api.config_map(f"more-{number}"))
        async with api.watching(api.CONFIG_MAPS, resourceVersion=version) as late:
            for watcher in (running, late):
                event = await watcher.next()
                assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
                assert (await watcher.next())["type"] == "END"


async def test_initial_events_end_with_a_marked_bookmark(api: Any) -> None:
    await api.made(api.CONFIG_MAPS, api.config_map())
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    async with api.watching(api.CONFIG_MAPS, **query) as watcher:
        assert (await watcher.next())["type"] == "ADDED"
        end = await watcher.next()
        assert end["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_a_stopping_server_does_not_wait_for_its_watches(api: Any) -> None:
    async with api.watching(api.PODS) as watcher:
        async with asyncio.timeout(2):
            await api.server.stop()
        with pytest.raises(aiohttp.ClientPayloadError):
            await watcher.next()
