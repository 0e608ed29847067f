"""Which endpoints a proxy gets: own pods, remote gateways with weights, locality failover."""

from __future__ import annotations

from typing import Any

import pytest

from meshbook.lab.envoy.clusters import Outliers
from meshbook.lab.istiod import balancing, proxies, registry
from meshbook.lab.istiod.policies import EVERYTHING, Policy
from meshbook.lab.istiod.proxies import Proxy

HOST = "helloworld.sample.svc.cluster.local"
FAILOVER = Policy(outliers=Outliers())


def proxy_of(world: Any, cluster: str, name: str) -> Proxy:
    return next(one for one in proxies.of_cluster(world.view(cluster)) if one.name == name)


def seen(world: Any, policy: Policy = EVERYTHING, cluster: str = "cluster1", name: str = "sleep-1") -> list[Any]:
    mesh = world.mesh(cluster)
    instances = mesh.registry.services[HOST].instances[5000]
    return balancing.endpoints(proxy_of(world, cluster, name), instances, mesh.registry, policy, mesh.bindable)


def test_a_remote_network_is_its_gateway(world: Any) -> None:
    here, there = seen(world)
    assert (here.address, here.port, here.weight) == (world.topology.cluster("cluster1").pod_address(1), 15006, 1)
    gateway = world.topology.cluster("cluster2").load_balancer_address(0)
    assert (there.address, there.port, there.weight) == (gateway, 15443, 1)
    assert (here.locality.region, there.locality.region) == ("jp-east-1", "us-central1")


def test_a_gateway_weighs_as_much_as_the_pods_behind_it(world: Any) -> None:
    for number in range(2):
        world.add_pod("cluster2", "sample", f"more-{number}", {"app": "helloworld"})
    assert [one.weight for one in seen(world)] == [1, 3]


def test_two_gateway_addresses_share_the_weight(world: Any) -> None:
    other = world.topology.cluster("cluster2")
    service = world.services["cluster2"]["istio-system", "eastwest"]
    service["status"]["loadBalancer"]["ingress"].append({"ip": other.load_balancer_address(1)})
    assert [one.weight for one in seen(world)] == [2, 1, 1]


def test_pods_that_are_not_ready_are_left_out(world: Any) -> None:
    world.unready = {"helloworld-v2"}
    assert [one.port for one in seen(world)] == [15006]


def test_a_network_without_gateway_address_cannot_be_reached(world: Any) -> None:
    world.services["cluster2"]["istio-system", "eastwest"]["status"] = {}
    assert [one.port for one in seen(world)] == [15006]


def test_a_pod_without_sidecar_is_reached_in_its_own_network_only(world: Any) -> None:
    for cluster, name in (("cluster1", "helloworld-v1"), ("cluster2", "helloworld-v2")):
        del world.pods[cluster]["sample", name]["metadata"]["labels"]["security.istio.io/tlsMode"]
    (only,) = seen(world)
    assert (only.port, only.mtls) == (5000, False)


def test_an_endpoint_whose_pod_is_unknown_waits(world: Any) -> None:
    view = world.view("cluster1")
    del world.pods["cluster1"]["sample", "helloworld-v1"]
    assert registry.build([view]).services[HOST].instances[5000] == ()


def test_without_a_rule_both_networks_have_one_priority(world: Any) -> None:
    assert [one.priority for one in seen(world)] == [0, 0]


def test_outlier_detection_prefers_the_own_locality(world: Any) -> None:
    assert [one.priority for one in seen(world, FAILOVER)] == [0, 1]


def test_failover_leaves_no_gap_when_the_own_locality_is_empty(world: Any) -> None:
    world.unready = {"helloworld-v1"}
    assert [(one.port, one.priority) for one in seen(world, FAILOVER)] == [(15443, 0)]


@pytest.mark.parametrize(("version", "ports"), [("v1", [15006]), ("v2", [15443]), ("v3", [])])
def test_a_subset_takes_its_own_pods_wherever_they_are(world: Any, version: str, ports: list[int]) -> None:
    assert [one.port for one in seen(world, Policy(labels={"version": version}))] == ports


def test_an_east_west_gateway_passes_to_pods_of_its_own_network_only(world: Any) -> None:
    mesh = world.mesh("cluster2")
    gateway = proxy_of(world, "cluster2", "eastwest-2")
    found = balancing.passed_through(gateway, mesh.registry.services[HOST].instances[5000])
    assert [(one.address, one.port) for one in found] == [(world.topology.cluster("cluster2").pod_address(1), 15006)]
