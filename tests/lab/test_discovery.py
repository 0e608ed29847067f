"""Discovery: who may ask, what is told when, in which order, and what becomes of an Envoy that refuses it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import grpc
import pytest
from askers import Asker, asker

from meshbook.errors import LabError
from meshbook.lab.discovery import DiscoveryServer
from meshbook.lab.envoy import CLUSTER, LISTENER, LOAD_ASSIGNMENT, ROUTE_CONFIGURATION, Resources
from meshbook.lab.loopback import claim_block
from meshbook.lab.pki import Authority

NODE = "web-0.sample"
Ask = Callable[..., AbstractAsyncContextManager[Asker]]


def typed(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    key = "cluster_name" if kind == LOAD_ASSIGNMENT else "name"
    return {"@type": f"type.googleapis.com/{kind}", key: name, **fields}


def served(connect_timeout: str = "1s", priority: int = 0, stat_prefix: str = "a") -> Resources:
    """Return a cluster with its endpoints, and a listener with its routes."""
    return Resources(
        clusters=[typed(CLUSTER, "c", connect_timeout=connect_timeout)],
        endpoints=[typed(LOAD_ASSIGNMENT, "c", endpoints=[{"priority": priority}]), typed(LOAD_ASSIGNMENT, "other")],
        listeners=[typed(LISTENER, "l", stat_prefix=stat_prefix)],
        routes=[typed(ROUTE_CONFIGURATION, "r")],
    )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@pytest.fixture
async def address() -> AsyncIterator[str]:
    block, claim = claim_block()
    with claim:
        yield f"127.{block}.10.3"


@pytest.fixture
async def server(address: str, authority: Authority) -> AsyncIterator[DiscoveryServer]:
    started = DiscoveryServer("c1", address, authority)
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
def ask(address: str, authority: Authority) -> Ask:
    def connect(node: str = NODE, token: str | None = None) -> AbstractAsyncContextManager[Asker]:
        return asker("c1", node, address, authority, token)

    return connect


@pytest.mark.parametrize("token", ["", "of another node"])
async def test_who_does_not_show_the_token_of_its_node_is_told_nothing(
    server: DiscoveryServer, authority: Authority, ask: Ask, token: str
) -> None:
    server.publish(NODE, served())
    shown = token and authority.token("c1/other.sample")
    async with ask(token=shown) as stranger:
        await stranger.ask(CLUSTER)
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stranger.read()
    assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_an_address_that_is_taken_is_an_error_and_not_shared(
    server: DiscoveryServer, address: str, authority: Authority
) -> None:
    second = DiscoveryServer("c1", address, authority)
    with pytest.raises(LabError, match="cannot be listened on"):
        await second.start()
    await second.stop()


async def test_an_envoy_that_is_not_known_yet_waits_and_one_is_told_what_it_names(
    server: DiscoveryServer, ask: Ask
) -> None:
    async with ask() as envoy:
        await envoy.ask(CLUSTER)
        await envoy.ask(LOAD_ASSIGNMENT, ["c"])
        reading = asyncio.ensure_future(envoy.read())
        done, _ = await asyncio.wait([reading], timeout=0.05)
        assert not done
        server.publish(NODE, served())
        await reading
        await envoy.read()
        assert {kind: list(told) for kind, told in envoy.told.items()} == {CLUSTER: ["c"], LOAD_ASSIGNMENT: ["c"]}


async def test_only_what_changed_is_told_again(server: DiscoveryServer, ask: Ask) -> None:
    server.publish(NODE, served())
    async with ask() as envoy:
        for kind, names in ((CLUSTER, []), (LOAD_ASSIGNMENT, ["c"]), (LISTENER, []), (ROUTE_CONFIGURATION, ["r"])):
            await envoy.ask(kind, names)
            await envoy.ask(kind, names, answer=await envoy.read())
        assert server.publish(NODE, served()) == []
        assert server.publish(NODE, served(priority=1)) == [LOAD_ASSIGNMENT]
        assert (await envoy.read()).type_url.endswith(LOAD_ASSIGNMENT)
        assert envoy.told[LOAD_ASSIGNMENT]["c"]["endpoints"] == [{"priority": 1}]
        assert await envoy.is_quiet()


async def test_listeners_wait_until_new_clusters_are_taken_and_endpoints_do_not(
    server: DiscoveryServer, ask: Ask
) -> None:
    server.publish(NODE, served())
    async with ask() as envoy:
        for kind, names in ((CLUSTER, []), (LOAD_ASSIGNMENT, ["c"]), (LISTENER, [])):
            await envoy.ask(kind, names)
            await envoy.ask(kind, names, answer=await envoy.read())
        server.publish(NODE, served(connect_timeout="2s", priority=1, stat_prefix="b"))
        clusters, endpoints = await envoy.read(), await envoy.read()
        assert [one.type_url.rpartition(".")[2] for one in (clusters, endpoints)] == [
            "Cluster",
            "ClusterLoadAssignment",
        ]
        await envoy.ask(LOAD_ASSIGNMENT, ["c", "other"], answer=endpoints)
        await envoy.read()
        assert list(envoy.told[LOAD_ASSIGNMENT]) == ["c", "other"], "asked for more, it is told more"
        assert envoy.told[LISTENER]["l"]["stat_prefix"] == "a"
        await envoy.ask(CLUSTER, answer=clusters)
        await envoy.read()
        assert envoy.told[LISTENER]["l"]["stat_prefix"] == "b"


async def test_an_envoy_that_takes_its_time_is_sent_the_newest_state_alone(server: DiscoveryServer, ask: Ask) -> None:
    server.publish(NODE, served())
    async with ask() as envoy:
        await envoy.ask(CLUSTER)
        first = await envoy.read()
        for seconds in range(2, 50):
            server.publish(NODE, served(connect_timeout=f"{seconds}s"))
        await envoy.ask(CLUSTER, answer=first)
        await envoy.read()
        assert envoy.told[CLUSTER]["c"]["connect_timeout"] == "49s"
        assert await envoy.is_quiet()


async def test_a_refusal_is_kept_and_logged_and_the_same_is_not_sent_again(
    server: DiscoveryServer, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    server.publish(NODE, served())
    async with ask() as envoy:
        await envoy.ask(CLUSTER)
        await envoy.ask(CLUSTER, answer=await envoy.read(), refusal="no such balancer")
        assert await envoy.is_quiet()
        assert server.refusals == ["web-0.sample refused Cluster: no such balancer"]
        assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_an_answer_to_what_was_overtaken_is_not_taken_for_one(server: DiscoveryServer, ask: Ask) -> None:
    server.publish(NODE, served())
    async with ask() as envoy:
        await envoy.ask(CLUSTER)
        first = await envoy.read()
        await envoy.ask(CLUSTER, answer=first)
        server.publish(NODE, served(connect_timeout="2s"))
        await envoy.read()
        await envoy.ask(CLUSTER, answer=first)
        server.publish(NODE, served(connect_timeout="3s"))
        assert await envoy.is_quiet()


@pytest.mark.parametrize("fields", [{"nosuch": 1}, {"connect_timeout": "soon"}])
async def test_what_envoy_s_api_does_not_have_is_refused_before_it_is_sent_and_the_old_stays(
    server: DiscoveryServer, ask: Ask, fields: dict[str, Any]
) -> None:
    server.publish(NODE, served())
    with pytest.raises(LabError, match="not a resource of Envoy's"):
        server.publish(NODE, Resources(clusters=[typed(CLUSTER, "c", **fields)]))
    async with ask() as envoy:
        await envoy.ask(CLUSTER)
        await envoy.read()
        assert envoy.told[CLUSTER]["c"]["connect_timeout"] == "1s"


async def test_a_node_that_is_gone_is_forgotten(server: DiscoveryServer, ask: Ask) -> None:
    server.publish(NODE, served())
    server.retain({"other.sample"})
    async with ask() as envoy:
        await envoy.ask(CLUSTER)
        assert await envoy.is_quiet()
