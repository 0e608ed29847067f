"""Probes are asked, and their answers weighed, as in a cluster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from meshbook.lab.kubelet import CannotRun, Probe, Prober


async def never(_: Sequence[str]) -> int:
    raise AssertionError("no command was to be run")


@pytest.fixture
async def prober() -> AsyncIterator[Prober]:
    async with aiohttp.ClientSession() as http:
        yield Prober(http=http, run=never, pod_ip="127.0.0.1", eager_s=0.001)


def parsed(prober: Prober, spec: dict[str, Any], **fields: Any) -> Probe:
    return prober.parse({"name": "app", "readinessProbe": spec, **fields})["readinessProbe"]


class Script:
    """A probe's question that is answered so, and then never again."""

    def __init__(self, answers: Iterable[bool]) -> None:
        self._left = iter(answers)
        self.is_over = False

    async def __call__(self) -> bool:
        for answer in self._left:
            return answer
        self.is_over = True
        await asyncio.Event().wait()
        return False


def probe(answers: Iterable[bool], **fields: Any) -> Probe:
    return Probe(**{"ask": Script(answers), "period_s": 0.001, "timeout_s": 60, **fields})


async def shown(prober: Prober, expected: list[dict[str, bool]], **probes: Probe) -> list[dict[str, bool]]:
    """Return what is shown of a container until that is as expected and one of its probes is answered no more."""
    seen: list[dict[str, bool]] = []
    task = asyncio.create_task(prober.follow(probes, lambda **fields: seen.append(fields)))
    deadline = time.monotonic() + 2
    while seen != expected or not any(one.ask.is_over for one in probes.values()):
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.001)
    task.cancel()
    return seen


STARTED = {"started": True, "ready": False}


async def test_defaults_are_those_of_kubernetes(prober: Prober) -> None:
    found = parsed(prober, {"httpGet": {"port": 15021, "path": "/healthz/ready"}})
    assert (found.initial_delay_s, found.period_s, found.timeout_s) == (0, 10, 1)
    assert (found.success_threshold, found.failure_threshold) == (1, 3)
    assert prober.parse({"name": "app"}) == {}


@pytest.mark.parametrize("spec", [{"grpc": {"port": 1}}, {"tcpSocket": {"port": "nameless"}}])
async def test_a_probe_that_cannot_be_asked_is_refused(prober: Prober, spec: dict[str, Any]) -> None:
    with pytest.raises(CannotRun):
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
    script = probe([one == "+" for one in answers], **thresholds)
    seen = [STARTED, *({"ready": ready} for ready in expected)]
    assert await shown(prober, seen, readinessProbe=script) == seen


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

    late = probe([True, True], timeout_s=0.05, failure_threshold=1)
    seen = [STARTED, {"ready": True}, {"ready": False}]
    assert await shown(prober, seen, readinessProbe=late) == seen
    async with asyncio.timeout(2):
        await prober.follow({"livenessProbe": probe([], ask=broken)}, lambda **_: None)


async def test_nothing_is_ready_before_it_has_started(prober: Prober) -> None:
    patience = {"failure_threshold": 1000}
    readiness = probe([True])
    assert await shown(prober, [], startupProbe=probe([False], **patience), readinessProbe=readiness) == []
    startup = probe([False] * 5 + [True], **patience)
    seen = [STARTED, {"ready": True}]
    assert await shown(prober, seen, startupProbe=startup, readinessProbe=readiness) == seen


@pytest.mark.parametrize("kind", ["startupProbe", "livenessProbe"])
async def test_what_does_not_start_or_live_is_to_be_ended(prober: Prober, kind: str) -> None:
    async with asyncio.timeout(2):
        await prober.follow({kind: probe([False] * 1000)}, lambda **_: None)


async def test_nobody_is_asked_while_the_prober_is_cut_off(prober: Prober) -> None:
    cut_off = replace(prober, passing=lambda: True)
    startup, readiness = probe([False] * 1000), probe([])
    seen: list[dict[str, bool]] = []
    task = asyncio.create_task(
        cut_off.follow({"startupProbe": startup, "readinessProbe": readiness}, lambda **fields: seen.append(fields))
    )
    async with asyncio.timeout(2):
        while seen != [STARTED, {"ready": True}]:
            await asyncio.sleep(0.001)
    task.cancel()
