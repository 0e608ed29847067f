"""The faults that are on: begun, kept apart, ended in time, and written down.

Only the lab's process has a board, so a fault with a duration ends whatever becomes of who asked for it. What a fault
does is in ``effects``.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from meshbook.errors import LabError, MeshbookError
from meshbook.lab.faults.effects import Effect, Sites, effect
from meshbook.lab.faults.wanted import Edge, Moment, Record, Wanted

log = logging.getLogger(__name__)

Why = Literal["duration", "asked", "could not begin", "the lab goes down"]


@dataclass(kw_only=True)
class _Entry:
    record: Record
    effect: Effect
    timer: asyncio.TimerHandle | None = None


class Board:
    """All faults of one lab. ``path`` is the log: a line when a fault is on, and one when it has ended."""

    def __init__(self, sites: Sites, path: Path) -> None:
        self._sites = sites
        self._path = path
        self._entries: dict[str, _Entry] = {}
        self._ended: dict[str, Record] = {}
        self._numbers = itertools.count(1)
        self._ending: set[asyncio.Task[Record]] = set()
        self._changing = asyncio.Lock()

    def active(self) -> list[Record]:
        return [entry.record for entry in self._entries.values()]

    def find(self, identity: str) -> Record:
        """Return a fault that is on or has ended; ``LabError`` when there was none."""
        entry = self._entries.get(identity)
        found = entry.record if entry else self._ended.get(identity)
        if found is None:
            raise LabError(f"there is no fault {identity!r}", hint="meshbook lab fault list")
        return found

    async def begin(self, wanted: Wanted) -> Record:
        """Switch a fault on and return when it is; ``LabError`` when it cannot be, and then nothing is broken."""
        async with self._changing:
            found = effect(wanted, self._sites)
            self._refuse_overlap(found)
            began = await self._timed_begin(found)
            record = Record(
                id=f"fault-{next(self._numbers)}",
                kind=wanted.kind,
                context=wanted.context,
                targets=found.targets,
                by=wanted.by,
                for_s=wanted.for_s,
                began=began,
            )
            self._entries[record.id] = _Entry(record=record, effect=found)
            self._write("began", record)
        if wanted.for_s is not None:
            self._end_after(record.id, wanted.for_s, began.not_after.monotonic_s)
        elif wanted.kind == "kill":
            return await self.end(record.id, "asked")
        return record

    def renew(self, identity: str, for_s: float) -> Record:
        """Have a fault end ``for_s`` from now, whenever it was to end before."""
        if identity not in self._entries:
            raise LabError(f"fault {identity} has ended" if identity in self._ended else f"no fault {identity!r}")
        self._end_after(identity, for_s, Moment.now().monotonic_s)
        return self.find(identity)

    async def end(self, identity: str, why: Why = "asked") -> Record:
        """Switch a fault off and return its record; one that has ended already is no error."""
        async with self._changing:
            entry = self._entries.get(identity)
            if entry is None:
                return self.find(identity)
            if entry.timer:
                entry.timer.cancel()
            ended, problem = await _timed(entry.effect.end)
            record = replace(entry.record, ended=ended, why_ended=f"{why}, but {problem}" if problem else why)
            del self._entries[identity]
            self._ended[identity] = record
            self._write("ended", record)
            return record

    async def end_all(self, why: Why = "asked", by: str = "") -> list[Record]:
        """End every fault, or those that ``by`` asked for; the youngest first."""
        meant = [record for record in reversed(self.active()) if by in ("", record.by)]
        return [await self.end(record.id, why) for record in meant]

    async def close(self) -> None:
        await self.end_all("the lab goes down")

    def _refuse_overlap(self, wanted: Effect) -> None:
        for record in self.active():
            both = sorted(target for target in wanted.targets if _overlaps(target, record.targets))
            both += sorted(target for target in record.targets if _overlaps(target, wanted.targets))
            if both:
                raise LabError(f"{both[0]} is broken already by {record.id} ({record.kind})", hint="end that one first")

    async def _timed_begin(self, found: Effect) -> Edge:
        began, problem = await _timed(found.begin)
        if problem:
            await _timed(found.end)
            raise LabError(f"the fault could not be begun, and was undone: {problem}")
        return began

    def _end_after(self, identity: str, for_s: float, since_s: float) -> None:
        entry = self._entries.get(identity)
        if entry is None:
            return
        if entry.timer:
            entry.timer.cancel()
        left_s = since_s + for_s - Moment.now().monotonic_s
        entry.timer = asyncio.get_running_loop().call_later(max(left_s, 0.0), self._expire, identity)

    def _expire(self, identity: str) -> None:
        task = asyncio.ensure_future(self.end(identity, "duration"))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _write(self, event: str, record: Record) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event, **record.to_json()}) + "\n")
        log.info("fault %s %s: %s at %s", record.id, event, record.kind, ", ".join(record.targets))


def _overlaps(target: str, others: tuple[str, ...]) -> bool:
    """Say whether ``target`` is one of ``others`` or part of one."""
    return any(target == other or target.startswith(f"{other}/") for other in others)


async def _timed(change: Callable[[], Awaitable[None]]) -> tuple[Edge, str]:
    """Do it, and return between which moments it came, with what went wrong."""
    before, problem = Moment.now(), ""
    try:
        await change()
    except MeshbookError as error:
        problem = error.message
    return Edge(not_before=before, not_after=Moment.now()), problem
