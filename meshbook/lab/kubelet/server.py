"""The kubelet's HTTPS server: exec and logs of its pods. The API server is its only client, and must show who it is.

Paths and parameters are those of a real kubelet. Exec speaks versions v5 and v4 of ``channel.k8s.io`` over WebSocket:
each message is one byte for the channel and then its data. Version 5 adds channel 255, by which a client closes its
standard input.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import WSMsgType, web

from meshbook.errors import LabError
from meshbook.lab.kubelet import logs
from meshbook.lab.kubelet.containers import Container
from meshbook.lab.kubelet.pods import Pod
from meshbook.lab.kubelet.processes import Pipe, Process, Streams
from meshbook.lab.kubelet.status import exit_status
from meshbook.lab.topology import KUBELET_PORT
from meshbook.objects import Object

HEARTBEAT_S = 20.0
_CLOSE_TIMEOUT_S = 2.0

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255

LATE_OUTPUT_S = 0.2
"""After the end of a command: output is complete when its pipe is closed, or has been silent this long."""


class KubeletServer:
    """Listens on the node's address. ``pods`` gives the pods that the node has at this moment."""

    def __init__(self, address: str, tls: ssl.SSLContext, pods: Callable[[], Iterable[Pod]]) -> None:
        self._address = address
        self._tls = tls
        self._pods = pods
        application = web.Application()
        application.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/exec/{namespace}/{pod}/{container}", self._exec),
                web.post("/exec/{namespace}/{pod}/{container}", self._exec),
                web.get("/containerLogs/{namespace}/{pod}/{container}", self._logs),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=_CLOSE_TIMEOUT_S)

    async def start(self) -> None:
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._address, KUBELET_PORT, ssl_context=self._tls).start()
        except OSError as error:
            raise LabError(f"the kubelet cannot listen on {self._address}:{KUBELET_PORT}: {error}") from error

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok")

    def _container(self, request: web.Request) -> Container:
        namespace, name, wanted = (request.match_info[part] for part in ("namespace", "pod", "container"))
        pod = next((pod for pod in self._pods() if pod.key == (namespace, name)), None)
        if pod is None:
            raise web.HTTPNotFound(text=f'pod "{namespace}/{name}" does not exist on this node')
        container = pod.container(wanted)
        if container is None:
            raise web.HTTPNotFound(text=f'container "{wanted}" is not in pod "{name}"')
        return container

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        container = self._container(request)
        command = request.query.getall("command", [])
        stdin, stdout, stderr, tty = (
            request.query.get(name) in ("1", "true") for name in ("input", "output", "error", "tty")
        )
        if not command:
            raise web.HTTPBadRequest(text="you must specify at least one command")
        if not (stdin or stdout or stderr):
            raise web.HTTPBadRequest(text="you must specify at least 1 of stdin, stdout, stderr")
        if not container.is_running:
            raise web.HTTPInternalServerError(text=f'container not found ("{container.name}")')
        socket = await _upgrade(request)
        # Some clients take the first message, which may be empty, as the sign that the command runs.
        await _send(socket, STDOUT if stdout else STDERR if stderr else ERROR, b"")
        try:
            if command[0] == "tar":  # as kubectl cp runs it: it would write to this machine's files
                raise LabError("the lab does not copy files: its containers have those of this machine")
            streams = Streams(stdin=stdin, stdout=stdout, stderr="pipe" if stderr else "no", tty=tty)
            process = await container.execute(command, streams)
        except LabError as error:
            await _send_status(socket, _not_started(error.message))
        else:
            await _attach(socket, process)
        return socket

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        container = self._container(request)
        try:
            query = logs.LogQuery.of(request.query)
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        path = container.log_path(previous=query.previous)
        if not path.exists():
            raise web.HTTPBadRequest(text=_why_no_log(container, request.match_info["pod"], query.previous))
        run = container.status["restartCount"]
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)

        def is_open() -> bool:
            connected = request.transport is not None and not request.transport.is_closing()
            return connected and container.is_running and container.status["restartCount"] == run and not query.previous

        try:
            async for part in logs.read(path, query, is_open):
                await response.write(part)
        except ConnectionError:
            return response
        await response.write_eof()
        return response


def _why_no_log(container: Container, pod: str, previous: bool) -> str:
    if previous:
        return f'previous terminated container "{container.name}" in pod "{pod}" not found'
    state = container.status["state"].get("waiting", {})
    why = state.get("message") or state.get("reason") or "not started"
    return f'container "{container.name}" in pod "{pod}" is waiting to start: {why}'


