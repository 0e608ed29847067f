"""A program of its own that sends plain HTTP requests from this machine on schedule: ``python -I sender.py CONFIG``.

Apart from the notebook's process, so that nothing which that does delays a request, and with the standard library only,
so that it starts in a moment. One thread and non-blocking sockets: a request leaves on its beat whatever earlier ones
do, each on a connection of its own. A beat whose successor is due as well is left out, never made up for in a burst.

CONFIG is JSON: ``address`` (host, port), ``request`` (the text to send), ``gap_us``, ``timeout_s``, ``requests``,
``begin`` (Unix time of the first). Each request that ended is a line of JSON on stdout; ``streams`` reads them. The end
of stdin stops the sending. No name is looked up here, and nothing is judged.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import selectors
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any

REFUSED, CUT, TIMEOUT, NO_ANSWER, RESET = 7, 18, 28, 52, 56
"""What curl's exit codes say."""
_SPARE_FILES = 32
_TURN_S = 0.02
"""Seconds that one turn of the loop may take beside its wait before it counts as a standstill."""
_PIECE = 65536


@dataclass(kw_only=True)
class Transfer:
    """One request on its way."""

    number: int
    link: socket.socket
    sent: float
    """Unix time right before the connection was asked for."""
    begun: float
    """The same moment by the monotonic clock."""
    error_s: float
    """How much later the kernel may have been told."""
    deadline: float
    """When it is given up, by the monotonic clock."""
    connected: float = 0.0
    first_byte: float = 0.0
    received: bytearray = field(default_factory=bytearray)

    @property
    def whole(self) -> bool:
        """Tell whether the answer is complete by its own account; without one the connection's end ends it."""
        head, blank, body = bytes(self.received).partition(b"\r\n\r\n")
        if not blank:
            return False
        length = header(head, b"content-length")
        if length.isdigit():
            return len(body) >= int(length)
        return header(head, b"transfer-encoding") == b"chunked" and body.endswith(b"0\r\n\r\n")


def header(head: bytes, name: bytes) -> bytes:
    """Return the value of a header in lower case, empty when it is not there."""
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip().lower()
    return b""


