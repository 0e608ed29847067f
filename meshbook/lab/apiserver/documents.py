"""Paths that name no resource: health, version, discovery, OpenAPI, and the reviews that are answered and not kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from meshbook.lab.apiserver import discovery
from meshbook.lab.apiserver.access import User, access_review, rules_review, subject_review
from meshbook.lab.apiserver.failures import bad_request
from meshbook.lab.apiserver.kinds import Json, KindTable
from meshbook.lab.apiserver.requests import decode
from meshbook.lab.apiserver.store import encode

HEALTH = ("/healthz", "/livez", "/readyz")
PUBLIC = (*HEALTH, "/version")
"""Served to everyone."""

REVIEWS: dict[str, Callable[[User, Json], Json]] = {
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews": access_review,
    "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews": rules_review,
    "/apis/authentication.k8s.io/v1/selfsubjectreviews": subject_review,
}


class Documents:
    """What one server says of itself."""

    def __init__(self, kinds: KindTable, address: str) -> None:
        self._kinds = kinds
        self._fixed: dict[str, Callable[[], Json]] = {
            "/version": lambda: discovery.VERSION,
            "/api": lambda: discovery.core_versions(address),
            "/apis": lambda: discovery.group_list(kinds),
            "/openapi/v3": lambda: discovery.openapi_index(kinds),
        }

    def find(self, path: str, accept: str) -> tuple[bytes, str] | None:
        """Return the document at ``path`` and its media type; None when there is none."""
        if path == "/openapi/v2":
            return b"", discovery.OPENAPI_V2  # a document that describes nothing: what there is, stands in version 3
        if path in ("/api", "/apis"):
            for version in discovery.AGGREGATED:
                media = f"application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
                if media in accept.replace(" ", ""):
                    return encode(discovery.aggregated(self._kinds, version, core=path == "/api")), media
        make = self._fixed.get(path) or self._grouped(path)
        document = make() if make else None
        return (encode(document), "application/json") if document else None

    def _grouped(self, path: str) -> Callable[[], Json | None] | None:
        match path.strip("/").split("/"):
            case ["api", version]:
                return partial(discovery.resource_list, self._kinds, "", version)
            case ["apis", group]:
                versions = discovery.groups(self._kinds).get(group)
                head = {"kind": "APIGroup", "apiVersion": "v1"}
                return partial(lambda: head | discovery.group(group, versions)) if versions else None
            case ["apis", group, version]:
                return partial(discovery.resource_list, self._kinds, group, version)
            case ["openapi", "v3", "api", version]:
                return partial(discovery.openapi, self._kinds, "", version)
            case ["openapi", "v3", "apis", group, version]:
                return partial(discovery.openapi, self._kinds, group, version)
        return None

    def review(self, path: str, user: User, body: bytes) -> Json:
        """Answer a review."""
        asked = decode(body)
        if not isinstance(asked, dict):
            raise bad_request("the body must be an object")
        return REVIEWS[path](user, asked)
