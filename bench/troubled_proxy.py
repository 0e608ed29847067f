"""A proxy on loopback in front of an API server, which answers for a while as a broken way to a real one does.

Troubles: an HTTP status (``401``, ``403``, ``429`` with Retry-After, ``500``), ``reset`` (the connection is cut) and
``hang`` (no byte until it is over). They begin when the first request that ``begins`` knows of arrives, or at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable

import aiohttp
from aiohttp import web

Asked = Callable[[str, str, bytes], bool]
"""Told the method, path and body of a request."""
TROUBLES = ("401", "403", "429", "500", "reset", "hang")


class TroubledProxy:
    """``url`` leads to ``server`` once it is started; ``plan`` says what goes wrong next, and for how long."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._until = 0.0
        self._trouble, self._seconds = "", 0.0
        self._begins: Asked = lambda *_: True
        self._meets: Asked = lambda *_: True
        self.troubled = 0
        """Requests that met with trouble since the last plan."""
        self.url = ""

    def plan(
        self, trouble: str, seconds: float, begins: Asked = lambda *_: True, meets: Asked = lambda *_: True
    ) -> None:
        """Have a trouble begin with a request that ``begins`` it, and then keep to those that are to meet it."""
        self._trouble, self._seconds, self._begins, self._meets, self._until = trouble, seconds, begins, meets, 0.0
        self.troubled = 0

    async def start(self) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), auto_decompress=False)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body, now = await request.read(), asyncio.get_running_loop().time()
        if self._trouble and not self._until and self._begins(request.method, request.path, body):
            self._until = now + self._seconds
        if now < self._until and self._meets(request.method, request.path, body):
            self.troubled += 1
            return await self._refuse(request, self._until - now)
        headers = {name: value for name, value in request.headers.items() if name not in ("Host", "Content-Length")}
        url = self._server + request.path_qs
        async with self._session.request(request.method, url, data=body or None, headers=headers) as found:
            return web.Response(body=await found.read(), status=found.status, content_type=found.content_type)

    async def _refuse(self, request: web.Request, left_s: float) -> web.Response:
        if self._trouble == "hang":
            await asyncio.sleep(left_s)
        if self._trouble in ("hang", "reset"):
            with contextlib.suppress(AttributeError):  # who asked has gone
                request.transport.abort()  # type: ignore[union-attr]
            return web.Response()
        code = int(self._trouble)
        status = {"kind": "Status", "message": f"trouble {code}", "reason": "Trouble", "code": code}
        return web.json_response(status, status=code, headers={"Retry-After": "1"} if code == 429 else {})
