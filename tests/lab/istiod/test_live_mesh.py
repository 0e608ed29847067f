"""Two networks with real Envoys, configured as istiod would: the article's requests, and what may go wrong."""

from __future__ import annotations

import functools
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from envoys import Discovery, eventually, get, program, running_envoy

from meshbook.analysis import parse_access_log
from meshbook.lab.envoy import LOAD_ASSIGNMENT, workload_secrets
from meshbook.lab.istiod import Proxy, resources
from meshbook.lab.pki import Authority

pytestmark = pytest.mark.envoy

OUTBOUND = "outbound|5000||helloworld.sample.svc.cluster.local"
ASKED_S = 1.5
URL = "http://helloworld.sample:5000/hello"


class LiveMesh:
    """Programs, Envoys and their folders for all pods of a world."""

    def __init__(self, world: Any, stack: ExitStack) -> None:
        self.world = world
        self.topology = world.topology
        authority = Authority(world.topology.pki)
        self.authorities = dict.fromkeys(("cluster1", "cluster2"), authority)
        self._secrets: dict[tuple[str, Authority], Any] = {}
        self.discovery = {
            one.name: stack.enter_context(Discovery(one.name, one.istiod_address, authority))
            for one in world.topology.clusters
        }
        self._stack = stack
        self.envoys: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        for cluster in self.topology.clusters:
            for (_, name), pod in self.world.pods[cluster.name].items():
                if name.startswith("helloworld"):
                    answers = program(pod["status"]["podIP"], 5000, pod["metadata"]["labels"]["version"])
                    self._stack.enter_context(answers)
        self.push()
        for cluster in self.topology.clusters:
            for proxy in self.world.mesh(cluster.name).proxies:
                discovery = self.discovery[cluster.name]
                node = discovery.node(proxy.node, proxy.address)
                envoy = running_envoy(self.folder(proxy), node, discovery.authority)
                self.envoys[proxy.name] = self._stack.enter_context(envoy)

    def push(self) -> set[str]:
        """Do what istiod does after a change; return the kinds of resources of which any changed."""
        changed = set()
        for cluster in self.topology.clusters:
            mesh = self.world.mesh(cluster.name)
            for proxy in mesh.proxies:
                served = replace(resources(proxy, mesh), secrets=self._secrets_of(proxy))
                changed |= set(self.discovery[cluster.name].publish(proxy.node, served))
        return changed

    def _secrets_of(self, proxy: Proxy) -> Any:
        authority = self.authorities[proxy.cluster]
        if (proxy.node, authority) not in self._secrets:
            chain, key = authority.issue_workload(proxy.identity)
            self._secrets[proxy.node, authority] = workload_secrets(chain, key, authority.root_pem)
        return self._secrets[proxy.node, authority]

    def folder(self, proxy: Proxy) -> Path:
        return self.topology.proxy_folder(proxy.cluster, proxy.namespace, proxy.name)

    def address(self, cluster: str, namespace: str, pod: str) -> str:
        return str(self.world.pods[cluster][namespace, pod]["status"]["podIP"])


@pytest.fixture
def mesh(new_world: Callable[[], Any]) -> Iterator[LiveMesh]:
    """A mesh that is not started yet, for a test that breaks it."""
    with ExitStack() as stack:
        yield LiveMesh(new_world(), stack)


@pytest.fixture(scope="module")
def healthy(new_world: Callable[[], Any]) -> Iterator[LiveMesh]:
    """A mesh that runs, for tests that leave it as it was."""
    with ExitStack() as stack:
        started = LiveMesh(new_world(), stack)
        ready(started)
        yield started


def curl(mesh: LiveMesh, cluster: str = "cluster1", target: str = URL) -> tuple[int, str]:
    """Ask as a program in the sleep pod would: through its sidecar."""
    sleep = mesh.address(cluster, "sample", f"sleep-{cluster[-1]}")
    return get(sleep, 15001, target)


