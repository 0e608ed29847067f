"""The share that each cluster should have, from what the API servers say; each with its source in words."""

from __future__ import annotations

from typing import Any

import pytest
from meshes import HOST, FakeFleet, endpoints, healthy_mesh, named, servers

from meshbook import mesh
from meshbook.errors import UsageError

URL = "http://helloworld.sample:5000/hello"
SUBSETS = [{"name": name, "labels": {"version": name}} for name in ("v1", "v2", "v9")]
OUTLIER = {"outlierDetection": {"consecutive5xxErrors": 5}}


def rule(spec: dict[str, Any], namespace: str = "sample", name: str = "rule") -> dict[str, Any]:
    return named(name, namespace, spec={"host": HOST, **spec})


def routed(*routes: tuple[str, int], match: list[dict[str, Any]] | None = None, **spec: Any) -> dict[str, Any]:
    destinations = [{"destination": {"host": "helloworld", "subset": name}, "weight": part} for name, part in routes]
    http = {"route": destinations} | ({"match": match} if match else {})
    return named("split", "sample", spec={"hosts": ["helloworld"], "http": [http], **spec})


def share(fleet: FakeFleet, source: str = "a") -> tuple[float | None, str]:
    """The share of cluster ``b``, and why."""
    found = mesh.expected_share(fleet, URL)[source]  # type: ignore[arg-type]
    return (round(found.shares["b"], 3) if found.shares else None), found.why


def plant(fleet: FakeFleet, kind: str, *found: dict[str, Any]) -> None:
    for cluster in fleet.clusters:
        cluster.objects[kind] += found


@pytest.mark.parametrize(("pods", "expected"), [(1, 0.5), (3, 0.75)])
def test_without_a_rule_each_ready_endpoint_counts_the_same(pods: int, expected: float) -> None:
    assert share(healthy_mesh(pods)) == (expected, f"each ready endpoint counts the same (1 in a, {pods} in b)")


def test_a_cluster_without_ready_endpoints_is_not_meant_to_be_silent() -> None:
    assert share(healthy_mesh(0)) == (None, "b has no ready endpoint")


def test_a_users_own_number_wins() -> None:
    found = mesh.expected_share(healthy_mesh(3), URL, share="0.6")  # type: ignore[arg-type]
    assert {(one.shares["a"], one.shares["b"], one.why) for one in found.values()} == {(0.4, 0.6, "your own number")}


@pytest.mark.parametrize("number", ["half", "1.5", "-0.1"])
def test_a_share_that_is_none_is_refused(number: str) -> None:
    with pytest.raises(UsageError, match="auto, or a number from 0 to 1"):
        mesh.expected_share(healthy_mesh(), URL, share=number)  # type: ignore[arg-type]


@pytest.mark.parametrize("balancer", ["LEAST_REQUEST", "RANDOM", "ROUND_ROBIN"])
def test_a_balancer_of_another_name_changes_no_share(balancer: str) -> None:
    fleet = healthy_mesh(3)
    plant(fleet, "DestinationRule", rule({"trafficPolicy": {"loadBalancer": {"simple": balancer}}}))
    assert share(fleet)[0] == 0.75


def test_weights_of_a_virtual_service_count_before_endpoints() -> None:
    fleet = healthy_mesh(3)
    plant(fleet, "DestinationRule", rule({"subsets": SUBSETS}))
    plant(fleet, "VirtualService", routed(("v1", 90), ("v2", 10)))
    assert share(fleet) == (0.1, "VirtualService sample/split sends 90 % to v1, 10 % to v2")


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ([{"uri": {"exact": "/hello"}}], 0.0),
        ([{"uri": {"prefix": "/other"}}], None),
        ([{"headers": {"user": {"exact": "me"}}}], None),
        ([{"gateways": ["mesh"], "sourceLabels": {"app": "sleep"}}], 0.0),
    ],
    ids=["path", "another path", "a header that nobody sends", "client"],
)
def test_only_a_rule_that_matches_the_request_counts(match: list[dict[str, Any]], expected: float | None) -> None:
    fleet = healthy_mesh()
    plant(fleet, "DestinationRule", rule({"subsets": SUBSETS}))
    plant(fleet, "VirtualService", routed(("v1", 100), match=match))
    assert share(fleet)[0] == expected


def test_a_rule_of_a_gateway_or_of_another_namespace_alone_is_none_for_sidecars() -> None:
    fleet = healthy_mesh()
    plant(fleet, "DestinationRule", rule({"subsets": SUBSETS}))
    at_gateway = routed(("v1", 100), gateways=["helloworld-gateway"])
    plant(fleet, "VirtualService", at_gateway, {**routed(("v1", 100), exportTo=["other"])})
    assert share(fleet)[0] == 0.5


