"""Promises of reading what curl wrote: a row for every request, whatever happens to the output."""

from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest
from hello_service import HELLO, URL

from meshbook import probes, tables
from meshbook.errors import UsageError

NONCE = "0123456789abcdef"


def record(seq: int, body: str = HELLO.decode(), code: int = 200, exit_code: int = 0, message: str = "") -> str:
    mark = f"{URL}#{NONCE}-{seq}"
    size = len(body.encode())
    return f"{body}\n{mark}|{code:03}|{exit_code}|0.001000|0.002000|0.003000|{size}|127.0.0.1|{message}|{mark}\n"


def ask(requests: int) -> probes.Ask:
    return probes.Ask(url=URL, requests=requests, nonce=NONCE)


def read(text: str, requests: int, **more: Any) -> pd.DataFrame:
    return probes.parse_records(text, ask(requests), source="cluster1", path="mesh", **more)


def rows(text: str, requests: int) -> list[dict[str, Any]]:
    return read(text, requests)[["seq", "version", "instance", "code", "error", "detail"]].to_dict("records")


def test_each_transfer_becomes_a_row_of_the_declared_table() -> None:
    frame = read(record(1) + record(2, "no healthy upstream", 503), 2, arrivals=[10, 20, 30, 40, 50, 60])
    assert list(frame.columns) == tables.ANSWERS.names
    assert frame["version"].tolist() == ["v1", ""]
    assert frame["instance"].tolist() == ["helloworld-v1-77cb56d4b4-x2kfp", ""]
    assert frame["error"].tolist() == ["", "http_503"]
    assert frame["detail"].tolist() == ["", "no healthy upstream"]
    assert frame["time_total_ms"].tolist() == [3.0, 3.0]
    assert frame["code"].tolist() == [200, 503]


def test_a_row_is_stamped_with_its_line_s_arrival_less_its_total_time() -> None:
    frame = read(record(1) + record(2, "a\nb\n"), 2, arrivals=[9, 9, 10, 19, 19, 19, 20])
    assert frame["time"].tolist() == [datetime.fromtimestamp(at - 0.003, UTC) for at in (10, 20)]


def test_lines_that_arrive_in_one_heap_are_stamped_in_their_order_and_as_long_apart_as_they_took() -> None:
    frame = read(record(1) + record(2) + record(3), 3, arrivals=[5.0] * 9)
    assert frame["time"].tolist() == [datetime.fromtimestamp(at, UTC) for at in (4.991, 4.994, 4.997)]


def test_without_arrivals_the_time_is_missing_and_not_invented() -> None:
    assert read(record(1), 1)["time"].isna().all()


def test_output_cut_at_any_byte_never_loses_a_row_and_never_alters_one_that_was_read() -> None:
    data = (record(1, "") + record(2, "Hellö\n", 503) + record(3)).encode()
    whole = rows(data.decode(), 3)
    for end in range(len(data)):
        cut = rows(data[:end].decode("utf-8", "replace"), 3)
        assert [row["seq"] for row in cut] == [1, 2, 3]
        assert all(row in whole for row in cut if row["error"] not in tables.NOT_MEASURED)


def test_output_with_any_piece_missing_never_loses_a_row_and_never_invents_an_answer() -> None:
    text = "".join(record(seq) for seq in range(1, 5))
    whole = rows(text, 4)
    for start, length in itertools.product(range(0, len(text), 13), (1, 10, 200)):
        cut = rows(text[:start] + text[start + length :], 4)
        assert [row["seq"] for row in cut] == [1, 2, 3, 4]
        answers = {(row["version"], row["instance"]) for row in cut if not row["error"]}
        assert answers == {(whole[0]["version"], whole[0]["instance"])}
        assert sum(row["error"] == "" for row in cut) >= 2


def test_garbage_alone_gives_as_many_lost_rows_as_were_asked_for() -> None:
    chance = random.Random(3)
    for length in (0, 1, 100, 1000):
        noise = bytes(chance.randrange(256) for _ in range(length)).decode("utf-8", "replace")
        frame = read(noise, 5)
        assert frame["error"].tolist() == ["lost"] * 5


def test_a_damaged_record_is_garbled_and_says_nothing_about_the_service() -> None:
    frame = read(record(1).replace("|200|", "|2x0|") + record(2), 2)
    assert frame["error"].tolist() == ["garbled", ""]
    assert len(tables.measured(frame)) == 1


def test_a_body_shorter_than_curl_says_is_garbled_and_not_a_wrong_answer() -> None:
    short = record(1).replace("Hello version", "Hel")
    assert read(short, 1)["error"].tolist() == ["garbled"]
    assert read(record(1, "Welcome to the hotel\n"), 1)["error"].tolist() == ["unexpected"]


@pytest.mark.parametrize(
    "body",
    [
        f"{URL}#fedcba9876543210-2|200|0|0.001000|0.002000|0.003000|9|127.0.0.1||{URL}#fedcba9876543210-2\n",
        "first\n\nHello version: v9, instance: forged\nlast\n",
        "|||||||||\n",
        "\n\n\n",
    ],
    ids=["record with another nonce", "answer inside a page", "separators", "newlines"],
)
def test_a_body_cannot_forge_a_record_or_an_answer(body: str) -> None:
    frame = read(record(1) + record(2, body) + record(3), 3)
    assert frame["error"].tolist() == ["", "unexpected", ""]
    assert frame["version"].tolist() == ["v1", "", "v1"]


@pytest.mark.parametrize(
    ("code", "exit_code", "error"),
    [
        (0, 7, "refused"),
        (0, 28, "timeout"),
        (200, 28, "timeout"),
        (404, 0, "http_404"),
        (0, 6, "dns"),
        (0, 3, "curl_3"),
    ],
)
def test_every_way_to_fail_has_its_name(code: int, exit_code: int, error: str) -> None:
    frame = read(record(1, "", code, exit_code, "curl | says why"), 1)
    assert frame["error"].tolist() == [error]
    assert frame["detail"].tolist() == ["curl | says why"]


def test_a_lost_row_tells_what_the_shell_said_last() -> None:
    assert read("sh: curl: not found\n", 2)["detail"].tolist() == ["sh: curl: not found"] * 2
    assert read("", 1, note="lost the connection")["detail"].tolist() == ["lost the connection"]


@pytest.mark.parametrize(
    "url", ["hello", "ftp://x/", "http://", "http://u:p@x/", "http://x/#a", "http://x/a|b", "http://x/ y"]
)
def test_what_is_no_plain_url_is_refused_before_anything_starts(url: str) -> None:
    with pytest.raises(UsageError):
        probes.Ask(url=url, requests=1)


@pytest.mark.parametrize(
    "wrong", [{"requests": 0}, {"requests": 1, "timeout_s": 0}, {"requests": 1, "connect_timeout_s": -1}]
)
def test_an_ask_that_cannot_be_carried_out_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        probes.Ask(url=URL, **wrong)


def test_two_asks_never_share_a_nonce() -> None:
    assert probes.Ask(url=URL, requests=1).nonce != probes.Ask(url=URL, requests=1).nonce
