"""Lists are narrowed by selectors; watches tell each change once, in order, and say so when they cannot."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest


async def _three(api: Any) -> None:
    for name, tier in (("a", "web"), ("b", "web"), ("c", "data")):
        body = api.pod(name)
        body["metadata"]["labels"] = {"tier": tier, "app": name}
        await api.made(api.PODS, body)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"labelSelector": "tier=web"}, ["a", "b"]),
        ({"labelSelector": "tier!=web"}, ["c"]),
        ({"labelSelector": "tier in (data,cache),app"}, ["c"]),
        ({"labelSelector": "tier notin (data)"}, ["a", "b"]),
        ({"labelSelector": "!tier"}, []),
        ({"fieldSelector": "metadata.name=b"}, ["b"]),
        ({"fieldSelector": "metadata.name!=b,status.phase=Pending"}, ["a", "c"]),
        ({"limit": "1"}, ["a", "b", "c"]),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
async def test_selectors_narrow_a_list(api: Any, query: dict[str, str], names: list[str]) -> None:
    await _three(api)
    for path in (api.PODS, "/api/v1/pods"):
        answer = await api("GET", path, **query)
        assert [item["metadata"]["name"] for item in answer.body["items"]] == names
    assert answer.body["kind"] == "PodList"


async def test_a_field_that_cannot_be_selected_is_refused(api: Any) -> None:
    answer = await api("GET", api.PODS, fieldSelector="spec.color=red")
    assert (answer.code, answer.message) == (400, "field label not supported: spec.color")


async def test_resource_versions_only_grow(api: Any) -> None:
    async with api.watching(api.CONFIG_MAPS, resourceVersion="0") as watcher:
        for i in range(5):
            await api.made(api.CONFIG_MAPS, api.config_map(f"m{i}"))
        versions = [int((await watcher.next())["object"]["metadata"]["resourceVersion"]) for _ in range(5)]
    assert versions == sorted(set(versions))


async def test_forgotten_history_ends_a_watch_with_410(api: Any) -> None:
    version = (await api.made(api.CONFIG_MAPS, api.config_map()))["metadata"]["resourceVersion"]
    async with api.watching(api.CONFIG_MAPS, resourceVersion=version) as running:
        api.server.store.forget_history()
        async with api.watching(api.CONFIG_MAPS, resourceVersion=version) as late:
            for watcher in (running, late):
                event = await watcher.next()
                assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
                assert (await watcher.next())["type"] == "END"


async def test_a_version_from_before_the_server_started_is_forgotten(api: Any) -> None:
    async with api.watching("/api/v1/nodes", resourceVersion="1") as watcher:
        event = await watcher.next()
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


async def test_a_watch_ends_at_its_timeout_with_a_bookmark(api: Any) -> None:
    query = {"timeoutSeconds": "1", "allowWatchBookmarks": "true", "resourceVersion": str(api.server.store.revision)}
    async with api.watching("/api/v1/nodes", **query) as watcher:
        mark = await watcher.next()
        assert (mark["type"], mark["object"]["kind"]) == ("BOOKMARK", "Node")
        assert int(mark["object"]["metadata"]["resourceVersion"]) >= api.server.store.revision
        assert (await watcher.next())["type"] == "END"


async def test_initial_events_end_with_a_marked_bookmark(api: Any) -> None:
    await api.made(api.CONFIG_MAPS, api.config_map())
    query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    async with api.watching(api.CONFIG_MAPS, **query) as watcher:
        assert (await watcher.next())["type"] == "ADDED"
        end = await watcher.next()
        assert end["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_a_version_from_the_future_is_refused(api: Any) -> None:
    answer = await api("GET", api.PODS, watch="true", resourceVersion="999999")
    assert (answer.code, answer.reason) == (504, "Timeout")


async def test_a_stopping_server_does_not_wait_for_its_watches(api: Any) -> None:
    async with api.watching(api.PODS) as watcher:
        async with asyncio.timeout(2):
            await api.server.stop()
        with pytest.raises(aiohttp.ClientPayloadError):
            await watcher.next()
