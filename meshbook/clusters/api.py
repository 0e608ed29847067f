"""Objects of one cluster by kind and name: find the resource, then get, list, create, patch, delete.

Kinds are named as in a manifest. Those of the runbook by their kind alone (``Deployment``), all others with their API
in front (``networking.gke.io/v1/MultiClusterIngress`` is ``<apiVersion>/<kind>``). Verbs that do more than one request
are in ``applying``, ``waiting`` and ``cluster``.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from meshbook.clusters.connection import APPLY, MERGE_PATCH, Connection
from meshbook.clusters.records import Object, Objects
from meshbook.errors import ClusterError, UsageError
from meshbook.settings import FIELD_MANAGER

KINDS = {
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

_API_OF = {kind: api_version for api_version, kinds in KINDS.items() for kind in kinds.split()}
_MISSING = {
    "networking.istio.io": "install the mesh's control plane on this cluster first",
    "networking.gke.io": "only the config cluster of the ingress feature has it: gkehub.enable_ingress(…) first",
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

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the URL path of the collection, or of one object or its subresource."""
        parts = ["/api" if "/" not in self.api_version else "/apis", self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        parts += [quote(part, safe="") for part in (name, subresource) if part]
        return "/".join(parts)


class Api:
    """The API of one cluster. ``name`` is the context's name."""

    def __init__(self, connection: Connection) -> None:
        self.name = connection.context
        self.connection = connection
        self.patience = connection.patience
        self._resources: dict[tuple[str, str], Resource] = {}

    def resource(self, kind: str) -> Resource:
        """Return where ``kind`` lives, as the cluster's own discovery says."""
        api_version, _, bare = kind.rpartition("/")
        api_version = api_version or _API_OF.get(bare, "")
        if not api_version:
            raise UsageError(f"which API has {kind}?", hint=f"<group>/<version>/{kind}, as in a manifest's apiVersion")
        if (api_version, bare) not in self._resources:
            self._discover(api_version)
        if found := self._resources.get((api_version, bare)):
            return found
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
                key = (api_version, found["kind"])
                self._resources[key] = Resource(
                    api_version=api_version, kind=key[1], plural=found["name"], namespaced=bool(found["namespaced"])
                )

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

    def list(self, kind: str, namespace: str = "", *, labels: str = "", fields: str = "") -> Objects:
        """Return the objects that the selectors admit, of all namespaces when none is given."""
        query = {"limit": str(_PAGE), "labelSelector": labels, "fieldSelector": fields}
        query = {key: value for key, value in query.items() if value}
        path = self.resource(kind).path(namespace)
        found: Objects = []
        while True:
            _, answer = self.connection.request("GET", path, query=query)
            found += answer.get("items") or []
            query["continue"] = (answer.get("metadata") or {}).get("continue", "")
            if not query["continue"]:
                return found

    def create(self, kind: str, found: Object) -> Object:
        """Create an object, in the namespace that its metadata names."""
        path = self.resource(kind).path(found.get("metadata", {}).get("namespace", ""))
        body = {"apiVersion": self.resource(kind).api_version, "kind": kind.rpartition("/")[2], **found}
        return self.connection.request("POST", path, query={"fieldManager": FIELD_MANAGER}, body=body)[1]

    def patch(self, kind: str, name: str, change: Object, *, namespace: str = "", subresource: str = "") -> Object:
        """Change an object by JSON merge patch: null takes a key away. Return the object afterwards."""
        path = self.resource(kind).path(namespace, name, subresource)
        query = {"fieldManager": FIELD_MANAGER}
        return self.connection.request("PATCH", path, query=query, body=change, content_type=MERGE_PATCH)[1]

    def apply_object(self, found: Object, *, force: bool, dry_run: bool) -> tuple[int, Object]:
        """Apply one placed object server-side; return (201 or 200, the object afterwards)."""
        metadata = found["metadata"]
        path = self.resource(kind_of(found)).path(metadata.get("namespace", ""), metadata["name"])
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict", "force": "true" if force else "false"}
        if dry_run:
            query["dryRun"] = "All"
        return self.connection.request("PATCH", path, query=query, body=found, content_type=APPLY)

    def delete_object(self, kind: str, name: str, namespace: str = "", *, grace_s: int | None = None) -> bool:
        """Ask for an object's deletion, its dependents following in the background; False when it is not there.

        ``grace_s`` is how long a pod's containers may take to end; 0 removes it at once.
        """
        path = self.resource(kind).path(namespace, name)
        query = {"propagationPolicy": "Background"}
        if grace_s is not None:
            query["gracePeriodSeconds"] = str(grace_s)
        try:
            self.connection.request("DELETE", path, query=query)
        except ClusterError as error:
            if error.code == 404:
                return False
            raise
        return True


def kind_of(found: Object) -> str:
    """Return an object's kind with its API in front, as ``Api`` takes it."""
    return f"{found['apiVersion']}/{found['kind']}"
