"""What containers wrote: kept line by line with the time, and given back as ``kubectl logs`` asks for it.

A line of a log file is a time stamp of fixed length, a space, and what was written.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from meshbook.lab.kubelet.processes import Pipe
from meshbook.objects import moment_of

_POLL_S = 0.1


@dataclass(frozen=True, kw_only=True)
class LogQuery:
    """Which part of a log is wanted; ``limit`` in bytes."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail: int | None = None
    since: datetime | None = None
    limit: int | None = None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> LogQuery:
        """Read the parameters of a request; ``ValueError`` names the one that is wrong."""
        seconds = _number(query, "sinceSeconds")
        since = None if seconds is None else datetime.now(UTC) - timedelta(seconds=seconds)
        return cls(
            follow=_flag(query, "follow"),
            previous=_flag(query, "previous"),
            timestamps=_flag(query, "timestamps"),
            tail=_number(query, "tailLines"),
            since=moment_of(query["sinceTime"]) if "sinceTime" in query else since,
            limit=_number(query, "limitBytes"),
        )

    def chosen(self, lines: list[bytes]) -> list[bytes]:
        """Return those of a log's lines that ``since`` and ``tail`` leave. Stamps sort as the times they say."""
        if self.since is not None:
            start = f"{self.since.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}".encode()
            lines = [line for line in lines if line >= start]
        return lines if self.tail is None else lines[max(len(lines) - self.tail, 0) :]

    def rendered(self, lines: list[bytes]) -> bytes:
        texts = lines if self.timestamps else [line.partition(b" ")[2] for line in lines]
        return b"".join(text + b"\n" for text in texts)


def _flag(query: Mapping[str, str], name: str) -> bool:
    value = query.get(name, "false").lower()
    if value not in ("true", "false", "1", "0", ""):
        raise ValueError(f"{name}: must be true or false, not {value!r}")
    return value in ("true", "1")


def _number(query: Mapping[str, str], name: str) -> int | None:
    value = query.get(name, "")
    if value and not value.isdigit():
        raise ValueError(f"{name}: must be a number of at least 0, not {value!r}")
    return int(value) if value else None


async def record(output: Pipe, path: Path) -> None:
    """Write all that comes out of ``output`` to the log ``path``; returns at its end."""
    rest = b""
    with path.open("ab") as file:
        while chunk := await output.read():
            *lines, rest = (rest + chunk).split(b"\n")
            file.write(b"".join(b"%s %s\n" % (_stamp(), line) for line in lines))
            file.flush()
        if rest:
            file.write(b"%s %s\n" % (_stamp(), rest))


def _stamp() -> bytes:
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z".encode()


async def read(path: Path, query: LogQuery, is_open: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Yield the wanted part of a log; with ``follow``, also what comes later, for as long as ``is_open`` says so."""
    left = query.limit
    async for data in _parts(path, query, is_open):
        part = data if left is None else data[:left]
        if part:
            yield part
        if left is not None:
            left -= len(part)
            if left <= 0:
                return


async def _parts(path: Path, query: LogQuery, is_open: Callable[[], bool]) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        *lines, rest = file.read().split(b"\n")
        yield query.rendered(query.chosen(lines))
        going = query.follow
        while going:
            going = is_open()
            *lines, rest = (rest + file.read()).split(b"\n")
            yield query.rendered(lines)
            if going:
                await asyncio.sleep(_POLL_S)
