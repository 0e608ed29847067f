"""What containers wrote: kept line by line with the time, and given back as ``kubectl logs`` asks for it.

Files have the form of the container runtime interface: ``<time> stdout F <line>``, with P for F where a line is longer
than one entry. Choosing lines is pure; ``record`` and ``follow`` do the reading and writing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from meshbook.lab.kubelet.pipes import ReadEnd

LONGEST = 16384
POLL_S = 0.1


@dataclass(frozen=True, kw_only=True)
class LogQuery:
    """Which part of a log is wanted. ``since`` in seconds of the Unix epoch, ``limit`` in bytes."""

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail: int | None = None
    since: float | None = None
    limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    stamp: str
    text: bytes

    @property
    def seconds(self) -> float:
        return datetime.fromisoformat(self.stamp[:26] + "+00:00").timestamp()


def parse_query(query: Mapping[str, str], now: float) -> LogQuery:
    """Read the parameters of a request; ``ValueError`` names the one that is wrong."""
    since = _number(query, "sinceSeconds")
    if since is not None and since < 1:
        raise ValueError("sinceSeconds: must be greater than 0")
    start = None if since is None else now - since
    if "sinceTime" in query:
        start = datetime.fromisoformat(query["sinceTime"]).timestamp()
    return LogQuery(
        follow=_flag(query, "follow"),
        previous=_flag(query, "previous"),
        timestamps=_flag(query, "timestamps"),
        tail=_number(query, "tailLines"),
        since=start,
        limit=_number(query, "limitBytes"),
    )


def _flag(query: Mapping[str, str], name: str) -> bool:
    value = query.get(name, "false").lower()
    if value not in ("true", "false", "1", "0", ""):
        raise ValueError(f"{name}: must be true or false, not {value!r}")
    return value in ("true", "1")


def _number(query: Mapping[str, str], name: str) -> int | None:
    value = query.get(name, "")
    if not value:
        return None
    if not value.isdigit():
        raise ValueError(f"{name}: must be a number of at least 0, not {value!r}")
    return int(value)


def entries(data: bytes) -> list[Entry]:
    """Split the content of a log file; the end of a line that is not yet complete is left out."""
    complete = data[: data.rfind(b"\n") + 1]
    return [_entry(line) for line in complete.split(b"\n")[:-1]]


def _entry(line: bytes) -> Entry:
    stamp, _, tag, text = line.split(b" ", 3)
    return Entry(stamp=stamp.decode(), text=text + b"\n" if tag == b"F" else text)


def chosen(all_entries: list[Entry], query: LogQuery) -> list[Entry]:
    """Return the entries that ``since`` and ``tail`` leave."""
    since = query.since
    recent = [entry for entry in all_entries if since is None or entry.seconds >= since]
    return recent if query.tail is None else recent[max(len(recent) - query.tail, 0) :]


def rendered(some: list[Entry], query: LogQuery) -> bytes:
    if not query.timestamps:
        return b"".join(entry.text for entry in some)
    return b"".join(entry.stamp.encode() + b" " + entry.text for entry in some)


def stamp(nanoseconds: int) -> str:
    """Return a moment (nanoseconds of the Unix epoch) as logs write it."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


async def record(output: ReadEnd, path: Path) -> None:
    """Write all that comes out of ``output`` to the log ``path``; returns at its end."""
    rest = b""
    with path.open("ab") as file:
        while chunk := await output.read():
            *lines, rest = (rest + chunk).split(b"\n")
            now = stamp(time.time_ns()).encode()
            file.write(b"".join(_encoded(line, now) for line in lines))
            while len(rest) >= LONGEST:
                file.write(now + b" stdout P " + rest[:LONGEST] + b"\n")
                rest = rest[LONGEST:]
            file.flush()
        if rest:
            file.write(_encoded(rest, stamp(time.time_ns()).encode()))


def _encoded(line: bytes, now: bytes) -> bytes:
    """Return a complete line as entries of at most ``LONGEST`` bytes."""
    parts = [line[start : start + LONGEST] for start in range(0, len(line), LONGEST)] or [b""]
    tags = [b"P"] * (len(parts) - 1) + [b"F"]
    return b"".join(b"%s stdout %s %s\n" % (now, tag, part) for tag, part in zip(tags, parts, strict=True))


async def read(path: Path, query: LogQuery, is_open: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Yield the wanted part of a log; with ``follow``, also what comes later, for as long as ``is_open`` says so."""
    left = query.limit
    async for data in _follow(path, query, is_open):
        part = data if left is None else data[:left]
        if part:
            yield part
        if left is not None:
            left -= len(part)
            if left <= 0:
                return


async def _follow(path: Path, query: LogQuery, is_open: Callable[[], bool]) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        data = file.read()
        yield rendered(chosen(entries(data), query), query)
        rest = data[data.rfind(b"\n") + 1 :]
        going = query.follow
        while going:
            going = is_open()
            rest += file.read()
            yield rendered(entries(rest), query)
            rest = rest[rest.rfind(b"\n") + 1 :]
            if going:
                await asyncio.sleep(POLL_S)
