"""One emulated kube-apiserver: HTTPS in front, a ``Store`` behind.

Here is found out who asks and what for, in this order: user, path, verb, permission. What is then done is in
``handlers``; paths that name no resource are in ``nonresource``.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web
from aiohttp.typedefs import Middleware

from meshbook.errors import LabError, UsageError
from meshbook.lab.apiserver import kinds, nonresource, strategy
from meshbook.lab.apiserver.admission import Admission
from meshbook.lab.apiserver.decoding import LARGEST_BODY, YAML
from meshbook.lab.apiserver.errors import Failure, bad_request, internal, method_not_allowed
from meshbook.lab.apiserver.handlers import Handlers, answer
from meshbook.lab.apiserver.rbac import Action, Authorizer, User
from meshbook.lab.apiserver.requests import authenticate, impersonated, resource_request
from meshbook.lab.apiserver.store import Store, encode
from meshbook.lab.apiserver.streams import Kubelets
from meshbook.lab.topology import API_PORT, ClusterTopology

log = logging.getLogger(__name__)
_http_log = logging.getLogger(f"{__name__}.http")
_http_log.setLevel(logging.CRITICAL)  # what cannot be read as HTTP gets a 400, and no traceback

BOOTSTRAP = Path(__file__).with_name("bootstrap.yaml")
"""What every cluster has from its start."""
_SURROGATE = re.compile("[\ud800-\udfff]")
"""What stands for a byte that could not be decoded."""
SHUTDOWN_S = 0.2
CONNECT_S = 10.0
"""To kubelets and webhooks; an exec or a followed log lasts as long as its client wants."""


class ApiServer:
    """The API server of one cluster. ``tokens`` maps bearer tokens to users; ``kubelet_tls`` is shown to kubelets.

    ``middlewares`` see each request first.
    """

    def __init__(
        self,
        cluster: ClusterTopology,
        tls: ssl.SSLContext,
        tokens: Mapping[str, User],
        kubelet_tls: ssl.SSLContext | None = None,
        middlewares: Iterable[Middleware] = (),
    ) -> None:
        self.cluster = cluster
        self.store = Store()
        self._authorizer = Authorizer(self.store)
        self._tls = tls
        self._tokens = tokens
        self._middlewares = tuple(middlewares)
        self._kubelet_tls = kubelet_tls
        self._stack = AsyncExitStack()
        self._reachable = asyncio.Event()
        self._reachable.set()
        for obj in yaml.safe_load_all(BOOTSTRAP.read_text()):
            kind = kinds.kind_named(obj["kind"])
            new = strategy.for_create(kind, obj)
            strategy.defaults(kind, new)
            self.store.create(kind.bucket, new)

    async def start(self) -> None:
        """Listen on the cluster's API address."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
        session = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0))
        await self._stack.enter_async_context(session)
        kubelets = Kubelets(self.store, session, self._kubelet_tls)
        admission = Admission(self.store, session)
        self._handlers = Handlers(self.store, self.cluster, admission, kubelets, self._authorizer)
        application = web.Application(client_max_size=LARGEST_BODY, middlewares=self._middlewares)
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(
            application, access_log=None, logger=_http_log, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S
        )
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, self.cluster.api_address, API_PORT, ssl_context=self._tls)
        try:
            await site.start()
        except OSError as error:
            await self.stop()
            raise LabError(f"the API server of {self.cluster.name} cannot listen: {error}") from error

    async def stop(self) -> None:
        """End all requests, watches included, and stop listening."""
        await self._stack.aclose()

    def silence(self, silent: bool) -> None:
        """Leave all new requests without an answer, as if the network were cut, or answer them all."""
        (self._reachable.clear if silent else self._reachable.set)()

    async def _handle(self, http: web.Request) -> web.StreamResponse:
        await self._reachable.wait()
        try:
            response = await self._dispatch(http)
            if http.headers.get("Accept") == YAML and response.content_type == "application/json":
                response.content_type = YAML  # which JSON is
            return response
        except Failure as refusal:
            failure = refusal
        except UsageError as error:  # a selector that cannot be read
            failure = bad_request(error.message)
        except web.HTTPRequestEntityTooLarge:
            failure = Failure(413, "RequestEntityTooLarge", f"Request entity too large: limit is {LARGEST_BODY}")
        except Exception as error:
            log.exception("%s %s", http.method, http.path)
            failure = internal(f"{type(error).__name__}: {error}")
        return answer(encode(failure.status()), failure.code)

    async def _dispatch(self, http: web.Request) -> web.StreamResponse:
        path = http.path.rstrip("/") or "/"
        if _SURROGATE.search("".join((path, http.query_string, *http.headers.values()))):
            raise bad_request("a header or the path holds what is not UTF-8")
        if path in nonresource.HEALTH:
            return web.Response(text="ok")
        found = nonresource.find(path, f"{self.cluster.api_address}:{API_PORT}")
        if found and path in nonresource.PUBLIC:
            return _document(http, *found)
        user = impersonated(authenticate(http.headers, self._tokens), http.headers, self._authorizer)
        if path in nonresource.REVIEWS:
            if http.method != "POST":
                raise method_not_allowed()
            media_type = http.headers.get("Content-Type", "application/json").partition(";")[0].strip()
            reviewed = nonresource.review(path, user, await http.read(), media_type, self._authorizer)
            return answer(encode(reviewed), 201)
        if not path.startswith(("/api/v1/", "/apis/")) or found:
            self._authorizer.authorize(user, Action(verb=http.method.lower(), path=path))
        if found:
            return _document(http, *found)
        body = await http.read()
        request = resource_request(http.method, path, query=http.query, headers=http.headers, user=user, body=body)
        self._authorizer.authorize(user, request.action)
        return await self._handlers.handle(request, http)


def _document(http: web.Request, body: bytes, content_type: str) -> web.Response:
    if http.method not in ("GET", "HEAD"):
        raise method_not_allowed()
    return web.Response(body=body, headers={"Content-Type": content_type})
