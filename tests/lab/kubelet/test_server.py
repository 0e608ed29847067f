from __future__ import annotations

import asyncio
import json
import signal
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from node import app, pod

from meshbook.lab.kubelet import KubeletServer, marked
from meshbook.lab.pki import Authority

TALKER = "trap 'echo later' USR1; echo hello; echo world; sleep 100 & while :; do wait; done"
V5 = "v5.channel.k8s.io"


@dataclass
class Session:
    """What came back from an exec."""

    stdout: bytes = b""
    status: dict[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        if self.status["status"] == "Success":
            return 0
        return next(int(c["message"]) for c in self.status["details"]["causes"] if c["reason"] == "ExitCode")


class Caller:
    """The API server's side of the conversation."""

    def __init__(self, base: str, http: aiohttp.ClientSession, tls: ssl.SSLContext, pod: Any) -> None:
        self.base, self.http, self.tls, self.pod = base, http, tls, pod
        self.pods = [pod]

    def url(self, verb: str, container: str = "app", pod: str = "web-0") -> str:
        return f"{self.base}/{verb}/sample/{pod}/{container}"

    async def get(self, verb: str, container: str = "app", pod: str = "web-0", **query: str) -> tuple[int, str]:
        async with self.http.get(self.url(verb, container, pod), params=query, ssl=self.tls) as answer:
            return answer.status, await answer.text()

    def connect(self, *command: str, protocol: str = V5, autoping: bool = True, **channels: int) -> Any:
        query = [("command", word) for word in command]
        query += [(name, str(value)) for name, value in {"output": 1, "error": 1, **channels}.items()]
        settings: dict[str, Any] = {"protocols": [protocol], "autoping": autoping, "ssl": self.tls}
        return self.http.ws_connect(self.url("exec"), params=query, **settings)

    async def exec(self, *command: str, protocol: str = V5) -> Session:
        session = Session()
        async with asyncio.timeout(5), self.connect(*command, protocol=protocol) as socket:
            async for message in socket:
                if message.data[0] == 1:
                    session.stdout += message.data[1:]
                elif message.data[0] == 3 and message.data[1:]:
                    session.status = json.loads(message.data[1:])
        return session


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
async def caller(node: Any, authority: Authority) -> AsyncIterator[Caller]:
    running, _ = await node.start_ready(pod(app(TALKER)))
    address = node.cluster.node_address
    tls = authority.server_context("kubelet", [address], require_client=True)
    caller = Caller(f"https://{address}:10250", node.context.http, authority.client_context("apiserver"), running)
    server = KubeletServer(address, tls, lambda: caller.pods)
    await server.start()
    yield caller
    await server.stop()


async def test_only_who_shows_a_certificate_is_served(caller: Caller, authority: Authority) -> None:
    assert await caller.get("healthz", pod="..", container="..") != (200, "ok")
    async with caller.http.get(f"{caller.base}/healthz", ssl=caller.tls) as answer:
        assert await answer.text() == "ok"
    stranger = ssl.create_default_context(cadata=authority.root_pem)
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await caller.http.get(f"{caller.base}/healthz", ssl=stranger)


async def test_success_is_said_as_such_and_death_by_a_signal_is_a_code_above_128(caller: Caller) -> None:
    session = await caller.exec("true")
    assert session.status == {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    assert (await caller.exec("sh", "-c", "kill -9 $$")).exit_code == 137


async def test_a_command_ends_though_its_child_keeps_the_output_open(caller: Caller) -> None:
    session = await caller.exec("sh", "-c", "sleep 100 & echo started")
    assert (session.stdout, session.exit_code) == (b"started\n", 0)


async def test_a_command_is_killed_when_its_client_goes_away(caller: Caller, node: Any) -> None:
    mark = "MESHBOOK_CONTAINER=uid-1/app"
    before = set(marked(mark))
    async with caller.connect("sleep", "123") as socket:
        await socket.receive()
        await node.until(lambda: len(set(marked(mark)) - before) == 1)
    await node.until(lambda: set(marked(mark)) == before)


async def test_pings_are_answered_while_a_command_runs(caller: Caller) -> None:
    async with asyncio.timeout(5), caller.connect("sleep", "123", autoping=False) as socket:
        await socket.receive()
        await socket.ping(b"are you there")
        message = await socket.receive()
        assert (message.type, bytes(message.data)) == (aiohttp.WSMsgType.PONG, b"are you there")


async def _code_of(socket: aiohttp.ClientWebSocketResponse) -> str:
    while (message := await socket.receive()).data[0] != 3:
        pass
    code: str = json.loads(message.data[1:])["details"]["causes"][0]["message"]
    return code


async def test_a_terminal_has_a_size_and_echoes(caller: Caller) -> None:
    async with asyncio.timeout(5), caller.connect("sh", input=1, tty=1, error=0) as socket:
        await socket.send_bytes(b'\4{"Width":97,"Height":31}')
        await socket.send_bytes(b"\0stty size\n")
        seen = b""
        while b"31 97" not in seen:
            seen += (await socket.receive()).data[1:]
        assert b"stty size\r\n" in seen
        await socket.send_bytes(b"\0exit 5\n")
        assert await _code_of(socket) == "5"


async def test_ctrl_c_reaches_the_program_on_a_terminal(caller: Caller) -> None:
    async with asyncio.timeout(5), caller.connect("sleep", "60", input=1, tty=1, error=0) as socket:
        await socket.receive()
        await socket.send_bytes(b"\0\x03")
        assert await _code_of(socket) == "130"


async def test_files_are_not_copied(caller: Caller) -> None:
    session = await caller.exec("tar", "cf", "-", "/etc/hosts")
    assert "does not copy files" in session.status["message"]


async def test_an_exec_that_cannot_be_done_is_refused(caller: Caller) -> None:
    asked: list[tuple[dict[str, str], str]] = [
        ({"output": "1"}, "at least one command"),
        ({"command": "true"}, "at least 1 of stdin"),
        ({"command": "true", "output": "1"}, "upgrade to WebSocket"),
    ]
    for query, text in asked:
        status, body = await caller.get("exec", **query)
        assert (status, text in body) == (400, True), query
    assert (await caller.get("exec", pod="other", command="true"))[0] == 404
    assert (await caller.get("containerLogs", container="other"))[0] == 404
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        await caller.exec("true", protocol="v9.channel.k8s.io")
    assert refusal.value.status == 403


async def whole_log(caller: Caller) -> str:
    """Return the log once all of it is written."""
    async with asyncio.timeout(5):
        while "world" not in (text := (await caller.get("containerLogs"))[1]):
            await asyncio.sleep(0.01)
    return text


async def test_a_log_ends_at_its_limit_and_is_refused_where_it_cannot_be_asked_for_so(caller: Caller) -> None:
    await whole_log(caller)
    assert await caller.get("containerLogs", limitBytes="7", follow="true") == (200, "hello\nw")
    wrong = {"tailLines": "-1", "follow": "yes", "limitBytes": "x", "sinceTime": "then", "previous": "true"}
    for name, value in wrong.items():
        assert (await caller.get("containerLogs", **{name: value}))[0] == 400, name


async def test_a_long_line_and_one_without_an_end_are_kept(caller: Caller, node: Any) -> None:
    script = "head -c 100000 /dev/zero | tr '\\0' x; echo; printf last; exec sleep 0"
    running, _ = node.start(pod(app(script), name="long", uid="uid-2", restartPolicy="Never"))
    caller.pods.append(running)
    await node.until(lambda: "terminated" in running.container("").status["state"])
    assert await caller.get("containerLogs", pod="long") == (200, "x" * 100000 + "\nlast\n")


async def test_following_logs_gives_what_comes_later_and_ends_with_the_container(caller: Caller) -> None:
    await whole_log(caller)
    url, process = caller.url("containerLogs"), caller.pod.container("app").process
    async with asyncio.timeout(5), caller.http.get(url, params={"follow": "true"}, ssl=caller.tls) as answer:
        assert await answer.content.readline() == b"hello\n"
        process.signal(signal.SIGUSR1)
        assert await answer.content.readline() == b"world\n"
        assert await answer.content.readline() == b"later\n"
        process.signal(signal.SIGKILL)
        assert await answer.content.readline() == b""


async def test_the_log_of_the_run_before_is_kept(caller: Caller, node: Any) -> None:
    await whole_log(caller)
    caller.pod.container("app").process.signal(signal.SIGKILL)
    await node.until(lambda: node.status["containerStatuses"][0]["restartCount"] == 1)
    assert await caller.get("containerLogs", previous="true") == (200, "hello\nworld\n")