def answer(received: bytes) -> tuple[int, bytes]:
    """Return (status, body) of an HTTP/1 answer; status 0 when it is none."""
    head, _, body = received.partition(b"\r\n\r\n")
    words = head.split(b"\r\n")[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/1") or not words[1].isdigit():
        return 0, received
    if header(head, b"transfer-encoding") == b"chunked":
        body = unchunked(body)
    return int(words[1]), body


def unchunked(data: bytes) -> bytes:
    """Return the body that ``data`` carries in chunks, as far as it came."""
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        try:
            length = int(size.partition(b";")[0], 16)
        except ValueError:
            return body
        if length == 0:
            return body
        body, data = body + data[:length], data[length + 2 :]
    return body


class Sender:
    """Sends on schedule until all is sent and ended, or stdin has ended."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.address = (config["address"][0], int(config["address"][1]))
        self.request = str(config["request"]).encode()
        self.gap_s, self.timeout_s = float(config["gap_us"]) / 1e6, float(config["timeout_s"])
        self.requests = int(config["requests"])
        self.begin: float = time.monotonic() + float(config["begin"]) - time.time()
        self.on_way: dict[int, Transfer] = {}
        self.number = 1
        self.most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE_FILES
        self.selector = selectors.DefaultSelector()
        self.selector.register(sys.stdin.fileno(), selectors.EVENT_READ)

    def run(self) -> None:
        turn = time.monotonic()
        while self.on_way or self.number <= self.requests:
            wait = max(0.0, self._next() - time.monotonic())
            ready = self.selector.select(wait)
            before, turn = turn, time.monotonic()
            if turn - before - wait > _TURN_S:
                self._forgive(turn - before)
            for key, _ in ready:
                if key.data is None:
                    self._listen()
                else:
                    self._go_on(key.data)
            self._send_what_is_due()
            self._give_up_what_is_late()

    def _next(self) -> float:
        """Return when something is to be done at the latest: a beat, or the end of the oldest request's time."""
        oldest = next(iter(self.on_way.values()), None)
        deadline = oldest.deadline if oldest else float("inf")
        return min(self._due(self.number) if self.number <= self.requests else float("inf"), deadline)

    def _due(self, number: int) -> float:
        return self.begin + (number - 1) * self.gap_s

    def _forgive(self, stood_still_s: float) -> None:
        """Give requests on their way the time for which this process may have stood still: it kept them waiting."""
        for transfer in self.on_way.values():
            transfer.deadline += stood_still_s

    def _listen(self) -> None:
        if not os.read(sys.stdin.fileno(), _PIECE):
            self.selector.unregister(sys.stdin.fileno())
            self.requests = 0

    def _send_what_is_due(self) -> None:
        while self.number <= self.requests and self._due(self.number) <= time.monotonic():
            number, self.number = self.number, self.number + 1
            if self._due(number + 1) <= time.monotonic() or len(self.on_way) >= self.most:
                tell({"number": number, "dropped": True})
            else:
                self._send(number)

    def _send(self, number: int) -> None:
        link = socket.socket(socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET)
        link.setblocking(False)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sent, begun = time.time(), time.monotonic()
        code = link.connect_ex(self.address)
        error_s, deadline = time.monotonic() - begun, begun + self.timeout_s
        transfer = Transfer(number=number, link=link, sent=sent, begun=begun, error_s=error_s, deadline=deadline)
        self.on_way[number] = transfer
        self.selector.register(link, selectors.EVENT_WRITE, transfer)
        if code not in (0, errno.EINPROGRESS):
            self._end(transfer, REFUSED, os.strerror(code))

    def _go_on(self, transfer: Transfer) -> None:
        try:
            if transfer.connected:
                self._receive(transfer)
                return
            if code := transfer.link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._end(transfer, REFUSED, os.strerror(code))
                return
            transfer.connected = time.monotonic()
            transfer.link.sendall(self.request)
            self.selector.modify(transfer.link, selectors.EVENT_READ, transfer)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(transfer, RESET, error.strerror or str(error))

    def _receive(self, transfer: Transfer) -> None:
        piece = transfer.link.recv(_PIECE)
        transfer.first_byte = transfer.first_byte or time.monotonic()
        transfer.received += piece
        if transfer.whole:
            self._end(transfer, 0, "")
        elif not piece:
            cut = header(bytes(transfer.received), b"content-length") or not answer(bytes(transfer.received))[0]
            self._end(transfer, (CUT if transfer.received else NO_ANSWER) if cut else 0, "")

    def _give_up_what_is_late(self) -> None:
        for transfer in list(self.on_way.values()):
            if transfer.deadline > time.monotonic():
                return
            what = "no answer" if transfer.connected else "no connection"
            self._end(transfer, TIMEOUT, f"{what} within {self.timeout_s:g} s")

    def _end(self, transfer: Transfer, exit_code: int, said: str) -> None:
        ended = time.monotonic()
        del self.on_way[transfer.number]
        self.selector.unregister(transfer.link)
        transfer.link.close()
        status, body = answer(bytes(transfer.received)) if transfer.received else (0, b"")
        tell(
            {
                "number": transfer.number,
                "sent": transfer.sent,
                "error_s": transfer.error_s,
                "connect_s": transfer.connected and transfer.connected - transfer.begun,
                "first_s": transfer.first_byte and transfer.first_byte - transfer.begun,
                "total_s": ended - transfer.begun,
                "code": status,
                "exit_code": exit_code,
                "body": body[:4096].decode("utf-8", "replace"),
                "said": said,
            }
        )


def tell(row: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    Sender(json.loads(sys.argv[1])).run()
