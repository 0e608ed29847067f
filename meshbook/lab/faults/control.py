"""The HTTP server by which faults are asked for: loopback only, behind the token in the lab's folder.

``POST /faults`` (a ``Wanted``), ``GET /faults[/ID]``, ``DELETE /faults[/ID]``, ``POST /faults/ID/renew``. Answers are
records; refusals are ``{"message", "hint"}``.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable

from aiohttp import web

from meshbook.errors import LabError, MeshbookError
from meshbook.lab.faults.board import Board
from meshbook.lab.faults.wanted import Record, wanted_from_json
from meshbook.lab.topology import CONTROL_PORT, LabTopology

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ControlServer:
    """Listens on ``topology.control_address``."""

    def __init__(self, topology: LabTopology, token: str, board: Board) -> None:
        self._address = topology.control_address
        self._token = token
        self._board = board
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        application = web.Application(middlewares=[self._guard])
        application.add_routes(
            [
                web.post("/faults", self._begin),
                web.get("/faults", self._list),
                web.delete("/faults", self._end_all),
                web.get("/faults/{id}", self._find),
                web.delete("/faults/{id}", self._end),
                web.post("/faults/{id}/renew", self._renew),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._address, CONTROL_PORT).start()

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let in who knows the token, and turn refusals into answers."""
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            return web.json_response({"message": "the token in the lab's folder is needed"}, status=401)
        try:
            return await handler(request)
        except MeshbookError as error:
            evidence = "; ".join(f"{name}: {value}" for name, value in error.evidence.items())
            message = f"{error.message} ({evidence})" if evidence else error.message
            return web.json_response({"message": message, "hint": error.hint}, status=409)

    async def _begin(self, request: web.Request) -> web.Response:
        return _answer(await self._board.begin(wanted_from_json(await _body(request))))

    async def _list(self, _: web.Request) -> web.Response:
        return _answers(self._board.active())

    async def _find(self, request: web.Request) -> web.Response:
        return _answer(self._board.find(request.match_info["id"]))

    async def _end(self, request: web.Request) -> web.Response:
        return _answer(await self._board.end(request.match_info["id"]))

    async def _end_all(self, request: web.Request) -> web.Response:
        return _answers(await self._board.end_all(by=request.query.get("by", "")))

    async def _renew(self, request: web.Request) -> web.Response:
        for_s = (await _body(request)).get("for_s")
        if not isinstance(for_s, int | float) or for_s <= 0:
            raise LabError("for how many seconds?", hint='{"for_s": 10}')
        return _answer(self._board.renew(request.match_info["id"], for_s))


async def _body(request: web.Request) -> dict[str, object]:
    try:
        body = json.loads(await request.text())
    except ValueError as error:
        raise LabError(f"that is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise LabError("a JSON object is expected")
    return body


def _answer(record: Record) -> web.Response:
    return web.json_response(record.to_json())


def _answers(records: list[Record]) -> web.Response:
    return web.json_response([record.to_json() for record in records])