async def _upgrade(request: web.Request) -> web.WebSocketResponse:
    """Answer a request for a WebSocket; anything else is refused."""
    offered = {word.strip() for word in request.headers.get("Sec-WebSocket-Protocol", "").split(",")}
    socket = web.WebSocketResponse(protocols=(V5, V4), heartbeat=HEARTBEAT_S, timeout=_CLOSE_TIMEOUT_S, max_msg_size=0)
    if not socket.can_prepare(request):
        raise web.HTTPBadRequest(text="exec needs an upgrade to WebSocket")
    if not offered & {V5, V4}:
        raise web.HTTPForbidden(text=f"exec speaks the subprotocols {V5}, {V4} only")
    await socket.prepare(request)
    return socket


async def _attach(socket: web.WebSocketResponse, process: Process) -> None:
    """Connect a process with a client until it has ended, or the client has gone: then it is killed."""
    ending = asyncio.create_task(process.wait())
    output = asyncio.create_task(_forward(socket, process, ending))
    incoming = asyncio.create_task(_receive(socket, process))
    try:
        await asyncio.wait((output, incoming), return_when=asyncio.FIRST_COMPLETED)
        if output.done() and not socket.closed:
            await _stopped(incoming)
            await _send_status(socket, _ended(await ending))
    finally:
        process.kill_group()
        for task in (incoming, output, ending):
            await _stopped(task)
        process.close_streams()


async def _forward(socket: web.WebSocketResponse, process: Process, ending: asyncio.Task[int]) -> None:
    """Send what the process writes, to the last byte, and return when it has ended."""

    async def pump(channel: int, end: Pipe) -> None:
        while data := await _next(end, ending):
            await _send(socket, channel, data)

    ends = ((STDOUT, process.stdout), (STDERR, process.stderr))
    await asyncio.gather(*(pump(channel, end) for channel, end in ends if end is not None))
    await asyncio.wait([ending])


async def _next(end: Pipe, ending: asyncio.Task[int]) -> bytes:
    """Return the next output; nothing when there will be none, or none comes after the end of the process."""
    reading = asyncio.create_task(end.read())
    try:
        await asyncio.wait((reading, ending), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait([reading], timeout=LATE_OUTPUT_S)
        return reading.result() if reading.done() else b""
    finally:
        await _stopped(reading)


async def _receive(socket: web.WebSocketResponse, process: Process) -> None:
    """Take what the client sends until it goes away."""
    stdin = process.stdin
    async for message in socket:
        if message.type is not WSMsgType.BINARY or not message.data or stdin is None:
            continue
        channel, data = message.data[0], message.data[1:]
        if channel == STDIN:
            await stdin.write(data)
        elif channel == CLOSE and data[:1] == bytes([STDIN]) and socket.ws_protocol == V5:
            stdin.close()
        elif channel == RESIZE:
            size = json.loads(data)
            stdin.resize(size["Width"], size["Height"])


async def _send(socket: web.WebSocketResponse, channel: int, data: bytes) -> None:
    """Send one message; when the client has gone, ``_receive`` notices."""
    try:
        await socket.send_bytes(bytes([channel]) + data)
    except ConnectionError:
        return


async def _send_status(socket: web.WebSocketResponse, status: Object) -> None:
    """Send the last message of a session and close it."""
    head = {"kind": "Status", "apiVersion": "v1", "metadata": {}}
    await _send(socket, ERROR, json.dumps(head | status, separators=(",", ":")).encode())
    await socket.close()


def _ended(returncode: int) -> Object:
    """Return the Status that tells a client how its command ended."""
    code, _ = exit_status(returncode)
    if code == 0:
        return {"status": "Success"}
    message = f"command terminated with non-zero exit code: exit status {code}"
    details = {"causes": [{"reason": "ExitCode", "message": str(code)}]}
    return {"status": "Failure", "reason": "NonZeroExitCode", "message": message, "details": details}


def _not_started(why: str) -> Object:
    """Return the Status that tells a client that its command could not be started."""
    cause = f"error executing command in container: {why}"
    message = f"Internal error occurred: {cause}"
    details = {"causes": [{"message": cause}]}
    return {"status": "Failure", "reason": "InternalError", "message": message, "code": 500, "details": details}


async def _stopped(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    await asyncio.wait([task])
