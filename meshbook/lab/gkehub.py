"""The lab's fleet API: GKE Hub v1 over plain HTTP on loopback, as far as enabling MultiClusterIngress needs it.

``Fleet`` is the fleet as data: memberships, the ingress feature and the operations on it. A change takes effect when
its operation is done; until then the feature says ``ENABLING``. Nothing runs in between: what is done follows from the
clock at the time of asking. ``FleetServer`` puts it behind Google's paths, bearer token and error bodies, plus the few
Service Usage calls that gcloud makes first. Nothing here touches a cluster: the MultiClusterIngress controller reads
the feature over HTTP like everyone else.
"""

from __future__ import annotations

import copy
import hmac
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from aiohttp import web

from meshbook.errors import LabError
from meshbook.lab.topology import FLEET_PORT, PROJECT, ClusterTopology, LabTopology
from meshbook.objects import micro_timestamp

Json = dict[str, Any]
Found = TypeVar("Found")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

INGRESS = "multiclusteringress"
TYPES = "type.googleapis.com"
OPERATION = timedelta(seconds=0.3)
"""How long a change takes: long enough that a client must ask for the operation at least once."""

PROJECTS = "/{api:v1|v1beta}/projects/{project}"
"""gcloud asks for memberships in v1beta and for all else in v1; what it reads is the same in both."""
LOCATION = PROJECTS + "/locations/{location}"
SERVICE = PROJECTS + "/services/{service:[^:/]+}"


class GoogleError(LabError):
    """A refusal in Google's form: HTTP ``code`` and canonical ``status``."""

    def __init__(self, code: int, status: str, message: str) -> None:
        self.code = code
        self.status = status
        super().__init__(message)

    @property
    def body(self) -> Json:
        return {"error": {"code": self.code, "message": self.message, "status": self.status}}


