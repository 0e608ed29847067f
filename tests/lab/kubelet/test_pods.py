from __future__ import annotations

import asyncio
import signal
import time
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from meshbook.lab.client import ApiError


def get(url: str) -> str:
    with urlopen(url, timeout=2) as answer:
        return str(answer.read().decode())


async def answers(address: str) -> str:
    try:
        return await asyncio.to_thread(get, f"http://{address}:5000/hello")
    except URLError:
        return ""


async def test_a_pod_gets_an_address_runs_and_is_ready(node: Any, specs: Any) -> None:
    pod, _ = await node.start_ready(specs.pod())
    assert node.status["phase"] == "Running"
    assert node.status["podIP"] == pod.address == node.cluster.pod_address(0)
    assert node.status["podIPs"] == [{"ip": pod.address}]
    assert node.status["hostIP"] == node.cluster.node_address
    assert "running" in node.state()
    assert node.reports[0]["phase"] == "Pending"


async def test_the_sample_answers_on_the_pod_address_with_its_name(node: Any, specs: Any) -> None:
    probe = {"httpGet": {"port": "http", "path": "/health"}, "periodSeconds": 10}
    ports = [{"name": "http", "containerPort": 5000}]
    pod, _ = await node.start_ready(specs.pod(specs.web(readinessProbe=probe, ports=ports)))
    assert await answers(pod.address) == "Hello version: v1, instance: web-0\n"


async def test_not_ready_until_the_probe_passes_and_again_when_it_fails(node: Any, specs: Any, tmp_path: Any) -> None:
    sign = tmp_path / "ready"
    probe = {"exec": {"command": ["test", "-e", str(sign)]}, "periodSeconds": 0.02, "failureThreshold": 2}
    node.start(specs.pod(specs.app(readinessProbe=probe)))
    await node.until(lambda: "running" in node.state())
    await asyncio.sleep(0.1)
    assert node.condition("Ready") == node.condition("ContainersReady") == "False"
    sign.touch()
    await node.until(lambda: node.ready)
    sign.unlink()
    await node.until(lambda: not node.ready)


async def test_what_is_not_alive_is_started_again(node: Any, specs: Any, tmp_path: Any) -> None:
    probe = {"exec": {"command": ["test", "!", "-e", str(tmp_path / "dead")]}, "periodSeconds": 0.02}
    await node.start_ready(specs.pod(specs.app("rm -f $DEAD; sleep 100", livenessProbe=probe)))
    (tmp_path / "dead").touch()
    await node.until(lambda: node.status["containerStatuses"][0]["restartCount"] >= 1)


async def test_an_unknown_image_waits_and_says_which_ones_there_are(node: Any, specs: Any) -> None:
    node.start(specs.pod({"name": "app", "image": "nginx:1"}))
    seen = []
    await node.until(lambda: seen.append(node.state()) or "ImagePullBackOff" in str(node.state()))
    assert "ErrImagePull" in str(node.reports)
    assert node.status["phase"] == "Pending"
    assert "curlimages/curl" in node.state()["waiting"]["message"]


async def test_a_container_that_fails_is_restarted_with_a_growing_pause(node: Any, specs: Any) -> None:
    node.start(specs.pod(specs.app("exit 3")))
    await node.until(lambda: node.status and node.status["containerStatuses"][0]["restartCount"] == 3)
    status = node.status["containerStatuses"][0]
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert any("CrashLoopBackOff" in str(report) for report in node.reports)
    assert node.status["phase"] == "Running"


@pytest.mark.parametrize(("script", "phase"), [("exit 0", "Succeeded"), ("exit 1", "Failed"), ("kill -9 $$", "Failed")])
async def test_a_pod_that_is_not_restarted_ends_with_its_container(
    node: Any, specs: Any, script: str, phase: str
) -> None:
    node.start(specs.pod(specs.app(script), restartPolicy="Never"))
    await node.until(lambda: node.status.get("phase") == phase)


async def test_init_containers_come_first_and_in_order(node: Any, specs: Any, tmp_path: Any) -> None:
    order = tmp_path / "order"
    steps = [specs.app(f"echo {name} >> {order}", name=name) for name in ("one", "two")]
    await node.start_ready(specs.pod(specs.app(f"echo app >> {order}; exec sleep 100"), initContainers=steps))
    await node.until(lambda: order.read_text().split() == ["one", "two", "app"])
    assert len(node.status["initContainerStatuses"]) == 2


