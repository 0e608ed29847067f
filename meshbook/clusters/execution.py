"""A command in a pod, over the exec WebSocket: output as it comes, whole lines with time stamps, the exit code.

Read frame by frame rather than through the official client's stream, which splits characters at frame borders, cannot
tell a command that never started from one that failed, and may wait for ever.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import websocket

from meshbook.clusters.api import Api, Resource
from meshbook.clusters.connection import status_words
from meshbook.clusters.records import ExecResult
from meshbook.clusters.together import pause
from meshbook.errors import ExecError

OnLine = Callable[[str, datetime], None]
"""Called with each line of stdout, without its end, and the UTC time at which it was complete here."""


class ExecStreams(Protocol):
    """stdin and stdout of a command while it runs; both methods are called by the thread that reads its output."""

    def on_line(self, line: str, when: datetime) -> None:
        """Take a line of stdout and the UTC time at which it was complete here."""

    def stdin(self) -> str:
        """Return what the command is to read now, if anything; asked whenever output came, and 4 times a second."""


STDIN, STDOUT, STDERR, STATUS = 0, 1, 2, 3
_PODS = Resource(api_version="v1", kind="Pod", plural="pods", namespaced=True)
_LOOK_S = 0.25
"""Seconds of silence after which deadline and interruption are looked at."""
_CLOSING_S = 2.0
"""Seconds that a server may take to close after it has told the exit code."""


class Lines:
    """Cut a byte stream into lines; a character that two frames share stays whole."""

    def __init__(self, on_line: OnLine | None) -> None:
        self._on_line = on_line
        self._parts: list[bytes] = []
        self._rest = b""

    def feed(self, data: bytes) -> None:
        self._parts.append(data)
        if self._on_line is None:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._on_line(_text(line), datetime.now(UTC))

    def end(self) -> None:
        """Hand over a last line that has no end."""
        if self._rest and self._on_line is not None:
            self._on_line(_text(self._rest), datetime.now(UTC))
        self._rest = b""

    @property
    def text(self) -> str:
        return _text(b"".join(self._parts))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run where. ``container`` may be empty where the pod has only one."""

    pod: str
    namespace: str
    container: str
    argv: Sequence[str]
    stdin: bool = False

    def query(self) -> list[tuple[str, str]]:
        """Return the parameters of the exec request: output wanted, input perhaps, no terminal."""
        found = [("command", part) for part in self.argv]
        found += [("container", self.container)] if self.container else []
        return [*found, ("stdout", "true"), ("stderr", "true"), ("stdin", str(self.stdin).lower()), ("tty", "false")]


class Execution:
    """One run of a command; call ``run`` once."""

    def __init__(
        self, api: Api, command: Command, on_line: OnLine | None, say: Callable[[], str] | None = None
    ) -> None:
        self.api, self.command, self.pod = api, command, command.pod
        self.stdout, self.stderr = Lines(on_line), Lines(None)
        self._say = say
        self.status = b""

    def run(self, timeout_s: float) -> ExecResult:
        """Run to the command's end; ExecError, with the output so far, when it cannot start, stalls or is cut off."""
        started, deadline = datetime.now(UTC), time.monotonic() + timeout_s
        link = self._open()
        try:
            self._read(link, deadline, timeout_s)
        except (websocket.WebSocketException, OSError) as error:
            raise self._failed(f"lost the connection to {self.pod} while the command ran", error=error) from error
        finally:
            link.shutdown()
            self.stdout.end()
        return ExecResult(
            context=self.api.name,
            pod=self.pod,
            command=tuple(self.command.argv),
            exit_code=self._exit_code(),
            stdout=self.stdout.text,
            stderr=self.stderr.text,
            started=started,
            finished=datetime.now(UTC),
        )

    def _open(self) -> Any:
        path = _PODS.path(self.command.namespace, self.pod, "exec")
        try:
            return self.api.connection.open_websocket(path, self.command.query())
        except websocket.WebSocketBadStatusException as error:
            message, _ = status_words(error.resp_body or b"")
            raise self._failed(f"cannot run a command in {self.pod}: {message}", code=error.status_code) from error
        except (websocket.WebSocketException, OSError) as error:
            raise self._failed(f"cannot reach {self.pod} to run a command", error=error) from error

    def _read(self, link: Any, deadline: float, timeout_s: float) -> None:
        link.settimeout(_LOOK_S)
        while True:
            try:
                opcode, frame = link.recv_data_frame(True)
            except websocket.WebSocketTimeoutException:
                opcode, frame = websocket.ABNF.OPCODE_PING, None
            except (websocket.WebSocketConnectionClosedException, ConnectionError):
                if self._ended():
                    return
                raise
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return
            if opcode in (websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_TEXT):
                self._take(frame.data)
                if self._ended():
                    deadline = min(deadline, time.monotonic() + _CLOSING_S)
            if time.monotonic() > deadline:
                if self._ended():
                    return
                raise self._failed(f"the command in {self.pod} did not end within {timeout_s:g} s")
            self._answer(link)
            pause(0)

    def _answer(self, link: Any) -> None:
        if self._say is not None and not self._ended() and (words := self._say()):
            link.send_binary(bytes([STDIN]) + words.encode())

    def _take(self, data: bytes) -> None:
        channel, payload = (data[0], data[1:]) if data else (STATUS, b"")
        if channel == STDOUT:
            self.stdout.feed(payload)
        elif channel == STDERR:
            self.stderr.feed(payload)
        elif channel == STATUS:
            self.status += payload

    def _ended(self) -> bool:
        return self.status.endswith(b"}")

    def _exit_code(self) -> int:
        try:
            status = json.loads(self.status)
            if status["status"] == "Success":
                return 0
        except (ValueError, KeyError, TypeError) as error:
            raise self._failed(f"the stream of {self.pod} ended without an exit code") from error
        causes = (status.get("details") or {}).get("causes") or []
        for cause in causes:
            if cause.get("reason") == "ExitCode" and str(cause.get("message", "")).isdigit():
                return int(cause["message"])
        raise self._failed(
            f"the command could not be run in {self.pod}: {status.get('message', 'no word why')}",
            hint="does the container have this program?",
        )

    def _failed(self, message: str, *, code: int = 0, hint: str = "", error: object = "") -> ExecError:
        return ExecError(
            f"{self.api.name}: {message}",
            stdout=self.stdout.text,
            stderr=self.stderr.text,
            code=code or 0,
            hint=hint,
            command=" ".join(self.command.argv)[:300],
            saw=error,
        )
