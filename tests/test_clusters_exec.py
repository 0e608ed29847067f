"""Commands in pods, over real WebSockets: what comes back whole, and what is said of a stream that breaks."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from aiohttp import WSMsgType, web

from meshbook.clusters import Cluster, Kubeconfig
from meshbook.errors import ExecError
from meshbook.settings import Patience

QUICK = Patience(connect_s=1, read_s=1, attempts=3, pause_s=0.01)
EXEC = "GET /api/v1/namespaces/sample/pods/p/exec"
UNREACHABLE = "http://127.0.0.1:9"

Write = Callable[..., str]
Frame = tuple[int, bytes]
SUCCESS: Frame = (3, json.dumps({"status": "Success"}).encode())


@pytest.fixture
def cluster(scripted: Any, kubeconfig: Write) -> Cluster:
    return Cluster(Kubeconfig(kubeconfig({"c1": scripted.url})), "c1", QUICK)


def _status(message: str, reason: str = "") -> dict[str, Any]:
    return {"kind": "Status", "status": "Failure", "message": message, "reason": reason}


def _websocket(*frames: Frame, then: str = "close") -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return a handler that sends ``frames`` and then closes, hangs or cuts the connection."""

    async def handle(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=["v5.channel.k8s.io", "v4.channel.k8s.io"])
        await socket.prepare(request)
        for channel, payload in frames:
            await socket.send_bytes(bytes([channel]) + payload)
        if then == "hang":
            while (await socket.receive()).type not in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING):
                pass
        elif then == "cut" and request.transport is not None:
            request.transport.abort()
        await socket.close()
        return socket

    return handle


def _failure(message: str, *causes: dict[str, str]) -> Frame:
    status = {"status": "Failure", "message": message, "reason": "NonZeroExitCode", "details": {"causes": list(causes)}}
    return 3, json.dumps(status).encode()


def test_a_command_gives_its_output_and_exit_code(scripted: Any, cluster: Cluster) -> None:
    failed = _failure("exit code 7", {"reason": "ExitCode", "message": "7"})
    scripted.script[EXEC] = [_websocket((1, b"out\n"), (2, b"err\n"), failed)]
    result = cluster.exec("p", "sh -c 'exit 7'", namespace="sample", container="c")
    assert (result.exit_code, result.stdout, result.stderr) == (7, "out\n", "err\n")
    assert result.command == ("sh", "-c", "exit 7")
    assert scripted.asked[-1].endswith(
        "?command=sh&command=-c&command=exit+7&container=c&stdout=true&stderr=true&stdin=false&tty=false"
    )


def test_lines_come_whole_and_with_their_time_though_frames_split_them(scripted: Any, cluster: Cluster) -> None:
    snow = "雪が降る\nlast".encode()
    scripted.script[EXEC] = [_websocket(*[(1, bytes([byte])) for byte in snow], (255, b"\x01"), SUCCESS)]
    lines: list[tuple[str, datetime]] = []
    before = datetime.now(UTC)
    result = cluster.exec("p", ["x"], namespace="sample", on_line=lambda line, at: lines.append((line, at)))
    assert [line for line, _ in lines] == ["雪が降る", "last"]
    assert all(before <= at <= before + timedelta(seconds=10) for _, at in lines)
    assert result.stdout == snow.decode()


def test_a_command_can_be_talked_with_while_it_runs(scripted: Any, cluster: Cluster) -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=["v5.channel.k8s.io", "v4.channel.k8s.io"])
        await socket.prepare(request)
        await socket.send_bytes(b"\x01ready\n")
        heard = await socket.receive_bytes()
        await socket.send_bytes(b"\x01" + heard[1:] + b"\n")
        await socket.send_bytes(bytes([SUCCESS[0]]) + SUCCESS[1])
        await socket.close()
        return socket

    class Echoed:
        lines: ClassVar[list[str]] = []

        def on_line(self, line: str, when: datetime) -> None:
            self.lines.append(line)

        def stdin(self) -> str:
            return "a word" if self.lines == ["ready"] else ""

    scripted.script[EXEC] = [echo]
    assert cluster.exec_interactive("p", ["x"], Echoed(), namespace="sample").exit_code == 0
    assert Echoed.lines == ["ready", "a word"]
    assert "stdin=true" in scripted.asked[-1]


def test_a_command_that_is_not_there_is_an_error_and_no_exit_code(scripted: Any, cluster: Cluster) -> None:
    message = 'exec: "nope": executable file not found in $PATH'
    scripted.script[EXEC] = [_websocket(_failure(message, {"message": message}))]
    with pytest.raises(ExecError, match=r"could not be run in p: exec: .nope.[\s\S]*have this program"):
        cluster.exec("p", "nope", namespace="sample")


def test_a_pod_that_is_not_there_is_told_in_the_servers_words(scripted: Any, cluster: Cluster) -> None:
    scripted.script[EXEC] = [(404, _status('pods "p" not found', "NotFound"))]
    with pytest.raises(ExecError, match='pods "p" not found') as caught:
        cluster.exec("p", "true", namespace="sample")
    assert caught.value.code == 404


@pytest.mark.parametrize(
    ("then", "message"),
    [
        pytest.param("hang", "did not end within 0.3 s", id="stalled"),
        pytest.param("cut", "lost the connection to p", id="cut"),
        pytest.param("close", "ended without an exit code", id="closed early"),
    ],
)
def test_a_broken_stream_keeps_what_came_before(scripted: Any, cluster: Cluster, then: str, message: str) -> None:
    scripted.script[EXEC] = [_websocket((1, b"first\nsec"), (2, b"noise"), then=then)]
    lines: list[str] = []
    with pytest.raises(ExecError, match=message) as caught:
        cluster.exec("p", "x", namespace="sample", timeout_s=0.3, on_line=lambda line, _: lines.append(line))
    assert caught.value.stdout == "first\nsec"
    assert caught.value.stderr == "noise"
    assert lines == ["first", "sec"]


def test_a_cluster_that_is_away_cannot_run_a_command(kubeconfig: Write) -> None:
    cluster = Cluster(Kubeconfig(kubeconfig({"c1": UNREACHABLE})), "c1", QUICK)
    with pytest.raises(ExecError, match=r"cannot reach p to run a command[\s\S]*refused"):
        cluster.exec("p", "true", namespace="sample")


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    scripted: Any, kubeconfig: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, UNREACHABLE)
    scripted.script[EXEC] = [_websocket((1, b"hi\n"), SUCCESS)]
    cluster = Cluster(Kubeconfig(kubeconfig({"c1": scripted.url})), "c1", QUICK)
    assert cluster.version() == "v1.33.1"
    assert cluster.exec("p", "true", namespace="sample").stdout == "hi\n"
