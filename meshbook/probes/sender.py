"""The program that sends plain HTTP requests, the same from this machine and from inside a pod.

``session`` gives this text to a Python (3.8 or newer) at its stdin, with a last line that calls ``main``: nothing is
installed, and nothing that the caller does delays a request. Standard library only, one thread, non-blocking sockets,
no child. Each request has a connection of its own. It sends in one of two ways:

- On schedule (an open loop): a request leaves on its tick whatever earlier ones do. A tick whose successor is due as
  well is left out, never made up for in a burst; so is one for which as many requests as may be are in flight.
- As fast as it goes (a closed loop; a gap of 0 s): as many as may be are in flight, and the next one leaves as soon as
  one has ended.

It tells lines of JSON: ``ready`` (the address that it connects to) or ``refused`` (why it cannot); then an answer to
each question for its clock, ``rows`` of requests that ended, and each that was ``dropped``. It hears lines of JSON:
``clock`` (a question), ``first`` with ``begin`` (send from this number on; request 1 is due at that time of its own
clock), ``last`` (no request after this one), and empty ones. A caller that is silent for ``silence_s`` is gone, and
then it ends at once, whatever it is doing. Memory is bounded: by the requests in flight, and of an answer no more is
kept than is told.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import selectors
import signal
import socket
import sys
import time
from collections import OrderedDict
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit, urlunsplit

REFUSED, CUT, TIMEOUT, NO_ANSWER, RESET, TOO_LONG = 7, 18, 28, 52, 56, 63
"""What curl's exit codes say."""
BUSY = "the sender was too busy to send it in time"
FULL = "as many requests as may be were in flight"
"""Why a request was not sent."""
_SPARE_FILES = 32
_LONGEST_WAIT_S = 60.0
_TURN_S = 0.02
"""Seconds that one turn of the loop may take beside its wait before it counts as a standstill."""
_PIECE = 1 << 16
_ROWS_TOLD = 500
_TELL_EVERY_S = 0.03
"""Rows are told when they are so many, or so old: each telling wakes the caller."""
_PIPE_SIZE, _SET_PIPE_SIZE = 1 << 20, 1031
"""What may wait for a busy caller before a telling does, and Linux's F_SETPIPE_SZ, which Python has since 3.10."""
_LONGEST_ANSWER = 1 << 20
_LONGEST_HEAD = 1 << 16
_BODY_TOLD = 4096


class Answer:
    """An HTTP/1 answer as it comes in; status 0 when it is none."""

    def __init__(self) -> None:
        self.code = self.length = 0
        self.body = b""  # as much of it as is told
        self.whole = False  # complete by its own account; without one the connection's end ends it
        self.framed = False  # has such an account
        self._unread = b""
        self._left = -1  # bytes that are still to come of the body, or of this chunk; -1: not known
        self._chunked = self._begun = False

    def take(self, piece: bytes) -> None:
        self.length += len(piece)
        data = self._unread + piece if self._unread else piece
        if not self._begun:
            head, blank, data = data.partition(b"\r\n\r\n")
            if not blank:
                self._unread = self.body = head
                return
            self._unread, self._begun = b"", True
            self._read_head(head)
        if self._chunked:
            self._read_chunks(data)
        else:
            self._read_body(data)
            self.whole = self._left == 0

    def _read_head(self, head: bytes) -> None:
        first, _, fields = head.lower().partition(b"\r\n")
        words = first.split(None, 2)
        self.body = b""
        if len(words) < 2 or not words[0].startswith(b"http/1") or not words[1].isdigit():
            self.body = head[:_BODY_TOLD]
            return
        self.code = int(words[1])
        fields = b"\r\n" + fields + b"\r\n"
        length = value(fields, b"content-length")
        self._chunked = value(fields, b"transfer-encoding") == b"chunked"
        if self.code in (204, 304):
            self._left = 0
        elif length.isdigit() and not self._chunked:
            self._left = int(length)
        self.framed = self._chunked or self._left >= 0

    def _read_body(self, data: bytes) -> None:
        if self._left >= 0:
            data = data[: self._left]
            self._left -= len(data)
        if len(self.body) < _BODY_TOLD:
            self.body += data[: _BODY_TOLD - len(self.body)]

    def _read_chunks(self, data: bytes) -> None:
        while data and not self.whole:
            if self._left > 0:
                came, data = data[: self._left], data[self._left :]
                self._read_body(came)
            elif self._left == 0:  # the line end after a chunk
                if len(data) < 2:
                    break
                self._left, data = -1, data[2:]
            else:
                size, end, rest = data.partition(b"\r\n")
                try:
                    length = int(size.partition(b";")[0], 16) if end else -1
                except ValueError:
                    self.framed = False
                    return
                if length == 0:  # trailers, and a blank line
                    self.whole = rest.startswith(b"\r\n") or b"\r\n\r\n" in rest
                if length <= 0:
                    break
                self._left, data = length, rest
        self._unread = data


