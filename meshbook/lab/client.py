"""How the control plane reaches an API server: over HTTP with a kubeconfig, and in no other way.

``Client`` gives kubectl's verbs on plain dicts; kr8s underneath reads the kubeconfig and keeps the connection. What is
followed over time is in ``mirror``.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import kr8s.asyncio
from kr8s import APITimeoutError

from meshbook.errors import LabError

log = logging.getLogger(__name__)

Object = dict[str, Any]
Objects = list[Object]

REQUEST_TIMEOUT_S = 10.0

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


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


def _core(plural: str, kind: str, *, namespaced: bool = True) -> Resource:
    return Resource(group="", version="v1", plural=plural, kind=kind, namespaced=namespaced)


def _named(group: str, version: str, plural: str, kind: str, *, namespaced: bool = True) -> Resource:
    return Resource(group=group, version=version, plural=plural, kind=kind, namespaced=namespaced)


NAMESPACES = _core("namespaces", "Namespace", namespaced=False)
NODES = _core("nodes", "Node", namespaced=False)
PODS = _core("pods", "Pod")
SERVICES = _core("services", "Service")
ENDPOINTS = _core("endpoints", "Endpoints")
CONFIG_MAPS = _core("configmaps", "ConfigMap")
SECRETS = _core("secrets", "Secret")
SERVICE_ACCOUNTS = _core("serviceaccounts", "ServiceAccount")
EVENTS = _core("events", "Event")
ENDPOINT_SLICES = _named("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
DEPLOYMENTS = _named("apps", "v1", "deployments", "Deployment")
REPLICA_SETS = _named("apps", "v1", "replicasets", "ReplicaSet")
JOBS = _named("batch", "v1", "jobs", "Job")
HPAS = _named("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
PDBS = _named("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
ROLES = _named("rbac.authorization.k8s.io", "v1", "roles", "Role")
ROLE_BINDINGS = _named("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
CLUSTER_ROLE_BINDINGS = _named(
    "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
)
LEASES = _named("coordination.k8s.io", "v1", "leases", "Lease")
MUTATING_WEBHOOKS = _named(
    "admissionregistration.k8s.io",
    "v1",
    "mutatingwebhookconfigurations",
    "MutatingWebhookConfiguration",
    namespaced=False,
)
GATEWAYS = _named("networking.istio.io", "v1beta1", "gateways", "Gateway")
VIRTUAL_SERVICES = _named("networking.istio.io", "v1beta1", "virtualservices", "VirtualService")
DESTINATION_RULES = _named("networking.istio.io", "v1beta1", "destinationrules", "DestinationRule")
MULTI_CLUSTER_SERVICES = _named("networking.gke.io", "v1", "multiclusterservices", "MultiClusterService")
MULTI_CLUSTER_INGRESSES = _named("networking.gke.io", "v1", "multiclusteringresses", "MultiClusterIngress")
BACKEND_CONFIGS = _named("cloud.google.com", "v1", "backendconfigs", "BackendConfig")


class ApiError(LabError):
    """The API server refused a request: ``code`` is the HTTP status (0: no answer), ``reason`` the Status' reason."""

    def __init__(self, message: str, *, code: int, reason: str = "") -> None:
        self.code = code
        self.reason = reason
        super().__init__(message)


