"""What a client asks for: from method, path, query and headers to one ``ApiRequest``. Pure; decides nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from multidict import MultiMapping

from meshbook.lab.apiserver.access import User
from meshbook.lab.apiserver.failures import bad_option, bad_request, method_not_allowed, not_supported, unknown_resource
from meshbook.lab.apiserver.failures import unsupported_media as unsupported
from meshbook.lab.apiserver.kinds import Json, Kind, KindTable
from meshbook.lab.apiserver.protobuf import MAGIC, PROTOBUF, decode_protobuf

JSON_TYPES = ("application/json", "application/yaml", PROTOBUF)
PROPAGATION = ("Background", "Foreground", "Orphan")
_TRUE = ("true", "1", "t", "T", "TRUE", "True")


@dataclass(frozen=True, kw_only=True)
class ApiRequest:
    """One request for a resource. ``name`` is empty for a collection, ``namespace`` for all or none."""

    verb: str
    kind: Kind
    version: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    query: MultiMapping[str]
    user: User
    headers: Mapping[str, str]
    body: bytes = b""
    warnings: list[str] = field(default_factory=list)
    """Sent back as ``Warning`` headers."""

    @property
    def api_version(self) -> str:
        return self.kind.version_string(self.version)

    @property
    def content_type(self) -> str:
        return self.headers.get("Content-Type", "application/json").partition(";")[0].strip()

    @property
    def dry_run(self) -> bool:
        asked = self.query.getall("dryRun", [])
        if any(value != "All" for value in asked):
            raise bad_option(self.verb, not_supported("dryRun", asked[0], "All"))
        return bool(asked)

    @property
    def manager(self) -> str:
        """Name under which this client owns fields: as it says, else the program in its User-Agent."""
        agent = self.headers.get("User-Agent", "unknown").partition("/")[0]
        return self.query.get("fieldManager") or agent

    def flag(self, name: str) -> bool:
        return self.query.get(name, "") in _TRUE

    def number(self, name: str) -> int | None:
        """Return an integer parameter, None when it is not given."""
        text = self.query.get(name, "")
        if not text:
            return None
        if not text.lstrip("-").isdigit():
            raise bad_request(f'strconv.ParseUint: parsing "{text}": invalid syntax ({name})')
        return int(text)

    def document(self, accepted: tuple[str, ...] = JSON_TYPES) -> Any:
        """Return the body, decoded; ``accepted`` are the media types that may come."""
        if self.content_type not in accepted:
            raise unsupported(accepted)
        return decode(self.body)


def decode(body: bytes) -> Any:
    """Return the value that a JSON or YAML text, or a protobuf message, holds."""
    if body.startswith(MAGIC):
        return decode_protobuf(body)
    try:
        return json.loads(body)
    except ValueError:
        pass
    try:
        return yaml.load(body, Loader=_JsonLikeLoader)
    except yaml.YAMLError as error:
        raise bad_request(f"error decoding the body: {error}") from error


class _JsonLikeLoader(yaml.SafeLoader):
    """YAML without dates: a time stays the text that it is in JSON."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the base class declares it
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


@dataclass(frozen=True)
class Target:
    """The resource that a path names."""

    kind: Kind
    version: str
    namespace: str
    name: str
    subresource: str


def target_of(path: str, kinds: KindTable) -> Target:
    """Return what ``/api/v1/…`` or ``/apis/GROUP/VERSION/…`` names; 404 for anything that is not served."""
    parts = [part for part in path.split("/") if part]
    group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
    namespace = ""
    of_namespace = len(rest) == 3 and rest[2] in kinds.named("", "namespaces").subresources
    if rest[0] == "namespaces" and len(rest) > 2 and not of_namespace:
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource = [*rest, "", ""][:3]
    kind = kinds.find(group, version, plural)
    where = f"{group}/{version}" if group else version
    if kind is None:
        raise unknown_resource(f"{plural} of {where}")
    if len(rest) > 3 or (subresource and subresource not in kind.subresources):
        raise unknown_resource(f"{plural}/{'/'.join(rest[2:])} of {where}")
    if kind.namespaced != bool(namespace) and (name or namespace):
        raise unknown_resource(f"{plural} {'within' if namespace else 'without'} a namespace")
    return Target(kind, version, namespace, name, subresource)


def verb_of(method: str, target: Target, query: MultiMapping[str]) -> str:
    """Return the API verb of an HTTP method on ``target``."""
    if method in ("GET", "HEAD"):
        return "get" if target.name else ("watch" if query.get("watch", "") in _TRUE else "list")
    if method == "POST" and (not target.name or target.subresource in ("binding", "exec", "token")):
        return "create"
    if method == "DELETE" and not target.subresource:
        return "delete" if target.name else "deletecollection"
    if method in ("PUT", "PATCH") and target.name and target.subresource not in ("binding", "exec", "log", "token"):
        return {"PUT": "update", "PATCH": "patch"}[method]
    raise method_not_allowed(target.kind)


def delete_options(request: ApiRequest) -> Json:
    """Return DeleteOptions from the body and, over it, from the query."""
    options: Json = decode(request.body) if request.body.strip() else {}
    if not isinstance(options, dict):
        raise bad_request("DeleteOptions: expected an object")
    grace = request.number("gracePeriodSeconds")
    more = {"gracePeriodSeconds": grace, "propagationPolicy": request.query.get("propagationPolicy")}
    options = options | {name: value for name, value in more.items() if value is not None}
    policy = options.get("propagationPolicy")
    if policy not in (None, *PROPAGATION):
        raise bad_option(request.verb, not_supported("propagationPolicy", policy, *PROPAGATION))
    return options
