"""The faults that are on: begun, kept apart, ended in time, written down; and the HTTP server that asks for them.

Only the lab's process has a manager, so a fault with a duration ends whatever becomes of who asked for it. What a fault
does is in ``effects``.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from aiohttp import web

from meshbook.errors import LabError, MeshbookError
from meshbook.lab.faults.effects import ClusterContext, Effect, effect
from meshbook.lab.faults.spec import Edge, FaultRecord, FaultSpec, Moment
from meshbook.lab.topology import CONTROL_PORT, LabTopology

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class _Active:
    record: FaultRecord
    effect: Effect
    timer: asyncio.TimerHandle | None = None


class FaultManager:
    """All faults of one lab. ``path`` is the log: a line when a fault is on, and one when it has ended."""

    def __init__(self, clusters: Mapping[str, ClusterContext], path: Path) -> None:
        self._clusters = clusters
        self._path = path
        self._active: dict[str, _Active] = {}
        self._ended: dict[str, FaultRecord] = {}
        self._numbers = itertools.count(1)
        self._ending: set[asyncio.Task[FaultRecord]] = set()
        self._changing = asyncio.Lock()

    def active(self) -> list[FaultRecord]:
        return [fault.record for fault in self._active.values()]

    def find(self, identity: str) -> FaultRecord:
        """Return a fault that is on or has ended; ``LabError`` when there was none."""
        if identity in self._active:
            return self._active[identity].record
        if identity not in self._ended:
            raise LabError(f"there is no fault {identity!r}", hint="meshbook lab fault list")
        return self._ended[identity]

    async def begin(self, spec: FaultSpec) -> FaultRecord:
        """Switch a fault on and return when it is; ``LabError`` when it cannot be, and then nothing is broken."""
        async with self._changing:
            found = effect(spec, self._clusters)
            self._refuse_overlap(found)
            began, problem = await _timed(found.change.__aenter__())
            if problem:
                raise LabError(f"the fault could not be begun: {problem}")
            record = FaultRecord(
                id=f"fault-{next(self._numbers)}",
                kind=spec.kind,
                context=spec.context,
                targets=found.targets,
                by=spec.by,
                for_s=spec.for_s,
                began=began,
            )
            self._active[record.id] = _Active(record=record, effect=found)
            self._write("began", record)
        if spec.for_s is not None:
            self._end_after(record.id, spec.for_s, began.not_after.monotonic_s)
        elif spec.kind == "kill":
            return await self.end(record.id)
        return record

    def renew(self, identity: str, for_s: float) -> FaultRecord:
        """Have a fault end ``for_s`` from now, whenever it was to end before: a lease for who might be killed."""
        record = self.find(identity)
        if not record.is_on:
            raise LabError(f"fault {identity} has ended")
        self._end_after(identity, for_s, Moment.now().monotonic_s)
        return record

    async def end(self, identity: str, why: str = "asked") -> FaultRecord:
        """Switch a fault off and return its record; one that has ended already is no error."""
        async with self._changing:
            fault = self._active.get(identity)
            if fault is None:
                return self.find(identity)
            if fault.timer:
                fault.timer.cancel()
            ended, problem = await _timed(fault.effect.change.__aexit__(None, None, None))
            record = replace(fault.record, ended=ended, why_ended=f"{why}, but {problem}" if problem else why)
            del self._active[identity]
            self._ended[identity] = record
            self._write("ended", record)
            return record

    async def end_all(self, why: str = "asked", by: str = "") -> list[FaultRecord]:
        """End every fault, or those that ``by`` asked for; the youngest first."""
        meant = [record for record in reversed(self.active()) if by in ("", record.by)]
        return [await self.end(record.id, why) for record in meant]

    async def close(self) -> None:
        await self.end_all("the lab goes down")

    def _refuse_overlap(self, wanted: Effect) -> None:
        """Refuse to break what is broken, or a part of it: targets are paths, from the cluster to the container."""
        for record in self.active():
            for broken, target in itertools.product(record.targets, wanted.targets):
                if f"{broken}/".startswith(f"{target}/") or f"{target}/".startswith(f"{broken}/"):
                    raise LabError(f"{target} is broken already by {record.id} ({record.kind})", hint="end that first")

    def _end_after(self, identity: str, for_s: float, since_s: float) -> None:
        fault = self._active.get(identity)
        if fault is None:
            return
        if fault.timer:
            fault.timer.cancel()
        left_s = since_s + for_s - Moment.now().monotonic_s
        fault.timer = asyncio.get_running_loop().call_later(max(left_s, 0.0), self._expire, identity)

    def _expire(self, identity: str) -> None:
        task = asyncio.ensure_future(self.end(identity, "duration"))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _write(self, event: str, record: FaultRecord) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event, **asdict(record)}) + "\n")
        log.info("fault %s %s: %s at %s", record.id, event, record.kind, ", ".join(record.targets))


async def _timed(change: Awaitable[Any]) -> tuple[Edge, str]:
    """Do it, and return between which moments it came, with what went wrong."""
    before, problem = Moment.now(), ""
    try:
        await change
    except MeshbookError as error:
        problem = error.message
    return Edge(not_before=before, not_after=Moment.now()), problem


class FaultServer:
    """Takes requests at ``topology.control_address`` from who knows the token in the lab's folder.

    ``POST /faults`` (a ``FaultSpec``), ``GET /faults[/ID]``, ``DELETE /faults[/ID]``, ``POST /faults/ID/renew``.
    Answers are records; refusals are ``{"message", "hint"}``.
    """

    def __init__(self, topology: LabTopology, token: str, manager: FaultManager) -> None:
        self._address = topology.control_address
        self._token = token
        self._manager = manager
        application = web.Application(middlewares=[self._guard])
        application.add_routes(
            [
                web.post("/faults", self._begin),
                web.get("/faults", self._list),
                web.delete("/faults", self._end_all),
                web.get("/faults/{id}", self._find),
                web.delete("/faults/{id}", self._end),
                web.post("/faults/{id}/renew", self._renew),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)

    async def start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, self._address, CONTROL_PORT).start()

    async def stop(self) -> None:
        await self._runner.cleanup()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Let in who knows the token, and turn refusals into answers."""
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            return web.json_response({"message": "the token in the lab's folder is needed"}, status=401)
        try:
            return await handler(request)
        except MeshbookError as error:
            evidence = "; ".join(f"{name}: {value}" for name, value in error.evidence.items())
            message = f"{error.message} ({evidence})" if evidence else error.message
            return web.json_response({"message": message, "hint": error.hint}, status=409)

    async def _begin(self, request: web.Request) -> web.Response:
        return _answer(await self._manager.begin(FaultSpec.of(await _body(request))))

    async def _list(self, _: web.Request) -> web.Response:
        return _answer(*self._manager.active(), many=True)

    async def _find(self, request: web.Request) -> web.Response:
        return _answer(self._manager.find(request.match_info["id"]))

    async def _end(self, request: web.Request) -> web.Response:
        return _answer(await self._manager.end(request.match_info["id"]))

    async def _end_all(self, request: web.Request) -> web.Response:
        return _answer(*await self._manager.end_all(by=request.query.get("by", "")), many=True)

    async def _renew(self, request: web.Request) -> web.Response:
        for_s = (await _body(request)).get("for_s")
        if not isinstance(for_s, int | float) or for_s <= 0:
            raise LabError("for how many seconds?", hint='{"for_s": 10}')
        return _answer(self._manager.renew(request.match_info["id"], for_s))


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.text())
    except ValueError as error:
        raise LabError(f"that is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise LabError("a JSON object is expected")
    return body


def _answer(*records: FaultRecord, many: bool = False) -> web.Response:
    found = [asdict(record) for record in records]
    return web.json_response(found if many else found[0])