def ready(mesh: LiveMesh) -> None:
    """Start everything; return when all Envoys are configured. One that ended says why in its first line."""
    mesh.start()
    for cluster in mesh.topology.clusters:
        for proxy in mesh.world.mesh(cluster.name).proxies:
            eventually(functools.partial(_health, mesh, proxy), 200)


def _health(mesh: LiveMesh, proxy: Proxy) -> int:
    if mesh.envoys[proxy.name].poll() is not None:
        pytest.fail((mesh.folder(proxy) / "envoy.log").read_text().partition("\n")[0])
    return get(proxy.address, 15021, "/healthz/ready")[0]


def answers(mesh: LiveMesh, count: int, cluster: str = "cluster1") -> Counter[tuple[int, str]]:
    return Counter(curl(mesh, cluster) for _ in range(count))


def both(found: Counter[tuple[int, str]]) -> bool:
    """Tell whether both clusters answered, and nothing else; of twenty all from one are chance once in 500,000."""
    return set(found) == {(200, "v1"), (200, "v2")}


def test_both_clusters_answer_and_losing_one_side_loses_no_request(healthy: LiveMesh) -> None:
    assert both(answers(healthy, 20))
    assert both(answers(healthy, 20, "cluster2"))

    stop, seen = threading.Event(), Counter[tuple[int, str]]()

    def ask_on() -> None:
        while not stop.is_set():
            seen.update((curl(healthy), curl(healthy, "cluster2")))

    asking = threading.Thread(target=ask_on)
    asking.start()
    try:
        healthy.world.unready = {"helloworld-v1"}
        changed = healthy.push()
        eventually(lambda: {curl(healthy) for _ in range(4)}, {(200, "v2")})
    finally:
        stop.set()
        asking.join()
    assert {code for code, _ in seen} == {200}
    assert answers(healthy, 20) == Counter({(200, "v2"): 20})
    assert changed == {LOAD_ASSIGNMENT}

    healthy.world.unready = set()
    healthy.push()
    eventually(lambda: both(answers(healthy, 8)), True)


def test_a_rule_that_asks_for_turns_gets_them(healthy: LiveMesh) -> None:
    spec = {"host": "helloworld", "trafficPolicy": {"loadBalancer": {"simple": "ROUND_ROBIN"}}}
    healthy.world.config["destination_rules"] = [{"metadata": {"namespace": "sample", "name": "turns"}, "spec": spec}]
    healthy.push()
    eventually(lambda: answers(healthy, 20), Counter({(200, "v1"): 10, (200, "v2"): 10}))
    healthy.world.config["destination_rules"] = []
    healthy.push()


def test_ingress_gateways_follow_gateway_and_virtual_service(healthy: LiveMesh) -> None:
    address, port = healthy.address("cluster2", "front", "ingress-2"), healthy.topology.bindable(80)
    assert both(Counter(get(address, port, "/hello", host="198.51.100.7") for _ in range(20)))
    assert get(address, port, "/other")[0] == 404


def test_a_host_that_the_cluster_does_not_have_is_said_to_be_unknown(healthy: LiveMesh) -> None:
    code, body = curl(healthy, target="http://nosuch.sample:5000/hello")
    assert (code, "resolve" in body) == (502, True)
    assert curl(healthy, target="http://helloworld.sample/hello")[0] == 502
    assert curl(healthy, target="http://helloworld.sample.svc.cluster.local:5000/hello")[0] == 200


def test_another_root_of_trust_leaves_only_local_answers_and_one_that_agrees_mends_the_mesh(mesh: LiveMesh) -> None:
    common = mesh.authorities["cluster1"]
    mesh.authorities["cluster2"] = Authority(mesh.topology.root / "other", "another root")
    ready(mesh)
    assert answers(mesh, 10) == Counter({(200, "v1"): 10})
    assert answers(mesh, 10, "cluster2") == Counter({(200, "v2"): 10})
    mesh.world.unready = {"helloworld-v1"}
    mesh.push()
    eventually(lambda: curl(mesh)[0], 503)

    mesh.world.unready = set()
    mesh.authorities["cluster2"] = common
    mesh.push()
    eventually(lambda: both(answers(mesh, 8)), True)


