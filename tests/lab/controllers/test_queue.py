"""The work queue: nothing is forgotten, nothing is done twice, and a fault never ends it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from waits import until_async

from meshbook.lab.client import ApiError
from meshbook.lab.controllers import WorkQueue

Work = Callable[[str], Awaitable[float | None]]


@contextlib.asynccontextmanager
async def running(work: Work) -> AsyncIterator[WorkQueue[str]]:
    queue = WorkQueue("test", work)
    task = asyncio.create_task(queue.run())
    yield queue
    assert not task.done()
    task.cancel()


async def test_a_key_that_waits_is_worked_on_once() -> None:
    seen: list[str] = []

    async def work(key: str) -> None:
        seen.append(key)

    async with running(work) as queue:
        for key in ("a", "b", "a", "a"):
            queue.add(key)
        await until_async(lambda: len(seen) >= 2)
        await asyncio.sleep(0.05)
    assert sorted(seen) == ["a", "b"]


async def test_a_key_that_is_added_during_its_work_is_worked_on_again() -> None:
    seen: list[str] = []
    async with running(lambda key: work(key)) as queue:

        async def work(key: str) -> None:
            seen.append(key)
            if len(seen) == 1:
                queue.add(key)

        queue.add("a")
        await until_async(lambda: len(seen) == 2)


@pytest.mark.parametrize(
    "fault", [ApiError("no answer", code=0), ApiError("conflict", code=409), KeyError("spec")], ids=repr
)
async def test_a_fault_is_tried_again_and_the_others_go_on(fault: Exception, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    async def work(key: str) -> None:
        seen.append(key)
        if key == "bad" and seen.count("bad") < 4:
            raise fault

    async with running(work) as queue:
        queue.add("bad")
        queue.add("good")
        await until_async(lambda: seen.count("bad") == 4)
        await asyncio.sleep(0.1)
    assert (seen.count("bad"), seen.count("good")) == (4, 1)
    assert ("bad" in caplog.text) is not (isinstance(fault, ApiError) and fault.code == 409)


async def test_work_may_ask_to_be_done_again_later() -> None:
    seen: list[float] = []

    async def work(_: str) -> float | None:
        seen.append(asyncio.get_running_loop().time())
        return 0.05 if len(seen) == 1 else None

    async with running(work) as queue:
        queue.add("a")
        await until_async(lambda: len(seen) == 2)
    assert seen[1] - seen[0] >= 0.05
