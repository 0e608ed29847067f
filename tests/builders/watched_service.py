"""What a watch asks and from where: a server that answers or is silent for ever, pods, a pace, whole tables."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pandas as pd

from meshbook import probes
from meshbook.clusters import Fleet

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 32\r\n\r\nHello version: v1, instance: x1\n"
PACE = {"rate_per_s": 20.0, "timeout_s": 0.2}


@contextmanager
def service(
    answers: bool = True,
    *,
    answer: bytes = HELLO,
    delay_s: float = 0.0,
    on_request: Callable[[bytes], object] = lambda _: None,
) -> Iterator[str]:
    """A real server on a free loopback port, which answers (one at a time) or is silent for ever; yields its URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:

        def serve() -> None:
            while True:
                try:
                    link, _ = listener.accept()
                except OSError:
                    return
                with link:
                    on_request(link.recv(65536))
                    time.sleep(delay_s)
                    link.sendall(answer)

        if answers:
            threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/hello"
        listener.shutdown(socket.SHUT_RDWR)


def fleet(*pods: Any) -> Fleet:
    return cast(Fleet, list(pods))


def assert_whole(frame: pd.DataFrame, watch: probes.Watch) -> None:
    """One row for every scheduled request of every source, and no number twice."""
    for _, rows in frame.groupby("source"):
        assert rows["seq"].tolist() == list(watch.schedule.numbers)
