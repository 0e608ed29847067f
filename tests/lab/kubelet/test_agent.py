from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import kubernetes
import pytest
from kubernetes.stream import stream

from meshbook.lab import pki
from meshbook.lab.apiserver import ApiServer, User
from meshbook.lab.client import NAMESPACES, NODES, PODS, SERVICE_ACCOUNTS, Client
from meshbook.lab.kubelet import Kubelet, ProcessTable, Timing
from meshbook.lab.pki import Authority
from meshbook.lab.topology import LabTopology

LOOP = 'for i in $(seq 1 3); do curl -sS "http://$1:5000/hello"; done'


class Cluster:
    """A cluster without controllers: pods are bound to the node by hand."""

    def __init__(self, client: Client, topology: LabTopology, tls: ssl.SSLContext, specs: Any) -> None:
        self.client, self.topology, self.tls, self.specs = client, topology, tls, specs
        self.node = topology.clusters[0]

    async def run(self, name: str, *containers: Any, **spec: Any) -> Any:
        """Create a pod and wait until it is ready."""
        pod = self.specs.pod(*containers, name=name, **spec)
        del pod["metadata"]["uid"]
        await self.client.create(PODS, pod)
        return await self.wait(name, lambda found: "'type': 'Ready', 'status': 'True'" in str(found.get("status")))

    async def wait(self, name: str, holds: Callable[[Any], bool], timeout_s: float = 10) -> Any:
        found: Any = {}
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            pods, _ = await self.client.list(PODS, "sample")
            found = next((pod for pod in pods if pod["metadata"]["name"] == name), {})
            if holds(found):
                return found
            await asyncio.sleep(0.02)
        raise AssertionError(f"pod {name} was not as expected: {found.get('status')}")

    def exec(self, pod: str, *command: str, container: str = "", protocol: str = "") -> tuple[str, str, int]:
        """Run a command by the Python client, which asks for v5 and v4 unless told otherwise."""
        options = {"command": list(command), "stdout": True, "stderr": True, "_preload_content": False}
        options |= {"container": container} if container else {}
        with self.api() as api:
            if protocol:
                api.set_default_header("sec-websocket-protocol", protocol)
            core = kubernetes.client.CoreV1Api(api)
            session = stream(core.connect_get_namespaced_pod_exec, pod, "sample", **options)
            session.run_forever(timeout=5)
            answer = session.read_stdout(timeout=0), session.read_stderr(timeout=0), session.returncode
            session.sock.shutdown()
        return answer

    def api(self) -> Any:
        return kubernetes.config.new_client_from_config(str(self.topology.kubeconfig), "cluster1")


@pytest.fixture
async def cluster(topology: LabTopology, processes: ProcessTable, specs: Any) -> AsyncIterator[Cluster]:
    node = topology.clusters[0]
    authority = Authority(topology.pki)
    tokens = {each.name: f"token-{each.name}" for each in topology.clusters}
    pki.write_private(topology.kubeconfig, pki.fleet_kubeconfig(topology, authority.root_pem, tokens))
    tls = authority.client_context("apiserver-kubelet-client")
    users = {tokens[node.name]: User(name="admin")}
    server = ApiServer(node, authority.server_context("api", [node.api_address]), users, tls)
    await server.start()
    client = await Client.connect(topology.kubeconfig, node.name)
    kubelet_tls = authority.server_context("kubelet", [node.node_address], require_client=True)
    kubelet = Kubelet(topology, node, client, processes, kubelet_tls, Timing(drain_s=0.1))
    running = asyncio.create_task(kubelet.run())
    try:
        await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "sample"}})
        await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default", "namespace": "sample"}})
        yield Cluster(client, topology, tls, specs)
    finally:
        running.cancel()
        await asyncio.wait([running])
        await client.close()
        await server.stop()


async def test_the_node_is_ready_and_says_where_it_is(cluster: Cluster) -> None:
    async with asyncio.timeout(5):
        while not (nodes := (await cluster.client.list(NODES))[0]) or "status" not in nodes[0]:
            await asyncio.sleep(0.02)
    node = nodes[0]
    assert node["metadata"]["labels"]["topology.kubernetes.io/zone"] == "east-14"
    assert node["status"]["addresses"][0] == {"type": "InternalIP", "address": cluster.node.node_address}
    assert {"Ready": "True"}.items() <= {c["type"]: c["status"] for c in node["status"]["conditions"]}.items()


@pytest.mark.parametrize("protocol", ["", "v4.channel.k8s.io"])
async def test_the_python_client_runs_a_command_in_a_pod(cluster: Cluster, protocol: str) -> None:
    await cluster.run("sleep")
    script = "echo $HOSTNAME; echo err >&2; exit 3"
    answer = await asyncio.to_thread(cluster.exec, "sleep", "sh", "-c", script, protocol=protocol)
    assert answer == ("sleep\n", "err\n", 3)


async def test_one_pod_reaches_another(cluster: Cluster) -> None:
    probe = {"httpGet": {"port": 5000, "path": "/health"}}
    web, _ = await asyncio.gather(
        cluster.run("web", cluster.specs.web(readinessProbe=probe)), cluster.run("sleep", cluster.specs.app())
    )
    answer = await asyncio.to_thread(cluster.exec, "sleep", "/bin/sh", "-c", LOOP, "-", web["status"]["podIP"])
    assert answer == ("Hello version: v1, instance: web\n" * 3, "", 0)


async def test_a_deleted_pod_is_gone_well_before_its_grace(cluster: Cluster) -> None:
    await cluster.run("web", cluster.specs.web())
    begun = time.monotonic()
    await cluster.client.delete(PODS, "web", namespace="sample")
    leaving = await cluster.wait("web", lambda pod: not pod or "PodTerminating" in str(pod["status"]))
    await cluster.wait("web", lambda pod: not pod)
    assert time.monotonic() - begun < 5
    assert leaving == {} or leaving["metadata"]["deletionTimestamp"]


async def test_a_pod_deleted_without_grace_is_killed_and_its_name_is_free(cluster: Cluster) -> None:
    stubborn = cluster.specs.app("trap '' TERM; while :; do sleep 0.05; done")
    first = await cluster.run("web", stubborn)
    await cluster.client.delete(PODS, "web", namespace="sample", grace_s=0)
    second = await cluster.run("web", cluster.specs.app())
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    assert second["status"]["podIP"] != first["status"]["podIP"]
