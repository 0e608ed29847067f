from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import pytest
from waits import until

from meshbook.lab.images import HELLOWORLD


@dataclass
class App:
    process: subprocess.Popen[str]
    port: int

    def connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=5)

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(5)


@contextmanager
def running(burn_ms: float) -> Iterator[App]:
    environment = {"PORT": "0", "HOSTNAME": "helloworld-v1-abc", "SERVICE_VERSION": "v1", "LINGER_S": "0.1"}
    environment["BURN_MS"] = str(burn_ms)
    argv = [sys.executable, "-I", "-S", str(HELLOWORLD)]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        try:
            yield App(process, port)
        finally:
            process.kill()


@pytest.fixture
def app() -> Iterator[App]:
    """The application as tests of other things have it: its calls cost nothing."""
    with running(burn_ms=0) as app:
        yield app


def test_it_answers_like_the_sample(app: App) -> None:
    connection = app.connect()
    answers = []
    for path in ("/hello", "/hello?x=1", "/health", "/nothing"):
        connection.request("GET", path)
        response = connection.getresponse()
        answers.append((response.status, response.read().decode()))
    connection.close()
    hello = (200, "Hello version: v1, instance: helloworld-v1-abc\n")
    assert answers == [hello, hello, (200, "Helloworld is healthy"), (404, "Not Found\n")]


def _send(stack: ExitStack, app: App, path: str) -> socket.socket:
    raw = stack.enter_context(socket.create_connection(("127.0.0.1", app.port), timeout=20))
    raw.sendall(f"GET {path} HTTP/1.1\r\nHost: helloworld\r\n\r\n".encode())
    return raw


def _cpu_s(process: subprocess.Popen[str]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_calls_cost_cpu_one_after_the_other_and_the_probe_waits_in_their_queue() -> None:
    with running(burn_ms=100) as app, ExitStack() as stack:
        start, spent_s = time.monotonic(), _cpu_s(app.process)
        calls = [_send(stack, app, "/hello") for _ in range(3)]
        health = _send(stack, app, "/health")
        assert health.recv(65536).endswith(b"is healthy")
        assert time.monotonic() - start > 0.1
        assert all(raw.recv(65536).startswith(b"HTTP/1.1 200 ") for raw in calls)
        assert time.monotonic() - start > 0.3
        assert _cpu_s(app.process) - spent_s > 0.28


def test_a_connection_is_kept_and_a_reply_is_one_segment(app: App) -> None:
    with socket.create_connection(("127.0.0.1", app.port), timeout=5) as raw:
        for _ in range(2):
            raw.sendall(b"GET /hello HTTP/1.1\r\nHost: helloworld\r\n\r\n")
            segment = raw.recv(65536)
            assert segment.startswith(b"HTTP/1.1 200 ")
            assert segment.endswith(b"instance: helloworld-v1-abc\n")


def test_an_idle_app_leaves_at_sigterm_within_a_second(app: App) -> None:
    start = time.monotonic()
    assert app.end() == 0
    assert time.monotonic() - start < 1


def test_who_waits_for_an_answer_when_it_leaves_gets_it() -> None:
    with running(burn_ms=100) as app, ExitStack() as stack:
        calls = [_send(stack, app, "/hello") for _ in range(4)]
        assert app.end() == 0
        assert all(raw.recv(65536).startswith(b"HTTP/1.1 200 ") for raw in calls)


def test_while_leaving_it_still_answers_and_asks_not_to_come_back(app: App) -> None:
    connection = app.connect()
    connection.connect()
    app.process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        connection.request("GET", "/hello")
        response = connection.getresponse()
        assert response.status == 200
        response.read()
        if response.getheader("Connection") == "close":
            break
    assert response.getheader("Connection") == "close"
    assert app.process.wait(5) == 0


def test_a_port_in_use_ends_it_with_an_error(app: App) -> None:
    environment = {"PORT": str(app.port), "HOSTNAME": "second"}
    argv = [sys.executable, "-I", "-S", str(HELLOWORLD)]
    second = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=5, check=False)
    assert second.returncode == 1
    assert "address already in use" in second.stderr


def _refuses(app: App) -> bool:
    with socket.socket() as trial:
        trial.settimeout(5)
        return trial.connect_ex(("127.0.0.1", app.port)) != 0


def test_it_refuses_when_told_to_and_listens_again_again_and_again(app: App) -> None:
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", app.port), timeout=5) as kept:
            kept.sendall(b"GET /hello HTTP/1.1\r\nHost: helloworld\r\n\r\n")
            assert kept.recv(65536)
            app.process.send_signal(signal.SIGUSR1)
            assert kept.recv(1) == b""
        until(lambda: _refuses(app))
        app.process.send_signal(signal.SIGUSR2)
        until(lambda: not _refuses(app))
    connection = app.connect()
    connection.request("GET", "/hello")
    assert connection.getresponse().status == 200
    connection.close()


def test_it_leaves_at_sigterm_while_it_refuses(app: App) -> None:
    app.process.send_signal(signal.SIGUSR1)
    until(lambda: _refuses(app))
    assert app.end() == 0