def test_locality_failover_keeps_answers_local_only_where_a_rule_says_so() -> None:
    fleet = healthy_mesh()
    plant(fleet, "DestinationRule", rule({"trafficPolicy": OUTLIER}))
    assert share(fleet, "a")[0] == 0.0
    assert share(fleet, "b")[0] == 1.0
    assert "DestinationRule sample/rule has outlierDetection" in share(fleet)[1]


def test_locality_failover_is_not_known_where_nodes_may_not_be_listed() -> None:
    fleet = healthy_mesh()
    fleet["b"].refused.add("Node")
    assert share(fleet)[0] == 0.5
    plant(fleet, "DestinationRule", rule({"trafficPolicy": OUTLIER}))
    assert share(fleet) == (None, "not looked at: needs list nodes (b)")


def test_locality_failover_that_is_switched_off_or_without_labels_changes_no_share() -> None:
    off, bare = healthy_mesh(), healthy_mesh()
    policy = {"loadBalancer": {"localityLbSetting": {"enabled": False}}, **OUTLIER}
    plant(off, "DestinationRule", rule({"trafficPolicy": policy}))
    plant(bare, "DestinationRule", rule({"trafficPolicy": OUTLIER}))
    for cluster in bare.clusters:
        cluster.objects["Node"] = [named("node")]
    assert (share(off)[0], share(bare)[0]) == (0.5, 0.5)


def test_the_client_namespaces_rule_counts_before_the_meshs() -> None:
    fleet = healthy_mesh()
    plant(fleet, "DestinationRule", rule({"trafficPolicy": OUTLIER}, "istio-system"), rule({}, "sample"))
    assert share(fleet)[0] == 0.5


def test_a_remote_pod_without_sidecar_is_no_endpoint() -> None:
    fleet = healthy_mesh(2)
    del fleet["b"].objects["Pod"][0]["metadata"]["labels"]["security.istio.io/tlsMode"]
    assert share(fleet)[0] == 0.5
    assert share(fleet, "b")[0] == round(2 / 3, 3)


def test_two_versions_in_one_cluster_are_told_apart_by_subset() -> None:
    fleet = healthy_mesh()
    both = [*servers("b", "v2", 1), *servers("b", "v1", 1)]
    fleet["b"].objects["Pod"] += both[1:]
    fleet["b"].objects["EndpointSlice"] = [endpoints("helloworld", both)]
    plant(fleet, "DestinationRule", rule({"subsets": SUBSETS}))
    plant(fleet, "VirtualService", routed(("v1", 50), ("v2", 50)))
    assert share(fleet)[0] == 0.75


@pytest.mark.parametrize(
    "policy", [{"consistentHash": {"useSourceIp": True}}, {"localityLbSetting": {"distribute": [{"from": "*"}]}}]
)
def test_what_cannot_be_told_has_no_share_and_says_why(policy: dict[str, Any]) -> None:
    fleet = healthy_mesh()
    plant(fleet, "DestinationRule", rule({"trafficPolicy": {"loadBalancer": policy}}))
    found, why = share(fleet)
    assert found is None
    assert why.startswith("DestinationRule sample/rule")


def test_what_may_not_be_read_has_no_share_and_says_which_right_is_missing() -> None:
    fleet = healthy_mesh()
    fleet["b"].refused.add("EndpointSlice")
    assert share(fleet)[1] == "not looked at: needs list endpointslices in sample (b)"


def test_an_ingress_gateway_routes_by_the_rule_of_its_gateway() -> None:
    fleet = healthy_mesh()
    labels = {"app": "istio-ingressgateway", "istio": "ingressgateway"}
    plant(fleet, "Pod", {**named("ingress", "gateways", labels), "spec": {}, "status": {}})
    plant(fleet, "Gateway", named("front", "sample", spec={"selector": {"istio": "ingressgateway"}, "servers": []}))
    plant(fleet, "DestinationRule", rule({"subsets": SUBSETS}))
    plant(fleet, "VirtualService", routed(("v1", 90), ("v2", 10), gateways=["front"]))
    found = mesh.expected_share(fleet, "http://192.0.2.1/hello", gateway_namespace="gateways")  # type: ignore[arg-type]
    assert round(found["b"].shares["b"], 3) == 0.1
    assert share(fleet)[0] == 0.5, "and sidecars do not"
