"""The program that sends plain HTTP requests on schedule, the same from this machine and from inside a pod.

``session`` gives this text to a Python (3.8 or newer) at its stdin, with a last line that calls ``main``: nothing is
installed, and nothing that the caller does delays a request. Standard library only, one thread, non-blocking sockets,
no child. A request leaves on its tick whatever earlier ones do, each on a connection of its own. A tick whose successor
is due as well is left out, never made up for in a burst.

It tells lines of JSON: ``ready`` (the address that it connects to) or ``refused`` (why it cannot); then an answer to
each question for its clock, and one line for each request that ended or was ``dropped``. It hears lines of JSON:
``clock`` (a question), ``first`` with ``begin`` (send from this number on; request 1 is due at that time of its own
clock), ``last`` (no request after this one), and empty ones. A caller that is silent for ``silence_s`` is gone, and
then it ends at once, whatever it is doing.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import selectors
import signal
import socket
import sys
import time
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

REFUSED, CUT, TIMEOUT, NO_ANSWER, RESET, TOO_LONG = 7, 18, 28, 52, 56, 63
"""What curl's exit codes say."""
_SPARE_FILES = 32
_LONGEST_WAIT_S = 60.0
_TURN_S = 0.02
"""Seconds that one turn of the loop may take beside its wait before it counts as a standstill."""
_PIECE = 1 << 16
_LONGEST_ANSWER = 1 << 20
_BODY_TOLD = 4096


class Transfer:
    """One request on its way; ``sent`` is Unix time right before its connection was asked for, the rest monotonic."""

    def __init__(self, number: int, link: socket.socket, timeout_s: float) -> None:
        self.number, self.link = number, link
        self.sent, self.begun = time.time(), time.monotonic()
        self.deadline = self.begun + timeout_s
        self.error_s = 0.0  # how much later than ``sent`` the kernel may have been told
        self.connected = self.first_byte = 0.0
        self.received = bytearray()

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


def route(url: str, direct: bool) -> tuple[int, tuple[Any, ...], bytes]:
    """Return family and address to connect to (the environment's proxy, unless ``direct``), and what to send there."""
    parts = urlsplit(url)
    proxy = "" if direct or proxy_bypass(parts.hostname or "") else getproxies().get("http", "")
    there = urlsplit(proxy if "//" in proxy else "//" + proxy) if proxy else parts
    target = url if proxy else urlunsplit(("", "", parts.path or "/", parts.query, ""))
    head = (
        f"GET {target} HTTP/1.1",
        f"Host: {parts.netloc}",
        "User-Agent: meshbook",
        "Accept: */*",
        "Connection: close",
    )
    family, _, _, _, address = socket.getaddrinfo(there.hostname, there.port or 80, type=socket.SOCK_STREAM)[0]
    return family, address, "\r\n".join((*head, "", "")).encode()


