"""From a request's body to the object that it proposes: taken in, or patched onto the live one. Pure."""

from __future__ import annotations

from meshbook.lab.apiserver import patching
from meshbook.lab.apiserver.applying import apply
from meshbook.lab.apiserver.failures import bad_request
from meshbook.lab.apiserver.kinds import Json
from meshbook.lab.apiserver.lifecycle import timestamp
from meshbook.lab.apiserver.ownership import Owner
from meshbook.lab.apiserver.requests import ApiRequest
from meshbook.lab.apiserver.shapes import Intake, shape_of, without_nulls

CUSTOM_PATCH_TYPES = (patching.JSON_PATCH, patching.MERGE_PATCH, patching.APPLY_PATCH)
PATCH_TYPES = (*CUSTOM_PATCH_TYPES, patching.STRATEGIC_PATCH)


def taken_in(request: ApiRequest, body: object) -> Json:
    """Return ``body`` as a tree of our own in the stored version; refuse what does not fit the request's path."""
    if not isinstance(body, dict):
        raise bad_request("the body must be an object")
    kind = request.kind
    version, name = body.get("apiVersion") or request.api_version, body.get("kind") or kind.kind
    if name != kind.kind:
        raise bad_request(f"the kind in the data ({name}) does not match the expected kind ({kind.kind})")
    if version not in map(kind.version_string, kind.versions):
        expected = f"does not match the expected API version ({request.api_version})"
        raise bad_request(f"the API version in the data ({version}) {expected}")
    intake = Intake(kind.kind, request.version)
    obj = intake.conform(body, shape_of(kind.shape)) | {"apiVersion": kind.api_version, "kind": kind.kind}
    _report_unknown(request, [f'unknown field "{path}"' for path in intake.unknown])
    _match_path(request, obj["metadata"])
    return obj


def _report_unknown(request: ApiRequest, unknown: list[str]) -> None:
    wish = request.query.get("fieldValidation", "Warn")
    if unknown and wish == "Strict":
        raise bad_request("strict decoding error: " + ", ".join(unknown))
    if wish == "Warn":
        request.warnings.extend(unknown)


def _match_path(request: ApiRequest, metadata: Json) -> None:
    given = metadata.get("namespace") or request.namespace
    if given != request.namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    if given:
        metadata["namespace"] = given
    else:
        metadata.pop("namespace", None)
    name = metadata.get("name") or request.name
    if request.name and name != request.name:
        message = f"the name of the object ({name}) does not match the name on the URL ({request.name})"
        raise bad_request(message)
    if name:
        metadata["name"] = name


def patched(request: ApiRequest, body: object, live: Json) -> Json:
    """Return ``live`` with the patch in ``body``, of the type that the request's Content-Type says."""
    shown = live | {"apiVersion": request.api_version}
    if request.content_type == patching.JSON_PATCH:
        return taken_in(request, patching.json_patch(shown, body))
    if not isinstance(body, dict):
        raise bad_request("the patch must be an object")
    if request.content_type == patching.MERGE_PATCH:
        return taken_in(request, patching.merge_patch(shown, body))
    return taken_in(request, patching.strategic_merge(shown, body, shape_of(request.kind.shape)))


def applied(request: ApiRequest, body: object, live: Json | None) -> Json:
    """Return ``live``, or a new object, with what the request applies."""
    if not request.query.get("fieldManager"):
        raise bad_request("fieldManager is required for apply patch")
    wanted = taken_in(request, body)
    if wanted["metadata"].pop("managedFields", None):
        raise bad_request("metadata.managedFields must be nil")
    if not request.subresource:
        wanted.pop("status", None)
    owner = Owner(manager=request.manager, operation="Apply", subresource=request.subresource)
    identity = {name: value for name, value in wanted["metadata"].items() if name in ("name", "namespace")}
    blank = {"apiVersion": wanted["apiVersion"], "kind": wanted["kind"], "metadata": identity}
    shape = shape_of(request.kind.shape)
    merged = apply(live or blank, wanted, shape, owner, force=request.flag("force"), now=timestamp())
    tree: Json = without_nulls(merged)
    return tree
