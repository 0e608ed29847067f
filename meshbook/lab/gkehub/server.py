"""Google's paths, bearer token and error bodies around a ``Fleet``. Keeps no state of its own but the listener."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from meshbook.lab.gkehub.fleet import Fleet, GoogleError, Json
from meshbook.lab.topology import FLEET_PORT, PROJECT, LabTopology

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PROJECTS = "/{api:v1|v1beta}/projects/{project}"
"""gcloud asks for memberships in v1beta and for all else in v1; what it reads is the same in both."""
LOCATION = PROJECTS + "/locations/{location}"
SERVICE = PROJECTS + "/services/{service:[^:/]+}"


class FleetServer:
    """The fleet API on ``topology.fleet_url``; every request needs ``token``."""

    def __init__(self, topology: LabTopology, token: str) -> None:
        self.fleet = Fleet(topology)
        self._address = topology.fleet_address
        self._token = token
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._address, FLEET_PORT).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[_errors, self._authorized])
        features, memberships = f"{LOCATION}/features", f"{LOCATION}/memberships"
        app.add_routes(
            [
                web.get(memberships, self._list_memberships),
                web.get(memberships + "/{name}", self._answer(self.fleet.membership)),
                web.get(features, self._list_features),
                web.post(features, self._create_feature),
                web.get(features + "/{name}", self._answer(self.fleet.feature)),
                web.patch(features + "/{name}", self._patch_feature),
                web.delete(features + "/{name}", self._answer(self.fleet.delete_feature)),
                web.get(LOCATION + "/operations/{name}", self._answer(self.fleet.operation)),
                web.get(SERVICE, _service),
                web.post(SERVICE + ":enable", _enable_service),
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

    def _answer(self, call: Callable[[str], Json]) -> Handler:
        """Return a handler that gives ``call`` the resource name, which is the path itself."""

        async def handle(request: web.Request) -> web.StreamResponse:
            return web.json_response(call(_name(request)))

        return handle

    async def _list_memberships(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"resources": self.fleet.memberships(_parent(request))})

    async def _list_features(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"resources": self.fleet.features(_parent(request))})

    async def _create_feature(self, request: web.Request) -> web.StreamResponse:
        feature_id, body = request.query.get("featureId", ""), await _body(request)
        return web.json_response(self.fleet.create_feature(_parent(request), feature_id, body))

    async def _patch_feature(self, request: web.Request) -> web.StreamResponse:
        mask, body = request.query.get("updateMask", ""), await _body(request)
        return web.json_response(self.fleet.patch_feature(_name(request), mask, body))


def _name(request: web.Request) -> str:
    return request.path.split("/", 2)[2]


def _parent(request: web.Request) -> str:
    return _name(request).rsplit("/", 1)[0]


async def _body(request: web.Request) -> Json:
    try:
        body: Any = json.loads(await request.text() or "{}")
    except ValueError as error:
        raise GoogleError(400, "INVALID_ARGUMENT", f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise GoogleError(400, "INVALID_ARGUMENT", "the body is not a JSON object")
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


def _service_of(request: web.Request) -> Json:
    """Return the Service Usage record that gcloud reads first: every API counts as enabled here."""
    service = request.match_info["service"]
    name = f"projects/{PROJECT}/services/{service}"
    return {"name": name, "parent": f"projects/{PROJECT}", "state": "ENABLED", "config": {"name": service}}


async def _service(request: web.Request) -> web.StreamResponse:
    return web.json_response(_service_of(request))


async def _enable_service(request: web.Request) -> web.StreamResponse:
    answer = {"@type": "type.googleapis.com/google.api.serviceusage.v1.EnableServiceResponse"}
    done = {"name": "operations/noop.DONE_OPERATION", "done": True, "response": answer}
    return web.json_response(done | {"response": {**answer, "service": _service_of(request)}})