class Sender:
    """Sends on schedule until all is sent and ended."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.family, self.address, self.request = route(config["url"], config["direct"])
        self.gap_s: float = config["gap_s"]
        self.timeout_s: float = config["timeout_s"]
        self.silence_s = config["silence_s"]
        self.number, self.last = 1, int(config["requests"])
        self.begin = float("inf")
        self.on_way: dict[int, Transfer] = {}
        self.most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE_FILES
        self.heard = b""
        self.selector = selectors.DefaultSelector()
        self.selector.register(sys.stdin.fileno(), selectors.EVENT_READ)

    def run(self) -> None:
        tell({"ready": self.address[0]})
        turn = time.monotonic()
        while self.on_way or self.number <= self.last:
            wait = max(0.0, self._next() - time.monotonic())
            ready = self.selector.select(wait)
            before, turn = turn, time.monotonic()
            if turn - before - wait > _TURN_S:
                self._forgive(turn - before)
            for key, _ in ready:
                if key.data is None:
                    self._hear()
                elif key.data.number in self.on_way:
                    self._go_on(key.data)
            self._send_what_is_due()
            self._give_up_what_is_late()

    def _next(self) -> float:
        """Return when something is to be done at the latest: a tick, or the end of the oldest request's time."""
        oldest = next(iter(self.on_way.values()), None)
        due = self._due(self.number) if self.number <= self.last else float("inf")
        return min(due, oldest.deadline if oldest else due, time.monotonic() + _LONGEST_WAIT_S)

    def _due(self, number: int) -> float:
        return self.begin + (number - 1) * self.gap_s

    def _forgive(self, stood_still_s: float) -> None:
        """Give requests on their way the time for which this process may have stood still: it kept them waiting."""
        for transfer in self.on_way.values():
            transfer.deadline += stood_still_s

    def _hear(self) -> None:
        piece = os.read(sys.stdin.fileno(), _PIECE)
        if not piece:
            sys.exit("the caller is gone")
        signal.alarm(self.silence_s)
        *lines, self.heard = (self.heard + piece).split(b"\n")
        for words in map(json.loads, lines):
            if "clock" in words:
                tell({"clock": words["clock"], "time": time.time()})
            elif "first" in words:
                self.number, self.begin = words["first"], time.monotonic() + words["begin"] - time.time()
            elif "last" in words:
                self.last = words["last"]
                for transfer in [each for each in self.on_way.values() if each.number > self.last]:
                    self._close(transfer)

    def _send_what_is_due(self) -> None:
        while self.number <= self.last and self._due(self.number) <= time.monotonic():
            number, self.number = self.number, self.number + 1
            if self._due(number + 1) <= time.monotonic():
                tell({"number": number, "dropped": "the sender was too busy to send it in time"})
            elif len(self.on_way) >= self.most:
                tell({"number": number, "dropped": f"{len(self.on_way)} requests were on their way"})
            else:
                self._send(number)

    def _send(self, number: int) -> None:
        link = socket.socket(self.family)
        link.setblocking(False)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.on_way[number] = transfer = Transfer(number, link, self.timeout_s)
        code = link.connect_ex(self.address)
        transfer.error_s = time.monotonic() - transfer.begun
        self.selector.register(link, selectors.EVENT_WRITE, transfer)
        if code not in (0, errno.EINPROGRESS):
            self._end(transfer, REFUSED, os.strerror(code))

    def _go_on(self, transfer: Transfer) -> None:
        try:
            if transfer.connected:
                self._receive(transfer)
                return
            code = transfer.link.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
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
            self._end(transfer, 0)
        elif len(transfer.received) > _LONGEST_ANSWER:
            self._end(transfer, TOO_LONG, f"the answer is longer than {_LONGEST_ANSWER} bytes")
        elif not piece:
            cut = header(bytes(transfer.received), b"content-length") or not answer(bytes(transfer.received))[0]
            self._end(transfer, (CUT if transfer.received else NO_ANSWER) if cut else 0)

    def _give_up_what_is_late(self) -> None:
        for transfer in list(self.on_way.values()):
            if transfer.deadline > time.monotonic():
                return
            what = "no answer" if transfer.connected else "no connection"
            self._end(transfer, TIMEOUT, f"{what} within {self.timeout_s:g} s")

    def _end(self, transfer: Transfer, exit_code: int, said: str = "") -> None:
        ended = time.monotonic()
        self._close(transfer)
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
                "body": body[:_BODY_TOLD].decode("utf-8", "replace"),
                "said": said,
            }
        )

    def _close(self, transfer: Transfer) -> None:
        del self.on_way[transfer.number]
        self.selector.unregister(transfer.link)
        transfer.link.close()


def tell(words: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def main(config: dict[str, Any]) -> None:
    """Send as ``config`` says: url, direct, gap_s, timeout_s, requests, silence_s."""
    # The alarm's default is the end of the process: even one that is stuck in a write does not outlive its caller.
    signal.alarm(config["silence_s"])
    try:
        sender = Sender(config)
    except OSError as error:
        tell({"refused": f"cannot find {urlsplit(config['url']).hostname} or its proxy: {error.strerror or error}"})
        return
    sender.run()
