"""The service that a benchmark takes down: answers as the sample does, refuses and admits when told to. Loopback only.

Standard library only; a process of its own, so that it can be frozen. One thread and little work for a connection: when
it wakes up, those whose callers have given up must not keep it from answering, or it would be down for longer in truth
than it was frozen. It tells its port on its first line; then each line of stdin, ``refuse`` or ``admit``, closes or
opens its listener and is answered by the Unix times right before and right after. It ends with its stdin.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time

BODY = b"Hello version: v1, instance: target\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(BODY), BODY)
_BACKLOG = 1024


def listening(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


class Target:
    """A listener that can be closed and opened again on the same port, and the connections that it accepted."""

    def __init__(self) -> None:
        self.eyes = selectors.DefaultSelector()
        self.listener = listening(0)
        self.port = int(self.listener.getsockname()[1])
        self.eyes.register(self.listener, selectors.EVENT_READ, self.accept)
        self.eyes.register(sys.stdin.fileno(), selectors.EVENT_READ, self.obey)

    def run(self) -> None:
        print(self.port, flush=True)  # noqa: T201 - this is how it tells
        while True:
            for key, _ in self.eyes.select():
                key.data(key.fileobj)

    def accept(self, listener: socket.socket) -> None:
        try:
            link, _ = listener.accept()
        except OSError:  # closed by an order that came in the same moment, or its caller has gone
            return
        self.eyes.register(link, selectors.EVENT_READ, self.answer)

    def answer(self, link: socket.socket) -> None:
        """Answer whatever was asked: a request of a probe comes in one piece."""
        self.eyes.unregister(link)
        with link:
            try:
                if link.recv(65536):
                    link.sendall(ANSWER)
            except OSError:
                return

    def obey(self, _: int) -> None:
        order = sys.stdin.readline().strip()
        if not order:
            sys.exit()
        before = time.time()
        if order == "refuse":
            self.eyes.unregister(self.listener)
            self.listener.close()
        else:
            self.listener = listening(self.port)
            self.eyes.register(self.listener, selectors.EVENT_READ, self.accept)
        print(before, time.time(), flush=True)  # noqa: T201 - this is how it tells


if __name__ == "__main__":
    Target().run()
