"""The sample's web application: says its version and its pod's name.

Standard library only; imports nothing of meshbook. As the sample under gunicorn, it answers one request at a time, and
``/hello`` costs CPU: a pod bears about 20 calls a second, and ``/health`` waits in the same queue. At SIGTERM it goes
on for a moment while others learn that it leaves, telling each client not to come back; then it finishes what is in
flight and exits 0. At SIGUSR1 it cuts its connections and refuses new ones until SIGUSR2, as if it had crashed.

Everything is set by the environment: ``POD_IP`` and ``PORT`` (where to listen), ``SERVICE_VERSION``, ``HOSTNAME`` (what
to answer), ``LINGER_S`` (the moment), ``BURN_MS`` (CPU time of a call; 0: none, and many requests at once).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

PORT = 5000
BURN_MS = 45.0
"""The sample's loop takes 40 to 100 ms on a core of today."""
LINGER_S = 0.3
FINISH_S = 25.0
"""Longest wait for requests in flight: shorter than the usual grace of 30 s."""
IDLE_S = 75.0
POLL_S = 0.005


class Handler(BaseHTTPRequestHandler):
    """One connection. Output is buffered, so that headers and body leave in one segment."""

    protocol_version = "HTTP/1.1"
    server_version = "helloworld"
    sys_version = ""
    wbufsize = 65536
    timeout = IDLE_S
    server: Server

    def do_GET(self) -> None:
        with self.server.in_flight:
            status, body = self.server.in_turn(self.path.partition("?")[0])
            self._reply(status, body.encode())

    do_HEAD = do_GET

    def _reply(self, status: HTTPStatus, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        if self.server.leaving.is_set():
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        sys.stdout.write(f"{self.address_string()} {format % args}\n")
        sys.stdout.flush()


class InFlight:
    """Counts the requests that are being answered."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._count -= 1

    def finish(self, timeout_s: float) -> bool:
        """Wait until nothing is in flight; return whether that came true."""
        deadline = time.monotonic() + timeout_s
        while self._count and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return not self._count


class Server(ThreadingHTTPServer):
    """The application and what it knows of itself."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], version: str, instance: str, burn_s: float = 0.0) -> None:
        self.version = version
        self.instance = instance
        self.burn_s = burn_s
        self.worker = ThreadPoolExecutor(max_workers=1)
        self.in_flight = InFlight()
        self.leaving = threading.Event()
        self.closed = threading.Event()
        self.refusing = False
        self.deaf = False
        """The socket does not listen any more, and another one is due when ``refusing`` ends."""
        self.turn = threading.Condition()
        self.connections: set[socket.socket] = set()
        super().__init__(address, Handler)

    def server_bind(self) -> None:
        """Bind without the direct base class' look-up of the host's name, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.instance, self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over connections that were cut, by this side or the other."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def accept_until_closed(self) -> None:
        while not self.closed.is_set():
            self.handle_request()
            with self.turn:
                if self.deaf:
                    self._sit_out()

    def refuse(self) -> None:
        """Cut all connections and refuse new ones until ``admit``."""
        with self.turn:
            self.refusing = self.deaf = True
            _shut(self.socket)
        for connection in list(self.connections):
            _shut(connection)

    def admit(self) -> None:
        """Listen again after ``refuse``."""
        with self.turn:
            self.refusing = False
            self.turn.notify_all()

    def _sit_out(self) -> None:
        self.socket.close()
        self.turn.wait_for(lambda: not self.refusing)
        if not self.closed.is_set():
            self.socket = socket.socket(self.address_family, self.socket_type)
            self.server_bind()
            self.server_activate()
            self.deaf = False

    def close(self) -> None:
        """Stop listening; connections that are open stay so."""
        self.closed.set()
        _shut(self.socket)
        self.admit()

    def in_turn(self, path: str) -> tuple[HTTPStatus, str]:
        """Return the answer to ``path``; where calls cost something, after all that came before it."""
        return self.worker.submit(self.answer, path).result() if self.burn_s else self.answer(path)

    def answer(self, path: str) -> tuple[HTTPStatus, str]:
        if path == "/hello":
            _burn(self.burn_s)
            return HTTPStatus.OK, f"Hello version: {self.version}, instance: {self.instance}\n"
        if path == "/health":
            return HTTPStatus.OK, "Helloworld is healthy"
        return HTTPStatus.NOT_FOUND, "Not Found\n"


def _burn(cpu_s: float) -> None:
    """Use up CPU time. A pod that gets less of a core takes longer, as the sample does."""
    end = time.thread_time() + cpu_s
    while time.thread_time() < end:
        sum(range(1000))


def _shut(endpoint: socket.socket) -> None:
    """End a connection, or listening, at once; nothing happens when it has ended."""
    with contextlib.suppress(OSError):
        endpoint.shutdown(socket.SHUT_RDWR)


def main() -> int:
    environment = os.environ
    address = (environment.get("POD_IP", "127.0.0.1"), int(environment.get("PORT", PORT)))
    orders = {signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}
    signal.pthread_sigmask(signal.SIG_BLOCK, orders)  # waited for one by one below: none is lost
    version, instance = environment.get("SERVICE_VERSION", "v1"), environment.get("HOSTNAME", "unknown")
    server = Server(address, version, instance, float(environment.get("BURN_MS", BURN_MS)) / 1000)
    threading.Thread(target=server.accept_until_closed, daemon=True).start()
    sys.stdout.write(f"listening on {address[0]}:{server.server_port}\n")
    sys.stdout.flush()
    while (order := signal.sigwait(orders)) != signal.SIGTERM:
        server.refuse() if order == signal.SIGUSR1 else server.admit()
    server.leaving.set()
    time.sleep(float(environment.get("LINGER_S", LINGER_S)))
    server.close()
    finished = server.in_flight.finish(FINISH_S)
    server.worker.shutdown(wait=False, cancel_futures=True)
    return 0 if finished else 1


if __name__ == "__main__":
    sys.exit(main())
