"""From a request's body to the object that it proposes: taken in, or patched onto the live one. Pure."""

from __future__ import annotations

import json

from meshbook.lab.apiserver import patching
from meshbook.lab.apiserver.applying import apply
from meshbook.lab.apiserver.failures import (
    Misfit,
    bad_option,
    bad_patch,
    bad_request,
    not_allowed,
    not_supported,
    required,
)
from meshbook.lab.apiserver.kinds import Json
from meshbook.lab.apiserver.lifecycle import timestamp
from meshbook.lab.apiserver.ownership import Owner
from meshbook.lab.apiserver.requests import ApiRequest
from meshbook.lab.apiserver.shapes import Intake, shape_of, without_nulls

CUSTOM_PATCH_TYPES = (patching.JSON_PATCH, patching.MERGE_PATCH, patching.APPLY_PATCH)
PATCH_TYPES = (*CUSTOM_PATCH_TYPES, patching.STRATEGIC_PATCH)

FIELD_VALIDATION = ("", "Ignore", "Strict", "Warn")


def taken_in(request: ApiRequest, body: object, *, from_webhook: bool = False) -> Json:
    """Return ``body`` as a tree of our own in the stored version; refuse what does not fit the request's path.

    What a webhook adds that no field of the kind is, is dropped: its author is not who asks.
    """
    if not isinstance(body, dict):
        raise bad_request("the body must be an object")
    kind = request.kind
    version, name = body.get("apiVersion") or request.api_version, body.get("kind") or kind.kind
    if name != kind.kind:
        raise bad_request(f'{name} in version "{version}" cannot be handled as a {kind.kind}')
    if version not in map(kind.version_string, kind.versions):
        expected = f"does not match the expected API version ({request.api_version})"
        raise bad_request(f"the API version in the data ({version}) {expected}")
    intake = Intake(kind.kind, request.version)
    obj = intake.conform(body, shape_of(kind.shape)) | {"apiVersion": kind.api_version, "kind": kind.kind}
    if not from_webhook:
        _report_unknown(request, intake.unknown)
    _match_path(request, obj["metadata"])
    return obj


def _report_unknown(request: ApiRequest, paths: list[str]) -> None:
    kind, wish = request.kind.kind, request.query.get("fieldValidation") or "Warn"
    if wish not in FIELD_VALIDATION:
        raise bad_option(request.verb, not_supported("fieldValidation", wish, *FIELD_VALIDATION))
    if paths and request.content_type == patching.APPLY_PATCH:
        raise Misfit(kind, request.version, ", ".join(f".{path}: field not declared in schema" for path in paths))
    unknown = [f'unknown field "{path}"' for path in paths]
    if unknown and wish == "Strict":
        raise Misfit(kind, request.version, "strict decoding error: " + ", ".join(unknown))
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
    if request.query.get("force"):
        raise bad_option(request.verb, not_allowed("force", "may not be specified for non-apply patch"))
    outcome = _outcome(request, body, live | {"apiVersion": request.api_version})
    try:
        return taken_in(request, outcome)
    except Misfit as error:
        raise bad_patch(json.dumps(body), error.why) from error


def _outcome(request: ApiRequest, body: object, shown: Json) -> Json:
    if request.content_type == patching.JSON_PATCH:
        return patching.json_patch(shown, body)
    if not isinstance(body, dict):
        raise bad_request("the patch must be an object")
    if request.content_type == patching.MERGE_PATCH:
        merged: Json = patching.merge_patch(shown, body)
        return merged
    return patching.strategic_merge(shown, body, shape_of(request.kind.shape))


def applied(request: ApiRequest, body: object, live: Json | None) -> Json:
    """Return ``live``, or a new object, with what the request applies."""
    if not request.query.get("fieldManager"):
        raise bad_option(request.verb, required("fieldManager", "is required for apply patch"))
    try:
        wanted = taken_in(request, body)
    except Misfit as error:
        what = f"{request.namespace}/{request.name}; {request.api_version}, Kind={request.kind.kind}"
        raise bad_request(f"failed to create typed patch object ({what}): {error.why}") from error
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
