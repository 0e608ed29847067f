"""Nonsense does not knock an API server over: no failure of its own, bounded memory, and it serves afterwards."""

from __future__ import annotations

import asyncio
import json
import resource
import ssl
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from api_servers import api_servers
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from nonsense import Request, Wire, objects, requests

from meshbook.lab.loopback import claim_block
from meshbook.lab.topology import API_PORT, two_clouds

BATCH = 100
MOST_GROWTH_MIB = 200
MEANT = ("failed to create typed patch object", "Too large resource version", "error getting node of pod")
"""What is said with a code of 500 or more by a real server too."""


class Server:
    """One API server and a wire to it, in an event loop of their own."""

    def __init__(self, folder: Path) -> None:
        self._runner, self._stack = asyncio.Runner(), AsyncExitStack()
        self._runner.run(self._start(folder))

    async def _start(self, folder: Path) -> None:
        block, claim = claim_block()
        self._stack.callback(claim.close)
        topology = two_clouds(folder, block)
        cluster = topology.clusters[0]
        authority = await self._stack.enter_async_context(api_servers(topology))
        trust = ssl.create_default_context(cadata=authority.root_pem)
        trust.check_hostname = False
        self.wire = Wire(cluster.api_address, API_PORT, trust, f"token-of-{cluster.name}")
        self._stack.push_async_callback(self.wire.close)

    def ask(self, *asked: Request) -> list[tuple[int, bytes]]:
        async def ask() -> list[tuple[int, bytes]]:
            return [await self.wire.ask(request) for request in asked]

        return self._runner.run(ask())

    def close(self) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()


def _created(path: str, name: str = "x") -> Request:
    body = objects()[path]
    body["metadata"] = {"name": name}
    return Request(method="POST", path=path, media_type="json", body=json.dumps(body).encode())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    found = Server(tmp_path)
    codes = [code for code, _ in found.ask(*map(_created, objects()))]
    assert set(codes) == {201}, dict(zip(objects(), codes, strict=True))
    yield found
    found.close()


def test_pods_are_bounded_by_a_quota(server: Server) -> None:
    path = "/api/v1/namespaces/default/pods"
    answers = server.ask(*(_created(path, f"pod-{number}") for number in range(600)))
    taken = [code for code, _ in answers].count(201)
    assert 110 < taken < 600
    assert b'pods \\"pod-599\\" is forbidden: exceeded quota' in answers[-1][1]


def _resident_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.timeout(600)
def test_nonsense_is_refused_or_taken_and_the_server_goes_on(
    server: Server, pytestconfig: pytest.Config, caplog: pytest.LogCaptureFixture
) -> None:
    before, codes = _resident_mib(), Counter[int]()
    wrong: list[tuple[Request, str]] = []

    @settings(
        max_examples=pytestconfig.getoption("nonsense") // BATCH,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(requests(), min_size=BATCH, max_size=BATCH))
    def throw(asked: list[Request]) -> None:
        for request, (code, body) in zip(asked, server.ask(*asked), strict=True):
            codes[code] += 1
            if code >= 500 and not any(words in body.decode() for words in MEANT):
                wrong.append((request, body.decode()))
        for path, (code, body) in zip(objects(), server.ask(*map(_created, objects())), strict=True):
            if code not in (201, 409):  # what a request has deleted is there again for the next ones
                wrong.append((asked[-1], f"afterwards {path} takes no object: {body.decode()}"))

    throw()
    assert not wrong, wrong[:5]
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]
    assert _resident_mib() - before < MOST_GROWTH_MIB
    assert codes[200] + codes[201] > codes.total() / 20, "some of it must be taken, else nothing is tried"
    assert server.ask(_created("/api/v1/namespaces/default/configmaps", "afterwards"))[0][0] == 201
