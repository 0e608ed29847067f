"""Promises of the probes: a row for every request, whatever happens to the output."""

from __future__ import annotations

import http.server
import itertools
import random
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from meshbook import probes, tables
from meshbook.errors import ClusterError, ExecError, UsageError, WaitTimeout
from meshbook.probes.curl import rows
from meshbook.probes.sending import curl_program

HELLO = b"Hello version: v1, instance: helloworld-v1-77cb56d4b4-x2kfp\n"
NONCE = "0123456789abcdef"
URL = "http://helloworld.sample:5000/hello"

Answer = tuple[int, bytes]


class Service(http.server.ThreadingHTTPServer):
    """A real server on a free loopback port that gives ``answers`` in turn and remembers what it was asked."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, answers: Iterator[Answer], delay_s: float = 0) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.delay_s = answers, delay_s
        self.asked: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hello"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Connection"]))
        time.sleep(self.server.delay_s)
        code, body = next(self.server.answers)
        head = f"HTTP/1.1 {code} Said\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self.close_connection = True
        self.wfile.write(head.encode() + body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def service(*answers: Answer, delay_s: float = 0) -> Iterator[Service]:
    server = Service(itertools.cycle(answers or ((200, HELLO),)), delay_s)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def record(seq: int, body: str = HELLO.decode(), code: int = 200, exit_code: int = 0, message: str = "") -> str:
    mark = f"{URL}#{NONCE}-{seq}"
    size = len(body.encode())
    return f"{body}\n{mark}|{code:03}|{exit_code}|0.001000|0.002000|0.003000|{size}|127.0.0.1|{message}|{mark}\n"


def ask(requests: int) -> probes.Ask:
    return probes.Ask(url=URL, requests=requests, nonce=NONCE)


def read(text: str, requests: int, **more: Any) -> pd.DataFrame:
    return probes.parse(text, ask(requests), source="cluster1", path="mesh", **more)


class FakeCluster:
    """A cluster whose exec runs the command on this machine, and may break after some lines."""

    def __init__(self, name: str, breaks_after: int | None = None, containers: tuple[str, ...] = ("sleep",)) -> None:
        self.name, self.breaks_after, self.containers = name, breaks_after, containers
        self.chosen: list[str] = []

    def ready_pod(self, selector: str, namespace: str) -> str:
        if selector != "app=sleep":
            raise ClusterError(f"{self.name}: no pod {selector} is ready in {namespace}")
        return "sleep-1"

    def get(self, kind: str, name: str, namespace: str) -> Mapping[str, Any]:
        return {"spec": {"containers": [{"name": container} for container in self.containers]}}

    def exec(self, pod: str, command: list[str], *, container: str, on_line: Callable[..., None], **_: object) -> Any:
        self.chosen.append(container)
        done = subprocess.run(command, capture_output=True, timeout=20, check=False)
        for number, line in enumerate(done.stdout.decode().split("\n")[:-1]):
            if number == self.breaks_after:
                raise ExecError("lost the connection to sleep-1 while the command ran", stdout="…")
            on_line(line, datetime.now(UTC))
        return SimpleNamespace(stderr=done.stderr.decode(), exit_code=done.returncode)


def fleet(*clusters: FakeCluster) -> Any:
    return SimpleNamespace(each=lambda task: {cluster.name: task(cluster) for cluster in clusters})


# ---- reading


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
    data = (record(1) + record(2, "") + record(3, "Hellö\n", 503) + record(4)).encode()
    whole = rows(data.decode(), ask(4))
    for end in range(len(data)):
        cut = rows(data[:end].decode("utf-8", "replace"), ask(4))
        assert [row["seq"] for row in cut] == [1, 2, 3, 4]
        assert all(row in whole for row in cut if row["error"] not in tables.NOT_MEASURED)


def test_output_with_any_piece_missing_never_loses_a_row_and_never_invents_an_answer() -> None:
    text = "".join(record(seq) for seq in range(1, 5))
    whole = rows(text, ask(4))
    for start, length in itertools.product(range(len(text)), (1, 2, 10, 200)):
        cut = rows(text[:start] + text[start + length :], ask(4))
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


# ---- asking


@pytest.mark.parametrize(
    "url", ["hello", "ftp://x/", "http://", "http://u:p@x/", "http://x/#a", "http://x/a|b", "http://x/ y"]
)
def test_what_is_no_plain_url_is_refused_before_anything_starts(url: str) -> None:
    with pytest.raises(UsageError):
        probes.Ask(url=url, requests=1)


@pytest.mark.parametrize("wrong", [{"requests": 0}, {"requests": 1, "timeout_s": 0}, {"requests": 1, "rate_per_s": -1}])
def test_an_ask_that_cannot_be_carried_out_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        probes.Ask(url=URL, **wrong)


def test_two_asks_never_share_a_nonce() -> None:
    assert probes.Ask(url=URL, requests=1).nonce != probes.Ask(url=URL, requests=1).nonce


# ---- sending from here


def test_one_curl_sends_every_request_on_a_connection_of_its_own_and_no_trace_of_the_counter() -> None:
    with service() as server:
        before = datetime.now(UTC) - timedelta(milliseconds=50)
        frame = probes.curl_from_here(server.url, 10)
        after = datetime.now(UTC)
    assert server.asked == [("/hello", "close")] * 10
    assert frame["error"].tolist() == [""] * 10
    assert frame["seq"].tolist() == list(range(1, 11))
    assert set(frame["source"]) == {"outside"}
    assert frame["time"].is_monotonic_increasing
    assert frame["time"].between(before, after).all()
    assert (frame["time_total_ms"] >= frame["time_connect_ms"]).all()


def test_globbing_characters_of_a_url_reach_the_server_unchanged() -> None:
    with service() as server:
        probes.curl_from_here(server.url + "?a[1]={b,c}&d=[1-3]", 2)
    assert [path for path, _ in server.asked] == ["/hello?a[1]={b,c}&d=[1-3]"] * 2


@pytest.mark.parametrize(("requests", "parallel"), [(9, 4), (10, 10), (3, 10), (11, 10)])
def test_several_curls_share_the_work_and_no_number_is_missing(requests: int, parallel: int) -> None:
    with service(delay_s=0.05) as server:
        frame = probes.curl_from_here(server.url, requests, parallel=parallel)
    assert frame["seq"].tolist() == list(range(1, requests + 1))
    assert frame["error"].tolist() == [""] * requests


def test_a_rate_holds_requests_back() -> None:
    with service() as server:
        frame = probes.curl_from_here(server.url, 5, rate_per_s=20)
    took = (frame["time"].max() - frame["time"].min()).total_seconds()
    assert 0.15 < took < 1.0


def test_errors_and_wrong_answers_are_rows_of_their_own_kind() -> None:
    with service((200, HELLO), (503, b"no healthy upstream"), (200, b"<html>"), (404, b"")) as server:
        frame = probes.curl_from_here(server.url, 4)
    assert frame["error"].tolist() == ["", "http_503", "unexpected", "http_404"]


def test_a_refused_and_a_hanging_service_are_told_apart() -> None:
    refused = probes.curl_from_here(f"http://127.0.0.1:{free_port()}/hello", 2)
    with service(delay_s=0.5) as server:
        hanging = probes.curl_from_here(server.url, 2, timeout_s=0.15)
    assert refused["error"].tolist() == ["refused"] * 2
    assert refused["code"].isna().all()
    assert hanging["error"].tolist() == ["timeout"] * 2


def test_a_private_address_is_asked_past_the_environment_s_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with service() as server:
        assert probes.curl_from_here(server.url, 1)["error"].tolist() == [""]


def test_a_machine_without_curl_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="no curl"):
        curl_program()


# ---- sending from pods


def test_pods_of_all_clusters_send_and_every_row_names_its_cluster() -> None:
    clusters = FakeCluster("cluster1", containers=("istio-proxy", "sleep")), FakeCluster("cluster2")
    with service((200, HELLO), (200, b"a\r\nb\n")) as server:
        frame = probes.curl_from_pods(fleet(*clusters), server.url, requests=6)
    assert frame["source"].tolist() == ["cluster1"] * 6 + ["cluster2"] * 6
    assert frame["seq"].tolist() == [*range(1, 7)] * 2
    assert frame["error"].tolist() == ["", "unexpected"] * 6
    assert set(frame["path"]) == {"mesh"}
    assert frame["time"].notna().all()
    assert clusters[0].chosen == ["sleep"]


def test_an_exec_that_breaks_leaves_the_rows_received_and_rows_marked_lost() -> None:
    with service() as server:
        frame = probes.curl_from_pods(fleet(FakeCluster("cluster1", breaks_after=8)), server.url, requests=5)
    assert frame["error"].tolist() == ["", "", "lost", "lost", "lost"]
    assert frame["detail"].tolist()[-1] == "lost the connection to sleep-1 while the command ran"


def test_a_cluster_without_a_pod_to_send_from_is_an_error_and_no_rows() -> None:
    with pytest.raises(ClusterError, match="cluster1: no pod app=nap"):
        probes.curl_from_pods(fleet(FakeCluster("cluster1")), URL, selector="app=nap")


# ---- watching


def test_a_watch_keeps_its_beat_while_requests_hang_and_finds_good_bad_and_good_again() -> None:
    answers = [(200, HELLO)] * 4 + [(503, b"")] * 3 + [(200, HELLO)] * 1000
    with service(*answers, delay_s=0.08) as server:
        with probes.watch_from_here(server.url, rate_per_s=25, timeout_s=1) as watch:
            deadline = time.monotonic() + 5
            while len(watch.frame) < 12 and time.monotonic() < deadline:
                time.sleep(0.02)
        frame = watch.frame
    assert len(frame) >= 12
    assert frame["seq"].tolist() == list(range(1, len(frame) + 1))
    assert (frame["error"] == "http_503").sum() == 3
    beat_s = (frame["time"].max() - frame["time"].min()).total_seconds() / (len(frame) - 1)
    assert 0.03 < beat_s < 0.06


def test_a_watch_ends_by_itself_when_nobody_stops_it() -> None:
    with service() as server:
        watch = probes.watch_from_here(server.url, rate_per_s=20, timeout_s=0.5, longest_s=0.2)
        deadline = time.monotonic() + 0.6
        while len(watch.frame) < 5 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(watch.stop()) == 4


@pytest.mark.parametrize("rate", [0, -1, 1000])
def test_a_rate_that_cannot_be_kept_is_refused(rate: float) -> None:
    with pytest.raises(UsageError):
        probes.watch_from_here(URL, rate_per_s=rate)


# ---- waiting


def test_the_wait_returns_the_first_good_answer_and_what_came_before_it() -> None:
    looks: list[str] = []
    with service((404, b""), (404, b""), (502, b""), (200, HELLO)) as server:
        first = probes.wait_for_first_answer(server.url, 5, poll_s=0.01, on_look=looks.append)
    assert (first.version, first.attempts, first.before) == ("v1", 4, "http_404 2×, http_502 1×")
    assert len(looks) == 3
    assert len(tables.frame([first])) == 1


def test_a_wait_that_ends_says_what_it_last_saw_and_what_to_look_at() -> None:
    with service((404, b"nothing here")) as server, pytest.raises(WaitTimeout) as caught:
        probes.wait_for_first_answer(server.url, 0.1, poll_s=0.02)
    assert "the last try gave http_404" in str(caught.value)
    assert "nothing here" in str(caught.value)
    assert "VirtualService" in str(caught.value)
    assert re.search(r"saw: http_404 \d+×", str(caught.value))