def value(fields: bytes, name: bytes) -> bytes:
    """Return the value of a header of ``fields``, all lower case; empty when it is not there."""
    _, found, rest = fields.partition(b"\r\n" + name + b":")
    return rest.partition(b"\r\n")[0].strip() if found else b""


class Transfer:
    """One request on its way; ``sent`` is Unix time right before it left, the rest monotonic.

    The kernel may have been told up to ``error_s`` later.
    """

    def __init__(self, number: int, link: socket.socket, timeout_s: float) -> None:
        self.number = number
        self.link = link
        self.answer = Answer()
        self.connected = self.first_byte = self.error_s = 0.0
        self.sent, self.begun = time.time(), time.monotonic()
        self.deadline = self.begun + timeout_s

    def row(self, exit_code: int, said: str) -> list[Any]:
        """Return what is told of its end; lengths in microseconds, -1 for what was not reached."""
        lengths = [
            int((moment - self.begun) * 1e6) if moment else -1
            for moment in (self.connected, self.first_byte, time.monotonic())
        ]
        body = self.answer.body[:_BODY_TOLD].decode("utf-8", "replace")
        return [self.number, self.sent, int(self.error_s * 1e6), *lengths, self.answer.code, exit_code, body, said]


def route(url: str, direct: bool) -> tuple[int, tuple[Any, ...], bytes]:
    """Return family and address to connect to (the environment's proxy, unless ``direct``), and what to send there."""
    parts = urlsplit(url)
    proxy = "" if direct else proxy_of(parts.hostname or "")
    there = urlsplit(proxy if "//" in proxy else "//" + proxy) if proxy else parts
    target = url if proxy else urlunsplit(("", "", parts.path or "/", parts.query, ""))
    head = [f"GET {target} HTTP/1.1", f"Host: {parts.netloc}", "User-Agent: meshbook"]
    head += ["Accept: */*", "Connection: close"]
    family, _, _, _, address = socket.getaddrinfo(there.hostname, there.port or 80, type=socket.SOCK_STREAM)[0]
    return family, address, "\r\n".join((*head, "", "")).encode()


def proxy_of(host: str) -> str:
    """Return the proxy that the environment names for ``host``, if any, as curl has it."""
    if not any(name.lower() == "http_proxy" for name in os.environ):
        return ""
    from urllib.request import getproxies, proxy_bypass  # takes longer than the rest of the start

    return "" if proxy_bypass(host) else getproxies().get("http", "")


