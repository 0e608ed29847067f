"""Promises of looking on from here: a watch keeps its schedule, and a wait says what it has seen until it ended."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest
from hello_service import HELLO, URL, service

from meshbook import mesh, probes, tables
from meshbook.errors import UsageError, WaitTimeout


@pytest.mark.parametrize("rate", [0, -1, 1000])
def test_a_rate_that_cannot_be_kept_is_refused(rate: float) -> None:
    with pytest.raises(UsageError):
        probes.watch(outside=URL, rate_per_s=rate)


def test_the_wait_returns_the_first_good_answer_and_what_came_before_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "meshbook.progress")
    with service((404, b""), (404, b""), (502, b""), (200, HELLO)) as server:
        first = probes.wait_for_first_answer(server.url, 5, poll_s=0.01)
    assert (first.version, first.before) == ("v1", "http_404 2×, http_502 1×")
    looks = [message for message in caplog.messages if message.startswith("the first good answer from")]
    assert len(looks) == 4
    assert looks[-1].endswith(", 5 s left at most: http_404 2×, http_502 1×")
    assert len(tables.frame([first])) == 1


def test_once_a_request_has_hung_several_go_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = [["timeout"], ["timeout", "timeout", "", "timeout"]]
    sent: list[int] = []

    def ask(url: str, requests: int, **_: object) -> pd.DataFrame:
        sent.append(requests)
        return pd.DataFrame({"error": tries[len(sent) - 1], "version": "v2", "instance": "b", "code": pd.NA})

    monkeypatch.setattr("meshbook.probes.waits.curl_from_here", ask)
    first = probes.wait_for_first_answer(URL, 5, poll_s=0.01)
    assert sent == [1, 4]
    assert (first.version, first.before) == ("v2", "timeout 1×")


@pytest.mark.parametrize(("url", "said"), [("http://127.0.0.1:1/hello", "refused"), ("http://x.invalid/hello", "dns")])
def test_an_address_that_exists_is_not_waited_for_where_nobody_answers(
    url: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshbook.probes.waits._EXISTS_S", 0.1)
    with pytest.raises(WaitTimeout, match=rf"from {url} within 0\.1 s; the last try gave {said}"):
        probes.wait_for_first_answers([mesh.Entry(url=url)], 900)


def test_what_is_behind_an_address_that_exists_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshbook.probes.waits._EXISTS_S", 0.1)
    with service(*[(503, b"")] * 4, (200, HELLO)) as server:
        first = probes.wait_for_first_answer(server.url, 30, exists=True, poll_s=0.02)
    assert first.before == "http_503 4×"


def test_a_wait_that_ends_says_what_it_last_saw_and_what_to_look_at() -> None:
    with service((404, b"nothing here")) as server, pytest.raises(WaitTimeout) as caught:
        probes.wait_for_first_answer(server.url, 0.1, poll_s=0.02)
    assert "the last try gave http_404" in str(caught.value)
    assert "nothing here" in str(caught.value)
    assert "VirtualService" in str(caught.value)
    assert re.search(r"saw: http_404 \d+×", str(caught.value))


def test_the_wait_for_all_versions_ends_once_requests_of_those_that_miss_one_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batches = iter([[], [3], [1, 2]])
    """Which of six requests hang, in each batch of either cluster; the others hear v1."""

    def ask(*_: object, requests: int, **__: object) -> pd.DataFrame:
        hung = next(batches)
        rows = [{"version": "", "error": "timeout"} if n in hung else {"version": "v1"} for n in range(requests)]
        return tables.from_rows([row | {"source": source} for source in "ab" for row in rows], tables.ANSWERS)

    monkeypatch.setattr("meshbook.probes.waits.curl_from_pods", ask)
    clusters = cast(Any, [SimpleNamespace(name=name) for name in "ab"])
    settled = probes.wait_for_versions(clusters, URL, ["v1", "v2"], timeout_s=60)
    assert settled.requests == 36, "a single one that hangs does not end it"
    assert settled.missing == ("a has not seen v2", "b has not seen v2")
    assert "3 requests of a hung" in str(settled)
    assert settled.hangs
