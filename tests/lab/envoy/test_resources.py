"""What an Envoy is told reaches it whole, in a safe order, and only where it differs; what the balancer is told."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from meshbook.lab.envoy import (
    DRAIN_S,
    Backend,
    Frontend,
    HealthCheck,
    Resources,
    load_balancer,
    prepare_envoy,
    write_resources,
)


def one(name: str) -> dict[str, Any]:
    return {"name": name}


def test_what_is_referred_to_is_written_before_what_refers_to_it(tmp_path: Path) -> None:
    everything = Resources(listeners=[one("l")], clusters=[one("c")], routes={"a": one("a")}, endpoints={"b": one("b")})
    written = write_resources(tmp_path, everything, {"root-abc.pem": "ROOT"})
    assert written == ["root-abc.pem", "eds/b.json", "cds.json", "rds/a.json", "lds.json"]


def test_files_that_are_the_same_are_not_touched_and_others_are_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "proxy"
    write_resources(folder, Resources(routes={"a": one("old")}))
    inode = (folder / "cds.json").stat().st_ino
    with (folder / "rds" / "a.json").open() as old:
        assert write_resources(folder, Resources(routes={"a": one("new")})) == ["rds/a.json"]
        assert json.load(old) == {"resources": [one("old")]}
    assert (folder / "cds.json").stat().st_ino == inode
    assert sorted(os.listdir(folder)) == ["cds.json", "lds.json", "rds"]
    assert os.listdir(folder / "rds") == ["a.json"]


def test_a_file_that_somebody_broke_is_mended(tmp_path: Path) -> None:
    write_resources(tmp_path, Resources())
    (tmp_path / "cds.json").write_bytes(b"\xff")
    assert write_resources(tmp_path, Resources()) == ["cds.json"]


def test_routes_of_gateways_and_endpoints_of_backends_that_are_gone_are_removed(tmp_path: Path) -> None:
    write_resources(tmp_path, Resources(routes={"a": one("a"), "b": one("b")}, endpoints={"c": one("c")}))
    assert write_resources(tmp_path, Resources(routes={"a": one("a")})) == ["eds/c.json", "rds/b.json"]
    assert os.listdir(tmp_path / "rds") == ["a.json"]


def test_an_envoy_finds_its_bootstrap_and_nothing_to_serve_but_what_istiod_has_written_stays(tmp_path: Path) -> None:
    folder = tmp_path / "proxy"
    folder.mkdir()
    (folder / "lds.json").write_text("by istiod")
    argv = prepare_envoy("/bin/envoy", folder, "web-0.sample", "127.64.11.5")
    bootstrap = json.loads((folder / "bootstrap.json").read_text())
    assert bootstrap["admin"]["address"]["socket_address"]["address"] == "127.64.11.5"
    assert bootstrap["node"]["id"] == "web-0.sample"
    assert (folder / "lds.json").read_text() == "by istiod"
    assert json.loads((folder / "cds.json").read_text()) == {"resources": []}
    assert argv[:3] == ["/bin/envoy", "--config-path", str(folder / "bootstrap.json")]
    assert argv[argv.index("--concurrency") + 1] == "1"
    assert argv[argv.index("--drain-time-s") + 1] == str(DRAIN_S)


def test_the_balancers_health_check_is_the_backend_configs() -> None:
    check = HealthCheck(request_path="/healthz/ready", port=15021, interval_s=5, timeout_s=3, unhealthy_threshold=4)
    backend = Backend(name="gateways", endpoints=(("127.0.0.9", 8080),), health_check=check)
    served = load_balancer([Frontend(name="web", address="127.0.0.8", port=80, backend=backend)], Path("/edge"))
    (cluster,) = served.clusters
    (wire,) = cluster["health_checks"]
    assert (wire["interval"], wire["timeout"], wire["unhealthy_threshold"]) == ("5s", "3s", 4)
    assert wire["no_traffic_interval"] == wire["interval"]
    assert wire["http_health_check"] == {"path": "/healthz/ready"}
    (endpoint,) = served.endpoints["gateways"]["endpoints"][0]["lb_endpoints"]
    assert endpoint["endpoint"]["health_check_config"] == {"port_value": 15021}


def test_two_frontends_share_a_backend() -> None:
    backend = Backend(name="gateways")
    frontends = [Frontend(name=f"p{port}", address="127.0.0.8", port=port, backend=backend) for port in (80, 443)]
    assert len(load_balancer(frontends, Path("/edge")).clusters) == 1
