"""How the control plane reaches an API server: over HTTP with a kubeconfig, and in no other way.

``Client`` has kubectl's verbs on plain dicts, an ``Informer`` keeps a copy of one kind current, and ``event`` builds
what is told of an object for ``kubectl describe``.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from meshbook.errors import LabError
from meshbook.objects import Object, timestamp

log = logging.getLogger(__name__)

Key = tuple[str, str]
"""(namespace, name) of an object; the namespace is empty for what has none."""

_REQUEST_TIMEOUT_S = 10.0
LARGEST_LINE = 4 << 20
"""Bytes of the largest object that a watch can bring; etcd keeps none above 1.5 MiB."""
RELIST_PAUSE_S = 0.2
"""Pause before a lost watch is taken up again: an API server that restarts is not flooded."""

_MERGE_PATCH = "application/merge-patch+json"
_APPLY_PATCH = "application/apply-patch+yaml"


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A kind as the API's paths name it."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the URL path of a collection, an object or a subresource."""
        parts = ["/apis" if self.group else "/api", self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


def _resource(api_version: str, kind: str, plural: str = "", *, namespaced: bool = True) -> Resource:
    group, _, version = api_version.rpartition("/")
    plural = plural or f"{kind.lower()}s"
    return Resource(group=group, version=version, plural=plural, kind=kind, namespaced=namespaced)


NAMESPACES = _resource("v1", "Namespace", namespaced=False)
NODES = _resource("v1", "Node", namespaced=False)
PODS = _resource("v1", "Pod")
SERVICES = _resource("v1", "Service")
ENDPOINTS = _resource("v1", "Endpoints", "endpoints")
CONFIG_MAPS = _resource("v1", "ConfigMap")
SECRETS = _resource("v1", "Secret")
SERVICE_ACCOUNTS = _resource("v1", "ServiceAccount")
EVENTS = _resource("v1", "Event")
ENDPOINT_SLICES = _resource("discovery.k8s.io/v1", "EndpointSlice")
DEPLOYMENTS = _resource("apps/v1", "Deployment")
REPLICA_SETS = _resource("apps/v1", "ReplicaSet")
HPAS = _resource("autoscaling/v2", "HorizontalPodAutoscaler")
LEASES = _resource("coordination.k8s.io/v1", "Lease")
GATEWAYS = _resource("networking.istio.io/v1beta1", "Gateway")
VIRTUAL_SERVICES = _resource("networking.istio.io/v1beta1", "VirtualService")
DESTINATION_RULES = _resource("networking.istio.io/v1beta1", "DestinationRule")
PEER_AUTHENTICATIONS = _resource("security.istio.io/v1beta1", "PeerAuthentication")
MULTI_CLUSTER_SERVICES = _resource("networking.gke.io/v1", "MultiClusterService")
MULTI_CLUSTER_INGRESSES = _resource("networking.gke.io/v1", "MultiClusterIngress", "multiclusteringresses")
BACKEND_CONFIGS = _resource("cloud.google.com/v1", "BackendConfig")


def resource_of(obj: Object) -> Resource:
    """Return the resource that an object belongs to, where its plural is no exception."""
    return _resource(obj["apiVersion"], obj["kind"], namespaced="namespace" in obj["metadata"])


def key_of(obj: Object) -> Key:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


class ApiError(LabError):
    """The API server refused a request: ``code`` is the HTTP status (0: no answer), ``reason`` the Status' reason."""

    def __init__(self, message: str, *, code: int, reason: str = "") -> None:
        self.code = code
        self.reason = reason
        super().__init__(message)


class Client:
    """One cluster's API. Objects go in and come out as dicts in the API's own shape."""

    def __init__(self, session: aiohttp.ClientSession, context: str) -> None:
        self._session = session
        self.context = context

    @classmethod
    async def connect(cls, kubeconfig: Path | str, context: str) -> Client:
        """Read ``context`` from a kubeconfig file. Nothing is sent yet."""
        return cls.from_config(yaml.safe_load(Path(kubeconfig).read_text()), context)

    @classmethod
    def from_config(cls, config: Object, context: str) -> Client:
        """Take server, authority and token of a ``context`` from a parsed kubeconfig; KeyError where one is missing."""
        names = _entry(config, "context", context)
        cluster, user = _entry(config, "cluster", names["cluster"]), _entry(config, "user", names["user"])
        authority = base64.b64decode(cluster.get("certificate-authority-data", "")).decode()
        session = aiohttp.ClientSession(
            cluster["server"],
            connector=aiohttp.TCPConnector(limit=0, ssl=ssl.create_default_context(cadata=authority or None)),
            headers={"authorization": f"Bearer {user.get('token', '')}"},
            timeout=aiohttp.ClientTimeout(total=_REQUEST_TIMEOUT_S),
            read_bufsize=LARGEST_LINE,
        )
        return cls(session, context)

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Object:
        return await self.request("GET", resource.path(namespace, name))

    async def list(
        self, resource: Resource, namespace: str = "", labels: str = "", fields: str = ""
    ) -> tuple[list[Object], str]:
        """Return the objects and the resourceVersion from which a watch goes on."""
        answer = await self.request("GET", resource.path(namespace), params=_selectors(labels, fields))
        items = [{**item, "apiVersion": resource.api_version, "kind": resource.kind} for item in answer["items"]]
        return items, answer["metadata"]["resourceVersion"]

    async def create(self, resource: Resource, obj: Object, *, name: str = "", subresource: str = "") -> Object:
        path = resource.path(obj["metadata"].get("namespace", ""), name, subresource)
        return await self.request("POST", path, obj)

    async def replace(self, resource: Resource, obj: Object, *, subresource: str = "") -> Object:
        return await self.request("PUT", resource.path(*key_of(obj), subresource), obj)

    async def merge_patch(
        self, resource: Resource, name: str, patch: Object, *, namespace: str = "", subresource: str = ""
    ) -> Object:
        path = resource.path(namespace, name, subresource)
        return await self.request("PATCH", path, patch, media_type=_MERGE_PATCH)

    async def apply(self, resource: Resource, obj: Object, *, manager: str) -> Object:
        """Server-side apply: the fields of ``obj`` become this manager's, whoever held them."""
        params = {"fieldManager": manager, "force": "true"}
        return await self.request("PATCH", resource.path(*key_of(obj)), obj, media_type=_APPLY_PATCH, params=params)

    async def delete(
        self, resource: Resource, name: str, *, namespace: str = "", grace_s: int | None = None, uid: str = ""
    ) -> None:
        """Delete one object; that it is gone already is no error. With ``uid``, only that very object."""
        options: Object = {} if grace_s is None else {"gracePeriodSeconds": grace_s}
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            await self.request("DELETE", resource.path(namespace, name), options)
        except ApiError as error:
            if error.code != 404:
                raise

    async def watch(
        self, resource: Resource, since: str, *, namespace: str = "", labels: str = "", fields: str = ""
    ) -> AsyncIterator[tuple[str, Object]]:
        """Yield (type, object) from ``since`` on until the server ends the stream; raise ``ApiError`` (410: relist)."""
        params = _selectors(labels, fields) | {"watch": "true", "resourceVersion": since, "allowWatchBookmarks": "true"}
        path, endless = resource.path(namespace), aiohttp.ClientTimeout(total=None, sock_connect=_REQUEST_TIMEOUT_S)
        with _no_answer(f"{self.context}: WATCH {resource.plural}"):
            async with self._session.get(path, params=params, timeout=endless) as response:
                await _refuse(response, f"{self.context}: WATCH {resource.plural}")
                async for line in response.content:
                    seen = json.loads(line)
                    if seen["type"] == "ERROR":
                        raise ApiError(seen["object"].get("message", ""), code=seen["object"].get("code", 0))
                    yield seen["type"], seen["object"]

    async def request(
        self, method: str, path: str, body: Object | None = None, *, media_type: str = "application/json", **kwargs: Any
    ) -> Object:
        """Send one request to a path of the API server, and return the JSON answer."""
        data = None if body is None else json.dumps(body)
        what = f"{self.context}: {method} {path}"
        with _no_answer(what):
            headers = {"content-type": media_type}
            async with self._session.request(method, path, data=data, headers=headers, **kwargs) as response:
                await _refuse(response, what)
                answer: Object = await response.json()
                return answer

    async def close(self) -> None:
        await self._session.close()


def _entry(config: Object, kind: str, name: str) -> Object:
    entries: dict[str, Object] = {entry["name"]: entry[kind] for entry in config[f"{kind}s"]}
    return entries[name]


@contextlib.contextmanager
def _no_answer(what: str) -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise ApiError(f"{what}: no answer: {str(error) or type(error).__name__}", code=0) from error


async def _refuse(response: aiohttp.ClientResponse, what: str) -> None:
    """Raise a refusal in the server's words."""
    if response.ok:
        return
    try:
        status = await response.json(content_type=None) or {}
    except ValueError:
        status = {}
    message = status.get("message") or f"HTTP {response.status}"
    raise ApiError(f"{what}: {message}", code=response.status, reason=status.get("reason", ""))


def _selectors(labels: str, fields: str) -> dict[str, str]:
    selectors = {"labelSelector": labels, "fieldSelector": fields}
    return {name: value for name, value in selectors.items() if value}


class Informer:
    """A copy of one kind's objects, kept current by list and watch for as long as ``run`` runs.

    Subscribers are called in order of subscription with (``ADDED`` | ``MODIFIED`` | ``DELETED``, object) and must not
    block; who subscribes late is told of what is there as ``ADDED``.
    """

    def __init__(self, client: Client, resource: Resource, **scope: str) -> None:
        """Follow ``resource`` in ``scope``: namespace, labels, fields; by default all of it."""
        self.client = client
        self.resource = resource
        self.objects: dict[Key, Object] = {}
        self._scope: Mapping[str, str] = scope
        self._subscribers: list[Callable[[str, Object], None]] = []
        self._synced = asyncio.Event()

    def subscribe(self, callback: Callable[[str, Object], None]) -> None:
        self._subscribers.append(callback)
        for obj in list(self.objects.values()):
            callback("ADDED", obj)

    async def synced(self, timeout_s: float = _REQUEST_TIMEOUT_S) -> None:
        """Wait until the first list has come; ``LabError`` after ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._synced.wait()
        except TimeoutError as error:
            raise LabError(f"{self.client.context}: no list of {self.resource.plural} in {timeout_s:g} s") from error

    async def run(self) -> None:
        """List, then watch; list again when the watch is lost or too old. Ends by cancellation only."""
        while True:
            try:
                since = await self._relist()
                while True:
                    since = await self._follow(since)
            except ApiError as error:
                if error.code not in (0, 410):
                    log.warning("%s", error.message)
            await asyncio.sleep(RELIST_PAUSE_S)

    async def _relist(self) -> str:
        objects, since = await self.client.list(self.resource, **self._scope)
        fresh = {key_of(obj): obj for obj in objects}
        for key in [key for key in self.objects if key not in fresh]:
            self._notify("DELETED", self.objects.pop(key))
        for obj in fresh.values():
            self._store(obj)
        self._synced.set()
        return since

    async def _follow(self, since: str) -> str:
        async for kind, obj in self.client.watch(self.resource, since, **self._scope):
            since = obj["metadata"]["resourceVersion"]
            if kind == "DELETED":
                self.objects.pop(key_of(obj), None)
                self._notify(kind, obj)
            elif kind != "BOOKMARK":
                self._store(obj)
        return since

    def _store(self, obj: Object) -> None:
        known = self.objects.get(key_of(obj))
        if known is not None and known["metadata"]["resourceVersion"] == obj["metadata"]["resourceVersion"]:
            return
        self.objects[key_of(obj)] = obj
        self._notify("ADDED" if known is None else "MODIFIED", obj)

    def _notify(self, kind: str, obj: Object) -> None:
        for callback in self._subscribers:
            callback(kind, obj)


def event(
    subject: Object, *, reason: str, message: str, component: str, kind: str = "Normal", container: str = ""
) -> Object:
    """Return an Event on ``subject``, or on one of its containers; ``kind`` is ``Normal`` or ``Warning``.

    Its name carries the time, so that lists, which are ordered by name, are in the order of time.
    """
    metadata, now = subject["metadata"], timestamp()
    reference = {"apiVersion": subject["apiVersion"], "kind": subject["kind"]}
    reference |= {name: metadata[name] for name in ("name", "namespace", "uid", "resourceVersion") if name in metadata}
    name, namespace = f"{metadata['name']}.{time.time_ns():x}", metadata.get("namespace", "default")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": reference | ({"fieldPath": f"spec.containers{{{container}}}"} if container else {}),
        "reason": reason,
        "message": message,
        "type": kind,
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "source": {"component": component},
        "reportingComponent": component,
        "reportingInstance": "",
    }
