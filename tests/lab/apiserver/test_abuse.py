"""Nonsense does not knock an API server over: no failure of its own, bounded memory, and it serves afterwards."""

from __future__ import annotations

import asyncio
import resource
import ssl
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from api_servers import api_servers
from nonsense import Request, Wire, creation, objects, throw

from meshbook.lab.loopback import claim_block
from meshbook.lab.topology import API_PORT, two_clouds

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


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    found = Server(tmp_path)
    codes = [code for code, _ in found.ask(*map(creation, objects()))]
    assert set(codes) == {201}, dict(zip(objects(), codes, strict=True))
    yield found
    found.close()


def test_pods_are_bounded_by_a_quota(server: Server) -> None:
    path = "/api/v1/namespaces/default/pods"
    answers = server.ask(*(creation(path, f"pod-{number}") for number in range(600)))
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

    def send(batch: list[Request]) -> None:
        for request, (code, body) in zip(batch, server.ask(*batch), strict=True):
            codes[code] += 1
            if code >= 500 and not any(words in body.decode() for words in MEANT):
                wrong.append((request, body.decode()))
        for path, (code, body) in zip(objects(), server.ask(*map(creation, objects())), strict=True):
            if code not in (201, 409):
                wrong.append((batch[-1], f"afterwards {path} takes no object: {body.decode()}"))

    throw(pytestconfig.getoption("nonsense"), send)
    assert not wrong, wrong[:5]
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]
    assert _resident_mib() - before < MOST_GROWTH_MIB
    assert codes[200] + codes[201] > codes.total() / 20, "some of it must be taken, else nothing is tried"
    assert server.ask(creation("/api/v1/namespaces/default/configmaps", "afterwards"))[0][0] == 201
