"""What each kind of proxy serves."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from meshbook.lab.envoy import Resources
from meshbook.lab.istiod import mesh_config, unsupported

OUTBOUND = "outbound|5000||helloworld.sample.svc.cluster.local"
SNI = "outbound_.5000_._.helloworld.sample.svc.cluster.local"


def listeners(served: Resources) -> dict[str, Any]:
    return {one["name"]: one for one in served.listeners}


def clusters(served: Resources) -> dict[str, Any]:
    return {one["name"]: one for one in served.clusters}


def endpoints(served: Resources) -> dict[str, Any]:
    return {one["cluster_name"]: one for one in served.endpoints}


def routes(world: Any, pod: str = "sleep-1") -> dict[str, Any]:
    """Return the only route configuration of a pod's Envoy: routes by domain."""
    (configured,) = world.served(pod).routes
    return {domain: host["routes"] for host in configured["virtual_hosts"] for domain in host["domains"]}


def test_a_sidecar_listens_on_istios_ports(world: Any) -> None:
    found = listeners(world.served("sleep-1"))
    ports = {name: one["address"]["socket_address"]["port_value"] for name, one in found.items()}
    assert ports == {"outbound": 15001, "inbound": 15006, "health": 15021, "metrics": 15090}


def test_a_sidecar_opens_its_port_to_the_names_of_its_own_services_only(world: Any) -> None:
    (chain,) = listeners(world.served("helloworld-v1"))["inbound"]["filter_chains"]
    assert chain["filter_chain_match"]["server_names"] == [SNI]
    assert chain["transport_socket"]["typed_config"]["require_client_certificate"] is True


def test_a_sidecar_whose_mutual_tls_is_disabled_takes_none(world: Any, peer_authentication: Any) -> None:
    world.peers["cluster1"] = [peer_authentication("DISABLE")]
    assert "inbound" not in listeners(world.served("helloworld-v1"))
    rule = peer_authentication("STRICT", portLevelMtls={"5000": {"mode": "DISABLE"}})
    assert unsupported(rule) == ["portLevelMtls"]


def test_a_sidecar_without_service_has_no_inbound_port(world: Any) -> None:
    world.services["cluster1"].pop(("sample", "sleep"))
    assert "inbound" not in listeners(world.served("sleep-1"))


def test_an_outbound_cluster_is_mutual_tls_with_the_services_name_and_identities(world: Any) -> None:
    cluster = clusters(world.served("sleep-1"))[OUTBOUND]
    tls = cluster["transport_socket"]["typed_config"]
    validation = tls["common_tls_context"]["combined_validation_context"]
    (matcher,) = validation["default_validation_context"]["match_typed_subject_alt_names"]
    assert (cluster["lb_policy"], tls["sni"]) == ("LEAST_REQUEST", SNI)
    assert matcher == {"san_type": "URI", "matcher": {"prefix": "spiffe://lab.meshbook.internal/ns/sample/sa/"}}
    assert validation["validation_context_sds_secret_config"]["name"] == "ROOTCA"
    # No proxy sends to hosts that it knows to be dead.
    assert cluster["common_lb_config"]["healthy_panic_threshold"] == {"value": 0}


def test_names_that_dns_would_resolve_are_routed_and_no_others(world: Any) -> None:
    names = {
        *("helloworld:5000", "helloworld.sample:5000", "helloworld.sample.svc:5000"),
        *("helloworld.sample.svc.cluster.local:5000", "sleep", "sleep.sample:80"),
    }
    assert names <= set(routes(world))
    assert not {"helloworld.sample", "eastwest.istio-system:15443"} & set(routes(world))


def test_the_address_of_an_ingress_gateway_is_passed_through_and_no_other_is(world: Any) -> None:
    known = routes(world)
    shown = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in world.pods["cluster1"].values()}
    address = shown["ingress-1"]
    (route,) = known[f"{address}:{world.topology.bindable(80)}"]
    assert route["route"]["cluster"] in clusters(world.served("sleep-1"))
    others = {name: ip for name, ip in shown.items() if name != "ingress-1"}
    assert not [domain for domain in known if domain.split(":")[0] in others.values()]


def test_a_service_of_the_other_cluster_alone_cannot_be_resolved_here(world: Any) -> None:
    world.services["cluster1"].pop(("sample", "helloworld"))
    found = world.served("sleep-1")
    assert "helloworld.sample:5000" not in routes(world)
    assert OUTBOUND in clusters(found)


