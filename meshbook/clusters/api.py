"""Objects of one cluster by kind and name: get, list, create, patch, apply, delete, and bounded waits for them.

Kinds are named as in a manifest. Those of the runbook by their kind alone (``Deployment``), all others with their API
in front (``networking.gke.io/v1/MultiClusterIngress`` is ``<apiVersion>/<kind>``). kubectl's verbs, which take more
than one request, are in ``cluster``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

from meshbook import progress
from meshbook.clusters.concurrency import pause
from meshbook.clusters.connection import MERGE_PATCH, Connection
from meshbook.errors import ClusterError, UsageError, WaitTimeout
from meshbook.objects import Object, is_deleting
from meshbook.settings import FIELD_MANAGER

T = TypeVar("T")

_KINDS = {
    "v1": "ConfigMap Endpoints Event Namespace Node Pod Secret Service ServiceAccount",
    "apps/v1": "Deployment ReplicaSet",
    "autoscaling/v2": "HorizontalPodAutoscaler",
    "authorization.k8s.io/v1": "SelfSubjectAccessReview",
    "discovery.k8s.io/v1": "EndpointSlice",
    "admissionregistration.k8s.io/v1": "MutatingWebhookConfiguration",
    "networking.istio.io/v1beta1": "Gateway VirtualService DestinationRule",
    "networking.gke.io/v1": "MultiClusterIngress MultiClusterService",
    "cloud.google.com/v1": "BackendConfig",
}
"""Kinds that need no API in front of their name."""

_API_OF = {kind: api_version for api_version, kinds in _KINDS.items() for kind in kinds.split()}
_MISSING = {
    "networking.istio.io": "install the mesh's control plane on this cluster first",
    "networking.gke.io": "only the fleet's config cluster has it, after gkehub.enable_ingress(…)",
    "cloud.google.com": "only GKE clusters have it",
}
_PAGE = 500


@dataclass(frozen=True, kw_only=True)
class Resource:
    """Where objects of a kind live in the API."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool

    @property
    def title(self) -> str:
        """As kubectl takes it: ``deployments.apps``."""
        return ".".join(filter(None, [self.plural, self.api_version.rpartition("/")[0]]))

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the URL path of the collection, or of one object or its subresource."""
        parts = ["/api" if "/" not in self.api_version else "/apis", self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        parts += [quote(part, safe="") for part in (name, subresource) if part]
        return "/".join(parts)


class Api:
    """The API of one cluster. ``name`` is what people call it."""

    def __init__(self, name: str, connection: Connection) -> None:
        self.name = name
        self.connection = connection
        self._resources: dict[str, Resource] = {}

    def resource(self, kind: str) -> Resource:
        """Return where ``kind`` lives, as the cluster's own discovery says."""
        api_version, _, bare = kind.rpartition("/")
        api_version = api_version or _API_OF.get(bare, "")
        if not api_version:
            raise UsageError(f"which API has {kind}?", hint=f"<group>/<version>/{kind}, as in a manifest's apiVersion")
        full = f"{api_version}/{bare}"
        if full not in self._resources:
            self._discover(api_version)
        if full in self._resources:
            return self._resources[full]
        hint = _MISSING.get(api_version.partition("/")[0], "apply its CustomResourceDefinition first")
        raise ClusterError(f"{self.name} has no kind {bare} in {api_version}", reason="NotFound", code=404, hint=hint)

    def _discover(self, api_version: str) -> None:
        prefix = "/api" if "/" not in api_version else "/apis"
        try:
            _, answer = self.connection.request("GET", f"{prefix}/{api_version}")
        except ClusterError as error:
            if error.code == 404:
                return
            raise
        for found in answer.get("resources") or []:
            if "/" not in found["name"]:
                self._resources[f"{api_version}/{found['kind']}"] = Resource(
                    api_version=api_version,
                    kind=found["kind"],
                    plural=found["name"],
                    namespaced=bool(found["namespaced"]),
                )

    def has_kind(self, kind: str) -> bool:
        """Tell whether the cluster serves ``kind``."""
        try:
            return bool(self.resource(kind))
        except ClusterError as error:
            if error.code != 404:
                raise
            return False

    def get(self, kind: str, name: str, namespace: str = "") -> Object:
        """Return one object; ClusterError with code 404 when it is not there."""
        return self.connection.request("GET", self.resource(kind).path(namespace, name))[1]

    def find(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """Return one object, or None when it is not there."""
        try:
            return self.get(kind, name, namespace)
        except ClusterError as error:
            if error.code == 404:
                return None
            raise

    def list_once(self, kind: str, namespace: str, labels: str = "", *, silence_s: float) -> list[Object]:
        """Return the objects in one page and one try, so that the time of the answer means something."""
        query = {"labelSelector": labels} if labels else {}
        answer = self.connection.read_once(self.resource(kind).path(namespace), query=query, silence_s=silence_s)
        found: list[Object] = self.connection.decoded(answer).get("items") or []
        return found

    def list(self, kind: str, namespace: str = "", *, labels: str = "", fields: str = "") -> list[Object]:
        """Return the objects that the selectors admit, of all namespaces when none is given."""
        query = {"limit": str(_PAGE), "labelSelector": labels, "fieldSelector": fields}
        query = {key: value for key, value in query.items() if value}
        path = self.resource(kind).path(namespace)
        found: list[Object] = []
        while True:
            _, answer = self.connection.request("GET", path, query=query)
            found += answer.get("items") or []
            query["continue"] = (answer.get("metadata") or {}).get("continue", "")
            if not query["continue"]:
                return found

    def create(self, kind: str, found: Object) -> Object:
        """Create an object, in the namespace that its metadata names."""
        resource = self.resource(kind)
        path = resource.path(found.get("metadata", {}).get("namespace", ""))
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **found}
        return self.connection.request("POST", path, query={"fieldManager": FIELD_MANAGER}, body=body)[1]

    def patch(self, kind: str, name: str, change: Object, *, namespace: str = "", subresource: str = "") -> Object:
        """Change an object by JSON merge patch: null takes a key away. Return the object afterwards."""
        path = self.resource(kind).path(namespace, name, subresource)
        query = {"fieldManager": FIELD_MANAGER}
        return self.connection.request("PATCH", path, query=query, body=change, content_type=MERGE_PATCH)[1]

    def delete_object(self, kind: str, name: str, namespace: str = "", *, grace_s: int | None = None) -> bool:
        """Ask for an object's deletion, its dependents following in the background; False when it is not there.

        ``grace_s`` is how long a pod's containers may take to end; 0 removes it at once.
        """
        query = {"propagationPolicy": "Background"}
        if grace_s is not None:
            query["gracePeriodSeconds"] = str(grace_s)
        try:
            self.connection.request("DELETE", self.resource(kind).path(namespace, name), query=query)
        except ClusterError as error:
            if error.code == 404:
                return False
            raise
        return True

    def wait_until(self, what: str, look: Callable[[], tuple[T | None, str]], timeout_s: float, hint: str = "") -> T:
        """Look until ``look`` returns something other than None beside what it saw; WaitTimeout tells the latter.

        An API server that does not answer for a moment does not end the wait, a refusal (4xx) does.
        """
        patience = self.connection.patience
        deadline, wait_s = time.monotonic() + timeout_s, patience.poll_s
        with progress.waiting(f"{self.name}: {what}", timeout_s) as tell:
            while True:
                silent: ClusterError | None = None
                try:
                    found, seen = look()
                except ClusterError as error:
                    if 400 <= error.code < 500 and error.code != 429:
                        raise
                    found, seen, silent = None, str(error), error
                if found is not None:
                    return found
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    message = f"{self.name}: {what} not within {round(timeout_s, 3):g} s"
                    raise WaitTimeout(message, saw=seen, hint=hint) from silent
                tell(seen.replace(f"{self.name}: ", ""))
                pause(min(wait_s, left_s))
                wait_s = min(1.5 * wait_s, patience.slowest_poll_s)

    def wait_for(
        self, kind: str, name: str, namespace: str, until: Callable[[Object], object], *, timeout_s: float = 60
    ) -> Object:
        """Wait until the object is there and ``until`` holds of it; return it."""

        def look() -> tuple[Object | None, str]:
            found = self.find(kind, name, namespace)
            if found is None:
                return None, "it does not exist"
            return (found if until(found) else None), _state(found)

        return self.wait_until(f"{_title(kind, name, namespace)} as waited for", look, timeout_s)

    def wait_for_deletion(self, kind: str, name: str, namespace: str, uid: str, timeout_s: float) -> None:
        """Wait until the object with this ``uid`` is gone; a new one of the same name counts as gone."""

        def look() -> tuple[bool | None, str]:
            found = self.find(kind, name, namespace)
            if found is None or found["metadata"].get("uid") != uid:
                return True, ""
            finalizers = found["metadata"].get("finalizers") or (found.get("spec") or {}).get("finalizers") or []
            held = f", held by {', '.join(finalizers)}" if finalizers else ""
            return None, _state(found) + held

        self.wait_until(f"{_title(kind, name, namespace)} gone", look, timeout_s)

    def wait_for_kinds(self, kinds: Collection[str], *, timeout_s: float) -> None:
        """Wait until the cluster serves all ``kinds``, as after a feature that brings its own has been enabled."""

        def look() -> tuple[bool | None, str]:
            missing = [kind for kind in kinds if not self.has_kind(kind)]
            return (None if missing else True), f"no {', '.join(missing)}"

        self.wait_until(f"{', '.join(kinds)} served", look, timeout_s)


def kind_of(found: Object) -> str:
    """Return an object's kind with its API in front, as ``Api`` takes it."""
    return f"{found['apiVersion']}/{found['kind']}"


def key_of(found: Object) -> tuple[str, str, str]:
    """Return what ``Api`` takes to find an object: kind, name and namespace."""
    return kind_of(found), found["metadata"]["name"], found["metadata"].get("namespace", "")


def _title(kind: str, name: str, namespace: str) -> str:
    return f"{kind.rpartition('/')[2]} {name}" + (f" in {namespace}" if namespace else "")


def _state(found: Object) -> str:
    """Return the telling part of an object's status, in one line."""
    status = found.get("status") or {}
    parts = ["being deleted"] if is_deleting(found) else []
    parts += [f"phase {status['phase']}"] if "phase" in status else []
    parts += [f"{c['type']}={c['status']} {c.get('message', '')}".strip() for c in status.get("conditions") or []]
    return "; ".join(parts) or f"status {status}"
