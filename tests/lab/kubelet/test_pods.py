"""Pods live as in a cluster: addresses, order of start and end, restarts, readiness, status, events, environment."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from node import app, pod, terminating, web

from meshbook.errors import LabError
from meshbook.lab.client import ApiError
from meshbook.lab.kubelet import ADDRESSES, AddressPool, marked
from meshbook.lab.topology import LabTopology
from meshbook.objects import condition

PROXY = "gcr.io/gke-release/asm/proxyv2:1.17.5-asm.9"
STUBBORN = "trap '' TERM; echo up; while :; do sleep 0.05; done"


def get(url: str) -> str:
    with urlopen(url, timeout=2) as answer:
        return str(answer.read().decode())


async def answers(address: str) -> str:
    try:
        return await asyncio.to_thread(get, f"http://{address}:5000/hello")
    except URLError:
        return ""


async def test_a_pod_gets_an_address_runs_and_is_ready(node: Any) -> None:
    running, _ = await node.start_ready(pod(app()))
    assert node.status["phase"] == "Running"
    assert node.status["podIP"] == running.address == node.cluster.pod_address(0)
    assert node.status["podIPs"] == [{"ip": running.address}]
    assert node.status["hostIP"] == node.cluster.node_address
    assert "running" in node.state()
    assert node.reports[0]["phase"] == "Pending"


def test_the_address_that_was_given_back_first_is_used_again_first(topology: LabTopology) -> None:
    pool = AddressPool(topology.clusters[0])
    taken = [pool.take() for _ in range(ADDRESSES)]
    assert len(set(taken)) == ADDRESSES
    with pytest.raises(LabError, match="no pod address left"):
        pool.take()
    for address in (taken[7], taken[3]):
        pool.release(address)
    assert pool.take() == taken[7]


async def test_the_sample_answers_on_the_pod_address_with_its_name(node: Any) -> None:
    probe = {"httpGet": {"port": "http", "path": "/health"}, "periodSeconds": 10}
    ports = [{"name": "http", "containerPort": 5000}]
    running, _ = await node.start_ready(pod(web(readinessProbe=probe, ports=ports)))
    assert await answers(running.address) == "Hello version: v1, instance: web-0\n"


async def test_not_ready_until_the_probe_passes_and_again_when_it_fails(node: Any, tmp_path: Any) -> None:
    sign = tmp_path / "ready"
    probe = {"exec": {"command": ["test", "-e", str(sign)]}, "periodSeconds": 0.02, "failureThreshold": 2}
    node.start(pod(app(readinessProbe=probe)))
    await node.until(lambda: "running" in node.state())
    await asyncio.sleep(0.1)
    assert node.condition("Ready") == node.condition("ContainersReady") == "False"
    sign.touch()
    await node.until(lambda: node.ready)
    sign.unlink()
    await node.until(lambda: not node.ready)
    assert [event.reason for event in node.events] == ["Pulled", "Created", "Started", "Unhealthy"]


async def test_what_is_not_alive_is_started_again(node: Any, tmp_path: Any) -> None:
    probe = {"exec": {"command": ["test", "!", "-e", str(tmp_path / "dead")]}, "periodSeconds": 0.02}
    await node.start_ready(pod(app("exec sleep 100", livenessProbe=probe)))
    (tmp_path / "dead").touch()
    await node.until(lambda: node.status["containerStatuses"][0]["restartCount"] >= 1)


async def test_an_unknown_image_waits_and_says_which_ones_there_are(node: Any) -> None:
    running, task = node.start(pod({"name": "app", "image": "nginx:1"}))
    await node.until(lambda: "ImagePullBackOff" in str(node.state()))
    assert "ErrImagePull" in str(node.reports)
    assert node.status["phase"] == "Pending"
    assert "curlimages/curl" in node.state()["waiting"]["message"]
    assert [(event.kind, event.reason) for event in node.events] == [("Warning", "Failed"), ("Warning", "BackOff")]
    running.update(terminating(running.object))
    async with asyncio.timeout(2):
        await task
    assert node.removed == ["web-0"]


@pytest.mark.parametrize(
    "fields",
    [
        {"envFrom": [{"configMapRef": {"name": "c"}}]},
        {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
        {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nothing"}}}]},
        {"lifecycle": {"preStop": {"sleep": {"seconds": 1}}}},
        {"restartPolicy": "Always"},
        {"readinessProbe": {"grpc": {"port": 1}}},
    ],
    ids=["envFrom", "secret", "field", "hook", "own restart policy", "grpc"],
)
async def test_what_the_lab_cannot_provide_is_refused(node: Any, fields: dict[str, Any]) -> None:
    node.start(pod(app(**fields)))
    await node.until(lambda: "waiting" in node.state() and node.state()["waiting"].get("message"))
    assert node.state()["waiting"]["reason"] == "CreateContainerConfigError"
    assert "the lab does" in node.state()["waiting"]["message"]


async def test_a_container_that_fails_is_restarted_with_a_growing_pause(node: Any) -> None:
    node.start(pod(app("exit 3")))
    await node.until(lambda: node.status and node.status["containerStatuses"][0]["restartCount"] == 3)
    status = node.status["containerStatuses"][0]
    assert status["lastState"]["terminated"]["exitCode"] == 3
    pauses = [event.message.split()[1] for event in node.events if event.reason == "BackOff"]
    assert pauses[:2] == ["0.05s", "0.1s"]
    assert node.status["phase"] == "Running"


@pytest.mark.parametrize(
    ("script", "policy", "phase", "exit_code"),
    [
        ("exit 0", "Never", "Succeeded", 0),
        ("exit 1", "Never", "Failed", 1),
        ("kill -9 $$", "Never", "Failed", 137),
        ("exit 0", "OnFailure", "Succeeded", 0),
    ],
)
async def test_a_pod_that_is_not_restarted_ends_with_its_container(
    node: Any, script: str, policy: str, phase: str, exit_code: int
) -> None:
    node.start(pod(app(script), restartPolicy=policy))
    await node.until(lambda: node.status.get("phase") == phase)
    assert node.state()["terminated"]["exitCode"] == exit_code


async def test_init_containers_come_first_and_in_order(node: Any, tmp_path: Any) -> None:
    order = tmp_path / "order"
    steps = [app(f"echo {name} >> {order}", name=name) for name in ("one", "two")]
    await node.start_ready(pod(app(f"echo app >> {order}; exec sleep 100"), initContainers=steps))
    await node.until(lambda: order.read_text().split() == ["one", "two", "app"])
    assert len(node.status["initContainerStatuses"]) == 2
    assert "PodInitializing" in str(node.reports[0]["containerStatuses"])


async def test_a_native_sidecar_starts_first_counts_and_outlives_the_others(node: Any, tmp_path: Any) -> None:
    up, said = tmp_path / "up", tmp_path / "said"
    probe = {"exec": {"command": ["test", "-e", str(up)]}, "periodSeconds": 0.02}
    script = f"trap 'echo sidecar >> {said}; exit' TERM; while :; do sleep 0.02; done"
    sidecar = app(script, name="side", restartPolicy="Always", startupProbe=probe, readinessProbe=probe)
    main = app(f"trap 'echo app >> {said}; exit' TERM; echo app >> {said}; while :; do sleep 0.02; done")
    running, task = node.start(pod(main, initContainers=[app("true", name="one"), sidecar]))
    await node.until(lambda: "running" in node.status.get("initContainerStatuses", [{}, {"state": {}}])[1]["state"])
    assert (node.condition("Initialized"), node.status["phase"]) == ("False", "Pending")
    assert not said.exists()
    up.touch()
    await node.until(lambda: node.ready and said.exists())
    assert (node.condition("Initialized"), node.status["phase"]) == ("True", "Running")
    up.unlink()
    await node.until(lambda: not node.ready)
    assert "side" in condition({"status": node.status}, "Ready")["message"]
    running.update(terminating(running.object))
    async with asyncio.timeout(5):
        await task
    assert said.read_text().split() == ["app", "app", "sidecar"]


async def test_a_pod_whose_work_is_done_ends_though_it_has_a_sidecar(node: Any) -> None:
    sidecar = app(name="side", restartPolicy="Always")
    node.start(pod(app("true"), initContainers=[sidecar], restartPolicy="Never"))
    await node.until(lambda: node.status.get("phase") == "Succeeded" and not marked("MESHBOOK_CONTAINER=uid-1/side"))


async def test_a_failed_init_container_keeps_its_pod_from_starting(node: Any) -> None:
    node.start(pod(app(), initContainers=[app("exit 1", name="one")], restartPolicy="Never"))
    await node.until(lambda: node.status.get("phase") == "Failed")
    assert "waiting" in node.state()
    assert node.condition("Initialized") == "False"


async def test_a_deleted_pod_leaves_the_endpoints_then_ends_then_is_removed(node: Any) -> None:
    running, task = await node.start_ready(pod(web()))
    await node.until(lambda: running.container("").log_path().stat().st_size)
    begun = time.monotonic()
    running.update(terminating(running.object))
    await node.until(lambda: not node.ready)
    assert "running" in node.state()
    assert node.condition("ContainersReady") == "True"
    async with asyncio.timeout(3):
        await task
    assert time.monotonic() - begun < 5
    assert node.state()["terminated"]["exitCode"] == 0
    assert {report["containerStatuses"][0]["restartCount"] for report in node.reports} == {0}
    assert node.events[-1].message == "Stopping container helloworld"
    assert node.removed == ["web-0"]
    assert await answers(running.address) == ""


async def test_what_ignores_sigterm_is_killed_after_its_grace(node: Any) -> None:
    running, task = await node.start_ready(pod(app(STUBBORN)))
    await node.until(lambda: running.container("").log_path().stat().st_size)
    begun = time.monotonic()
    running.update(terminating(running.object, grace_s=0.3))
    async with asyncio.timeout(4):
        await task
    assert 0.25 < time.monotonic() - begun < 2
    assert node.state()["terminated"]["signal"] == signal.SIGKILL


async def test_a_pod_whose_object_is_gone_is_killed_at_once(node: Any) -> None:
    running, task = await node.start_ready(pod(app(STUBBORN)))
    running.update(terminating(running.object, grace_s=30))
    await asyncio.sleep(0.05)
    begun = time.monotonic()
    running.vanish()
    async with asyncio.timeout(3):
        await task
    assert time.monotonic() - begun < 2
    assert node.removed == []


async def test_nothing_of_a_pod_outlives_it(node: Any) -> None:
    running, task = await node.start_ready(pod(app("setsid sleep 100 & sleep 100 & exec sleep 100")))
    folder = node.context.topology.pod_folder("cluster1", "sample", "web-0")
    await node.until(lambda: len(marked("MESHBOOK_CONTAINER=uid-1/app")) == 3)
    assert (folder / "app").is_dir()
    running.update(terminating(running.object))
    async with asyncio.timeout(3):
        await task
    assert marked("MESHBOOK_CONTAINER=uid-1/app") == []
    assert not folder.exists()
    assert node.context.addresses.take() != running.address


async def test_a_status_that_was_refused_is_sent_again(node: Any) -> None:
    node.refusals = [ApiError("no answer", code=0), ApiError("conflict", code=409)]
    await node.start_ready(pod(app()))


async def test_conditions_keep_their_times_and_those_of_others(node: Any) -> None:
    foreign = {"type": "example.com/gate", "status": "True"}
    past = {"lastTransitionTime": "2024-01-01T00:00:00Z"}
    before = [{"type": "PodScheduled", "status": "True"} | past, {"type": "Ready", "status": "False"} | past]
    await node.start_ready(pod(app()) | {"status": {"conditions": [foreign, *before]}})
    assert foreign in node.status["conditions"]
    assert [one["type"] for one in node.status["conditions"]].count("Ready") == 1
    assert condition({"status": node.status}, "PodScheduled").items() >= past.items()
    assert condition({"status": node.status}, "Ready")["lastTransitionTime"] > "2026"


async def printed(node: Any, obj: Any) -> str:
    """Return what the first container of a pod has written, once it has said ``end``."""
    worker, _ = await node.start_ready(obj)
    path = worker.containers[0].log_path()
    await node.until(lambda: b" end\n" in path.read_bytes())
    return "".join(line.partition(" ")[2] + "\n" for line in path.read_text().splitlines())


async def test_a_container_has_the_environment_that_its_spec_and_the_lab_give(node: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "1")
    paths = {"APP": "metadata.labels['app']", "NONE": "metadata.labels['none']", "NODE": "spec.nodeName"}
    env = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in paths.items()]
    env += [{"name": "B", "value": "$(APP)2"}, {"name": "C", "value": "$(UNKNOWN) $$(APP)"}]
    script = 'env; echo "args $(B) $1"; echo end; exec sleep 100'
    text = await printed(node, pod(app(script, env=env, args=["sh", "$(APP)"])))
    lines = set(text.splitlines())
    assert {"APP=web", "NONE=", "NODE=cluster1-node-1", "B=web2", "C=$(UNKNOWN) $(APP)", "args web2 web"} <= lines
    assert {"HOSTNAME=web-0", f"POD_IP={node.cluster.pod_address(0)}", "KUBERNETES_SERVICE_PORT=6443"} <= lines
    assert "SECRET_OF_THE_HOST" not in text
    assert "http_proxy" not in text


async def test_a_pod_with_a_sidecar_speaks_through_it(node: Any) -> None:
    """A stand-in for Envoy: the name of the container is what counts."""
    text = await printed(node, pod(app("env; echo end; exec sleep 100"), app(name="istio-proxy")))
    assert f"http_proxy=http://{node.cluster.pod_address(0)}:15001\n" in text
    assert "no_proxy=localhost,127.0.0.0/8\n" in text


async def test_a_pod_waits_for_the_token_that_it_mounts_and_says_so(node: Any) -> None:
    node.token_refusals = [ApiError("not now", code=0)]
    place = "/var/run/secrets/kubernetes.io/serviceaccount"
    await node.start_ready(pod(app(volumeMounts=[{"name": "own", "mountPath": place}])))
    folder = node.context.topology.pod_folder("cluster1", "sample", "web-0") / place[1:]
    assert (node.events[0].reason, node.events[0].message) == ("FailedMount", "not now")
    assert {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()} == dict.fromkeys(
        ("token", "ca.crt", "namespace"), 0o600
    )


@pytest.mark.envoy
async def test_a_proxy_is_told_who_it_is_and_drains_before_it_ends(node: Any) -> None:
    folder = node.context.topology.proxy_folder("cluster1", "sample", "web-0")
    probe = {"tcpSocket": {"port": 15000}}
    running, task = await node.start_ready(pod(app(), {"name": "istio-proxy", "image": PROXY, "readinessProbe": probe}))
    bootstrap = json.loads((folder / "bootstrap.json").read_text())
    assert bootstrap["node"] == {"cluster": "cluster1", "id": "web-0.sample"}
    begun = time.monotonic()
    running.update(terminating(running.object))
    async with asyncio.timeout(5):
        await task
    assert time.monotonic() - begun >= node.context.timing.drain_s
    assert not folder.exists()