def test_requests_are_retried_on_another_host_as_istio_does(world: Any) -> None:
    (route,) = routes(world)["helloworld.sample:5000"]
    policy = route["route"]["retry_policy"]
    assert (policy["num_retries"], "retriable_status_codes" in policy) == (2, False)
    assert clusters(world.served("sleep-1"))[OUTBOUND]["connect_timeout"] == "10s"
    assert policy["retry_on"] == "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
    assert [one["name"] for one in policy["retry_host_predicate"]] == ["envoy.retry_host_predicates.previous_hosts"]


def test_a_mesh_virtual_service_directs_sidecars_too(world: Any) -> None:
    shares = [{"destination": {"host": "helloworld", "subset": name}, "weight": 50} for name in ("v1", "v2")]
    spec = {"hosts": ["helloworld"], "http": [{"route": shares}]}
    world.config["virtual_services"] = [{"metadata": {"namespace": "sample", "name": "split"}, "spec": spec}]
    (route,) = routes(world)["helloworld.sample:5000"]
    assert [one["name"] for one in route["route"]["weighted_clusters"]["clusters"]] == [
        "outbound|5000|v1|helloworld.sample.svc.cluster.local",
        "outbound|5000|v2|helloworld.sample.svc.cluster.local",
    ]


def test_a_destination_rule_sets_balance_outliers_and_subsets(world: Any) -> None:
    traffic = {"loadBalancer": {"simple": "RANDOM"}, "outlierDetection": {"consecutive5xxErrors": 1, "interval": "1s"}}
    spec = {
        "host": "helloworld",
        "trafficPolicy": traffic,
        "subsets": [{"name": "v1", "labels": {"version": "v1"}}],
    }
    world.config["destination_rules"] = [{"metadata": {"namespace": "sample", "name": "rule"}, "spec": spec}]
    found = world.served("sleep-1")
    cluster = clusters(found)["outbound|5000|v1|helloworld.sample.svc.cluster.local"]
    assert cluster["lb_policy"] == "RANDOM"
    outliers = cluster["outlier_detection"]
    assert (outliers["consecutive_5xx"], outliers["interval"], outliers["base_ejection_time"]) == (1, "1s", "30s")
    assert (outliers["enforcing_consecutive_gateway_failure"], outliers["enforcing_success_rate"]) == (0, 0)
    assert [one["priority"] for one in endpoints(found)[OUTBOUND]["endpoints"]] == [0, 1]
    doors = listeners(world.served("helloworld-v1"))["inbound"]["filter_chains"]
    assert doors[0]["filter_chain_match"]["server_names"] == [SNI, SNI.replace("_._", "_.v1_")]


def test_sidecars_speak_http1_to_each_other_unless_the_port_or_a_rule_says_http2(world: Any) -> None:
    def spoken() -> tuple[bool, list[str]]:
        cluster = clusters(world.served("sleep-1"))[OUTBOUND]
        tls = cluster["transport_socket"]["typed_config"]["common_tls_context"]
        return "typed_extension_protocol_options" in cluster, tls["alpn_protocols"]

    assert spoken() == (False, ["istio"])
    upgrade = {"connectionPool": {"http": {"h2UpgradePolicy": "UPGRADE"}}}
    rule = {
        "metadata": {"namespace": "sample", "name": "rule"},
        "spec": {"host": "helloworld", "trafficPolicy": upgrade},
    }
    world.config["destination_rules"] = [rule]
    assert spoken() == (True, ["istio", "h2"])
    world.config["destination_rules"] = []
    for services in world.services.values():
        services["sample", "helloworld"]["spec"]["ports"][0]["name"] = "grpc"
    assert spoken() == (True, ["istio", "h2"])


@pytest.mark.parametrize(
    ("said", "logged"),
    [
        ("accessLogFile: /dev/stdout", '"%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW%'),
        ("accessLogFile: /dev/stdout\naccessLogFormat: 'one %DURATION%'", "one %DURATION%"),
        ("accessLogFile: /dev/stdout\naccessLogEncoding: JSON", "%UPSTREAM_CLUSTER_RAW%"),
        ('accessLogFile: /dev/stdout\naccessLogEncoding: JSON\naccessLogFormat: \'{"a": "b"}\'', "'a': 'b'"),
        ("", None),
    ],
    ids=["text", "own text", "JSON", "own JSON", "none"],
)
def test_the_mesh_s_configuration_says_what_proxies_log(world: Any, said: str, logged: str | None) -> None:
    world.config["config"] = mesh_config({"data": {"mesh": said}})
    for pod in ("sleep-1", "eastwest-1", "ingress-1"):
        assert (logged in str(world.served(pod).listeners)) if logged else "Stdout" not in str(world.served(pod))


