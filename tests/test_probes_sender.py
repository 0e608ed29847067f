"""Promises of the sender: what it asks and reads, and that it ends, tells and keeps on whatever happens around it."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pytest
from localpod import LocalPod
from waits import until
from watched_service import HELLO, PACE, assert_whole, fleet, service

from meshbook import probes, tables
from meshbook.errors import ClusterError, ExecError, MeshbookError

SENDER = Path(probes.__file__).with_name("sender.py")
SILENCE_S = 1
FULL = "as many requests as may be were in flight"


def senders() -> list[int]:
    """Return this process's children that send."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == os.getpid() and b"exec(sys.stdin.read(" in words:
            found.append(int(folder.name))
    return found


def test_its_text_is_plain_python_of_version_3_8_that_needs_the_standard_library_only() -> None:
    text = SENDER.read_text("ascii")
    tree = ast.parse(text, feature_version=(3, 8))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("answer", "code", "error"),
    [
        pytest.param(HELLO, 200, "", id="with a length"),
        pytest.param(b"HTTP/1.1 503 No\r\n\r\nbusy", 503, "http_503", id="to the end"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"6\r\nHello \r\n1a;x\r\nversion: v1, instance: x1\n\r\n0\r\n\r\n",
            200,
            "",
            id="in chunks",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding:chunked\r\n\r\n30\r\n0\r\n\r\nand so on",
            200,
            "cut",
            id="chunks cut short",
        ),
        pytest.param(b"HTTP/1.1 204 None\r\nConnection: keep-alive\r\n\r\n", 204, "http_204", id="without a body"),
        pytest.param(HELLO[:-5], 200, "cut", id="cut short"),
        pytest.param(b"SSH-2.0-x\r\n", None, "cut", id="no HTTP"),
        pytest.param(b"", None, "no_answer", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (1 << 21), 200, "curl_63", id="without end"),
    ],
)
def test_answers_are_read_however_they_are_framed(answer: bytes, code: int | None, error: str) -> None:
    with service(answer=answer) as url, probes.watch(outside=url, **PACE) as watch:
        until(lambda: len(watch.frame))
        row = watch.stop().iloc[0]
    assert (None if pd.isna(row["code"]) else row["code"], row["error"]) == (code, error)


@pytest.mark.parametrize(
    ("source", "line"),
    [("pod", b"GET http://10.9.8.7/hello?a=1 HTTP/1.1\r\n"), ("outside", b"GET /hello HTTP/1.1\r\n")],
)
def test_a_pod_asks_by_its_proxy_and_this_machine_asks_a_near_address_itself(
    monkeypatch: pytest.MonkeyPatch, source: str, line: bytes
) -> None:
    heard: list[bytes] = []
    with service(on_request=heard.append) as url:
        if source == "pod":
            monkeypatch.setenv("http_proxy", url.removesuffix("/hello"))
            asked = {"inside": "http://10.9.8.7/hello?a=1"}
        else:
            monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
            asked = {"outside": url}
        with probes.watch(fleet(LocalPod("pod")), **asked, **PACE):
            until(lambda: heard)
    assert heard[0].startswith(line)
    assert b"\r\nConnection: close\r\n" in heard[0]
    assert (b"\r\nHost: 10.9.8.7\r\n" in heard[0]) == (source == "pod")


def test_a_sender_that_was_stopped_drops_the_ticks_it_missed_and_bursts_none() -> None:
    with service() as url, probes.watch(outside=url, rate_per_s=50, timeout_s=0.5) as watch:
        until(lambda: len(watch.frame) > 5)
        (child,) = senders()
        os.kill(child, signal.SIGSTOP)
        time.sleep(0.4)
        os.kill(child, signal.SIGCONT)
        time.sleep(0.2)
    frame = watch.frame
    assert_whole(frame, watch)
    dropped = frame[frame["error"] == tables.DROPPED]
    assert 10 <= len(dropped) <= 25
    assert frame["late_ms"].dropna().le(25).mean() > 0.9


def test_a_sender_that_stood_still_does_not_take_that_for_silence_of_the_service() -> None:
    """A request whose answer comes while the sender stands still is read once it goes on."""
    asked: list[bytes] = []
    slow = service(delay_s=0.1, on_request=asked.append)
    with slow as url, probes.watch(outside=url, rate_per_s=2, timeout_s=0.3) as watch:
        (child,) = senders()
        until(lambda: asked)
        os.kill(child, signal.SIGSTOP)
        time.sleep(0.6)
        os.kill(child, signal.SIGCONT)
        row = watch.stop().iloc[0]
    assert (row["error"], row["code"]) == ("", 200)
    assert row["time_total_ms"] > 500


def test_requests_that_are_on_their_way_when_the_watch_stops_are_waited_for_however_long_they_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("meshbook.probes.session._SILENCE_S", SILENCE_S)
    monkeypatch.setattr("meshbook.probes.session._BEAT_S", SILENCE_S / 5)
    asked: list[bytes] = []
    slow = service(delay_s=2.5 * SILENCE_S, on_request=asked.append)
    with slow as url, probes.watch(outside=url, rate_per_s=2, timeout_s=10) as watch:
        until(lambda: asked)
        row = watch.stop().iloc[0]
    assert row["error"] == ""
    assert row["time_total_ms"] >= 2500 * SILENCE_S


