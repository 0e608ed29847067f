"""The service that a benchmark takes away: answers as the sample does, refuses and admits on order. Loopback only.

Standard library only; a process of its own, so that it can be frozen. It tells its port on its first line; then each
line of stdin, ``refuse`` or ``admit``, closes or opens its listener and is answered by the Unix times right before and
right after. It ends with its stdin.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler

BODY = b"Hello version: v1, instance: target\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(BODY)


class Handler(BaseHTTPRequestHandler):
    """One connection, one answer, in one segment."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.close_connection = True
        self.wfile.write(HEAD + BODY)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Target:
    """A listener that can be closed and opened again on the same port."""

    def __init__(self) -> None:
        self.listener = self._open(0)
        self.port = int(self.listener.getsockname()[1])

    def _open(self, port: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(512)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                link, peer = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(link, peer), daemon=True).start()

    def _serve(self, link: socket.socket, peer: object) -> None:
        with link:
            try:
                Handler(link, peer, self)  # type: ignore[arg-type]
            except OSError:
                return

    def refuse(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def admit(self) -> None:
        self.listener = self._open(self.port)


def main() -> None:
    target = Target()
    orders = {"refuse": target.refuse, "admit": target.admit}
    print(target.port, flush=True)  # noqa: T201 - this is how it tells
    for line in sys.stdin:
        before = time.time()
        orders[line.strip()]()
        print(before, time.time(), flush=True)  # noqa: T201 - this is how it tells


if __name__ == "__main__":
    main()
