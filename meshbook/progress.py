"""What calls tell while they go on: each step, what is waited for, and the command lines that do the same.

Told through ``logging``, so that no display is handed from call to call: where nobody listens nothing is seen. In a
notebook ``watch`` shows it in the cell that is running. Steps, and waits of more than a second with the time that is
left, are one text that changes in place: a saved notebook keeps its last state, the steps and how long waits took. What
a call found out it returns; nothing here is a result.
"""

from __future__ import annotations

import logging
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from typing import Any, TextIO

from meshbook.language import translate

_WAIT, _COMMAND = "meshbook_wait", "meshbook_command"
"""Attributes of a log record: the name of the wait that it is about, and that it is a command. Others are steps."""
_DISPLAY = "meshbook-progress-"
"""Begin of the id of each display that changes in place."""
_LONG_S, _EVERY_S = 1.0, 0.4
"""Seconds after which a wait is shown, and between two changes of what it says."""
_WIDTH = 160
_log = logging.getLogger(__name__)


def say(text: str, stream: TextIO | None = None) -> None:
    """Write to whoever runs this (default: stderr); a terminal or a pipe that is gone stops nothing that goes on."""
    stream = stream or sys.stderr
    with suppress(OSError):
        stream.write(text)
        stream.flush()


def step(text: str) -> None:
    """Tell that something begins, or is done."""
    _log.info("%s", text)


def command(line: str) -> None:
    """Tell a line for a shell that does what a call does."""
    _log.debug("%s", line, extra={_COMMAND: True})


@contextmanager
def waiting(what: str, timeout_s: float) -> Iterator[Callable[[str], None]]:
    """Tell of a wait for as long as the block goes on; yield what is to be called, now and then, with what is seen."""
    deadline = time.monotonic() + timeout_s

    def look(seen: str) -> None:
        left_s = max(0.0, deadline - time.monotonic())
        told = f": {' '.join(seen.split())}" if seen else ""
        _log.debug("%s, %s left at most%s", what, _duration(left_s), told, extra={_WAIT: what})

    look("")
    try:
        yield look
    finally:
        _log.debug("", extra={_WAIT: what})


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


@contextmanager
def following(show: Callable[[str], None]) -> Iterator[None]:
    """Call ``show`` with what is waited for, each time that changes, for as long as the block goes on."""
    line, level = _Line(show), _log.level
    _log.setLevel(logging.DEBUG)
    _log.addHandler(line)
    try:
        yield
    finally:
        _log.removeHandler(line)
        _log.setLevel(level)
        show("")


class _Line(logging.Handler):
    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__()
        self._show, self._waits = show, dict[str, str]()

    def emit(self, record: logging.LogRecord) -> None:
        if wait := getattr(record, _WAIT, ""):
            self._waits[wait] = translate(record.getMessage())
            self._show("; ".join(filter(None, self._waits.values())))


def watch(shell: Any, show_commands: Callable[[str], None]) -> None:
    """Show what is told in an IPython ``shell``, from the cell that is running on; a second call changes nothing.

    ``show_commands`` gets the commands, a line each, when a cell has ended in which there were any.
    """
    if any(isinstance(one, _Display) for one in _log.handlers):
        return
    display = _Display(show_commands)
    _log.setLevel(logging.DEBUG)
    _log.propagate = False
    _log.addHandler(display)
    shell.events.register("pre_run_cell", display.cell_begins)
    shell.events.register("post_run_cell", display.cell_ended)


def text_of(message: Mapping[str, Any]) -> str:
    """Return the last line of what a kernel's message shows of progress; empty where it is about something else."""
    content = message["content"]
    if not str((content.get("transient") or {}).get("display_id", "")).startswith(_DISPLAY):
        return ""
    return str(content["data"]["text/plain"]).rpartition("\n")[2]


class _Display(logging.Handler):
    def __init__(self, show_commands: Callable[[str], None]) -> None:
        super().__init__()
        self._show_commands = show_commands
        self.cell_begins()

    def cell_begins(self, *_: object) -> None:
        with self.lock or nullcontext():
            self._is_open, self._handle, self._shown, self._drawn = True, None, "", 0.0
            self._steps, self._commands = list[str](), dict[str, None]()
            self._waits = dict[str, tuple[float, str]]()

    def emit(self, record: logging.LogRecord) -> None:
        text, wait, now = record.getMessage(), getattr(record, _WAIT, ""), time.monotonic()
        if not self._is_open:  # a thread that has outlived its cell
            return
        if hasattr(record, _COMMAND):
            self._commands[text] = None
        elif wait and text:
            self._waits[wait] = self._waits.get(wait, (now, ""))[0], text
            if now > self._drawn + _EVERY_S:
                self._draw()
        elif wait:
            since, _ = self._waits.pop(wait, (now, ""))
            if now - since >= _LONG_S:
                self._add(f"{wait}: took {now - since:.0f} s")
        else:
            self._add(text)

    def _add(self, step: str) -> None:
        self._steps.append(f"{datetime.now():%H:%M:%S} {step}")
        self._draw()

    def _draw(self) -> None:
        now = self._drawn = time.monotonic()
        waits = (text for since, text in self._waits.values() if now - since >= _LONG_S)
        lines = (line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…" for line in [*self._steps, *waits])
        text = "\n".join(lines)
        if not text or text == self._shown:
            return
        from IPython.display import display

        self._shown, bundle = text, {"text/plain": translate(text)}
        if self._handle is None:
            identifier = f"{_DISPLAY}{uuid.uuid4().hex}"
            self._handle = display(bundle, raw=True, display_id=identifier)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(bundle, raw=True)

    def cell_ended(self, *_: object) -> None:
        with self.lock or nullcontext():
            self._waits.clear()
            self._draw()
            self._is_open = False
            commands = "\n".join(self._commands)
        if commands:
            self._show_commands(commands)
