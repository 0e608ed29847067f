"""What the server says when it refuses: one exception, and a maker for each reason, worded like the real server's.

A ``Failure`` becomes a ``Status`` object on the wire. Nothing else in this package builds one for an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from meshbook.errors import LabError
from meshbook.lab.apiserver.kinds import Kind
from meshbook.objects import Object


def cause(field: str, reason: str, message: str) -> Object:
    """Return one thing that is wrong with an object: which field, which class of error, in which words."""
    return {"reason": reason, "message": message, "field": field}


def required(field: str, detail: str = "") -> Object:
    return cause(field, "FieldValueRequired", "Required value" + (f": {detail}" if detail else ""))


def bad_value(field: str, value: object, detail: str) -> Object:
    return cause(field, "FieldValueInvalid", f"Invalid value: {_shown(value)}: {detail}")


def duplicate(field: str, value: str) -> Object:
    return cause(field, "FieldValueDuplicate", f'Duplicate value: "{value}"')


def too_long(field: str, limit: int) -> Object:
    return cause(field, "FieldValueTooLong", f"Too long: may not be more than {limit} bytes")


def not_allowed(field: str, detail: str) -> Object:
    return cause(field, "FieldValueForbidden", f"Forbidden: {detail}")


def not_supported(field: str, value: str, *supported: str) -> Object:
    known = ", ".join(f'"{one}"' for one in supported)
    return cause(field, "FieldValueNotSupported", f'Unsupported value: "{value}": supported values: {known}')


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{k}":{_shown(v)}' for k, v in sorted(value.items())) + "}"
    return f'"{value}"' if isinstance(value, str) else str(value)


class Failure(LabError):
    """A request that is refused: HTTP ``code``, ``reason``, message and details of the Status object."""

    def __init__(self, code: int, reason: str, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = details or {}

    def status(self) -> Object:
        """Return the Status object."""
        body: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        body |= {"message": self.message} | ({"reason": self.reason} if self.reason else {})
        return body | ({"details": self.details} if self.details else {}) | {"code": self.code}


class Misfit(Failure):
    """A body that cannot be read as an object of its kind; ``why`` is the reason without saying whose."""

    def __init__(self, kind: str, version: str, why: str) -> None:
        super().__init__(400, "BadRequest", f'{kind} in version "{version}" cannot be handled as a {kind}: {why}')
        self.why = why


def _details(kind: Kind, name: str, **more: Any) -> Object:
    group = {"group": kind.group} if kind.group else {}
    return {"name": name, **group, "kind": kind.plural, **more}


def bad_request(message: str) -> Failure:
    return Failure(400, "BadRequest", message)


def unauthorized() -> Failure:
    return Failure(401, "Unauthorized", "Unauthorized")


def forbidden(kind: Kind, name: str, why: str, *causes: Object) -> Failure:
    more = {"causes": list(causes)} if causes else {}
    shown = f' "{name}"' if name else ""
    return Failure(403, "Forbidden", f"{kind.qualified}{shown} is forbidden: {why}", _details(kind, name, **more))


def unknown_resource(what: str) -> Failure:
    """Refuse a path: kubectl shows these words for whatever the lab does not have."""
    return Failure(404, "NotFound", f"the server could not find the requested resource: the lab does not serve {what}")


def not_found(kind: Kind, name: str) -> Failure:
    return Failure(404, "NotFound", f'{kind.qualified} "{name}" not found', _details(kind, name))


def method_not_allowed(kind: Kind | None = None) -> Failure:
    message = "the server does not allow this method on the requested resource"
    return Failure(405, "MethodNotAllowed", message, {"group": kind.group, "kind": kind.plural} if kind else {})


def not_acceptable(kind: Kind, accepted: Sequence[str]) -> Failure:
    """Refuse to answer in another form; for built-in kinds a real server's router does so, in its own words."""
    available = f"406: Not Acceptable\n\nAvailable representations: {', '.join(accepted)}"
    text = f"only the following media types are accepted: {', '.join(accepted)}"
    return Failure(406, "NotAcceptable", text if kind.custom else available)


def already_exists(kind: Kind, name: str) -> Failure:
    return Failure(409, "AlreadyExists", f'{kind.qualified} "{name}" already exists', _details(kind, name))


def conflict(kind: Kind, name: str, why: str) -> Failure:
    message = f'Operation cannot be fulfilled on {kind.qualified} "{name}": {why}'
    return Failure(409, "Conflict", message, _details(kind, name))


def stale(kind: Kind, name: str) -> Failure:
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(kind, name, why)


def expired(why: str) -> Failure:
    return Failure(410, "Expired", why)


def unsupported_media(accepted: Sequence[str], *, by_router: bool = False) -> Failure:
    """Refuse a body's form; a real server's router does so for patches of built-in kinds, in its own words."""
    text = "the body of the request was in an unknown format - accepted media types include: " + ", ".join(accepted)
    return Failure(415, "UnsupportedMediaType", "415: Unsupported Media Type" if by_router else text)


def invalid(kind: Kind, name: str, *causes: Object) -> Failure:
    texts = [f"{one['field']}: {one['message']}" for one in causes]
    text = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    qualified = f"{kind.kind}.{kind.group}" if kind.group else kind.kind
    details = _details(kind, name, causes=[*causes]) | {"kind": kind.kind}
    return Failure(422, "Invalid", f'{qualified} "{name}" is invalid: {text}', details)


def bad_option(verb: str, why: Object) -> Failure:
    """Refuse a parameter of the request itself."""
    kinds = {"create": "Create", "list": "List", "patch": "Patch", "update": "Update", "watch": "List"}
    kind = f"{kinds.get(verb, 'Delete')}Options"
    details: Object = {"group": "meta.k8s.io", "kind": kind, "causes": [why]}
    return Failure(422, "Invalid", f'{kind}.meta.k8s.io "" is invalid: {why["field"]}: {why["message"]}', details)


def bad_patch(patch: str, why: str) -> Failure:
    """Refuse a patch whose outcome cannot be read as an object of its kind."""
    wrong = cause("patch", "FieldValueInvalid", f"Invalid value: {patch}: {why}")
    return Failure(422, "Invalid", f' "" is invalid: patch: {wrong["message"]}', {"causes": [wrong]})


def internal(message: str) -> Failure:
    return Failure(500, "InternalError", f"Internal error occurred: {message}")


def version_too_large(asked: int, revision: int) -> Failure:
    message = f"Timeout: Too large resource version: {asked}, current: {revision}"
    why = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    return Failure(504, "Timeout", message, {"causes": [why], "retryAfterSeconds": 1})
