"""Promises of the attribution: access logs of real meshes are read, tries counted only where the log counts them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from aiohttp import web

from meshbook import analysis, tables
from meshbook.analysis import AccessLogs, Evidence, LoadBalancer, parse_access_log
from meshbook.clusters import Fleet
from meshbook.experiment import access_logs, health_check, load_balancer

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
HOST = "helloworld.sample.svc.cluster.local"

OUTBOUND = (
    f'[2026-01-02T12:00:00.250Z] "GET /hello HTTP/1.1" 503 UF,URX upstream_reset_before_response_started '
    f'- "delayed_connect_error:_111" 0 152 75 - "-" "curl/8.4.0" "9a2c0d5e-1b1f" "helloworld.sample:5000" '
    f'"10.4.1.7:5000" outbound|5000||{HOST} - 10.8.0.9:5000 10.4.1.9:41234 - default'
)
TO_OTHER = (
    f'[2026-01-02T12:00:01.000Z] "GET /hello HTTP/1.1" 200 - via_upstream - "-" 0 59 121 120 "-" "curl/8.4.0" '
    f'"77aa" "helloworld.sample:5000" "203.0.113.9:15443" outbound|5000||{HOST} 10.4.1.9:50000 10.8.0.9:5000 '
    f"10.4.1.9:41236 - default"
)
INBOUND = (
    '[2026-01-02T12:00:02.000Z] "GET /hello HTTP/1.1" 200 - via_upstream - "-" 0 59 110 109 "-" "curl/8.4.0" "78" '
    f'"helloworld.sample:5000" "10.4.1.7:5000" inbound|5000|| 127.0.0.6:40000 10.4.1.7:5000 10.4.1.9:41238 '
    f"outbound_.5000_._.{HOST} default"
)
PASSED = (
    '[2026-01-02T12:00:03.000Z] "- - -" 0 - - - "-" 1934 2101 10034 - "-" "-" "-" "-" "10.4.1.7:5000" '
    f"outbound_.5000_._.{HOST} 10.4.0.3:33000 10.4.0.3:15443 203.0.113.77:51000 outbound_.5000_._.{HOST} -"
)
NO_ROUTE = (
    '[2026-01-02T12:00:04.000Z] "GET /hello HTTP/1.1" 404 NR route_not_found - "-" 0 0 0 - "10.0.0.1" "curl" "79" '
    '"203.0.113.5" "-" - - 10.4.2.2:8080 10.0.0.1:3333 - -'
)


def as_json(**more: Any) -> str:
    fields = {
        "start_time": "2026-01-02T12:00:00.250Z",
        "method": "GET",
        "path": "/hello",
        "response_code": 200,
        "response_flags": "-",
        "response_code_details": "via_upstream",
        "upstream_host": "10.4.1.7:5000",
        "upstream_cluster": f"outbound|5000||{HOST}",
        "duration": 120,
        "request_id": "9a2c",
        "upstream_transport_failure_reason": None,
    }
    return json.dumps(fields | more)


@pytest.mark.parametrize(
    ("line", "hop", "code", "flags", "upstream"),
    [
        (OUTBOUND, "outbound", 503, "UF,URX", "same network"),
        (TO_OTHER, "outbound", 200, "", "other network"),
        (INBOUND, "inbound", 200, "", "same network"),
        (PASSED, "passthrough", None, "", "same network"),
        (NO_ROUTE, "unrouted", 404, "NR", ""),
        (as_json(), "outbound", 200, "", "same network"),
        (as_json(response_code=0, response_flags="DC", upstream_host=None), "outbound", None, "DC", ""),
    ],
    ids=["text error", "text other network", "text inbound", "text TLS", "text no route", "json", "json given up"],
)
def test_istios_own_formats_are_read(line: str, hop: str, code: int | None, flags: str, upstream: str) -> None:
    entry = parse_access_log(line)
    assert entry is not None
    assert (entry["hop"], entry["code"], entry["flags"], entry["upstream"]) == (hop, code, flags, upstream)
    assert entry["attempts"] is None
    assert entry["time"].tzinfo is not None


def test_the_service_is_read_from_envoys_cluster_names() -> None:
    found = [entry["service"] for line in (OUTBOUND, PASSED, INBOUND, NO_ROUTE) if (entry := parse_access_log(line))]
    assert found == [HOST, HOST, "", ""]


def test_tries_are_read_where_the_format_counts_them() -> None:
    assert [
        entry["attempts"]
        for line in (as_json(upstream_request_attempt_count=2), TO_OTHER + " 3")
        if (entry := parse_access_log(line))
    ] == [2, 3]


@pytest.mark.parametrize(
    "line",
    ["", "{", "{}", "[2026-01-02 12:00:00.000][7][warning][main] no access log", '{"level": "info"}', OUTBOUND[:80]],
    ids=["empty", "half JSON", "other JSON", "Envoy's own log", "log of istiod", "cut"],
)
def test_other_lines_are_passed_over(line: str) -> None:
    assert parse_access_log(line) is None


def access(*lines: dict[str, Any]) -> pd.DataFrame:
    fixed = {
        "time": NOON,
        "context": "cluster1",
        "pod": "sleep-1",
        "role": "sidecar",
        "hop": "outbound",
        "service": HOST,
        "code": 200,
        "upstream": "same network",
    }
    return tables.from_rows([fixed | line for line in lines], tables.ACCESS)


def evidence(frame: pd.DataFrame, balancer: LoadBalancer | None = None) -> Evidence:
    return Evidence(
        logs=AccessLogs(frame=frame, pods=2),
        since=NOON - timedelta(seconds=1),
        until=NOON + timedelta(seconds=5),
        service="helloworld.sample",
        endpoints={"cluster1": "gone after 0.2 s"},
        balancer=balancer,
    )


def row(frame: pd.DataFrame, layer: str) -> Any:
    found = frame[frame["layer"] == layer]
    assert len(found) == 1, frame.to_string()
    return found.iloc[0]


def test_requests_saved_at_once_and_by_retry_are_told_apart() -> None:
    lines = [{"attempts": 1}] * 7 + [{"attempts": 2, "upstream": "other network"}] * 2
    lines += [{"attempts": 3, "code": 503, "flags": "UF,URX"}, {"attempts": 1, "code": 503, "flags": "UF"}]
    found = row(analysis.attribute(evidence(access(*lines))), "clients' sidecars")
    counts = found[["requests", "at_once", "by_retry", "not_saved", "to_other"]].tolist()
    assert counts == [11, 7, 2, 2, 2]
    assert found["did"].endswith("2 not saved (UF endpoint not reached 2×, URX all tries used up 1×)")


def test_without_a_count_of_tries_a_retry_is_not_guessed() -> None:
    found = row(analysis.attribute(evidence(access({}, {"upstream": "other network"}))), "clients' sidecars")
    assert pd.isna(found["by_retry"])
    assert pd.isna(found["at_once"])
    assert "best effort" in found["known_by"]
    assert "tries not told" in found["known_by"]


def test_lines_before_and_after_the_outage_and_of_other_services_do_not_count() -> None:
    lines = access(
        {"attempts": 1},
        {"attempts": 1, "time": NOON - timedelta(seconds=9)},
        {"attempts": 1, "service": "other.sample.svc.cluster.local"},
        {"attempts": 1, "hop": "inbound", "service": ""},
    )
    assert row(analysis.attribute(evidence(lines)), "clients' sidecars")["requests"] == 1


def test_proxies_without_a_log_leave_it_unknown_and_say_why() -> None:
    found = row(analysis.attribute(evidence(tables.empty(tables.ACCESS))), "clients' sidecars")
    assert found["did"].startswith("not known")
    assert "accessLogFile" in found["known_by"]


def test_the_load_balancer_is_not_credited_while_its_gateways_are_well() -> None:
    healthy = LoadBalancer(path="vip", health_check="port 15021, /healthz/ready", gateways={"cluster2": (2, 2)})
    found = row(analysis.attribute(evidence(access(), healthy)), "global load balancer")
    assert found["did"].startswith("had no reason to move traffic")
    assert "not by Kubernetes" in found["known_by"]
    ill = LoadBalancer(path="vip", health_check="", gateways={"cluster2": (1, 2)})
    assert row(analysis.attribute(evidence(access(), ill)), "global load balancer")["did"].startswith("may have moved")
    assert row(analysis.attribute(evidence(access())), "in front of the ingress gateways")["did"] == "not known"


def test_an_address_of_each_cluster_moves_no_traffic_to_another_one() -> None:
    each = LoadBalancer(path="load balancer", health_check="", gateways={"cluster1": (2, 2), "cluster2": (1, 2)})
    did = row(analysis.attribute(evidence(access(), each)), "load balancer of each cluster")["did"]
    assert did == "sends to its own cluster only; ready gateways: cluster1 2 of 2, cluster2 1 of 2"


def test_an_unreachable_cluster_leaves_open_whether_the_load_balancer_moved_traffic() -> None:
    half = LoadBalancer(
        path="vip", health_check="port 15021, /", gateways={"cluster1": (2, 2)}, unreachable=("cluster2",)
    )
    did = row(analysis.attribute(evidence(access(), half)), "global load balancer")["did"]
    assert did.startswith("may have moved traffic")
    assert did.endswith("cluster2 not known, its API server was unreachable")


def test_an_east_west_gateway_tells_of_connections() -> None:
    lines = access({"hop": "passthrough", "role": "gateway", "code": None, "flags": "UC"}, {"hop": "passthrough"})
    assert "2 connections" in row(analysis.attribute(evidence(lines)), "east-west gateway")["did"]


def test_a_cluster_without_gateways_or_health_check_is_looked_at_without_an_error(bare_fleet: Fleet) -> None:
    found = load_balancer(bare_fleet, "nowhere", "vip", health_check(bare_fleet["cluster2"], "nowhere"))
    assert found.gateways == {"cluster1": (0, 0), "cluster2": (0, 0)}
    assert found.unreachable == ()
    assert found.health_check == ""


def test_a_pod_whose_log_cannot_be_had_is_named_as_unread(bare_fleet: Fleet) -> None:
    bare_fleet.create_namespace("sample")
    containers = [{"name": "app", "image": "web"}, {"name": "istio-proxy", "image": "proxy"}]
    pod = {"metadata": {"name": "web-1", "namespace": "sample"}, "spec": {"containers": containers}}
    bare_fleet["cluster1"].create("Pod", pod)
    logs = access_logs(bare_fleet, ["sample"], NOON, datetime.now(UTC))
    assert (logs.pods, logs.unread) == (0, ("cluster1/sample/web-1",))
    assert "no proxy could be asked" in logs.words
    assert logs.frame.empty


def test_a_namespace_that_may_not_be_read_leaves_the_logs_of_the_others(
    scripted: Any, kubeconfig: Callable[..., str]
) -> None:
    async def log(request: web.Request) -> web.Response:
        return web.Response(
            text=as_json(start_time="2026-01-02T12:00:00.250Z") if request.path.endswith("a/log") else ""
        )

    pods = [
        {"metadata": {"name": name, "namespace": "sample"}, "spec": {"containers": [{"name": "istio-proxy"}]}}
        for name in ("a", "b")
    ]
    scripted.script |= {
        "GET /api/v1/namespaces/sample/pods": [{"items": pods}],
        "GET /api/v1/namespaces/sample/pods/a/log": [log],
        "GET /api/v1/namespaces/sample/pods/b/log": [log],
        "GET /api/v1/namespaces/istio-system/pods": [(403, {"message": "pods are forbidden"})],
    }
    fleet = Fleet.connect(["one"], kubeconfig({"one": scripted.url}))
    logs = access_logs(fleet, ["sample", "istio-system"], NOON, datetime.now(UTC))
    assert (len(logs.frame), logs.pods) == (1, 2)
    assert logs.unread == ("one/istio-system",)


def test_what_could_not_be_read_is_told_beside_what_was() -> None:
    row = {"time": datetime(2026, 1, 2, tzinfo=UTC), "pod": "one/sample/a"}
    frame = tables.from_rows([row], tables.ACCESS)
    assert AccessLogs(frame=frame, pods=1, unread=("one/istio-system",)).words.endswith(
        "; not those of one/istio-system"
    )
    assert "not those of" not in AccessLogs(frame=frame, pods=1).words
