"""Answers that are read as they come: objects while they change, and what containers have written.

One list or one watch is one request, sent once and never repeated, so that its times mean something; whoever follows
for long asks again. Waiting for a condition is in ``waiting``, requests that must succeed in ``api``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import urllib3

from meshbook.clusters.api import Api
from meshbook.clusters.records import Object, Objects
from meshbook.errors import ClusterError

_PODS = "/api/v1/namespaces/{}/pods/{}/log"
_SLACK_S = 2.0
"""Seconds that a watch may stay silent beyond the end that it was given."""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Which objects are looked at: of one kind, in one namespace, with these labels."""

    kind: str
    namespace: str
    labels: str = ""

    def query(self) -> dict[str, str]:
        return {"labelSelector": self.labels} if self.labels else {}


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The objects as the API server had them at one moment between ``asked`` and ``answered``, on this clock."""

    objects: Objects
    resource_version: str
    """resourceVersion to watch from."""
    asked: datetime
    answered: datetime


@dataclass(frozen=True, kw_only=True)
class WatchEvent:
    """One event of a watch; ``answered`` is when it was here. ``BOOKMARK`` tells a version only."""

    type: str
    object: Object
    answered: datetime


def listing(api: Api, scope: Scope, silence_s: float) -> Listing:
    """List once, in one page; ClusterError when no answer comes within ``silence_s``."""
    path, asked = api.resource(scope.kind).path(scope.namespace), datetime.now(UTC)
    response = api.connection.open_stream(path, query=scope.query(), silence_s=silence_s)
    answer = _decoded(api, b"".join(_chunks(api, response)))
    version = str((answer.get("metadata") or {}).get("resourceVersion", ""))
    return Listing(objects=answer.get("items") or [], resource_version=version, asked=asked, answered=datetime.now(UTC))


def news(api: Api, scope: Scope, version: str, length_s: int) -> Iterator[WatchEvent]:
    """Yield what happens to the objects after ``version`` for ``length_s``; ClusterError when the watch breaks.

    Its code is 410 when the API server has forgotten what came after ``version``: list again.
    """
    query = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": length_s}
    wanted = {**scope.query(), **{name: str(value) for name, value in query.items()}}
    path = api.resource(scope.kind).path(scope.namespace)
    response = api.connection.open_stream(path, query=wanted, silence_s=length_s + _SLACK_S)
    rest = b""
    for chunk in _chunks(api, response):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in filter(None, lines):
            yield _event(api, line)


def _event(api: Api, line: bytes) -> WatchEvent:
    event = _decoded(api, line)
    if event["type"] == "ERROR":
        status = event["object"]
        code = int(status.get("code", 0))
        raise ClusterError(f"{api.name}: {status.get('message')}", code=code, reason=str(status.get("reason", "")))
    return WatchEvent(type=event["type"], object=event["object"], answered=datetime.now(UTC))


def _decoded(api: Api, data: bytes) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(data)
    except ValueError as error:
        raise ClusterError(
            f"the answer of {api.name} is not JSON: {data[:80]!r}", hint="is there a proxy in between?"
        ) from error
    return found


def log(
    api: Api, pod: str, namespace: str, *, container: str, since: datetime | None = None, silence_s: float = 10.0
) -> str:
    """Return what a container has written (since a moment, where given), as ``kubectl logs`` does."""
    query = {"container": container}
    if since is not None:
        query["sinceTime"] = since.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    path = _PODS.format(quote(namespace, safe=""), quote(pod, safe=""))
    response = api.connection.open_stream(path, query=query, silence_s=silence_s)
    return b"".join(_chunks(api, response)).decode("utf-8", "replace")


def _chunks(api: Api, response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    try:
        yield from response.stream(2**16)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ClusterError(f"the answer of {api.name} broke off", saw=str(error)) from error
    finally:
        response.close()
