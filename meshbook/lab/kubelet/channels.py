"""The channel protocol of exec over WebSocket, as the kubelet speaks it: versions v5 and v4 of ``channel.k8s.io``.

Each message is one byte for the channel and then its data. Version 5 adds channel 255, by which a client closes its
standard input. What is run, and whether it may be, is decided in ``server``.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import WSMsgType, web

from meshbook.lab.kubelet.lifecycle import exit_status
from meshbook.lab.kubelet.pipes import ReadEnd
from meshbook.lab.kubelet.processes import Process

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
PROTOCOLS = (V5, V4)
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255

LATE_OUTPUT_S = 0.2
"""After the end of a command: output is complete when its pipe is closed, or has been silent this long."""

Object = dict[str, Any]


def ended(returncode: int) -> Object:
    """Return the Status that tells a client how its command ended."""
    code, _ = exit_status(returncode)
    if code == 0:
        return _status("Success")
    cause = {"reason": "ExitCode", "message": str(code)}
    message = f"command terminated with non-zero exit code: exit status {code}"
    return _status("Failure", reason="NonZeroExitCode", message=message, details={"causes": [cause]})


def not_started(message: str) -> Object:
    """Return the Status that tells a client that its command could not be started."""
    text = f"Internal error occurred: error executing command in container: {message}"
    cause = {"message": f"error executing command in container: {message}"}
    return _status("Failure", reason="InternalError", message=text, code=500, details={"causes": [cause]})


def _status(status: str, **fields: Any) -> Object:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": status, **fields}


async def send_status(socket: web.WebSocketResponse, status: Object) -> None:
    """Send the last message of a session and close it."""
    await _send(socket, ERROR, json.dumps(status, separators=(",", ":")).encode())
    await socket.close()


async def greet(socket: web.WebSocketResponse, channel: int) -> None:
    """Send an empty message: some clients take the first one as the sign that the command runs."""
    await _send(socket, channel, b"")


async def attach(socket: web.WebSocketResponse, process: Process) -> None:
    """Connect a process with a client until it has ended, or the client has gone: then it is killed."""
    ending = asyncio.create_task(process.wait())
    output = asyncio.create_task(_forward(socket, process, ending))
    incoming = asyncio.create_task(_receive(socket, process))
    try:
        await asyncio.wait((output, incoming), return_when=asyncio.FIRST_COMPLETED)
        if output.done() and not socket.closed:
            await _stopped(incoming)
            await send_status(socket, ended(await ending))
    finally:
        process.kill_group()
        for task in (incoming, output, ending):
            await _stopped(task)
        process.pipes.close()


async def _forward(socket: web.WebSocketResponse, process: Process, ending: asyncio.Task[int]) -> None:
    """Send what the process writes, to the last byte, and return when it has ended."""
    pipes = process.pipes
    pumps = [
        _pump(socket, channel, end, ending)
        for channel, end in ((STDOUT, pipes.stdout), (STDERR, pipes.stderr))
        if end is not None
    ]
    await asyncio.gather(*pumps)
    await asyncio.wait([ending])


async def _pump(socket: web.WebSocketResponse, channel: int, end: ReadEnd, ending: asyncio.Task[int]) -> None:
    while data := await _next(end, ending):
        await _send(socket, channel, data)


async def _next(end: ReadEnd, ending: asyncio.Task[int]) -> bytes:
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
    stdin = process.pipes.stdin
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


async def _stopped(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    await asyncio.wait([task])
