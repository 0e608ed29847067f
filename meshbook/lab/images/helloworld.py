"""The sample's web application: says its version and its pod's name.

Standard library only; imports nothing of meshbook. As the sample under gunicorn, it answers one request at a time, and
``/hello`` costs CPU: a pod bears about 20 calls a second, and ``/health`` waits in the same queue. At SIGTERM it goes
on for a moment while others learn that it leaves, telling each client not to come back; then it answers what has come
and exits 0. At SIGUSR1 it cuts its connections and refuses new ones until SIGUSR2, as if it had crashed.

Everything is set by the environment: ``POD_IP`` and ``PORT`` (where to listen), ``SERVICE_VERSION``, ``HOSTNAME`` (what
to answer), ``LINGER_S`` (the moment), ``BURN_MS`` (CPU time of a call; 0: none).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time

PORT = 5000
BURN_MS = 45.0
"""The sample's loop takes 40 to 100 ms on a core of today."""
LINGER_S = 0.3
_QUIET_S = 0.05
"""Who leaves has answered everybody when nothing came for so long."""
FINISH_S = 25.0
"""Longest wait for that: shorter than the usual grace of 30 s."""
IDLE_S = 75.0
BACKLOG = 128


class Application:
    """The application and its connections. One thread does all: who is being answered keeps the others waiting."""

    def __init__(self, address: tuple[str, int], version: str, instance: str, burn_s: float) -> None:
        self.version = version
        self.instance = instance
        self.burn_s = burn_s
        self.leaving = False
        self.answered = 0
        self.address = address
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, *self.address, backlog=BACKLOG)
            self.address = self._server.sockets[0].getsockname()

    def stop_listening(self) -> None:
        """Take no new connections; those that are open stay so."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def refuse(self) -> None:
        """Cut all connections and take no new ones until ``listen``."""
        self.stop_listening()
        for connection in self._connections:
            connection.transport.abort()

    async def finish(self) -> bool:
        """Answer what has come; return whether that could be done in time."""
        deadline, before = time.monotonic() + FINISH_S, -1
        while before != self.answered and time.monotonic() < deadline:
            before = self.answered
            await asyncio.sleep(_QUIET_S)
        return before == self.answered

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            with contextlib.suppress(OSError, EOFError, ValueError, TimeoutError, asyncio.LimitOverrunError):
                while await self._exchange(reader, writer):
                    pass
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request in one segment; return whether the connection is for more."""
        async with asyncio.timeout(IDLE_S):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request, *fields = head.split("\r\n")
        method, path, protocol = request.split(" ")
        asked_to_close = any(field.lower().replace(" ", "") == "connection:close" for field in fields)
        status, body = self._answer(method, path.partition("?")[0])
        keep = not (asked_to_close or self.leaving or protocol == "HTTP/1.0" or status.startswith("405"))
        answer = f"HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
        answer += "\r\n" if keep else "Connection: close\r\n\r\n"
        writer.write((answer + ("" if method == "HEAD" else body)).encode())
        self.answered += 1
        sys.stdout.write(f'{writer.get_extra_info("peername")[0]} "{request}" {status[:3]}\n')
        sys.stdout.flush()
        await writer.drain()
        return keep

    def _answer(self, method: str, path: str) -> tuple[str, str]:
        if method not in ("GET", "HEAD"):
            return "405 Method Not Allowed", "Method Not Allowed\n"
        if path == "/hello":
            end = time.thread_time() + self.burn_s
            while time.thread_time() < end:
                sum(range(1000))
            return "200 OK", f"Hello version: {self.version}, instance: {self.instance}\n"
        return ("200 OK", "Helloworld is healthy") if path == "/health" else ("404 Not Found", "Not Found\n")


async def main() -> int:
    environment = os.environ
    signals = asyncio.Queue[int]()
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, number)
    application = Application(
        (environment.get("POD_IP", "127.0.0.1"), int(environment.get("PORT", PORT))),
        environment.get("SERVICE_VERSION", "v1"),
        environment.get("HOSTNAME", "unknown"),
        float(environment.get("BURN_MS", BURN_MS)) / 1000,
    )
    await application.listen()
    sys.stdout.write("listening on {}:{}\n".format(*application.address))
    sys.stdout.flush()
    while (order := await signals.get()) != signal.SIGTERM:
        if order == signal.SIGUSR1:
            application.refuse()
        else:
            await application.listen()
    application.leaving = True
    await asyncio.sleep(float(environment.get("LINGER_S", LINGER_S)))
    application.stop_listening()
    return 0 if await application.finish() else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
