"""The shapes that Envoy is given, where a wrong one would only be noticed under failure."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import meshbook.lab.envoy
from meshbook.lab.envoy import bootstrap, clusters, edge, endpoints, folders, listeners
from meshbook.lab.envoy.endpoints import Endpoint, Locality


def test_endpoints_are_grouped_by_priority_and_locality() -> None:
    here, there = Locality(region="a", zone="1"), Locality(region="b", zone="2")
    wire = endpoints.assignment(
        "service",
        [
            Endpoint(address="127.0.0.3", port=15443, weight=3, locality=there, priority=1),
            Endpoint(address="127.0.0.2", port=15006, locality=here),
            Endpoint(address="127.0.0.1", port=5000, locality=here, mtls=False),
        ],
    )
    groups = [(one["priority"], one["locality"]["region"], one["load_balancing_weight"]) for one in wire["endpoints"]]
    assert groups == [(0, "a", 2), (1, "b", 3)]
    plain, mutual = wire["endpoints"][0]["lb_endpoints"]
    assert "metadata" not in plain
    assert mutual["metadata"]["filter_metadata"] == {"envoy.transport_socket_match": {"tlsMode": "istio"}}


def test_server_names_are_istios() -> None:
    name = clusters.outbound_name("helloworld.sample.svc.cluster.local", 5000)
    assert name == "outbound|5000||helloworld.sample.svc.cluster.local"
    assert clusters.server_name(name) == "outbound_.5000_._.helloworld.sample.svc.cluster.local"
    assert folders.endpoints_file(name) == "eds/outbound_.5000_._.helloworld.sample.svc.cluster.local.json"


def test_no_proxy_sends_to_hosts_that_it_knows_to_be_dead() -> None:
    cluster = clusters.passthrough("name", [])
    assert cluster["common_lb_config"]["healthy_panic_threshold"] == {"value": 0}


def test_outliers_follow_the_rule_and_nothing_else() -> None:
    upstream = clusters.Upstream(name="n", identities="spiffe://", outliers=clusters.Outliers(consecutive_gateway=3))
    found = clusters.outbound(upstream, [], folders.ProxyFolder(path=Path("/x")))["outlier_detection"]
    assert (found["consecutive_5xx"], found["consecutive_gateway_failure"]) == (5, 3)
    assert (found["enforcing_success_rate"], found["max_ejection_percent"]) == (0, 10)


def test_an_envoy_starts_with_one_worker_and_a_short_drain(tmp_path: Path) -> None:
    arguments = bootstrap.arguments("/bin/envoy", tmp_path)
    assert arguments[:3] == ["/bin/envoy", "--config-path", str(tmp_path / "bootstrap.json")]
    assert arguments[arguments.index("--concurrency") + 1] == "1"
    assert int(arguments[arguments.index("--drain-time-s") + 1]) == bootstrap.DRAIN_S


def test_the_balancers_health_check_is_the_backend_configs() -> None:
    check = edge.HealthCheck(
        request_path="/healthz/ready", port=15021, interval_s=5, timeout_s=3, unhealthy_threshold=4
    )
    backend = edge.Backend(name="gateways", endpoints=(("127.0.0.9", 8080),), health_check=check)
    frontends = [edge.Frontend(name="web", address="127.0.0.8", port=80, backend=backend)]
    files = edge.files(frontends, Path("/edge"))
    (cluster,) = files["cds.json"]["resources"]
    (wire,) = cluster["health_checks"]
    assert (wire["interval"], wire["timeout"], wire["unhealthy_threshold"]) == ("5s", "3s", 4)
    assert wire["no_traffic_interval"] == wire["interval"]
    assert wire["http_health_check"] == {"path": "/healthz/ready"}
    (assignment,) = files["eds/gateways.json"]["resources"]
    (endpoint,) = assignment["endpoints"][0]["lb_endpoints"]
    assert endpoint["endpoint"]["health_check_config"] == {"port_value": 15021}


def test_two_frontends_share_a_backend() -> None:
    backend = edge.Backend(name="gateways")
    frontends = [edge.Frontend(name=f"p{port}", address="127.0.0.8", port=port, backend=backend) for port in (80, 443)]
    assert len(edge.files(frontends, Path("/edge"))["cds.json"]["resources"]) == 1


def test_this_room_reads_and_writes_nothing() -> None:
    for source in Path(meshbook.lab.envoy.__file__).parent.glob("*.py"):
        called = {node.attr for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Attribute)}
        assert not called & {"open", "read_text", "write_text", "mkdir", "unlink", "exists"}, source.name


def test_pods_proxies_print_their_access_log_and_the_balancer_does_not(tmp_path: Path) -> None:
    folder = folders.ProxyFolder(path=tmp_path)
    printed = [one["name"] for one in _logs(listeners.outbound("127.0.0.1", folder))]
    assert printed == ["envoy.access_loggers.file", "envoy.access_loggers.stdout"]
    front = edge.files([edge.Frontend(name="front", address="127.0.0.1", port=80)], tmp_path)["lds.json"]
    assert [one["name"] for one in _logs(front["resources"][0])] == ["envoy.access_loggers.file"]


def _logs(listener: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = listener["filter_chains"][0]["filters"][0]["typed_config"]["access_log"]
    return found
