from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from meshbook.lab.kubelet.logs import LONGEST, LogQuery, chosen, entries, parse_query, read, record, rendered
from meshbook.lab.kubelet.pipes import ReadEnd

LOG = (
    b"2024-01-01T00:00:01.000000000Z stdout F one\n"
    b"2024-01-01T00:00:02.000000000Z stdout P tw\n"
    b"2024-01-01T00:00:02.000000000Z stdout F o\n"
    b"2024-01-01T00:00:03.500000000Z stdout F three\n"
    b"2024-01-01T00:00:04.00"
)
START = 1704067200.0


def show(query: LogQuery) -> bytes:
    return rendered(chosen(entries(LOG), query), query)


def test_parts_of_a_line_are_joined_and_incomplete_ones_left_out() -> None:
    assert show(LogQuery()) == b"one\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (LogQuery(tail=0), b""),
        (LogQuery(tail=1), b"three\n"),
        (LogQuery(tail=99), b"one\ntwo\nthree\n"),
        (LogQuery(since=START + 3.2), b"three\n"),
        (LogQuery(timestamps=True, tail=1), b"2024-01-01T00:00:03.500000000Z three\n"),
    ],
)
def test_a_part_can_be_asked_for(query: LogQuery, expected: bytes) -> None:
    assert show(query) == expected


def test_parameters_are_read_as_kubectl_sends_them() -> None:
    query = parse_query({"follow": "true", "tailLines": "5", "sinceSeconds": "10", "limitBytes": "100"}, START)
    assert query == LogQuery(follow=True, tail=5, since=START - 10, limit=100)
    assert parse_query({"sinceTime": "2024-01-01T00:00:00Z"}, 0).since == START


@pytest.mark.parametrize("query", [{"tailLines": "-1"}, {"follow": "yes"}, {"sinceSeconds": "0"}, {"limitBytes": "x"}])
def test_a_wrong_parameter_is_refused_by_name(query: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(query))):
        parse_query(query, START)


async def test_what_is_recorded_can_be_read_back(tmp_path: Path) -> None:
    text = b"a\n" + b"x" * (2 * LONGEST + 5) + b"\n\nlast without end"
    theirs = await _recorded(tmp_path / "log", text)
    assert theirs == text + b"\n"


async def _recorded(path: Path, text: bytes) -> bytes:
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    end = ReadEnd(ours)
    recording = asyncio.create_task(record(end, path))
    os.write(theirs, text)
    os.close(theirs)
    await asyncio.wait_for(recording, 2)
    end.close()
    return b"".join([part async for part in read(path, LogQuery(), lambda: False)])


async def test_following_gives_what_comes_later_and_ends_with_the_container(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"2024-01-01T00:00:01.000000000Z stdout F one\n")
    seen: list[bytes] = []
    async for part in read(path, LogQuery(follow=True), lambda: b"two\n" not in seen):
        seen.append(part)
        if part == b"one\n":
            with path.open("ab") as log:
                log.write(b"2024-01-01T00:00:02.000000000Z stdout F two\n")
    assert seen == [b"one\n", b"two\n"]


async def test_a_limit_in_bytes_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(LOG)
    parts = [part async for part in read(path, LogQuery(limit=5, follow=True), lambda: True)]
    assert b"".join(parts) == b"one\nt"
