"""Which endpoints a proxy gets: own pods, remote gateways with weights, locality failover."""

from __future__ import annotations

from typing import Any

import pytest

OUTBOUND = "outbound|5000||helloworld.sample.svc.cluster.local"
SNI = "outbound_.5000_._.helloworld.sample.svc.cluster.local"


def seen(world: Any, cluster: str = OUTBOUND, pod: str = "sleep-1") -> list[tuple[str, int, int, int]]:
    """Return (address, port, weight, priority) of what a pod's Envoy would connect to."""
    assignments = {one["cluster_name"]: one for one in world.served(pod, f"cluster{pod[-1]}").endpoints}
    found = []
    for group in assignments[cluster]["endpoints"]:
        assert group["load_balancing_weight"] == sum(one["load_balancing_weight"] for one in group["lb_endpoints"])
        for one in group["lb_endpoints"]:
            place = one["endpoint"]["address"]["socket_address"]
            found.append((place["address"], place["port_value"], one["load_balancing_weight"], group["priority"]))
    return found


def ports(world: Any, cluster: str = OUTBOUND) -> list[int]:
    return [port for _, port, _, _ in seen(world, cluster)]


def add_rule(world: Any, **spec: Any) -> None:
    metadata = {"namespace": "sample", "name": "rule"}
    world.config["destination_rules"] = [{"metadata": metadata, "spec": {"host": "helloworld", **spec}}]


def test_a_remote_network_is_its_gateway(world: Any) -> None:
    here = world.topology.cluster("cluster1").pod_address(1)
    gateway = world.topology.cluster("cluster2").load_balancer_address(0)
    assert seen(world) == [(here, 15006, 1, 0), (gateway, 15443, 1, 0)]


def test_a_gateway_weighs_as_much_as_the_pods_behind_it(world: Any) -> None:
    for number in range(2):
        world.add_pod("cluster2", "sample", f"more-{number}", {"app": "helloworld"})
    assert [weight for _, _, weight, _ in seen(world)] == [1, 3]


def test_two_gateway_addresses_share_the_weight(world: Any) -> None:
    other = world.topology.cluster("cluster2")
    service = world.services["cluster2"]["istio-system", "eastwest"]
    service["status"]["loadBalancer"]["ingress"].append({"ip": other.load_balancer_address(1)})
    assert [weight for _, _, weight, _ in seen(world)] == [2, 1, 1]


def test_a_network_without_gateway_address_cannot_be_reached(world: Any) -> None:
    world.services["cluster2"]["istio-system", "eastwest"]["status"] = {}
    assert ports(world) == [15006]


def test_a_pod_without_sidecar_is_reached_in_its_own_network_only_and_in_plain_http(world: Any) -> None:
    for cluster, name in (("cluster1", "helloworld-v1"), ("cluster2", "helloworld-v2")):
        del world.pods[cluster]["sample", name]["metadata"]["labels"]["security.istio.io/tlsMode"]
    assert ports(world) == [5000]
    cluster = next(one for one in world.served("sleep-1").clusters if one["name"] == OUTBOUND)
    assert "transport_socket" not in cluster
    assert [one["match"] for one in cluster["transport_socket_matches"]] == [{"tlsMode": "istio"}]
    (members,) = [one for one in world.served("sleep-1").endpoints if one["cluster_name"] == OUTBOUND]
    assert "metadata" not in members["endpoints"][0]["lb_endpoints"][0]


def test_an_endpoint_whose_pod_is_unknown_waits(world: Any) -> None:
    view = world.view("cluster1")
    del world.pods["cluster1"]["sample", "helloworld-v1"]
    world.view = lambda cluster: view if cluster == "cluster1" else type(world).view(world, cluster)
    assert ports(world) == [15443]


def test_without_a_rule_both_networks_have_one_priority_with_outlier_detection_the_own_locality_comes_first(
    world: Any,
) -> None:
    assert [priority for *_, priority in seen(world)] == [0, 0]
    add_rule(world, trafficPolicy={"outlierDetection": {}})
    assert [priority for *_, priority in seen(world)] == [0, 1]
    off = {"outlierDetection": {}, "loadBalancer": {"localityLbSetting": {"enabled": False}}}
    add_rule(world, trafficPolicy=off)
    assert [priority for *_, priority in seen(world)] == [0, 0]


@pytest.mark.parametrize(
    ("asked", "done"),
    [("", "LEAST_REQUEST"), ("LEAST_CONN", "LEAST_REQUEST"), ("ROUND_ROBIN", "ROUND_ROBIN"), ("RANDOM", "RANDOM")],
)
def test_a_rule_says_how_endpoints_are_picked(world: Any, asked: str, done: str) -> None:
    add_rule(world, trafficPolicy={"loadBalancer": {"simple": asked} if asked else {}})
    (found,) = [one for one in world.served("sleep-1").clusters if one["name"] == OUTBOUND]
    assert found["lb_policy"] == done


def test_failover_leaves_no_gap_when_the_own_locality_is_empty(world: Any) -> None:
    add_rule(world, trafficPolicy={"outlierDetection": {}})
    world.unready = {"helloworld-v1"}
    assert [(port, priority) for _, port, _, priority in seen(world)] == [(15443, 0)]


@pytest.mark.parametrize(("version", "expected"), [("v1", [15006]), ("v2", [15443]), ("v3", [])])
def test_a_subset_takes_its_own_pods_wherever_they_are(world: Any, version: str, expected: list[int]) -> None:
    add_rule(world, subsets=[{"name": "one", "labels": {"version": version}}])
    assert ports(world, OUTBOUND.replace("||", "|one|")) == expected


def test_an_east_west_gateway_passes_to_pods_of_its_own_network_only(world: Any) -> None:
    (only,) = seen(world, SNI, "eastwest-2")
    assert only[:2] == (world.topology.cluster("cluster2").pod_address(1), 15006)


def test_where_mutual_tls_is_disabled_pods_are_reached_in_plain_http_and_not_from_other_networks(
    world: Any, peer_authentication: Any
) -> None:
    world.peers["cluster1"] = [peer_authentication("DISABLE")]
    assert ports(world) == [5000]
    assert seen(world, SNI, "eastwest-1") == []
    assert {port for _, port, _, _ in seen(world, pod="sleep-2")} == {15443, 15006}, "cluster2 does not know of it"


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([("DISABLE", "istio-system", {})], [5000]),
        ([("DISABLE", "istio-system", {}), ("PERMISSIVE", "sample", {})], [15006, 15443]),
        ([("DISABLE", "sample", {}), ("STRICT", "sample", {"selector": {"matchLabels": {"version": "v1"}}})], [15006]),
        ([("DISABLE", "sample", {"selector": {"matchLabels": {"version": "v1"}}})], [5000, 15443]),
        ([("UNSET", "sample", {}), ("DISABLE", "istio-system", {})], [5000]),
        ([("DISABLE", "other", {})], [15006, 15443]),
    ],
    ids=["mesh", "namespace over mesh", "labels over namespace", "labels", "unset passes on", "another namespace"],
)
def test_the_narrowest_peer_authentication_counts(
    world: Any, peer_authentication: Any, rules: Any, expected: list[int]
) -> None:
    world.peers["cluster1"] = [peer_authentication(mode, home, **spec) for mode, home, spec in rules]
    assert ports(world) == expected
