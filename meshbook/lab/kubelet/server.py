"""The kubelet's HTTPS server: exec and logs of its pods. The API server is its only client, and must show who it is.

Paths and parameters are those of a real kubelet. The protocol of exec stands in ``channels``, logs in ``logs``.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable, Mapping

from aiohttp import web

from meshbook.errors import LabError
from meshbook.lab.kubelet import channels, logs
from meshbook.lab.kubelet.containers import Container
from meshbook.lab.kubelet.pods import Pod
from meshbook.lab.kubelet.processes import Streams
from meshbook.lab.kubelet.status import Waiting
from meshbook.lab.topology import KUBELET_PORT

HEARTBEAT_S = 20.0
CLOSE_TIMEOUT_S = 2.0

Pods = Callable[[], Iterable[Pod]]


class KubeletServer:
    """Listens on the node's address. ``pods`` gives the pods that the node has at this moment."""

    def __init__(self, address: str, tls: ssl.SSLContext, pods: Pods, port: int = KUBELET_PORT) -> None:
        self._address = address
        self._port = port
        self._tls = tls
        self._pods = pods
        application = web.Application()
        application.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/pods", self._list),
                web.get("/exec/{namespace}/{pod}/{container}", self._exec),
                web.post("/exec/{namespace}/{pod}/{container}", self._exec),
                web.get("/containerLogs/{namespace}/{pod}/{container}", self._logs),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=CLOSE_TIMEOUT_S)

    async def start(self) -> None:
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._address, self._port, ssl_context=self._tls)
        try:
            await site.start()
        except OSError as error:
            raise LabError(f"the kubelet cannot listen on {self._address}:{self._port}: {error}") from error

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _list(self, _: web.Request) -> web.Response:
        items = [pod.object for pod in self._pods()]
        return web.json_response({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        container = self._container(request)
        query = request.query
        command = query.getall("command", [])
        stdin, stdout, stderr, tty = (_flag(query, name) for name in ("input", "output", "error", "tty"))
        _refuse_unless(bool(command), 400, "you must specify at least one command")
        _refuse_unless(stdin or stdout or stderr, 400, "you must specify at least 1 of stdin, stdout, stderr")
        _refuse_unless(container.is_running, 500, f'container not found ("{container.view.name}")')
        socket = await _upgrade(request)
        await channels.greet(socket, channels.STDOUT if stdout else channels.STDERR if stderr else channels.ERROR)
        streams = Streams(stdin=stdin, stdout=stdout, stderr="pipe" if stderr else "no", tty=tty)
        try:
            _refuse_copies(command)
            process = await container.execute(command, streams)
        except LabError as error:
            await channels.send_status(socket, channels.not_started(error.message))
        else:
            await channels.attach(socket, process)
        return socket

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        container = self._container(request)
        try:
            query = logs.parse_query(request.query, time.time())
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        path = container.log_path(previous=query.previous)
        _refuse_unless(path.exists(), 400, _why_no_log(container, request.match_info["pod"], query.previous))
        run = container.view.restarts
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)

        def is_open() -> bool:
            connected = request.transport is not None and not request.transport.is_closing()
            return connected and container.is_running and container.view.restarts == run and not query.previous

        try:
            async for part in logs.read(path, query, is_open):
                await response.write(part)
        except ConnectionError:
            return response
        await response.write_eof()
        return response

    def _container(self, request: web.Request) -> Container:
        where = request.match_info
        for pod in self._pods():
            if pod.key == (where["namespace"], where["pod"]):
                container = pod.container(where["container"])
                if container is None:
                    raise web.HTTPNotFound(text=f'container "{where["container"]}" is not in pod "{where["pod"]}"')
                return container
        raise web.HTTPNotFound(text=f'pod "{where["namespace"]}/{where["pod"]}" does not exist on this node')


async def _upgrade(request: web.Request) -> web.WebSocketResponse:
    """Answer a request for a WebSocket; anything else is refused."""
    offered = {word.strip() for word in request.headers.get("Sec-WebSocket-Protocol", "").split(",")}
    socket = web.WebSocketResponse(
        protocols=channels.PROTOCOLS, heartbeat=HEARTBEAT_S, timeout=CLOSE_TIMEOUT_S, max_msg_size=0
    )
    _refuse_unless(bool(socket.can_prepare(request)), 400, "exec needs an upgrade to WebSocket")
    known = ", ".join(channels.PROTOCOLS)
    _refuse_unless(bool(offered & set(channels.PROTOCOLS)), 403, f"exec speaks the subprotocols {known} only")
    await socket.prepare(request)
    return socket


def _refuse_unless(allowed: bool, code: int, message: str) -> None:
    if allowed:
        return
    refusals: dict[int, type[web.HTTPError]] = {
        400: web.HTTPBadRequest,
        403: web.HTTPForbidden,
        500: web.HTTPInternalServerError,
    }
    raise refusals[code](text=message)


def _refuse_copies(command: list[str]) -> None:
    """Refuse what ``kubectl cp`` runs: a container has no files of its own, so it would write to this machine's."""
    if command[0] == "tar":
        raise LabError("the lab does not copy files: its containers have those of this machine")


def _flag(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "") in ("1", "true")


def _why_no_log(container: Container, pod: str, previous: bool) -> str:
    name = container.view.name
    if previous:
        return f'previous terminated container "{name}" in pod "{pod}" not found'
    state = container.view.state
    why = (state.message or state.reason) if isinstance(state, Waiting) else "not started"
    return f'container "{name}" in pod "{pod}" is waiting to start: {why}'