class BreakingPod(LocalPod):
    """A pod whose exec is cut once, after so many lines."""

    def __init__(self, name: str, lines: int) -> None:
        super().__init__(name)
        self.left, self.execs = lines, 0

    def exec_interactive(
        self, pod: str, command: Sequence[str], streams: Any, *, timeout_s: float, **where: str
    ) -> Any:
        self.execs += 1
        outer = self

        class Cut:
            stdin = streams.stdin

            @staticmethod
            def on_line(line: str, when: datetime) -> None:
                outer.left -= 1
                if outer.left == 0:
                    raise ExecError("lost the connection to prober while the command ran")
                streams.on_line(line, when)

        return super().exec_interactive(pod, command, cast(Any, Cut), timeout_s=timeout_s, **where)


def _good_again(frame: pd.DataFrame) -> bool:
    """Tell whether good answers were sent at least half a second apart, with a hole between them."""
    sent = tables.good(frame)["time"]
    return len(sent) > 1 and bool((sent.diff().dt.total_seconds() > 0.5).any())


def test_a_lost_exec_leaves_lost_rows_and_is_taken_up_again() -> None:
    with service() as url:
        pod = BreakingPod("pod", 20)
        with probes.watch(fleet(pod), inside=url, **PACE) as watch:
            until(lambda: pod.execs > 1 and _good_again(watch.frame))
        frame = watch.frame
    assert_whole(frame, watch)
    lost = frame[frame["error"] == tables.LOST]
    assert not lost.empty
    assert lost["detail"].str.contains("lost the connection").any()
    assert frame["error"].iloc[0] == ""
    assert _good_again(frame)


def test_a_fleet_without_a_prober_is_an_error_at_once_that_says_where_it_comes_from() -> None:
    class Empty(LocalPod):
        def ready_pod(self, selector: str, namespace: str) -> str:
            raise ClusterError(f"{self.name}: no pod {selector} is ready in {namespace}", hint="wait", pods="none")

    with pytest.raises(ClusterError, match=r"no pod app=prober[\s\S]*pods: none[\s\S]*01_connectivity deploys it"):
        probes.watch(fleet(Empty("pod")), inside="http://127.0.0.1:1/hello")


def test_a_pod_whose_python_cannot_send_is_an_error_that_says_what_it_said() -> None:
    with pytest.raises(MeshbookError, match=r"pod: the sender ended: .+"):
        probes.watch(fleet(LocalPod("pod", python="/bin/sh")), inside="http://127.0.0.1:1/hello")


@contextmanager
def alone(url: str, files: int = 256) -> Iterator[subprocess.Popen[bytes]]:
    """Start a sender as by exec, which may open so many files, and then sends to ``url`` 1000 times a second."""
    config = {
        "url": url,
        "direct": True,
        "gap_s": 0.001,
        "timeout_s": 0.2,
        "requests": 10_000,
        "in_flight": 4096,
        "silence_s": SILENCE_S,
    }
    program = SENDER.read_text() + f"\nmain(json.loads({json.dumps(config)!r}))\n"
    argv = [sys.executable, "-I", "-S", "-u", "-c", f"import sys; exec(sys.stdin.read({len(program)}))"]
    argv = ["/bin/sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *argv]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(program.encode())
            assert b"ready" in process.stdout.readline()
            process.stdin.write(json.dumps({"first": 1, "begin": time.time()}).encode() + b"\n")
            yield process
        finally:
            process.kill()


def test_what_is_in_flight_at_once_has_a_bound_by_the_files_that_it_may_open_too() -> None:
    with service(answers=False) as url, alone(url, files=40) as process:
        assert process.stdout is not None
        told = [json.loads(process.stdout.readline()) for _ in range(50)]
    assert f"{FULL} (8)" in {row.get("why") for row in told}


def test_a_source_that_reaches_the_bound_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meshbook.probes.open_loop.MOST_IN_FLIGHT", 5)
    with service(answers=False) as url, probes.watch(outside=url, rate_per_s=50, timeout_s=0.5) as watch:
        until(lambda: (watch.frame["error"] == tables.DROPPED).sum() > 5)
    frame = watch.frame
    assert_whole(frame, watch)
    dropped = frame[frame["error"] == tables.DROPPED]
    assert (dropped["detail"] == f"{FULL} (5)").any()
    assert frame["error"].iloc[:5].isin(["timeout", tables.DROPPED]).all()


def test_nothing_goes_on_when_the_caller_has_died() -> None:
    with service() as url, alone(url) as process:
        process.communicate(timeout=1)  # closes its stdin
        assert process.returncode == 1


def test_nothing_goes_on_when_the_caller_is_silent_though_the_connection_stands() -> None:
    """Nobody reads what it tells either: it ends though it is stuck in a write."""
    with service() as url, alone(url) as process:
        assert process.wait(SILENCE_S + 2) == -signal.SIGALRM
