"""A real server that gives the answers it was told to, one after the other: the application that probes ask."""

from __future__ import annotations

import http.server
import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

HELLO = b"Hello version: v1, instance: helloworld-v1-77cb56d4b4-x2kfp\n"
URL = "http://helloworld.sample:5000/hello"
Answer = tuple[int, bytes]
HANG_S = 0.6
HANGS: Answer = (0, HELLO)
"""An answer that comes after ``HANG_S``."""
CUT: Answer = (-1, b"")
"""No answer: the connection is closed at once."""


class Service(http.server.ThreadingHTTPServer):
    """A real server on a free loopback port that gives ``answers`` in turn and remembers what it was asked."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, answers: Iterator[Answer], delay_s: float = 0) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.delay_s = answers, delay_s
        self.asked: list[tuple[str, str]] = []
        self.counting, self.at_once, self.most_at_once = threading.Lock(), 0, 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hello"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Connection"]))
        code, body = next(self.server.answers)
        self.close_connection = True
        if (code, body) == CUT:
            return
        with self.server.counting:
            self.server.at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
        time.sleep(self.server.delay_s if code else HANG_S)
        with self.server.counting:
            self.server.at_once -= 1
        code = code or 200
        head = f"HTTP/1.1 {code} Said\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self.wfile.write(head.encode() + body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def service(*answers: Answer, delay_s: float = 0) -> Iterator[Service]:
    server = Service(itertools.cycle(answers or ((200, HELLO),)), delay_s)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
