"""What each verb does with a request, and how its outcome becomes an HTTP answer. Who may ask is settled before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from meshbook.lab.apiserver import deleting, subresources, watching
from meshbook.lab.apiserver.accounts import Accounts
from meshbook.lab.apiserver.failures import method_not_allowed
from meshbook.lab.apiserver.reading import current, list_body, one_body
from meshbook.lab.apiserver.requests import ApiRequest
from meshbook.lab.apiserver.store import Store, encode
from meshbook.lab.apiserver.streams import Kubelets
from meshbook.lab.apiserver.writing import Writer

Handler = Callable[[ApiRequest, web.Request], Awaitable[web.StreamResponse]]


def answer(body: bytes, status: int = 200, warnings: list[str] | None = None) -> web.Response:
    """Return a JSON answer; each warning becomes a header, which kubectl prints."""
    response = web.Response(body=body, status=status, content_type="application/json")
    for text in warnings or ():
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{quoted}"')
    return response


class Handlers:
    """The verbs over one store."""

    def __init__(self, store: Store, writer: Writer, kubelets: Kubelets, accounts: Accounts) -> None:
        self._store = store
        self._writer = writer
        self._kubelets = kubelets
        self._accounts = accounts
        self._verbs: dict[str, Handler] = {
            "get": self._get,
            "list": self._list,
            "watch": self._watch,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }

    async def handle(self, request: ApiRequest, http: web.Request) -> web.StreamResponse:
        if request.subresource == "exec":
            return await self._kubelets.exec(request, http)
        return await self._verbs[request.verb](request, http)

    async def _get(self, request: ApiRequest, http: web.Request) -> web.StreamResponse:
        if request.subresource == "log":
            return await self._kubelets.log(request, http)
        if request.subresource == "scale":
            return answer(encode(subresources.read_scale(self._store, request)))
        if request.subresource in ("binding", "finalize", "token"):
            raise method_not_allowed(request.kind)
        return answer(one_body(request, current(self._store, request)))

    async def _list(self, request: ApiRequest, _http: web.Request) -> web.StreamResponse:
        return answer(list_body(self._store, request))

    async def _watch(self, request: ApiRequest, http: web.Request) -> web.StreamResponse:
        return await watching.stream(self._store, request, http)

    async def _create(self, request: ApiRequest, _http: web.Request) -> web.StreamResponse:
        if request.subresource == "binding":
            return answer(encode(await subresources.bind(self._writer, request)), 201)
        if request.subresource == "token":
            return answer(encode(self._accounts.issue(request)), 201)
        stored = await self._writer.create(request)
        return answer(one_body(request, stored), 201, request.warnings)

    async def _update(self, request: ApiRequest, _http: web.Request) -> web.StreamResponse:
        if request.subresource == "scale":
            return answer(encode(await subresources.write_scale(self._writer, request)))
        return answer(one_body(request, await self._writer.update(request)), 200, request.warnings)

    async def _patch(self, request: ApiRequest, _http: web.Request) -> web.StreamResponse:
        if request.subresource == "scale":
            return answer(encode(await subresources.write_scale(self._writer, request)))
        stored, created = await self._writer.patch(request)
        return answer(one_body(request, stored), 201 if created else 200, request.warnings)

    async def _delete(self, request: ApiRequest, _http: web.Request) -> web.StreamResponse:
        return answer(deleting.delete(self._store, request), 200, request.warnings)

    async def _delete_collection(self, request: ApiRequest, _http: web.Request) -> web.StreamResponse:
        return answer(deleting.delete_collection(self._store, request), 200, request.warnings)
