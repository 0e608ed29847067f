from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from meshbook.lab.kubelet.health import Health, follow
from meshbook.lab.kubelet.probes import Command, HttpGet, Probe, Streak, TcpSocket, UnsupportedProbe, ask, parse

PROBE = Probe(
    question=Command(argv=("true",)),
    initial_delay_s=0,
    period_s=0.01,
    timeout_s=0.5,
    success_threshold=1,
    failure_threshold=3,
)


def probe_of(spec: dict[str, Any], **fields: Any) -> Probe | None:
    return parse({"name": "app", "readinessProbe": spec, **fields}, "readinessProbe", "127.64.11.5")


def test_defaults_are_those_of_kubernetes() -> None:
    probe = probe_of({"httpGet": {"port": 15021, "path": "/healthz/ready"}})
    assert probe == Probe(
        question=HttpGet(url="http://127.64.11.5:15021/healthz/ready", headers={}),
        initial_delay_s=0,
        period_s=10,
        timeout_s=1,
        success_threshold=1,
        failure_threshold=3,
    )
    assert probe_of({}) is None


def test_a_named_port_is_looked_up() -> None:
    ports = [{"name": "http", "containerPort": 5000}]
    probe = probe_of({"tcpSocket": {"port": "http"}}, ports=ports)
    assert probe is not None
    assert probe.question == TcpSocket(host="127.64.11.5", port=5000)


@pytest.mark.parametrize("spec", [{"grpc": {"port": 1}}, {"tcpSocket": {"port": "nameless"}}])
def test_a_probe_that_cannot_be_asked_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedProbe):
        probe_of(spec)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [("+", [True]), ("-+--+---", [False, True, True, True, True, True, True, False])],
)
def test_readiness_is_lost_after_as_many_failures_as_it_takes(answers: str, expected: list[bool]) -> None:
    streak, seen = Streak(passing=False), []
    for answer in answers:
        streak = streak.after(answer == "+", PROBE)
        seen.append(streak.passing)
    assert seen == expected


def test_a_higher_success_threshold_takes_as_many_in_a_row() -> None:
    twice = replace(PROBE, success_threshold=2)
    streak = Streak(passing=False).after(True, twice).after(False, twice).after(True, twice)
    assert not streak.passing
    assert streak.after(True, twice).passing


@pytest.mark.parametrize(("status", "good"), [(200, True), (302, True), (404, False), (503, False)])
async def test_http_is_good_below_400_and_redirects_are_not_followed(status: int, good: bool) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": "http://127.0.0.1:1/"})

    application = web.Application()
    application.add_routes([web.get("/", answer)])
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession() as http:
        probe = replace(PROBE, question=HttpGet(url=f"http://127.0.0.1:{port}/", headers={}))
        assert await ask(probe, http, _never) is good
        tcp = replace(PROBE, question=TcpSocket(host="127.0.0.1", port=port))
        assert await ask(tcp, http, _never)
        await runner.cleanup()
        assert not await ask(probe, http, _never)
        assert not await ask(tcp, http, _never)


async def test_an_answer_that_comes_too_late_is_a_bad_one() -> None:
    async def forever(_: Sequence[str]) -> int:
        await asyncio.sleep(10)
        return 0

    async with aiohttp.ClientSession() as http:
        assert not await ask(replace(PROBE, timeout_s=0.01), http, forever)


async def test_nothing_is_ready_before_it_has_started() -> None:
    shown: list[dict[str, bool]] = []
    started = asyncio.Event()

    async def answer(probe: Probe) -> bool:
        return started.is_set()

    health = Health(startup=PROBE, readiness=replace(PROBE))
    health = replace(health, startup=replace(PROBE, failure_threshold=1000))
    task = asyncio.create_task(follow(health, answer, lambda **fields: shown.append(fields), 0.01))
    await asyncio.sleep(0.05)
    assert shown == []
    started.set()
    await asyncio.sleep(0.05)
    assert shown == [{"started": True, "ready": False}, {"ready": True}]
    task.cancel()


@pytest.mark.parametrize("kind", ["startup", "liveness"])
async def test_what_does_not_start_or_live_is_to_be_ended(kind: str) -> None:
    async def bad(_: Probe) -> bool:
        return False

    health = Health(**{kind: PROBE})
    await asyncio.wait_for(follow(health, bad, lambda **_: None, 0.01), 2)


async def _never(_: Sequence[str]) -> int:
    raise AssertionError("no command was to be run")
