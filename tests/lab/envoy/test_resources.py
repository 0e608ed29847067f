"""How an Envoy is started, in which order it is told what, and what the balancer is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from meshbook.lab.envoy import Backend, Frontend, HealthCheck, Node, Resources, load_balancer, prepare_envoy
from meshbook.lab.pki import Authority


def one(name: str) -> dict[str, Any]:
    return {"name": name}


def test_what_is_referred_to_comes_before_what_refers_to_it() -> None:
    everything = Resources(
        listeners=[one("l")], routes=[one("r")], clusters=[one("c")], endpoints=[{"cluster_name": "c"}]
    )
    kinds = [(kind.rpartition(".")[2], name) for kind, name, _ in everything]
    assert kinds == [("Cluster", "c"), ("ClusterLoadAssignment", "c"), ("Listener", "l"), ("RouteConfiguration", "r")]


def test_an_envoy_s_bootstrap_is_private_and_says_who_it_is_and_whom_it_asks(tmp_path: Path) -> None:
    node = Node(
        cluster="c1", name="web-0.sample", admin_address="127.64.11.5", discovery_address="127.64.10.3", drain_s=45
    )
    argv = prepare_envoy("/bin/envoy", tmp_path / "proxy", node, authority := Authority(tmp_path / "pki"))
    path = tmp_path / "proxy" / "bootstrap.json"
    bootstrap = json.loads(path.read_text())
    assert path.stat().st_mode & 0o777 == 0o600
    assert bootstrap["admin"]["address"]["socket_address"]["address"] == "127.64.11.5"
    assert bootstrap["node"] == {"cluster": "c1", "id": "web-0.sample"}
    (cluster,) = bootstrap["static_resources"]["clusters"]
    (place,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert place["endpoint"]["address"]["socket_address"] == {"address": "127.64.10.3", "port_value": 15012}
    trusted = cluster["transport_socket"]["typed_config"]["common_tls_context"]["validation_context"]
    assert trusted["trusted_ca"] == {"inline_string": authority.root_pem}
    assert argv[:3] == ["/bin/envoy", "--config-path", str(path)]
    assert argv[argv.index("--concurrency") + 1] == "1"
    assert argv[argv.index("--drain-time-s") + 1] == "45"


def test_the_balancers_health_check_is_the_backend_configs() -> None:
    check = HealthCheck(request_path="/healthz/ready", port=15021, interval_s=5, timeout_s=3, unhealthy_threshold=4)
    backend = Backend(name="gateways", endpoints=(("127.0.0.9", 8080),), health_check=check)
    served = load_balancer([Frontend(name="web", address="127.0.0.8", port=80, backend=backend)])
    (cluster,) = served.clusters
    (wire,) = cluster["health_checks"]
    assert (wire["interval"], wire["timeout"], wire["unhealthy_threshold"]) == ("5s", "3s", 4)
    assert wire["no_traffic_interval"] == wire["interval"]
    assert wire["http_health_check"] == {"path": "/healthz/ready"}
    (members,) = served.endpoints
    (endpoint,) = members["endpoints"][0]["lb_endpoints"]
    assert (members["cluster_name"], endpoint["endpoint"]["health_check_config"]) == ("gateways", {"port_value": 15021})


def test_two_frontends_share_a_backend() -> None:
    backend = Backend(name="gateways")
    frontends = [Frontend(name=f"p{port}", address="127.0.0.8", port=port, backend=backend) for port in (80, 443)]
    assert len(load_balancer(frontends).clusters) == 1
