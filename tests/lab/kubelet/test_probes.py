"""Probes are asked, and their answers weighed, as in a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from meshbook.lab.kubelet import Probe, Prober, UnsupportedProbe


async def never(_: Sequence[str]) -> int:
    raise AssertionError("no command was to be run")


@pytest.fixture
async def prober() -> AsyncIterator[Prober]:
    async with aiohttp.ClientSession() as http:
        yield Prober(http=http, run=never, pod_ip="127.0.0.1", eager_s=0.001)


def parsed(prober: Prober, spec: dict[str, Any], **fields: Any) -> Probe:
    return prober.parse({"name": "app", "readinessProbe": spec, **fields})["readinessProbe"]


def probe(answers: Iterable[bool], **fields: Any) -> Probe:
    """Return a probe that is answered so, and then never again."""
    left = iter(answers)

    async def ask() -> bool:
        for answer in left:
            return answer
        await asyncio.Event().wait()
        return False

    return Probe(**{"ask": ask, "period_s": 0.001, "timeout_s": 60, **fields})


async def shown(prober: Prober, **probes: Probe) -> list[dict[str, bool]]:
    """Return what is shown of a container until its probes are not answered any more."""
    seen: list[dict[str, bool]] = []
    task = asyncio.create_task(prober.follow(probes, lambda **fields: seen.append(fields)))
    await asyncio.wait([task], timeout=0.1)
    task.cancel()
    return seen


async def test_defaults_are_those_of_kubernetes(prober: Prober) -> None:
    found = parsed(prober, {"httpGet": {"port": 15021, "path": "/healthz/ready"}})
    assert (found.initial_delay_s, found.period_s, found.timeout_s) == (0, 10, 1)
    assert (found.success_threshold, found.failure_threshold) == (1, 3)
    assert prober.parse({"name": "app"}) == {}


@pytest.mark.parametrize("spec", [{"grpc": {"port": 1}}, {"tcpSocket": {"port": "nameless"}}])
async def test_a_probe_that_cannot_be_asked_is_refused(prober: Prober, spec: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedProbe):
        parsed(prober, spec)


@pytest.mark.parametrize(
    ("answers", "thresholds", "expected"),
    [
        ("+", {}, [True]),
        ("-+--+---", {}, [True, False]),
        ("+-+", {"success_threshold": 2}, []),
        ("+-++", {"success_threshold": 2}, [True]),
    ],
)
async def test_readiness_changes_after_as_many_answers_in_a_row_as_it_takes(
    prober: Prober, answers: str, thresholds: dict[str, int], expected: list[bool]
) -> None:
    seen = await shown(prober, readinessProbe=probe([one == "+" for one in answers], **thresholds))
    assert seen == [{"started": True, "ready": False}, *({"ready": ready} for ready in expected)]


@pytest.mark.parametrize(("status", "good"), [(200, True), (302, True), (404, False), (503, False)])
async def test_http_is_good_below_400_and_redirects_are_not_followed(prober: Prober, status: int, good: bool) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": "http://127.0.0.1:1/"})

    application = web.Application()
    application.add_routes([web.get("/", answer)])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    named = {"ports": [{"name": "http", "containerPort": runner.addresses[0][1]}]}
    get = parsed(prober, {"httpGet": {"port": "http"}}, **named)
    connect = parsed(prober, {"tcpSocket": {"port": "http"}}, **named)
    assert (await get.ask(), await connect.ask()) == (good, True)
    await runner.cleanup()
    for refused in (get, connect):
        with pytest.raises((OSError, aiohttp.ClientError)):
            await refused.ask()


async def test_an_answer_that_is_late_or_an_error_is_a_bad_one(prober: Prober) -> None:
    async def broken() -> bool:
        raise OSError("refused")

    late = probe([True, True], timeout_s=0.01, failure_threshold=1)
    assert await shown(prober, readinessProbe=late) == [
        {"started": True, "ready": False},
        {"ready": True},
        {"ready": False},
    ]
    async with asyncio.timeout(2):
        await prober.follow({"livenessProbe": probe([], ask=broken)}, lambda **_: None)


async def test_nothing_is_ready_before_it_has_started(prober: Prober) -> None:
    startup = probe([False] * 5 + [True], failure_threshold=1000)
    readiness = probe([True])
    assert await shown(prober, startupProbe=probe([False]), readinessProbe=readiness) == []
    seen = await shown(prober, startupProbe=startup, readinessProbe=readiness)
    assert seen == [{"started": True, "ready": False}, {"ready": True}]


@pytest.mark.parametrize("kind", ["startupProbe", "livenessProbe"])
async def test_what_does_not_start_or_live_is_to_be_ended(prober: Prober, kind: str) -> None:
    async with asyncio.timeout(2):
        await prober.follow({kind: probe([False] * 1000)}, lambda **_: None)


async def test_nobody_is_asked_while_the_prober_is_cut_off(prober: Prober) -> None:
    cut_off = replace(prober, passing=lambda: True)
    assert {"ready": True} in await shown(cut_off, readinessProbe=probe([False] * 1000))
