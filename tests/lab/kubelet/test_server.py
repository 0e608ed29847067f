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

from meshbook.lab.kubelet.server import KubeletServer
from meshbook.lab.pki import Authority

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"


@dataclass
class Session:
    """What came back from an exec."""

    stdout: bytes = b""
    stderr: bytes = b""
    status: dict[str, Any] = field(default_factory=dict)
    protocol: str | None = None

    @property
    def exit_code(self) -> int:
        if self.status["status"] == "Success":
            return 0
        return next(int(c["message"]) for c in self.status["details"]["causes"] if c["reason"] == "ExitCode")


class Caller:
    """The API server's side of the conversation."""

    def __init__(self, base: str, http: aiohttp.ClientSession, tls: ssl.SSLContext, pod: Any) -> None:
        self.base, self.http, self.tls, self.pod = base, http, tls, pod

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

    async def exec(self, *command: str, stdin: bytes | None = None, protocol: str = V5) -> Session:
        session = Session()
        async with (
            asyncio.timeout(5),
            self.connect(*command, protocol=protocol, input=int(stdin is not None)) as socket,
        ):
            session.protocol = socket.protocol
            if stdin is not None:
                await socket.send_bytes(b"\0" + stdin)
                await socket.send_bytes(b'\4{"Width":80,"Height":24}')
                if protocol == V5:
                    await socket.send_bytes(b"\xff\0")
            async for message in socket:
                take(session, message.data)
        return session


def take(session: Session, data: bytes) -> None:
    match data[0]:
        case 1:
            session.stdout += data[1:]
        case 2:
            session.stderr += data[1:]
        case 3 if data[1:]:
            session.status = json.loads(data[1:])


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture
async def caller(node: Any, specs: Any, authority: Authority) -> AsyncIterator[Caller]:
    pod, _ = await node.start_ready(specs.pod(specs.app("echo hello; echo world; exec sleep 100")))
    address = node.cluster.node_address
    tls = authority.server_context("kubelet", [address], require_client=True)
    server = KubeletServer(address, tls, lambda: [pod])
    await server.start()
    yield Caller(f"https://{address}:10250", node.ground.http, authority.client_context("apiserver"), pod)
    await server.stop()


async def test_only_who_shows_a_certificate_is_served(caller: Caller, authority: Authority) -> None:
    assert await caller.get("healthz", pod="..", container="..") != (200, "ok")
    async with caller.http.get(f"{caller.base}/healthz", ssl=caller.tls) as answer:
        assert await answer.text() == "ok"
    stranger = ssl.create_default_context(cadata=authority.root_pem)
    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await caller.http.get(f"{caller.base}/healthz", ssl=stranger)


async def test_the_pods_of_the_node_are_listed(caller: Caller) -> None:
    async with caller.http.get(f"{caller.base}/pods", ssl=caller.tls) as answer:
        assert [pod["metadata"]["name"] for pod in (await answer.json())["items"]] == ["web-0"]


@pytest.mark.parametrize("protocol", [V5, V4])
async def test_exec_gives_both_outputs_and_the_exit_code(caller: Caller, protocol: str) -> None:
    session = await caller.exec("sh", "-c", "echo out; echo err >&2; exit 7", protocol=protocol)
    assert session.protocol == protocol
    assert (session.stdout, session.stderr, session.exit_code) == (b"out\n", b"err\n", 7)
    assert session.status["reason"] == "NonZeroExitCode"


async def test_success_is_said_as_such(caller: Caller) -> None:
    session = await caller.exec("true")
    assert session.status == {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}


async def test_death_by_a_signal_is_an_exit_code_above_128(caller: Caller) -> None:
    assert (await caller.exec("sh", "-c", "kill -9 $$")).exit_code == 137


async def test_standard_input_arrives_and_can_be_closed(caller: Caller) -> None:
    session = await caller.exec("cat", stdin=b"some input\n")
    assert (session.stdout, session.exit_code) == (b"some input\n", 0)


async def test_with_v4_a_command_reads_without_an_end(caller: Caller) -> None:
    session = await caller.exec("head", "-n", "1", stdin=b"line\nmore\n", protocol=V4)
    assert session.stdout == b"line\n"


async def test_a_large_output_is_complete(caller: Caller) -> None:
    session = await caller.exec("head", "-c", "2000000", "/dev/zero")
    assert len(session.stdout) == 2_000_000


async def test_a_command_that_cannot_be_started_is_a_failure_without_exit_code(caller: Caller) -> None:
    session = await caller.exec("no-such-program")
    assert session.status["status"] == "Failure"
    assert session.status["reason"] == "InternalError"
    assert "no-such-program" in session.status["message"]


async def test_a_command_ends_though_its_child_keeps_the_output_open(caller: Caller) -> None:
    session = await caller.exec("sh", "-c", "sleep 100 & echo started")
    assert (session.stdout, session.exit_code) == (b"started\n", 0)


async def test_a_command_is_killed_when_its_client_goes_away(caller: Caller, node: Any) -> None:
    mark = "MESHBOOK_CONTAINER=uid-1/app"
    before = set(node.ground.processes.marked(mark))
    async with caller.connect("sleep", "123") as socket:
        await socket.receive()
        await node.until(lambda: len(set(node.ground.processes.marked(mark)) - before) == 1)
    await node.until(lambda: set(node.ground.processes.marked(mark)) == before)


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


@pytest.mark.parametrize(
    ("query", "code", "text"),
    [
        ({"output": "1"}, 400, "at least one command"),
        ({"command": "true"}, 400, "at least 1 of stdin"),
        ({"command": "true", "output": "1"}, 400, "upgrade to WebSocket"),
    ],
)
async def test_an_exec_that_cannot_be_done_is_refused(
    caller: Caller, query: dict[str, str], code: int, text: str
) -> None:
    status, body = await caller.get("exec", **query)
    assert status == code
    assert text in body


async def test_what_is_not_there_is_not_found(caller: Caller) -> None:
    assert (await caller.get("exec", pod="other", command="true"))[0] == 404
    assert (await caller.get("containerLogs", container="other"))[0] == 404


async def test_an_unknown_subprotocol_is_refused(caller: Caller) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        await caller.exec("true", protocol="v9.channel.k8s.io")
    assert refusal.value.status == 403


async def test_logs_are_served_whole_or_in_part(caller: Caller, node: Any) -> None:
    seen: list[str] = []
    async with asyncio.timeout(5):
        while "world" not in "".join(seen):
            seen.append((await caller.get("containerLogs"))[1])
    assert seen[-1] == "hello\nworld\n"
    assert await caller.get("containerLogs", tailLines="1") == (200, "world\n")
    assert (await caller.get("containerLogs", tailLines="x"))[0] == 400
    assert (await caller.get("containerLogs", previous="true"))[0] == 400


async def test_following_logs_ends_with_the_container(caller: Caller) -> None:
    async with asyncio.timeout(5):
        while "world" not in (await caller.get("containerLogs"))[1]:
            await asyncio.sleep(0.01)
        following = asyncio.create_task(caller.get("containerLogs", follow="true"))
        await asyncio.sleep(0.1)
        assert not following.done()
        caller.pod.container("app").process.signal(signal.SIGKILL)
        assert await following == (200, "hello\nworld\n")


async def test_the_log_of_the_run_before_is_kept(caller: Caller, node: Any) -> None:
    caller.pod.container("app").process.signal(signal.SIGKILL)
    await node.until(lambda: node.status["containerStatuses"][0]["restartCount"] == 1)
    assert await caller.get("containerLogs", previous="true") == (200, "hello\nworld\n")