async def test_a_deleted_pod_leaves_the_endpoints_then_ends_then_is_removed(node: Any, specs: Any) -> None:
    pod, task = await node.start_ready(specs.pod(specs.web()))
    await node.until(lambda: pod.container("").log_path().stat().st_size)
    begun = time.monotonic()
    pod.update(specs.terminating(pod.object))
    await node.until(lambda: not node.ready)
    assert "running" in node.state()
    await asyncio.wait_for(task, 3)
    assert time.monotonic() - begun < 1.5
    assert node.state()["terminated"]["exitCode"] == 0
    assert node.removed == ["web-0"]
    assert await answers(pod.address) == ""


async def test_a_terminating_pod_counts_no_restart(node: Any, specs: Any) -> None:
    pod, task = await node.start_ready(specs.pod(specs.web()))
    pod.update(specs.terminating(pod.object))
    await asyncio.wait_for(task, 5)
    assert "terminated" in node.state()
    assert {report["containerStatuses"][0]["restartCount"] for report in node.reports} == {0}


async def test_what_ignores_sigterm_is_killed_after_its_grace(node: Any, specs: Any) -> None:
    pod, task = await node.start_ready(specs.pod(specs.app("trap '' TERM; while :; do sleep 0.05; done")))
    await asyncio.sleep(0.1)
    begun = time.monotonic()
    pod.update(specs.terminating(pod.object, grace_s=1))
    await asyncio.wait_for(task, 4)
    assert 0.9 < time.monotonic() - begun < 3
    assert node.state()["terminated"]["signal"] == signal.SIGKILL


async def test_nothing_that_a_container_started_outlives_it(node: Any, specs: Any) -> None:
    pod, task = await node.start_ready(specs.pod(specs.app("setsid sleep 100 & sleep 100 & exec sleep 100")))
    await node.until(lambda: len(node.ground.processes.marked("MESHBOOK_CONTAINER=uid-1/app")) == 3)
    pod.update(specs.terminating(pod.object))
    await asyncio.wait_for(task, 3)
    assert node.ground.processes.marked("MESHBOOK_CONTAINER=uid-1/app") == []


async def test_a_pod_whose_object_is_gone_is_killed_at_once(node: Any, specs: Any) -> None:
    pod, task = await node.start_ready(specs.pod(specs.app("trap '' TERM; while :; do sleep 0.05; done")))
    pod.update(specs.terminating(pod.object, grace_s=30))
    await asyncio.sleep(0.05)
    begun = time.monotonic()
    pod.vanish()
    await asyncio.wait_for(task, 3)
    assert time.monotonic() - begun < 0.5
    assert node.removed == []


async def test_a_pod_that_never_started_can_be_deleted(node: Any, specs: Any) -> None:
    pod, task = node.start(specs.pod({"name": "app", "image": "nginx:1"}))
    await node.until(lambda: "waiting" in node.state())
    pod.update(specs.terminating(pod.object))
    await asyncio.wait_for(task, 2)
    assert node.removed == ["web-0"]


async def test_a_status_that_was_refused_is_sent_again(node: Any, specs: Any) -> None:
    node.refusals = [ApiError("no answer", code=0), ApiError("conflict", code=409)]
    await node.start_ready(specs.pod())


async def test_folders_and_address_are_given_back(node: Any, specs: Any) -> None:
    pod, task = await node.start_ready(specs.pod())
    folder = node.ground.topology.pod_folder("cluster1", "sample", "web-0")
    assert (folder / "app").is_dir()
    pod.vanish()
    await asyncio.wait_for(task, 3)
    assert not folder.exists()
    assert node.ground.addresses.take("other") != pod.address


async def test_an_exec_sees_the_pod_and_not_the_host(node: Any, specs: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "1")
    field = {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}}
    pod, _ = await node.start_ready(specs.pod(specs.app("env; exec sleep 100", env=[field])))
    log = pod.container("app").log_path()
    await node.until(lambda: b"POD_IP" in log.read_bytes())
    text = log.read_text()
    assert " APP=web\n" in text
    assert " HOSTNAME=web-0\n" in text
    assert f" POD_IP={pod.address}\n" in text
    assert "SECRET_OF_THE_HOST" not in text
