"""Real Envoys, who tells them what to serve, small programs behind them, and a client of both."""

from __future__ import annotations

import http.client
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from background import Background

from meshbook.lab.discovery import DiscoveryServer
from meshbook.lab.envoy import Node, Resources, prepare_envoy
from meshbook.lab.images import ENVOY
from meshbook.lab.pki import Authority

BOUND_S = 15.0


class Program(ThreadingHTTPServer):
    """Answers every GET with ``code`` and ``body``, both of which a test may change."""

    daemon_threads = True

    def __init__(self, address: str, port: int, body: str) -> None:
        super().__init__((address, port), _Handler)
        self.code, self.body = 200, body


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Program

    def do_GET(self) -> None:
        body = f"{self.server.body}\n".encode()
        self.send_response(self.server.code)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def program(address: str, port: int, body: str) -> Iterator[Program]:
    server = Program(address, port, body)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class Discovery:
    """A discovery server in a thread of its own. What an Envoy refuses fails the test that leaves it."""

    def __init__(self, cluster: str, address: str, authority: Authority) -> None:
        self.cluster, self.address, self.authority = cluster, address, authority
        self.refusals: list[str] = []
        self._background = Background()

    def __enter__(self) -> Discovery:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._background.close()
        assert self.refusals == []

    def start(self) -> None:
        """Serve; of what was published before a stop, the server knows nothing."""
        self._server = DiscoveryServer(self.cluster, self.address, self.authority)
        self.refusals = self._server.refusals
        self._background.run(self._server.start())

    def stop(self) -> None:
        self._background.run(self._server.stop())

    def node(self, name: str, admin_address: str) -> Node:
        return Node(cluster=self.cluster, name=name, admin_address=admin_address, discovery_address=self.address)

    def publish(self, node: str, resources: Resources) -> list[str]:
        """Return the kinds of which anything changed."""

        async def publish() -> list[str]:
            return self._server.publish(node, resources)

        return self._background.run(publish())


@contextmanager
def running_envoy(folder: Path, node: Node, authority: Authority) -> Iterator[subprocess.Popen[bytes]]:
    """Run an Envoy; one that ends by itself says why in ``envoy.log``."""
    argv = prepare_envoy(ENVOY, folder, node, authority)
    with (folder / "envoy.log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait(5)


def get(address: str, port: int, target: str, host: str = "", method: str = "GET") -> tuple[int, str]:
    """Ask once; return the code and the body without its end of line."""
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request(method, target, headers={"host": host} if host else {})
        response = connection.getresponse()
        return response.status, response.read().decode().strip()
    finally:
        connection.close()


def eventually(ask: Callable[[], Any], wanted: Any) -> None:
    """Ask until the answer is as wanted."""
    deadline, last = time.monotonic() + BOUND_S, None
    while time.monotonic() < deadline:
        try:
            last = ask()
        except OSError as error:
            last = error
        if last == wanted:
            return
        time.sleep(0.01)
    raise AssertionError(f"not {wanted!r} within {BOUND_S:g} s, but {last!r}")
