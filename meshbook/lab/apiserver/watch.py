"""Watches: the changes of one kind as a stream of JSON lines, from a resourceVersion on, until a deadline."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

from aiohttp import web

from meshbook.lab.apiserver.errors import Failure, expired, invalid, not_allowed, version_too_large
from meshbook.lab.apiserver.printers import table, wants_table
from meshbook.lab.apiserver.requests import ApiRequest
from meshbook.lab.apiserver.store import Change, HistoryGone, Store, Stored, encode
from meshbook.objects import Object

BOOKMARK_EVERY_S = 30.0
DEFAULT_TIMEOUT_S = 1800
INITIAL_EVENTS_END = {"annotations": {"k8s.io/initial-events-end": "true"}}


class Watch:
    """One client's view of one kind: which changes it sees, and as what."""

    def __init__(self, store: Store, request: ApiRequest) -> None:
        self.store = store
        self.request = request
        self.cursor = store.revision
        self._selected = request.selection()
        self._as_table = wants_table(request)
        self._columns_sent = False
        self._bookmarks = request.flag("allowWatchBookmarks")

    def begin(self) -> bytes:
        """Return the events that come at once: none from a revision on, else one ADDED for each object."""
        request, since = self.request, self.request.number("resourceVersion") or 0
        request.check_list_options()
        if since > self.store.revision:
            raise version_too_large(since, self.store.revision)
        initial = request.flag("sendInitialEvents")
        if initial and request.query.get("resourceVersionMatch") != "NotOlderThan":
            cause = not_allowed("resourceVersionMatch", 'sendInitialEvents requires it to be "NotOlderThan"')
            raise invalid(request.kind, "", cause)
        if since and not initial:
            self.cursor = since
            return self.news()
        entries = self.store.list(request.kind.bucket, request.namespace, self._selected)
        existing = b"".join(_event("ADDED", self._body(stored)) for stored in entries)
        return existing + (self.bookmark(INITIAL_EVENTS_END) if initial else b"")

    def news(self) -> bytes:
        """Return the events since the last call; HTTP 410 as a Failure when some are forgotten."""
        try:
            changes = self.store.changes_since(self.request.kind.bucket, self.cursor)
        except HistoryGone as error:
            raise expired(f"too old resource version: {self.cursor} ({error.oldest})") from error
        self.cursor = self.store.revision
        return b"".join(event for change in changes for event in self._seen(change))

    def bookmark(self, more: Object | None = None) -> bytes:
        if not self._bookmarks:
            return b""
        head: Object = {"kind": self.request.kind.kind, "apiVersion": self.request.api_version}
        head["metadata"] = {"resourceVersion": str(self.cursor), "creationTimestamp": None} | (more or {})
        return _event("BOOKMARK", encode(head))

    def _seen(self, change: Change) -> Iterator[bytes]:
        now, before = self._sees(change.now), change.before is not None and self._sees(change.before)
        if change.type == "DELETED" or (before and not now):
            if before:
                yield _event("DELETED", self._body(change.now))
        elif now:
            yield _event("MODIFIED" if before else "ADDED", self._body(change.now))

    def _sees(self, stored: Stored) -> bool:
        namespace = stored.object["metadata"].get("namespace")
        return self.request.namespace in ("", namespace) and self._selected(stored.object)

    def _body(self, stored: Stored) -> bytes:
        """Return an object as the watcher wants it; a Table tells its columns once."""
        if not self._as_table:
            return stored.encoded(self.request.api_version)
        body = table(self.request, [stored], stored.revision, with_columns=not self._columns_sent)
        self._columns_sent = True
        return encode(body)


def _event(change: str, body: bytes) -> bytes:
    return b'{"type":"' + change.encode() + b'","object":' + body + b"}\n"


async def stream(store: Store, request: ApiRequest, http: web.Request) -> web.StreamResponse:
    """Answer a watch: events as they come, bookmarks while it is quiet, an ERROR event when history was lost."""
    watch = Watch(store, request)
    wake = asyncio.Event()
    unsubscribe = store.subscribe(request.kind.bucket, wake.set)
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"})
    try:
        await _run(watch, wake, response, http)
        await response.write_eof()
    except ConnectionError:
        pass  # the client went away, which is how most watches end
    finally:
        unsubscribe()
    return response


async def _run(watch: Watch, wake: asyncio.Event, response: web.StreamResponse, http: web.Request) -> None:
    try:
        first = watch.begin()
        await response.prepare(http)
        await response.write(first)
        await _follow(watch, wake, response)
    except Failure as failure:
        if failure.code != 410:
            raise
        await response.prepare(http)
        await response.write(_event("ERROR", encode(failure.status())))


async def _follow(watch: Watch, wake: asyncio.Event, response: web.StreamResponse) -> None:
    loop = asyncio.get_running_loop()
    asked = watch.request.number("timeoutSeconds")
    deadline = loop.time() + (asked or DEFAULT_TIMEOUT_S * (1 + random.random()))
    while (left := deadline - loop.time()) > 0:
        try:
            async with asyncio.timeout(min(left, BOOKMARK_EVERY_S)):
                await wake.wait()
        except TimeoutError:
            await response.write(watch.bookmark())
            continue
        wake.clear()
        if news := watch.news():
            await response.write(news)
