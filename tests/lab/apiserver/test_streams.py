"""Exec and logs reach the kubelet of the pod's node, and what it says reaches the client, here the Python client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import kubernetes.client
import pytest
from aiohttp import WSMsgType, web
from kubernetes.stream import stream

STDIN, STDOUT, ERROR, CLOSE = 0, 1, 3, 255


@dataclass
class FakeKubelet:
    """Answers exec: says what it was asked for, echoes standard input, then ends with an exit code."""

    protocols: tuple[str, ...] = ("v5.channel.k8s.io", "v4.channel.k8s.io")
    asked: list[web.Request] = field(default_factory=list)

    async def exec(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        if request.match_info["pod"] == "refused":
            return web.Response(status=404, text="no such container")
        socket = web.WebSocketResponse(protocols=self.protocols)
        await socket.prepare(request)
        command = request.query.getall("command")
        if "input" in request.query:
            async for message in socket:
                if message.type is WSMsgType.BINARY and message.data[0] == STDIN:
                    await socket.send_bytes(bytes([STDOUT]) + message.data[1:])
                    break
        else:
            await socket.send_bytes(bytes([STDOUT]) + f"ran {' '.join(command)} é\n".encode() * 1000)
        code = {"reason": "ExitCode", "message": "3"}
        status = {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": [code]}}
        await socket.send_bytes(bytes([ERROR]) + json.dumps(status).encode())
        await socket.close()
        return socket

    async def logs(self, request: web.Request) -> web.Response:
        self.asked.append(request)
        return web.Response(text="one\ntwo\n")


@pytest.fixture
async def kubelet(api: Any) -> AsyncIterator[FakeKubelet]:
    fake = FakeKubelet()
    application = web.Application()
    application.router.add_get("/exec/{namespace}/{pod}/{container}", fake.exec)
    application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", fake.logs)
    runner = web.AppRunner(application)
    await runner.setup()
    tls = api.authority.server_context("node-1", [api.cluster.node_address], require_client=True)
    site = web.TCPSite(runner, api.cluster.node_address, 0, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1]
    addresses = [{"type": "InternalIP", "address": api.cluster.node_address}]
    status = {"addresses": addresses, "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}
    await api.made("/api/v1/nodes", {"metadata": {"name": "node-1"}, "status": status})
    await api.made(api.PODS, api.pod(nodeName="node-1"))
    yield fake
    await runner.cleanup()


@pytest.fixture
def core(api: Any) -> kubernetes.client.CoreV1Api:
    configuration = kubernetes.client.Configuration(host=api.cluster.api_url)
    configuration.api_key = {"authorization": f"Bearer {api.token}"}
    configuration.ssl_ca_cert = str(api.authority.root_file)
    return kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(configuration))


async def _exec(core: Any, *command: str, stdin: str = "", pod: str = "one") -> tuple[str, int]:
    def run() -> tuple[str, int]:
        options: dict[str, Any] = {"stdout": True, "stdin": bool(stdin), "_preload_content": False}
        socket = stream(core.connect_get_namespaced_pod_exec, pod, "default", command=list(command), **options)
        if stdin:
            socket.write_stdin(stdin)
        out = ""
        while socket.is_open():
            socket.update(timeout=1)
            if socket.peek_stdout():
                out += socket.read_stdout()
        code = socket.returncode
        socket.sock.shutdown()
        return out, code

    return await asyncio.wait_for(asyncio.to_thread(run), 10)


async def test_the_python_client_sees_output_and_exit_code_and_its_input_arrives(
    kubelet: FakeKubelet, core: Any
) -> None:
    out, code = await _exec(core, "curl", "-sS", "http://x?a=b&c")
    assert out == "ran curl -sS http://x?a=b&c é\n" * 1000
    assert code == 3
    assert kubelet.asked[0].path == "/exec/default/one/app"
    assert kubelet.asked[0].query.getall("command") == ["curl", "-sS", "http://x?a=b&c"]
    assert kubelet.asked[0].query["output"] == "1"
    assert await _exec(core, "cat", stdin="hello\n") == ("hello\n", 3)


@pytest.mark.parametrize("protocol", ["v5.channel.k8s.io", "v4.channel.k8s.io"])
async def test_the_kubelet_chooses_the_protocol(api: Any, kubelet: FakeKubelet, protocol: str) -> None:
    kubelet.protocols = (protocol,)
    offered = ("v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io")
    headers = {"Authorization": f"Bearer {api.token}"}
    path = f"{api.PODS}/one/exec?command=cat&stdin=true&stdout=true"
    async with api.session.ws_connect(path, protocols=offered, headers=headers) as socket:
        assert socket.protocol == protocol
        await socket.send_bytes(bytes([CLOSE, STDIN]))
        await socket.send_bytes(bytes([STDIN]) + b"x" * 200_000)
        first = await socket.receive_bytes(timeout=5)
        assert first == bytes([STDOUT]) + b"x" * 200_000


async def test_a_client_that_leaves_ends_the_command(api: Any, kubelet: FakeKubelet) -> None:
    headers = {"Authorization": f"Bearer {api.token}"}
    path = f"{api.PODS}/one/exec?command=cat&stdin=true"
    async with api.session.ws_connect(path, protocols=("v4.channel.k8s.io",), headers=headers):
        async with asyncio.timeout(5):
            while not kubelet.asked:
                await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        while kubelet.asked[0].task is not None and not kubelet.asked[0].task.done():
            await asyncio.sleep(0.01)


async def test_logs_are_passed_through(api: Any, kubelet: FakeKubelet) -> None:
    answer = await api("GET", f"{api.PODS}/one/log", tailLines="2", container="app")
    assert answer.body == {"text": "one\ntwo\n"}
    assert dict(kubelet.asked[0].query) == {"tailLines": "2"}


async def test_exec_that_cannot_start_is_refused(api: Any, kubelet: FakeKubelet) -> None:
    await api.made(api.PODS, api.pod("idle"))
    await api.made(api.PODS, api.pod("refused", nodeName="node-1"))
    two = [{"name": name, "image": "x:1"} for name in ("a", "b")]
    await api.made(api.PODS, api.pod("two", nodeName="node-1", containers=two))
    wrong = {
        "idle/exec?command=x": 400,
        "absent/exec?command=x": 404,
        "one/exec?command=x&container=none": 400,
        "one/exec": 400,
        "two/exec?command=x": 400,
        "refused/exec?command=x": 404,
    }
    headers = {"Authorization": f"Bearer {api.token}"}
    for path, code in wrong.items():
        with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
            await api.session.ws_connect(f"{api.PODS}/{path}", protocols=("v4.channel.k8s.io",), headers=headers)
        assert refusal.value.status == code, path
    plain = await api("POST", f"{api.PODS}/one/exec", None, command="x")
    assert (plain.code, plain.reason) == (400, "BadRequest")
    assert "WebSocket" in plain.message


async def test_a_kubelet_that_is_away_is_an_internal_error(api: Any, kubelet: FakeKubelet) -> None:
    patch = {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 1}}}}
    await api("PATCH", "/api/v1/nodes/node-1/status", patch, type=api.MERGE)
    answer = await api("GET", f"{api.PODS}/one/log")
    assert (answer.code, answer.reason) == (500, "InternalError")
