"""One emulated kube-apiserver: HTTPS in front, a ``Store`` behind.

Here is found out who asks and what for, in this order: user, path, permission, verb. What is then done is in
``handlers``; paths that name no resource are in ``documents``.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import uuid
from collections.abc import Mapping

from aiohttp import web

from meshbook.errors import LabError
from meshbook.lab.apiserver import access
from meshbook.lab.apiserver.access import User
from meshbook.lab.apiserver.accounts import Accounts
from meshbook.lab.apiserver.admission import Admission
from meshbook.lab.apiserver.defaults import fill
from meshbook.lab.apiserver.definitions import definition_of, kind_of
from meshbook.lab.apiserver.documents import HEALTH, PUBLIC, REVIEWS, Documents
from meshbook.lab.apiserver.failures import Failure, internal, method_not_allowed, unknown_resource
from meshbook.lab.apiserver.handlers import Handlers, answer
from meshbook.lab.apiserver.kinds import CUSTOM_KINDS, Json, Kind, KindTable
from meshbook.lab.apiserver.lifecycle import newborn
from meshbook.lab.apiserver.rbac import Action
from meshbook.lab.apiserver.requests import ApiRequest, target_of, verb_of
from meshbook.lab.apiserver.store import Store, encode
from meshbook.lab.apiserver.streams import Kubelets
from meshbook.lab.apiserver.writing import Writer
from meshbook.lab.topology import API_PORT, ClusterTopology

log = logging.getLogger(__name__)

BUILT_IN_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
LARGEST_BODY = 3 * 1024 * 1024
SHUTDOWN_S = 0.2


class ApiServer:
    """The API server of one cluster. ``tokens`` maps bearer tokens to users; ``kubelet_tls`` is shown to kubelets."""

    def __init__(
        self,
        cluster: ClusterTopology,
        tls: ssl.SSLContext,
        tokens: Mapping[str, User],
        kubelet_tls: ssl.SSLContext | None = None,
    ) -> None:
        self.cluster = cluster
        self.store = Store()
        self.kinds = KindTable()
        self._tls = tls
        self._tokens = tokens
        self._admission = Admission(self.store)
        self._kubelets = Kubelets(self.store, kubelet_tls)
        self._accounts = Accounts(self.store, cluster.api_url)
        writer = Writer(self.store, cluster, self._admission)
        self._handlers = Handlers(self.store, writer, self._kubelets, self._accounts)
        self._documents = Documents(self.kinds, f"{cluster.api_address}:{API_PORT}")
        self._runner: web.AppRunner | None = None
        self._reachable = asyncio.Event()
        self._reachable.set()
        definitions = self.kinds.named("apiextensions.k8s.io", "customresourcedefinitions")
        self.store.subscribe(definitions.bucket, lambda: self._redefine(definitions))
        for custom in CUSTOM_KINDS:
            self._found(definitions, definition_of(custom))
        for name in BUILT_IN_NAMESPACES:
            head = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            self._found(self.kinds.named("", "namespaces"), head)

    def _found(self, kind: Kind, obj: Json) -> None:
        """Create an object that is there from the start."""
        made = newborn(kind, obj, str(uuid.uuid4()))
        fill(kind, made)
        self.store.create(kind.bucket, made)

    def _redefine(self, definitions: Kind) -> None:
        """Serve the custom kinds that are defined; objects of those that are no longer go with their definition."""
        for kind in self.kinds.define([kind_of(entry.object) for entry in self.store.list(definitions.bucket)]):
            for entry in self.store.list(kind.bucket):
                self.store.delete(kind.bucket, entry.object, entry)

    async def start(self) -> None:
        """Listen on the cluster's API address."""
        application = web.Application(client_max_size=LARGEST_BODY)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            application, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.cluster.api_address, API_PORT, ssl_context=self._tls)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise LabError(f"the API server of {self.cluster.name} cannot listen: {error}") from error

    async def stop(self) -> None:
        """End all requests, watches included, and stop listening."""
        if self._runner:
            await self._runner.cleanup()
        await self._admission.close()
        await self._kubelets.close()

    def silence(self, silent: bool) -> None:
        """Leave all new requests without an answer, as if the network were cut, or answer them all."""
        (self._reachable.clear if silent else self._reachable.set)()

    async def _handle(self, http: web.Request) -> web.StreamResponse:
        await self._reachable.wait()
        try:
            return await self._dispatch(http)
        except Failure as refusal:
            failure = refusal
        except web.HTTPRequestEntityTooLarge:
            failure = Failure(413, "RequestEntityTooLarge", f"limit is {LARGEST_BODY}")
        except Exception as error:
            log.exception("%s %s", http.method, http.path)
            failure = internal(f"{type(error).__name__}: {error}")
        return answer(encode(failure.status()), failure.code)

    async def _dispatch(self, http: web.Request) -> web.StreamResponse:
        path = http.path.rstrip("/") or "/"
        if path in HEALTH:
            return web.Response(text="ok")
        if path not in PUBLIC:
            given = http.headers.get("Authorization", "")
            user = access.authenticate(given, self._tokens, self._accounts.user_of)
            access.refuse_impersonation(user, http.headers)
        if path in REVIEWS:
            if http.method != "POST":
                raise method_not_allowed()
            return answer(encode(self._documents.review(path, user, await http.read())), 201)
        found = self._documents.find(path, http.headers.get("Accept", ""))
        if found:
            if http.method not in ("GET", "HEAD"):
                raise method_not_allowed()
            return web.Response(body=found[0], headers={"Content-Type": found[1]})
        request = await self._request(http, path, user)
        action = Action(
            verb=request.verb,
            group=request.kind.group,
            resource=request.kind.plural,
            subresource=request.subresource,
            namespace=request.namespace,
            name=request.name,
        )
        access.demand(user, action)
        return await self._handlers.handle(request, http)

    async def _request(self, http: web.Request, path: str, user: User) -> ApiRequest:
        if not path.startswith(("/api/v1/", "/apis/")) or len(path.split("/")) < (4 if path.startswith("/api/") else 5):
            raise unknown_resource(path)
        target = target_of(path, self.kinds)
        return ApiRequest(
            verb=verb_of(http.method, target, http.query),
            kind=target.kind,
            version=target.version,
            namespace=target.namespace,
            name=target.name,
            subresource=target.subresource,
            query=http.query,
            user=user,
            headers=http.headers,
            body=await http.read(),
        )
