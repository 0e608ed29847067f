"""Aggregated discovery (ADS): Envoys ask over gRPC what they are to serve, as they ask Istio.

    server = DiscoveryServer(cluster.name, cluster.istiod_address, authority)
    await server.start()
    server.publish("sleep.sample", resources)       # now, and whenever they change

Every answer is the whole state of one kind of resource, and the next of this kind is sent when the Envoy has taken or
refused it: one that is stopped for a while is sent the newest state alone when it goes on. Kinds follow each other in
the order of ``KINDS``, and listeners and routes wait until new clusters are ready, so nothing leads where nobody is
yet. An Envoy that is not known waits; one that is cut off serves on, and comes back by itself. Who asks must show the
token of the node that it says it is: the answers hold its private key.

What is said is made by istiod and the multi-cluster ingress controller, in the shapes of ``envoy``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import importlib
import json
import logging
import pkgutil
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from ipaddress import ip_address
from typing import Any

import grpc
from cryptography.x509 import IPAddress
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2, json_format

from meshbook.errors import LabError
from meshbook.lab.envoy import CLUSTER, KINDS, LISTENER, LOAD_ASSIGNMENT, ROUTE_CONFIGURATION, Resources, node_token
from meshbook.lab.pki import Authority
from meshbook.lab.topology import XDS_PORT

log = logging.getLogger(__name__)

SERVICE, METHOD = "envoy.service.discovery.v3.AggregatedDiscoveryService", "StreamAggregatedResources"
GREETING_TIMEOUT_S = 10.0
CACHED_MESSAGES = 2048
WHOLE = (CLUSTER, LISTENER)
"""Kinds that are asked for as a whole; of the others each resource by its name."""
DEPENDENT = {CLUSTER: LOAD_ASSIGNMENT, LISTENER: ROUTE_CONFIGURATION}
"""A cluster or listener that is replaced waits for what it names to come again, though that is the same."""
TYPE_URL = "type.googleapis.com/"

Published = Mapping[str, Mapping[str, Any]]
"""Messages by kind and name."""


class DiscoveryServer:
    """Tells Envoys what was published for them. ``name`` is that of its cluster; node names are unique within."""

    def __init__(self, name: str, address: str, authority: Authority) -> None:
        self.refusals: list[str] = []
        """What Envoys did not take of what they were sent, in their words: a fault of who published it."""
        self._name = name
        self._address = address
        self._authority = authority
        self._published: dict[str, Published] = {}
        self._conversations: list[_Conversation] = []
        self._server: Any = None

    async def start(self) -> None:
        # A port that two servers share would give away configurations at random.
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        handler = grpc.stream_stream_rpc_method_handler(
            self._converse,
            request_deserializer=discovery_pb2.DiscoveryRequest.FromString,
            response_serializer=discovery_pb2.DiscoveryResponse.SerializeToString,
        )
        self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler})])
        chain, key = self._authority.issue(f"{self._name}-discovery", [IPAddress(ip_address(self._address))])
        credentials = grpc.ssl_server_credentials([(key.encode(), chain.encode())])
        place = f"{self._address}:{XDS_PORT}"
        try:
            self._server.add_secure_port(place, credentials)
        except RuntimeError as error:
            raise LabError(f"{place} cannot be listened on: {error}") from error
        await self._server.start()

    async def stop(self) -> None:
        """Cut all Envoys off."""
        await self._server.stop(None)

    def publish(self, node: str, resources: Resources) -> list[str]:
        """Have ``node`` serve this from now on; return the kinds of which anything changed, or ``LabError``."""
        new: dict[str, dict[str, Any]] = {kind: {} for kind in KINDS}
        for kind, name, one in resources:
            new[kind][name] = _message(json.dumps(one, sort_keys=True))
        old = self._published.get(node, {})
        changed = [kind for kind in KINDS if new[kind] != old.get(kind)]
        if changed:
            self._published[node] = new
            for conversation in self._conversations:
                if conversation.node == node:
                    conversation.changed.set()
        return changed

    def retain(self, nodes: set[str]) -> None:
        """Forget all other nodes."""
        for node in self._published.keys() - nodes:
            del self._published[node]

    async def _converse(self, requests: AsyncIterator[Any], context: Any) -> None:
        first = await _first(requests)
        node = first.node.id if first else ""
        given = dict(context.invocation_metadata()).get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), node_token(self._authority, self._name, node).encode()):
            log.warning("%s: somebody asked for the configuration of %r without its token", self._name, node)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "this is not the token of this node")
        conversation = _Conversation(node)
        self._conversations.append(conversation)
        answering = asyncio.create_task(self._answer(conversation, context))
        try:
            self._take(conversation, first)
            async for request in requests:
                self._take(conversation, request)
        finally:
            answering.cancel()
            self._conversations.remove(conversation)

    def _take(self, conversation: _Conversation, request: Any) -> None:
        if refusal := conversation.take(request):
            self.refusals.append(f"{conversation.node} refused {request.type_url.rpartition('.')[2]}: {refusal}")
            log.error("%s: %s", self._name, self.refusals[-1])

    async def _answer(self, conversation: _Conversation, context: Any) -> None:
        with contextlib.suppress(grpc.aio.BaseError):  # an Envoy that has ended in between
            while True:
                await conversation.changed.wait()
                conversation.changed.clear()
                while response := conversation.next_response(self._published.get(conversation.node)):
                    await context.write(response)


async def _first(requests: AsyncIterator[Any]) -> Any:
    """Return the first request, which says who asks; None when nothing comes."""
    try:
        async with asyncio.timeout(GREETING_TIMEOUT_S):
            return await anext(requests, None)
    except TimeoutError:
        return None


@dataclass(kw_only=True)
class _Subscription:
    """What one Envoy wants of one kind, and what it was sent last."""

    names: frozenset[str] = frozenset()
    version: str = ""
    nonce: str = ""
    due: bool = True
    """Whether it is to be sent, though it may be what was sent last."""
    unanswered: bool = False
    """Whether the Envoy has yet to take or refuse what it was sent."""


class _Conversation:
    """One Envoy's stream: what it asks for, and what it is to be told next."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.changed = asyncio.Event()
        """There may be something to tell."""
        self._subscriptions: dict[str, _Subscription] = {}
        self._count = 0

    def take(self, request: Any) -> str:
        """Take note of a request; return why the Envoy refuses what it was sent ("" when it does not)."""
        kind = request.type_url.removeprefix(TYPE_URL)
        wanted = self._subscriptions.setdefault(kind, _Subscription())
        if request.response_nonce != wanted.nonce:
            return ""  # it speaks of an answer that has been overtaken, and will speak again
        names, answers = frozenset(request.resource_names), wanted.unanswered
        # Who asks again without being asked, or for more, has nobody to tell it what it was told before.
        wanted.due = wanted.due or not answers or not names <= wanted.names
        wanted.names, wanted.unanswered = names, False
        self.changed.set()
        return str(request.error_detail.message) if answers else ""

    def next_response(self, published: Published | None) -> Any:
        """Return what the Envoy is to be told now; None: nothing, or not before it has taken what it was told."""
        if published is None:
            return None
        clusters = self._subscriptions.get(CLUSTER)
        for kind in KINDS:
            wanted = self._subscriptions.get(kind)
            if wanted is None or wanted.unanswered:
                continue
            found = {name: one for name, one in published[kind].items() if kind in WHOLE or name in wanted.names}
            version = _version(found)
            # An Envoy takes new clusters when they are ready, for which it may ask for more in between.
            waits = kind in (LISTENER, ROUTE_CONFIGURATION) and clusters and clusters.unanswered
            if (found or kind in WHOLE) and (wanted.due or (version != wanted.version and not waits)):
                return self._response(kind, wanted, found, version)
        return None

    def _response(self, kind: str, wanted: _Subscription, found: Mapping[str, Any], version: str) -> Any:
        self._count += 1
        wanted.version, wanted.nonce, wanted.due, wanted.unanswered = version, str(self._count), False, True
        if dependent := self._subscriptions.get(DEPENDENT.get(kind, "")):
            dependent.due = True
        return discovery_pb2.DiscoveryResponse(
            type_url=TYPE_URL + kind, version_info=version, nonce=wanted.nonce, resources=found.values()
        )


