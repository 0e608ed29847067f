"""Each fault does what it says, is undone whole, and is stamped with when it was really on."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest
from node import app, is_ready

from meshbook.errors import LabError
from meshbook.lab.faults import FaultSpec

HELLO = b"GET /hello HTTP/1.1\r\nHost: helloworld\r\nConnection: close\r\n\r\n"


def _ask(address: str, timeout_s: float = 0.15) -> str:
    """Return how an application takes a request: ``answers``, ``refuses``, or ``silent``."""
    try:
        with socket.create_connection((address, 5000), timeout=timeout_s) as connection:
            connection.sendall(HELLO)
            return "answers" if connection.recv(100) else "refuses"
    except TimeoutError:
        return "silent"
    except OSError:
        return "refuses"


async def _state(pod: Any) -> str:
    return await asyncio.to_thread(_ask, pod.address)


def _spec(kind: str, for_s: float | None = None) -> FaultSpec:
    if kind in ("cluster-down", "link-cut"):
        return FaultSpec(kind=kind, context="cluster1", for_s=for_s)
    return FaultSpec(kind=kind, context="cluster1", selector="app=helloworld", for_s=for_s)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("freeze", "silent"),
        ("refuse", "refuses"),
        ("kill", "refuses"),
        ("unready", "answers"),
        ("cluster-down", "silent"),
    ],
)
async def test_a_fault_is_on_when_begin_returns_and_off_when_end_returns(
    clusters: Any, hello: Any, kind: str, expected: str
) -> None:
    for _ in range(2):
        record = await clusters.faults.begin(_spec(kind, 60))
        assert await _state(hello) == expected
        assert kind != "unready" or not is_ready(hello)
        ended = await clusters.faults.end(record.id)
        assert await _state(hello) == "answers"
        assert clusters.faults.active() == []
        assert ended.why_ended == "asked"
        await clusters.until(lambda: is_ready(hello))


async def test_a_fault_with_a_duration_ends_by_itself_and_in_time(clusters: Any, hello: Any) -> None:
    record = await clusters.faults.begin(_spec("freeze", 0.2))
    await clusters.until(lambda: not clusters.faults.active())
    ended = clusters.faults.find(record.id)
    assert ended.why_ended == "duration"
    assert 0.2 <= ended.shortest_s <= ended.longest_s < 0.8
    assert await _state(hello) == "answers"


async def test_the_log_tells_start_and_end(clusters: Any, hello: Any) -> None:
    record = await clusters.faults.begin(_spec("freeze", 60))
    await clusters.faults.end(record.id)
    began, ended = map(json.loads, clusters.topology.fault_log.read_text().splitlines())
    assert (began["event"], ended["event"]) == ("began", "ended")
    assert began["ended"] is None
    moments = [
        edge[name]["monotonic_s"] for edge in (ended["began"], ended["ended"]) for name in ("not_before", "not_after")
    ]
    assert moments == sorted(moments)
    assert ended["targets"] == ["cluster1/sample/web-0/helloworld"]


async def test_a_frozen_application_loses_its_readiness_and_a_cluster_that_is_down_does_not(
    clusters: Any, hello: Any
) -> None:
    frozen = await clusters.faults.begin(_spec("freeze", 60))
    await clusters.until(lambda: not is_ready(hello))
    await clusters.faults.end(frozen.id)
    await clusters.until(lambda: is_ready(hello))
    down = await clusters.faults.begin(_spec("cluster-down", 60))
    assert clusters.silent == {"cluster1": True}
    await asyncio.sleep(0.3)
    assert is_ready(hello)
    await clusters.faults.end(down.id)
    assert clusters.silent == {"cluster1": False}


async def test_a_kill_without_a_duration_holds_nothing_back(clusters: Any, hello: Any) -> None:
    record = await clusters.faults.begin(_spec("kill"))
    assert not record.is_on
    assert await _state(hello) == "answers"
    assert hello.container("").status["restartCount"] == 1


async def test_a_link_is_cut_at_the_gateways_of_the_side_that_requests_go_to(clusters: Any) -> None:
    """A stand-in for the gateway's Envoy: what counts is which process is stopped."""
    gateways = {}
    for name in clusters.nodes:
        gateways[name] = await clusters.start(name, "gateway", app(), istio="eastwestgateway")
    for direction, expected in (("in", {"cluster1"}), ("out", {"cluster2"}), ("both", {"cluster1", "cluster2"})):
        record = await clusters.faults.begin(FaultSpec(kind="link-cut", context="cluster1", direction=direction))
        stopped = {name for name, pod in gateways.items() if pod.container("").process.is_stopped}
        await clusters.faults.end(record.id)
        assert stopped == expected


async def test_what_is_broken_cannot_be_broken_twice(clusters: Any, hello: Any) -> None:
    first = await clusters.faults.begin(_spec("freeze", 60))
    for kind in ("refuse", "cluster-down"):
        with pytest.raises(LabError, match="broken already by fault-1"):
            await clusters.faults.begin(_spec(kind))
    await clusters.faults.end(first.id)
    whole = await clusters.faults.begin(_spec("cluster-down"))
    with pytest.raises(LabError, match="broken already"):
        await clusters.faults.begin(_spec("freeze"))
    assert (await clusters.faults.end_all())[0].id == whole.id


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        (FaultSpec(kind="cluster-down", context="cluster9"), "no cluster 'cluster9'"),
        (FaultSpec(kind="freeze", context="cluster1", pod="nobody"), "no pod nobody with a running application"),
        (FaultSpec(kind="freeze", context="cluster2", selector="app=helloworld"), "no pod app=helloworld"),
        (FaultSpec(kind="link-cut", context="cluster1"), "no east-west gateway"),
    ],
)
async def test_a_fault_with_nothing_to_break_is_refused(
    clusters: Any, hello: Any, spec: FaultSpec, complaint: str
) -> None:
    with pytest.raises(LabError, match=complaint):
        await clusters.faults.begin(spec)
    assert clusters.faults.active() == []


async def test_a_fault_is_renewed_by_who_still_wants_it(clusters: Any, hello: Any) -> None:
    record = await clusters.faults.begin(_spec("freeze", 0.2))
    clusters.faults.renew(record.id, 60)
    await asyncio.sleep(0.3)
    assert clusters.faults.active() == [record]
    await clusters.faults.end(record.id)
    with pytest.raises(LabError, match="has ended"):
        clusters.faults.renew(record.id, 1)


async def test_a_pod_that_ends_while_it_is_broken_does_not_hinder_the_end_of_the_fault(
    clusters: Any, hello: Any
) -> None:
    for count, kind in enumerate(("freeze", "kill", "refuse", "unready"), start=1):
        record = await clusters.faults.begin(_spec(kind, 60))
        hello.container("").kill_process()
        ended = await clusters.faults.end(record.id)
        assert ended.why_ended == "asked", kind
        await clusters.until(
            lambda count=count: hello.container("").status["restartCount"] == count and is_ready(hello)
        )
    record = await clusters.faults.begin(_spec("freeze", 60))
    hello.vanish()
    assert (await clusters.faults.end(record.id)).why_ended == "asked"
