"""Exec and logs: passed through to the kubelet of the pod's node, frame by frame, with a client certificate."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web
from yarl import URL

from meshbook.lab.apiserver.errors import Failure, bad_request, internal
from meshbook.lab.apiserver.requests import ApiRequest
from meshbook.lab.apiserver.store import Store
from meshbook.objects import Object, containers_of

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_STREAMS = (("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty"))
_NO_UPGRADE = "Upgrade request required: the lab serves exec over WebSocket, kubectl 1.31 or newer"
_LOG_OPTIONS = ("follow", "limitBytes", "previous", "sinceSeconds", "sinceTime", "tailLines", "timestamps")


class Kubelets:
    """How one API server reaches the kubelets of its cluster."""

    def __init__(self, store: Store, session: aiohttp.ClientSession, tls: ssl.SSLContext | None) -> None:
        self._store = store
        self._session = session
        self._tls = tls or True

    async def exec(self, request: ApiRequest, pod: Object, http: web.Request) -> web.StreamResponse:
        """Run a command: ties the client's WebSocket to one of the kubelet's."""
        commands = request.query.getall("command", [])
        if not commands:
            raise bad_request("you must specify at least 1 command for the container")
        query = [("command", part) for part in commands]
        query += [(theirs, "1") for ours, theirs in _STREAMS if request.flag(ours)]
        url = self._url(request, pod, "exec", query)
        if http.headers.get("Upgrade", "").lower() != "websocket":
            raise bad_request(_not_running(request, pod) or _NO_UPGRADE)
        async with self._upstream(url, _protocols(http)) as upstream:
            protocols = (upstream.protocol,) if upstream.protocol else ()
            downstream = web.WebSocketResponse(protocols=protocols, max_msg_size=0, compress=False, timeout=1.0)
            await downstream.prepare(http)
            await _tie(upstream, downstream)
            return downstream

    async def log(self, request: ApiRequest, pod: Object, http: web.Request) -> web.StreamResponse:
        """Send a container's log, and what follows if asked to."""
        query = [(name, request.query[name]) for name in _LOG_OPTIONS if name in request.query]
        url = self._url(request, pod, "containerLogs", query)
        try:
            async with self._session.get(url, ssl=self._tls) as upstream:
                if upstream.status != 200:
                    raise _refused(upstream.status, (await upstream.text()).strip())
                response = web.StreamResponse(headers={"Content-Type": "text/plain"})
                await response.prepare(http)
                await _copy(upstream, response)
                return response
        except aiohttp.ClientConnectorError as error:
            raise internal(f"dialing the kubelet: {error}") from error

    def _url(self, request: ApiRequest, pod: Object, what: str, query: list[tuple[str, str]]) -> URL:
        container = _container(pod, request.query.get("container", ""))
        name, node_name = pod["metadata"]["name"], pod["spec"].get("nodeName")
        if not node_name:
            raise bad_request(f"pod {name} does not have a host assigned")
        stored = self._store.get("/nodes", "", node_name)
        if stored is None:
            raise internal(f'error getting node of pod {name}: nodes "{node_name}" not found')
        status = stored.object.get("status", {})
        internal_ips = [a["address"] for a in status.get("addresses", ()) if a["type"] == "InternalIP"]
        port = status.get("daemonEndpoints", {}).get("kubeletEndpoint", {}).get("Port")
        if not internal_ips or not port:
            raise internal(f"no preferred addresses found for node {node_name}")
        base = URL.build(scheme="https", host=internal_ips[0], port=port)
        return base.joinpath(what, request.namespace, name, container).with_query(query)

    @asynccontextmanager
    async def _upstream(self, url: URL, protocols: Sequence[str]) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Connect a WebSocket to a kubelet; its refusal becomes ours."""
        options: dict[str, Any] = {"max_msg_size": 0, "compress": 0, "ssl": self._tls}
        try:
            socket = await self._session.ws_connect(url, protocols=protocols, **options)
        except aiohttp.WSServerHandshakeError as error:
            raise _refused(error.status, error.message) from error
        except aiohttp.ClientConnectorError as error:
            raise internal(f"dialing the kubelet: {error}") from error
        try:
            yield socket
        finally:
            await socket.close()


async def _copy(upstream: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
    """Send what the kubelet sends; either side may go away, which is how a followed log ends."""
    try:
        async for chunk in upstream.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
    except (ConnectionError, aiohttp.ClientPayloadError):
        return


def _protocols(http: web.Request) -> list[str]:
    """Return the subprotocols that the client offers and that are spoken here."""
    offered = [name.strip() for name in http.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    spoken = [name for name in offered if name in PROTOCOLS]
    if not spoken:
        raise bad_request(f"exec needs one of the WebSocket subprotocols {', '.join(PROTOCOLS)}")
    return spoken


def _refused(code: int, message: str) -> Failure:
    reasons = {400: "BadRequest", 403: "Forbidden", 404: "NotFound"}
    text = message or f"the kubelet answered HTTP {code}"
    return Failure(code, reasons[code], text) if code in reasons else internal(text)


def _container(pod: Object, asked: str) -> str:
    name, names = pod["metadata"]["name"], [container["name"] for container in containers_of(pod)]
    if not asked and len(names) > 1:
        raise bad_request(f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]")
    if asked and asked not in names:
        raise bad_request(f"container {asked} is not valid for pod {name}")
    return asked or str(names[0])


def _not_running(request: ApiRequest, pod: Object) -> str:
    """Say what state keeps a command out of a container, as far as it is known.

    kubectl asks once more in an older protocol where its first request failed, and shows what is said to that.
    """
    name, status = _container(pod, request.query.get("container", "")), pod.get("status", {})
    known = [*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ())]
    state: Object = next((one.get("state", {}) for one in known if one["name"] == name), {})
    if "terminated" in state:
        return f'container "{name}" in pod "{request.name}" is terminated: {state["terminated"].get("reason", "")}'
    reason = state.get("waiting", {}).get("reason", "")
    return f'container "{name}" in pod "{request.name}" is waiting to start: {reason}' if reason else ""


async def _tie(upstream: aiohttp.ClientWebSocketResponse, downstream: web.WebSocketResponse) -> None:
    """Copy frames both ways until either side ends, then end the other one."""
    pumps = [asyncio.ensure_future(_pump(upstream, downstream)), asyncio.ensure_future(_pump(downstream, upstream))]
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        await upstream.close(code=downstream.close_code or 1000)
        await downstream.close(code=upstream.close_code or 1000)


async def _pump(source: Any, sink: Any) -> None:
    async for message in source:
        try:
            if message.type is WSMsgType.BINARY:
                await sink.send_bytes(message.data)
            elif message.type is WSMsgType.TEXT:  # some clients write standard input so; channels are bytes
                await sink.send_bytes(message.data.encode())
        except ConnectionError:
            return