class Fleet:
    """Memberships (fixed by the topology), the ingress feature and operations of one project."""

    def __init__(self, topology: LabTopology, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        created = micro_timestamp(now())
        self._memberships = {cluster.membership: _membership(cluster, created) for cluster in topology.clusters}
        self._features: dict[str, Json] = {}
        self._ready_at: dict[str, datetime] = {}
        self._operations: dict[str, tuple[datetime, Json]] = {}

    def memberships(self, parent: str) -> list[Json]:
        """Return the memberships below ``projects/P/locations/L``; location ``-`` stands for all."""
        prefix = parent.removesuffix("-") if parent.endswith("/-") else f"{parent}/"
        return [found for name, found in self._memberships.items() if name.startswith(prefix)]

    def membership(self, name: str) -> Json:
        return _existing(self._memberships, name)

    def features(self, parent: str) -> list[Json]:
        return [self.feature(name) for name in self._features if name.startswith(f"{parent}/")]

    def feature(self, name: str) -> Json:
        """Return a feature with the states that follow from its specification and the clock."""
        feature = copy.deepcopy(_existing(self._features, name))
        if self._now() < self._ready_at[name]:
            return {**feature, "resourceState": {"state": "ENABLING"}}
        state = {"code": "OK", "updateTime": feature["updateTime"]}
        members = [name for name, found in self._memberships.items() if "gkeCluster" in found["endpoint"]]
        return {
            **feature,
            "resourceState": {"state": "ACTIVE"},
            "state": {"state": {**state, "description": "Ready to use"}},
            "membershipStates": {member: {"state": state} for member in members},
        }

    def create_feature(self, parent: str, feature_id: str, body: Json) -> Json:
        """Enable a feature; return the operation."""
        name = f"{parent}/features/{feature_id}"
        if feature_id != INGRESS:
            raise GoogleError(501, "UNIMPLEMENTED", f"this lab's fleet has the feature {INGRESS} only")
        if name in self._features:
            raise GoogleError(409, "ALREADY_EXISTS", f"Resource '{name}' already exists")
        said: Json = {key: body[key] for key in ("spec", "labels") if key in body}
        self._check(said)
        created = micro_timestamp(self._now())
        return self._change("create", {"name": name, "createTime": created, "updateTime": created, **said})

    def patch_feature(self, name: str, mask: str, body: Json) -> Json:
        """Replace the spec or the labels, as ``mask`` names a part of them (what ``body`` has, where it is ``*``)."""
        changed = copy.deepcopy(_existing(self._features, name))
        for key in body if mask in ("", "*") else {path.partition(".")[0] for path in mask.split(",")}:
            if key in ("spec", "labels"):
                changed[key] = body.get(key, {})
            elif mask not in ("", "*"):
                raise _invalid(f"field {key!r} of a feature cannot be updated")
        self._check(changed)
        return self._change("update", {**changed, "updateTime": micro_timestamp(self._now())})

    def delete_feature(self, name: str) -> Json:
        return self._change("delete", _existing(self._features, name))

    def operation(self, name: str) -> Json:
        """Return an operation; it carries its response once it is done."""
        ready_at, finished = _existing(self._operations, name)
        hidden = {} if self._now() >= ready_at else {"response"}
        return {key: value for key, value in finished.items() if key not in hidden} | {"done": not hidden}

    def _change(self, verb: str, feature: Json) -> Json:
        now, target = self._now(), feature["name"]
        response = {"@type": f"{TYPES}/google.cloud.gkehub.v1.Feature", **feature}
        if verb == "delete":
            del self._features[target]
            response = {"@type": f"{TYPES}/google.protobuf.Empty"}
        else:
            self._features[target] = feature
        name = f"{target.partition('/features/')[0]}/operations/operation-{uuid.uuid4()}"
        metadata = {"createTime": micro_timestamp(now), "target": target, "verb": verb, "apiVersion": "v1"}
        metadata["@type"] = f"{TYPES}/google.cloud.gkehub.v1.OperationMetadata"
        self._ready_at[target] = now + OPERATION
        self._operations[name] = (
            self._ready_at[target],
            {"name": name, "metadata": metadata, "done": True, "response": response},
        )
        return self.operation(name)

    def _check(self, feature: Json) -> None:
        member = feature.get("spec", {}).get(INGRESS, {}).get("configMembership", "")
        if member not in self._memberships:
            raise _invalid(f"spec.{INGRESS}.configMembership: membership {member!r} does not exist in the fleet")
        if "gkeCluster" not in self._memberships[member]["endpoint"]:
            raise _invalid(f"spec.{INGRESS}.configMembership: membership {member!r} is not a GKE cluster")


def _membership(cluster: ClusterTopology, created: str) -> Json:
    project, location, name = cluster.membership.split("/")[1::2]
    link = f"//container.googleapis.com/projects/{project}/locations/{location}/clusters/{name}"
    endpoint = {"gkeCluster": {"resourceLink": link}} if cluster.is_gke else {"kubernetesMetadata": {"nodeCount": 1}}
    return {
        "name": cluster.membership,
        "endpoint": endpoint,
        "state": {"code": "READY"},
        "createTime": created,
        "updateTime": created,
        "uniqueId": str(uuid.uuid5(uuid.NAMESPACE_URL, cluster.membership)),
    }


def _existing(found: Mapping[str, Found], name: str) -> Found:
    if name not in found:
        raise GoogleError(404, "NOT_FOUND", f"Resource '{name}' was not found")
    return found[name]


def _invalid(message: str) -> GoogleError:
    return GoogleError(400, "INVALID_ARGUMENT", message)


class FleetServer:
    """The fleet API on ``topology.fleet_url``; every request needs ``token``."""

    def __init__(self, topology: LabTopology, token: str) -> None:
        self.fleet = Fleet(topology)
        self._address = topology.fleet_address
        self._token = token
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=0.5)

    async def start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, self._address, FLEET_PORT).start()

    async def stop(self) -> None:
        await self._runner.cleanup()

    def _app(self) -> web.Application:
        app, fleet = web.Application(middlewares=[_errors, self._authorized]), self.fleet
        features, memberships = f"{LOCATION}/features", f"{LOCATION}/memberships"
        app.add_routes(
            [
                web.get(memberships, _answers(lambda name: {"resources": fleet.memberships(_parent(name))})),
                web.get(memberships + "/{name}", _answers(fleet.membership)),
                web.get(features, _answers(lambda name: {"resources": fleet.features(_parent(name))})),
                web.post(features, self._create_feature),
                web.get(features + "/{name}", _answers(fleet.feature)),
                web.patch(features + "/{name}", self._patch_feature),
                web.delete(features + "/{name}", _answers(fleet.delete_feature)),
                web.get(LOCATION + "/operations/{name}", _answers(fleet.operation)),
                web.get(SERVICE, _answers(_service)),
                web.post(SERVICE + ":enable", _answers(_enabled_service)),
            ]
        )
        return app

    @web.middleware
    async def _authorized(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        sent = request.headers.get("authorization", "")
        if not hmac.compare_digest(sent.encode(), f"Bearer {self._token}".encode()):
            raise GoogleError(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        project = request.match_info.get("project", PROJECT)
        if project != PROJECT:
            raise GoogleError(403, "PERMISSION_DENIED", f"Permission denied on resource 'projects/{project}'")
        return await handler(request)

    async def _create_feature(self, request: web.Request) -> web.StreamResponse:
        feature_id, body = request.query.get("featureId", ""), await _body(request)
        return web.json_response(self.fleet.create_feature(_parent(_name(request)), feature_id, body))

    async def _patch_feature(self, request: web.Request) -> web.StreamResponse:
        mask, body = request.query.get("updateMask", ""), await _body(request)
        return web.json_response(self.fleet.patch_feature(_name(request), mask, body))


def _answers(call: Callable[[str], Json]) -> Handler:
    """Return a handler that gives ``call`` the resource name, which is the path itself."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return web.json_response(call(_name(request)))

    return handle


def _name(request: web.Request) -> str:
    return request.path.split("/", 2)[2]


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


async def _body(request: web.Request) -> Json:
    try:
        body: Any = json.loads(await request.text() or "{}")
    except ValueError as error:
        raise _invalid(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise _invalid("the body is not a JSON object")
    return body


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except GoogleError as error:
        return web.json_response(error.body, status=error.code)
    except web.HTTPException as error:
        message = f"{request.method} {request.path}: the lab's fleet API does not have this"
        refusal = GoogleError(error.status, "UNIMPLEMENTED" if error.status == 405 else "NOT_FOUND", message)
        return web.json_response(refusal.body, status=error.status)


def _service(name: str) -> Json:
    """Return the Service Usage record that gcloud reads first: every API counts as enabled here."""
    name = name.partition(":")[0]
    config = {"name": name.rpartition("/")[2]}
    return {"name": name, "parent": f"projects/{PROJECT}", "state": "ENABLED", "config": config}


def _enabled_service(name: str) -> Json:
    answer = {"@type": f"{TYPES}/google.api.serviceusage.v1.EnableServiceResponse", "service": _service(name)}
    return {"name": "operations/noop.DONE_OPERATION", "done": True, "response": answer}