def test_mutual_tls_that_is_disabled_on_one_side_leaves_each_cluster_its_own_answers_and_no_error(
    mesh: LiveMesh, peer_authentication: Callable[..., Any]
) -> None:
    ready(mesh)
    mesh.world.peers = {"cluster1": [peer_authentication("STRICT")], "cluster2": [peer_authentication("DISABLE")]}
    mesh.push()
    eventually(lambda: answers(mesh, 10), Counter({(200, "v1"): 10}))
    eventually(lambda: answers(mesh, 10, "cluster2"), Counter({(200, "v2"): 10}))
    mesh.world.peers = {}
    mesh.push()
    eventually(lambda: both(answers(mesh, 8)), True)


def test_an_envoy_that_is_told_to_drain_loses_no_request(mesh: LiveMesh) -> None:
    ready(mesh)
    admin = mesh.address("cluster2", "sample", "helloworld-v2")
    for path in ("/healthcheck/fail", "/drain_listeners?graceful&skip_exit"):
        assert get(admin, 15000, path, method="POST")[0] == 200
    assert get(admin, 15021, "/healthz/ready")[0] == 503
    codes = Counter[int]()
    until = time.monotonic() + ASKED_S
    while time.monotonic() < until:
        codes[curl(mesh)[0]] += 1
    mesh.envoys["helloworld-v2"].terminate()
    mesh.envoys["helloworld-v2"].wait(5)
    codes.update(curl(mesh)[0] for _ in range(20))
    assert set(codes) == {200}


def test_envoys_serve_on_without_istiod_and_take_up_what_changed_when_it_is_back(mesh: LiveMesh) -> None:
    ready(mesh)
    for discovery in mesh.discovery.values():
        discovery.stop()
    assert both(answers(mesh, 20))
    for discovery in mesh.discovery.values():
        discovery.start()
    mesh.world.unready = {"helloworld-v1"}
    mesh.push()
    eventually(lambda: answers(mesh, 4), Counter({(200, "v2"): 4}))


def test_what_an_envoy_refuses_is_told_in_its_words_and_the_rest_is_served(mesh: LiveMesh) -> None:
    ready(mesh)
    rule = {"match": [{"uri": {"regex": "("}}], "route": [{"destination": {"host": "helloworld"}}]}
    mesh.world.config["virtual_services"][0]["spec"]["http"] = [rule]
    mesh.push()
    for number, cluster in (("1", "cluster1"), ("2", "cluster2")):
        refusals = mesh.discovery[cluster].refusals
        eventually(functools.partial(len, refusals), 1)
        assert refusals[0].startswith(f"ingress-{number}.front refused RouteConfiguration: ")
        assert "missing )" in refusals[0]
        refusals.clear()
    assert both(answers(mesh, 20))


def test_access_logs_tell_who_answered(healthy: LiveMesh) -> None:
    log = healthy.topology.proxy_folder("cluster1", "sample", "sleep-1") / "envoy.log"

    def logged() -> list[dict[str, Any]]:
        lines = [line for one in log.read_text().splitlines() if (line := parse_access_log(one))]
        return [line for line in lines if line["path"] == "/hello?logged"]

    assert curl(healthy, target=f"{URL}?logged")[0] == 200
    eventually(lambda: len(logged()), 1)
    (line,) = logged()
    assert (line["service"], line["hop"]) == (OUTBOUND.rpartition("|")[2], "outbound")
    assert (line["code"], line["flags"], line["details"], line["attempts"]) == (200, "", "via_upstream", None)
    assert line["upstream"] in ("same network", "other network")
