"""The global load balancer as a real Envoy: what a user meets while it is made, healthy and without backends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest
from envoys import Discovery, Program, eventually, get, program, running_envoy

from meshbook.lab.envoy import (
    NOT_READY_BODY,
    UNHEALTHY_BODY,
    Backend,
    Frontend,
    HealthCheck,
    Resources,
    load_balancer,
)
from meshbook.lab.pki import Authority
from meshbook.lab.topology import LabTopology

pytestmark = pytest.mark.envoy

PORT, HEALTH_PORT = 8080, 15021
CHECK = HealthCheck(request_path="/healthz/ready", port=HEALTH_PORT, interval_s=0.1, timeout_s=0.2)
NOT_READY, UNHEALTHY = {(404, NOT_READY_BODY.strip())}, {(502, UNHEALTHY_BODY.strip())}


class Edge:
    """The balancer's Envoy and its folder."""

    def __init__(self, topology: LabTopology, stack: ExitStack) -> None:
        self.topology, self._stack = topology, stack
        self.vip = topology.vip(0)
        self.here, self.there = (cluster.pod_address(0) for cluster in topology.clusters)
        discovery = Discovery("edge", topology.edge_address, Authority(topology.pki))
        self.discovery = stack.enter_context(discovery)
        self._serve([Frontend(name="web", address=self.vip, port=PORT)])
        node = discovery.node("edge", topology.edge_address)
        stack.enter_context(running_envoy(topology.edge, node, discovery.authority))

    def _serve(self, frontends: Sequence[Frontend]) -> None:
        self.publish(load_balancer(frontends))

    def publish(self, resources: Resources) -> None:
        self.discovery.publish("edge", resources)

    def back(self, address: str) -> Program:
        """Start a gateway on ``address``, which answers by its address; return the program of its health checks."""
        self._stack.enter_context(program(address, PORT, address))
        return self._stack.enter_context(program(address, HEALTH_PORT, "health"))

    def direct_to(self, *addresses: str) -> None:
        self._serve([self.frontend(*addresses)])

    def frontend(self, *addresses: str) -> Frontend:
        backend = Backend(name="gateways", endpoints=tuple((one, PORT) for one in addresses), health_check=CHECK)
        return Frontend(name="web", address=self.vip, port=PORT, backend=backend)

    def eventually(self, wanted: set[tuple[int, str]]) -> None:
        """Ask until there are these answers and no other."""
        eventually(lambda: {get(self.vip, PORT, "/hello") for _ in range(6)}, wanted)

    def from_all(self, *addresses: str) -> None:
        self.eventually({(200, address) for address in addresses})


@pytest.fixture
def balancer(topology: LabTopology) -> Iterator[Edge]:
    with ExitStack() as stack:
        yield Edge(topology, stack)


def test_the_vip_answers_404_while_it_is_made_and_then_from_all_healthy_backends(balancer: Edge) -> None:
    balancer.eventually(NOT_READY)
    health = balancer.back(balancer.here)
    balancer.back(balancer.there)
    balancer.direct_to(balancer.here, balancer.there)
    balancer.from_all(balancer.here, balancer.there)
    health.code = 503
    balancer.from_all(balancer.there)
    health.code = 200
    balancer.from_all(balancer.here, balancer.there)
    balancer.direct_to(balancer.there)
    balancer.from_all(balancer.there)


def test_a_listener_that_comes_before_its_cluster_is_served_all_the_same(balancer: Edge) -> None:
    balancer.back(balancer.here)
    balancer.eventually(NOT_READY)
    later = load_balancer([balancer.frontend(balancer.here)])
    balancer.publish(Resources(listeners=later.listeners))
    balancer.eventually(UNHEALTHY)
    balancer.publish(later)
    balancer.from_all(balancer.here)


def test_the_vip_answers_502_when_no_backend_is_healthy_or_there_is_none(balancer: Edge) -> None:
    balancer.direct_to(balancer.here)
    balancer.eventually(UNHEALTHY)
    balancer.back(balancer.here)
    balancer.from_all(balancer.here)
    balancer.direct_to()
    balancer.eventually(UNHEALTHY)
