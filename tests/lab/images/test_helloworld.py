from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection

import pytest

from meshbook.lab.images.registry import HELLOWORLD


@dataclass
class App:
    process: subprocess.Popen[str]
    port: int

    def connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=5)

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(5)


@pytest.fixture
def app() -> Iterator[App]:
    environment = {"PORT": "0", "HOSTNAME": "helloworld-v1-abc", "SERVICE_VERSION": "v1", "LINGER_S": "0.1"}
    argv = [sys.executable, "-I", "-S", str(HELLOWORLD)]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        try:
            yield App(process, port)
        finally:
            process.kill()


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


def test_a_connection_is_kept_and_a_reply_is_one_segment(app: App) -> None:
    with socket.create_connection(("127.0.0.1", app.port), timeout=5) as raw:
        for _ in range(2):
            raw.sendall(b"GET /hello HTTP/1.1\r\nHost: helloworld\r\n\r\n")
            segment = raw.recv(65536)
            assert segment.startswith(b"HTTP/1.1 200 ")
            assert segment.endswith(b"instance: helloworld-v1-abc\n")


def test_an_idle_app_leaves_at_sigterm_within_a_second(app: App) -> None:
    connection = app.connect()
    connection.request("GET", "/hello")
    connection.getresponse().read()
    start = time.monotonic()
    assert app.end() == 0
    assert time.monotonic() - start < 1
    connection.close()


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
    assert "Address already in use" in second.stderr