def test_a_mesh_configuration_that_cannot_be_understood_is_refused() -> None:
    to_stdout = "accessLogFile: /dev/stdout\naccessLogEncoding: JSON\naccessLogFormat: "
    for said in ("accessLogFile: /var/log/envoy", "[1", "- 1", f"{to_stdout}'[1]'", f"{to_stdout}'{{'"):
        with pytest.raises(ValueError, match=r"ConfigMap istio-asm-1175-9|Expecting"):
            mesh_config({"data": {"mesh": said}})


def test_virtual_services_that_share_gateway_and_host_are_served_together_the_oldest_first(world: Any) -> None:
    (given,) = world.config["virtual_services"]
    other = copy.deepcopy(given)
    other["metadata"] |= {"name": "scratch", "creationTimestamp": "2026-01-01T00:00:00Z"}
    other["spec"]["http"][0]["match"] = [{"uri": {"exact": "/scratch"}}]
    given["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
    world.config["virtual_services"].append(other)
    ways = routes(world, "ingress-1")["*"]
    assert [way["match"] for way in ways] == [{"path": "/scratch"}, {"path": "/hello"}]


def test_an_east_west_gateway_serves_its_load_balancers_address_by_sni(world: Any) -> None:
    found = world.served("eastwest-1")
    listener = listeners(found)["gateway-15443"]
    front = world.topology.cluster("cluster1").load_balancer_address(0)
    (extra,) = listener["additional_addresses"]
    assert extra["address"]["socket_address"] == {"address": front, "port_value": 15443}
    assert SNI in clusters(found)
    assert OUTBOUND not in clusters(found)


def test_a_gateway_without_gateway_object_is_ready_and_serves_nothing(world: Any) -> None:
    world.config["gateway_objects"] = []
    assert set(listeners(world.served("ingress-1"))) == {"health", "metrics"}


@pytest.mark.parametrize(
    ("served", "asked", "domain"),
    [
        (["*"], "shop.example", "shop.example"),
        (["*.example"], "shop.example", "shop.example"),
        (["shop.example"], "*", "shop.example"),
        (["sample/shop.example"], "shop.example", "shop.example"),
        (["./shop.example"], "shop.example", "shop.example"),
        (["elsewhere/shop.example"], "shop.example", None),
        (["other.example"], "shop.example", None),
    ],
)
def test_hosts_of_gateway_and_virtual_service_must_agree(
    world: Any, served: list[str], asked: str, domain: str | None
) -> None:
    world.config["gateway_objects"][1]["spec"]["servers"][0]["hosts"] = served
    world.config["virtual_services"][0]["spec"]["hosts"] = [asked]
    assert set(routes(world, "ingress-1")) - {"*"} == ({domain} if domain else set())


def test_a_destination_that_does_not_exist_is_no_reason_to_fail(world: Any) -> None:
    world.config["virtual_services"][0]["spec"]["http"][0]["route"] = [{"destination": {"host": "nosuch"}}]
    (route,) = routes(world, "ingress-1")["*"]
    assert route["route"]["cluster"] == "outbound|80||nosuch.sample.svc.cluster.local"


def test_a_rule_with_a_condition_that_is_not_understood_matches_nothing(world: Any) -> None:
    rule = world.config["virtual_services"][0]
    rule["spec"]["http"][0]["match"][0]["queryParams"] = {"user": {"exact": "me"}}
    assert routes(world, "ingress-1")["*"] == []
    assert unsupported(rule) == ["http.match.queryParams"]


def test_servers_that_are_not_served_are_named() -> None:
    server = {"port": {"number": 443, "protocol": "HTTPS"}, "tls": {"mode": "SIMPLE"}}
    assert unsupported({"kind": "Gateway", "spec": {"servers": [server]}}) == ["port 443 (HTTPS)"]


def test_the_endpoints_of_one_cluster_and_nothing_else_change_when_pods_come_and_go(world: Any) -> None:
    before = {name: world.served(name) for name in ("sleep-1", "eastwest-1", "ingress-1")}
    world.unready = {"helloworld-v1", "helloworld-v2"}
    for name, old in before.items():
        new = world.served(name)
        assert (new.clusters, new.listeners, new.routes) == (old.clusters, old.listeners, old.routes)
        was, now = endpoints(old), endpoints(new)
        assert [one for one in now if now[one] != was[one]] == [SNI if name == "eastwest-1" else OUTBOUND]


def test_a_pod_that_waits_for_its_injection_is_no_proxy(world: Any) -> None:
    world.pods["cluster1"]["front", "ingress-1"]["spec"]["containers"] = [{"name": "istio-proxy", "image": "auto"}]
    assert "ingress-1" not in [one.name for one in world.mesh("cluster1").proxies]
