"""A command in a pod: one exec, sent once and never repeated, read while it runs.

Requests that are answered whole are in ``api`` and ``connection``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import websocket
from urllib3.exceptions import HTTPError
from websocket import ABNF

from meshbook.clusters.api import Api, Resource
from meshbook.clusters.concurrency import pause
from meshbook.clusters.connection import hint_of, status_message
from meshbook.clusters.hints import refusal_hint
from meshbook.errors import ExecError

OnLine = Callable[[str, datetime], None]
"""Called with each line of stdout, without its end, and the UTC time at which it was complete here."""

STDIN, STDOUT, STDERR, STATUS = 0, 1, 2, 3
PODS = Resource(api_version="v1", kind="Pod", plural="pods", namespaced=True)
_LOOK_S = 0.25
"""Seconds of silence after which deadline and interruption are looked at."""
_KEPT = 1 << 16
_CLOSING_S = 2.0
"""Seconds that a server may take to close after it has told the exit code."""


class ExecStreams(Protocol):
    """stdin and stdout of a command while it runs; both methods are called by the thread that reads its output."""

    def on_line(self, line: str, when: datetime) -> None:
        """Take a line of stdout and the UTC time at which it was complete here."""

    def stdin(self) -> str:
        """Return what the command is to read now, if anything; asked whenever output came, and 4 times a second."""


@dataclass(frozen=True, kw_only=True)
class ExecResult:
    """What became of a command that ran to its end in a pod."""

    exit_code: int
    stdout: str
    stderr: str


@dataclass
class Execution:
    """One run of a command; call ``run`` once. ``container`` may be empty where the pod has only one.

    Its frames are read here, since the client's WSClient has no time limit for connecting, does not come back to its
    caller while output keeps coming, and knows no exit code of a command that never started.
    """

    api: Api
    _: KW_ONLY
    pod: str
    namespace: str
    container: str
    argv: Sequence[str]
    on_line: OnLine | None = None
    stdin: Callable[[], str] | None = None

    def __post_init__(self) -> None:
        self._received = {STDOUT: bytearray(), STDERR: bytearray(), STATUS: bytearray()}
        self._rest = b""

    def run(self, timeout_s: float) -> ExecResult:
        """Run to the command's end; ExecError, with the output so far, when it cannot start, stalls or is cut off."""
        link = self._open()
        try:
            self._read(link, timeout_s)
        except (websocket.WebSocketException, OSError) as error:
            raise self._failed(f"lost the connection to {self.pod} while the command ran", error=error) from error
        finally:
            link.shutdown()
            if self._rest:
                self._tell(self._rest)  # a last line without an end
        return ExecResult(exit_code=self._exit_code(), stdout=self._text(STDOUT), stderr=self._text(STDERR))

    def _open(self) -> Any:
        query = [("command", part) for part in self.argv]
        query += [("container", self.container)] if self.container else []
        query += [("stdout", "true"), ("stderr", "true"), ("stdin", str(bool(self.stdin)).lower()), ("tty", "false")]
        try:
            return self.api.connection.open_websocket(PODS.path(self.namespace, self.pod, "exec"), query)
        except websocket.WebSocketBadStatusException as error:
            code, message = error.status_code, self.api.connection.clean(status_message(error.resp_body or b"")[0])
            hint = refusal_hint(code, message)
            raise self._failed(f"cannot run a command in {self.pod}: {message}", code=code, hint=hint) from error
        except (websocket.WebSocketException, HTTPError, OSError) as error:
            hint = hint_of(error)
            raise self._failed(f"cannot reach {self.pod} to run a command", error=error, hint=hint) from error

    def _read(self, link: Any, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        link.settimeout(_LOOK_S)
        while True:
            try:
                opcode, frame = link.recv_data_frame(True)
            except websocket.WebSocketTimeoutException:
                opcode, frame = ABNF.OPCODE_PING, None
            except (websocket.WebSocketConnectionClosedException, ConnectionError):
                if self._ended:
                    return
                raise
            if opcode == ABNF.OPCODE_CLOSE:
                return
            if opcode in (ABNF.OPCODE_BINARY, ABNF.OPCODE_TEXT) and frame.data:
                self._take(frame.data[0], frame.data[1:])
                if self._ended:
                    deadline = min(deadline, time.monotonic() + _CLOSING_S)
            if time.monotonic() > deadline:
                if self._ended:
                    return
                raise self._failed(f"the command in {self.pod} did not end within {timeout_s:g} s")
            if self.stdin and not self._ended and (text := self.stdin()):
                link.send_binary(bytes([STDIN]) + text.encode())
            pause(0)

    def _take(self, channel: int, data: bytes) -> None:
        if channel in self._received:
            self._received[channel] += data
        if self.stdin:
            del self._received[STDOUT][:-_KEPT]  # whoever talks with a command has had its lines
        if channel == STDOUT and self.on_line:
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._tell(line)

    def _tell(self, line: bytes) -> None:
        if self.on_line:
            self.on_line(line.decode("utf-8", "replace"), datetime.now(UTC))

    def _text(self, channel: int) -> str:
        return self._received[channel].decode("utf-8", "replace")

    @property
    def _ended(self) -> bool:
        return self._received[STATUS].endswith(b"}")

    def _exit_code(self) -> int:
        try:
            status = json.loads(self._received[STATUS])
            if status["status"] == "Success":
                return 0
        except (ValueError, KeyError, TypeError) as error:
            raise self._failed(f"the stream of {self.pod} ended without an exit code") from error
        for cause in (status.get("details") or {}).get("causes") or []:
            if cause.get("reason") == "ExitCode" and str(cause.get("message", "")).isdigit():
                return int(cause["message"])
        raise self._failed(
            f"the command could not be run in {self.pod}: {status.get('message', 'no word why')}",
            hint="does the container have this program?",
        )

    def _failed(self, message: str, *, code: int = 0, hint: str = "", error: object = "") -> ExecError:
        return ExecError(
            f"{self.api.name}: {message}",
            stdout=self._text(STDOUT),
            stderr=self._text(STDERR),
            code=code or 0,
            hint=hint,
            command="" if code else " ".join(self.argv)[:300],  # a refusal is none of the command's
            saw=error,
        )