def _version(messages: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for one in messages.values():
        digest.update(one.value)
    return digest.hexdigest()[:16]


@lru_cache(maxsize=CACHED_MESSAGES)
def _message(text: str) -> Any:
    """Return a resource as it goes over the wire; ``LabError`` when Envoy's API has no such field, value or type."""
    resource = json.loads(text)
    try:
        for name in set(_message_types(resource)):
            _import_type(name)
        return json_format.ParseDict(resource, any_pb2.Any())
    except (json_format.ParseError, TypeError, ModuleNotFoundError) as error:
        raise LabError(f"not a resource of Envoy's: {error}", resource=text[:500]) from error


def _message_types(value: Any) -> Iterator[str]:
    """Yield the names of all message types that a resource's parts say they are of."""
    if isinstance(value, dict):
        if "@type" in value:
            yield value["@type"].removeprefix(TYPE_URL)
        value = value.values()
    if not isinstance(value, str | int | float | None):
        for one in value:
            yield from _message_types(one)


@cache
def _import_type(name: str) -> None:
    """Make a message type known to protobuf: it is in one of the modules of the package that it is named by."""
    package = importlib.import_module(name.rpartition(".")[0])
    for module in pkgutil.iter_modules(package.__path__):
        if module.name.endswith("_pb2"):
            importlib.import_module(f"{package.__name__}.{module.name}")