def file_limit(wanted: int) -> int:
    """Return how many sockets this process may open, after asking for ``wanted`` of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted + _SPARE_FILES and soft != resource.RLIM_INFINITY:
        soft = wanted + _SPARE_FILES if hard == resource.RLIM_INFINITY else min(hard, wanted + _SPARE_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else soft - _SPARE_FILES


class Sender:
    """Sends on schedule, or as fast as it goes, until all is sent and ended."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.family, self.address, self.request = route(config["url"], config["direct"])
        self.gap_s: float = config["gap_s"]
        self.timeout_s: float = config["timeout_s"]
        self.silence_s = config["silence_s"]
        self.number, self.last = 1, int(config["requests"])
        self.begin = float("inf")
        # The oldest is always the first: all have the same time to end. A dict finds its first slowly once many went.
        self.on_way: OrderedDict[int, Transfer] = OrderedDict()
        self.most = min(config["in_flight"], file_limit(config["in_flight"]))
        self.rows: list[list[Any]] = []
        self.told = 0.0  # when the last ones were
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
                self._send_what_is_due()  # after each: thousands of answers may come at once
            self._send_what_is_due()
            self._give_up_what_is_late()
            if self.rows and time.monotonic() >= self.told + _TELL_EVERY_S:
                self._tell_rows()
        self._tell_rows()

    def _next(self) -> float:
        """Return when something is to be done at the latest: a tick, an end of a request's time, a telling."""
        oldest = next(iter(self.on_way.values()), None)
        waits = self.number > self.last or (not self.gap_s and len(self.on_way) >= self.most)
        due = float("inf") if waits else self._due(self.number)
        tell = self.told + _TELL_EVERY_S if self.rows else due
        return min(due, oldest.deadline if oldest else due, tell, time.monotonic() + _LONGEST_WAIT_S)

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
                    del self.on_way[transfer.number]
                    self._hang_up(transfer)

    def _send_what_is_due(self) -> None:
        while self.number <= self.last and self._due(self.number) <= time.monotonic():
            full = len(self.on_way) >= self.most
            if full and not self.gap_s:
                return
            number, self.number = self.number, self.number + 1
            if self.gap_s and self._due(number + 1) <= time.monotonic():
                tell({"dropped": number, "why": BUSY})
            elif full:
                tell({"dropped": number, "why": f"{FULL} ({self.most})"})
            else:
                self._connect(number)

    def _connect(self, number: int) -> None:
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
        answer = transfer.answer
        if piece:
            transfer.first_byte = transfer.first_byte or time.monotonic()
            answer.take(piece)
            if answer.whole:
                self._end(transfer, 0)
            elif answer.length > (_LONGEST_ANSWER if answer.code else _LONGEST_HEAD):
                self._end(transfer, TOO_LONG, "the answer, or its head, is too long")
        elif not answer.length:
            self._end(transfer, NO_ANSWER)
        else:
            self._end(transfer, CUT if answer.framed or not answer.code else 0)

    def _give_up_what_is_late(self) -> None:
        now = time.monotonic()
        while self.on_way:
            transfer = next(iter(self.on_way.values()))
            if transfer.deadline > now:
                return
            what = "no answer" if transfer.connected else "no connection"
            self._end(transfer, TIMEOUT, f"{what} within {self.timeout_s:g} s")

    def _end(self, transfer: Transfer, exit_code: int, said: str = "") -> None:
        self.rows.append(transfer.row(exit_code, said))
        if len(self.rows) >= _ROWS_TOLD:
            self._tell_rows()
        del self.on_way[transfer.number]
        self._hang_up(transfer)

    def _tell_rows(self) -> None:
        if self.rows:
            tell({"rows": self.rows})
            self.rows, self.told = [], time.monotonic()

    def _hang_up(self, transfer: Transfer) -> None:
        self.selector.unregister(transfer.link)
        transfer.link.close()


def tell(words: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def main(config: dict[str, Any]) -> None:
    """Send as ``config`` says: url, direct, gap_s, timeout_s, requests, in_flight, silence_s."""
    # The alarm's default is the end of the process: even one that is stuck in a write does not outlive its caller.
    signal.alarm(config["silence_s"])
    with suppress(OSError):
        fcntl.fcntl(sys.stdout.fileno(), _SET_PIPE_SIZE, _PIPE_SIZE)
    try:
        sender = Sender(config)
    except OSError as error:
        tell({"refused": f"cannot find {urlsplit(config['url']).hostname} or its proxy: {error.strerror or error}"})
        return
    sender.run()