class Client:
    """One cluster's API. Objects go in and come out as dicts in the API's own shape."""

    def __init__(self, api: Any, context: str) -> None:
        self._api = api
        self.context = context

    @classmethod
    async def connect(cls, kubeconfig: Path | str, context: str) -> Client:
        """Read ``context`` from a kubeconfig file. Nothing is sent yet."""
        api: Any = await kr8s.asyncio.api(kubeconfig=str(kubeconfig), context=context)
        await api._create_session()  # else several requests at once make one each
        return cls(api, context)

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Object:
        return await self._request("GET", resource.path(namespace, name))

    async def list(
        self, resource: Resource, namespace: str = "", labels: str = "", fields: str = ""
    ) -> tuple[Objects, str]:
        """Return the objects and the resourceVersion from which a watch goes on."""
        answer = await self._request("GET", resource.path(namespace), params=_selectors(labels, fields))
        items = [{**item, "apiVersion": resource.api_version, "kind": resource.kind} for item in answer["items"]]
        return items, answer["metadata"]["resourceVersion"]

    async def create(self, resource: Resource, obj: Object, *, name: str = "", subresource: str = "") -> Object:
        path = resource.path(_namespace(obj), name, subresource)
        return await self._request("POST", path, content=json.dumps(obj))

    async def replace(self, resource: Resource, obj: Object, *, subresource: str = "") -> Object:
        path = resource.path(_namespace(obj), obj["metadata"]["name"], subresource)
        return await self._request("PUT", path, content=json.dumps(obj))

    async def merge_patch(
        self, resource: Resource, name: str, patch: Object, *, namespace: str = "", subresource: str = ""
    ) -> Object:
        return await self._patch(resource.path(namespace, name, subresource), patch, MERGE_PATCH)

    async def json_patch(
        self, resource: Resource, name: str, ops: Objects, *, namespace: str = "", subresource: str = ""
    ) -> Object:
        return await self._patch(resource.path(namespace, name, subresource), ops, JSON_PATCH)

    async def apply(self, resource: Resource, obj: Object, *, manager: str) -> Object:
        """Server-side apply: the fields of ``obj`` become this manager's, whoever held them."""
        path = resource.path(_namespace(obj), obj["metadata"]["name"])
        return await self._patch(path, obj, APPLY_PATCH, {"fieldManager": manager, "force": "true"})

    async def delete(
        self, resource: Resource, name: str, *, namespace: str = "", grace_s: int | None = None, uid: str = ""
    ) -> None:
        """Delete one object; that it is gone already is no error. With ``uid``, only that very object."""
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            await self._request("DELETE", resource.path(namespace, name), content=json.dumps(options))
        except ApiError as error:
            if error.code != 404:
                raise

    async def watch(
        self, resource: Resource, since: str, *, namespace: str = "", labels: str = "", fields: str = ""
    ) -> AsyncIterator[tuple[str, Object]]:
        """Yield (type, object) from ``since`` on until the server ends the stream; raise ``ApiError`` (410: relist)."""
        params = _selectors(labels, fields) | {"watch": "true", "resourceVersion": since, "allowWatchBookmarks": "true"}
        with _errors_of(self.context, "WATCH", resource.plural):
            async with self._call(
                "GET", resource.path(namespace), params=params, stream=True, timeout=None
            ) as response:
                if response.is_error:
                    await response.aread()
                    raise _refusal(self.context, "WATCH", resource.plural, response)
                async for line in response.aiter_lines():
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise ApiError(status.get("message", ""), code=status.get("code", 0))
                    yield event["type"], event["object"]

    async def raw(self, method: str, path: str, **kwargs: Any) -> Object:
        """Send one request to a path of the API server (discovery, ``finalize``); return the JSON answer."""
        return await self._request(method, path, **kwargs)

    async def close(self) -> None:
        if self._api._session is not None:
            await self._api._session.aclose()

    async def _patch(self, path: str, patch: Any, media_type: str, params: dict[str, str] | None = None) -> Object:
        headers = {"content-type": media_type}
        return await self._request("PATCH", path, content=json.dumps(patch), headers=headers, params=params or {})

    async def _request(self, method: str, path: str, **kwargs: Any) -> Object:
        kwargs.setdefault("timeout", REQUEST_TIMEOUT_S)
        with _errors_of(self.context, method, path):
            async with self._call(method, path, **kwargs) as response:
                if response.is_error:
                    raise _refusal(self.context, method, path, response)
                answer: Object = response.json()
                return answer

    def _call(self, method: str, path: str, **kwargs: Any) -> Any:
        """Send a request; refusals are read here: kr8s drops the words of a 5xx, and ends all watches on a 403."""
        return self._api.call_api(method, base=path, version="", url="", raise_for_status=False, **kwargs)


@contextlib.contextmanager
def _errors_of(context: str, method: str, path: str) -> Iterator[None]:
    try:
        yield
    except (httpx.HTTPError, APITimeoutError, OSError) as error:
        detail = str(error) or type(error).__name__
        raise ApiError(f"{context}: {method} {path}: no answer: {detail}", code=0) from error


def _refusal(context: str, method: str, path: str, response: httpx.Response) -> ApiError:
    try:
        status = response.json()
    except ValueError:
        status = {}
    message = status.get("message") or f"HTTP {response.status_code}"
    return ApiError(
        f"{context}: {method} {path}: {message}", code=response.status_code, reason=status.get("reason", "")
    )


def _namespace(obj: Object) -> str:
    namespace: str = obj["metadata"].get("namespace", "")
    return namespace


def _selectors(labels: str, fields: str) -> dict[str, str]:
    selectors = {"labelSelector": labels, "fieldSelector": fields}
    return {name: value for name, value in selectors.items() if value}
