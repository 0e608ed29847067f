"""Who asks a discovery server as an Envoy does, and keeps what it is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import json_format

from meshbook.lab.envoy import node_token
from meshbook.lab.pki import Authority
from meshbook.lab.topology import XDS_PORT

BOUND_S = 10.0
METHOD = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
TYPE_URL = "type.googleapis.com/"


class Asker:
    """One stream. ``told`` has what was told last: plain dicts by kind and name."""

    def __init__(self, node: str, stream: Any) -> None:
        self.told: dict[str, dict[str, Any]] = {}
        self._node = node
        self._stream = stream

    async def ask(self, kind: str, names: Sequence[str] = (), *, answer: Any = None, refusal: str = "") -> None:
        """Ask for a kind of resource, or say that ``answer`` was taken or why it is refused."""
        request = discovery_pb2.DiscoveryRequest(type_url=TYPE_URL + kind, resource_names=names)
        request.node.id = self._node
        if answer is not None:
            request.response_nonce, request.version_info = answer.nonce, answer.version_info
        request.error_detail.message = refusal
        await self._stream.write(request)

    async def read(self, timeout_s: float | None = BOUND_S) -> Any:
        """Return the next answer."""
        async with asyncio.timeout(timeout_s):
            answer = await self._stream.read()
        assert answer is not grpc.aio.EOF, "the server ended the stream"
        resources = [json_format.MessageToDict(one, preserving_proto_field_name=True) for one in answer.resources]
        told = {one.get("name") or one["cluster_name"]: one for one in resources}
        self.told[answer.type_url.removeprefix(TYPE_URL)] = told
        return answer

    async def is_quiet(self) -> bool:
        """Tell whether nothing comes for a while."""
        reading = asyncio.ensure_future(self._stream.read())
        done, _ = await asyncio.wait([reading], timeout=0.1)
        reading.cancel()
        return not done

    async def follow(self, names: Mapping[str, Sequence[str]]) -> None:
        """Ask for names by kind and take all that comes, however late, until the server ends."""
        with contextlib.suppress(grpc.aio.AioRpcError):
            for kind, wanted in names.items():
                await self.ask(kind, wanted)
            while True:
                answer = await self.read(None)
                kind = answer.type_url.removeprefix(TYPE_URL)
                await self.ask(kind, names[kind], answer=answer)


@asynccontextmanager
async def asker(
    cluster: str, node: str, address: str, authority: Authority, token: str | None = None
) -> AsyncIterator[Asker]:
    """Connect as ``node`` of ``cluster``, with its token or another one."""
    credentials = grpc.ssl_channel_credentials(authority.root_pem.encode())
    shown = node_token(authority, cluster, node) if token is None else token
    async with grpc.aio.secure_channel(f"{address}:{XDS_PORT}", credentials) as channel:
        method = channel.stream_stream(
            METHOD,
            request_serializer=discovery_pb2.DiscoveryRequest.SerializeToString,
            response_deserializer=discovery_pb2.DiscoveryResponse.FromString,
        )
        stream = method(metadata=(("authorization", f"Bearer {shown}"),), wait_for_ready=True)
        yield Asker(node, stream)
        stream.cancel()
