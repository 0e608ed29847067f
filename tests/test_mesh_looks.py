"""The looks that ask somebody: a remote secret that is tried, the way to a gateway, and what a proxy knows."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from meshes import HOST, SYSTEM, FakeFleet, healthy_mesh, kubeconfig, named, pod, remote_secret

from meshbook import mesh, tables
from meshbook.clusters import ExecResult
from meshbook.mesh import Direction, Finding, remote_secrets, snapshot
from meshbook.mesh.findings import Look
from meshbook.mesh.remote_secrets import Try

THERE = Direction(source="a", destination="b")


@pytest.fixture
def fleet() -> FakeFleet:
    return healthy_mesh()


# ---- remote secrets


def judged(*tried: Try, fleet: FakeFleet, webhook: str = "", says: dict[str, str] | None = None) -> Finding:
    if webhook:
        hook = {"clientConfig": {"url": webhook}}
        fleet["a"].objects["MutatingWebhookConfiguration"][0]["webhooks"] = [hook]
    views = snapshot.take(fleet)  # type: ignore[arg-type]
    look = Look(direction=THERE, name="x")
    return next(iter(remote_secrets.judge(look, views["a"], views["b"], tried, "uid-b", says)))


def secrets_tried(fleet: FakeFleet) -> dict[str, Finding]:
    found = mesh.between(fleet)  # type: ignore[arg-type]
    return {str(one.direction): one for one in found if one.look == "remote secret"}


OTHER = Try(secret="s", name="c", uid="uid-c")
WORKS = Try(secret="s", name="b", uid="uid-b", version="v1.31", listed=4)


@pytest.mark.parametrize(
    ("tried", "state", "said"),
    [
        ([WORKS], "fine", "works: v1.31, 4 EndpointSlices"),
        ([Try(secret="s", name="b", refused="HTTP 401, Unauthorized")], "cause", "is refused: HTTP 401"),
        ([Try(secret="s", name="b", uid="uid-c", server="https://c")], "cause", "leads to another cluster (https://c)"),
        ([OTHER, WORKS], "fine", "works"),
        ([OTHER, Try(secret="t", name="d", uid="uid-d")], "cause", "only s for c, t for d"),
        ([Try(secret="s", name="b", unused="an answer of https://b")], "not looked at", "not looked at"),
        ([], "cause", "no Secret istio/multiCluster=true"),
    ],
    ids=["works", "refused", "another cluster", "found by who answers", "none for it", "unreachable", "none"],
)  # fmt: skip
def test_a_remote_secret_is_judged_by_who_answered_it(
    fleet: FakeFleet, tried: Sequence[Try], state: str, said: str
) -> None:
    found = judged(*tried, fleet=fleet)
    assert (found.state, said in found.seen) == (state, True), found.seen


@pytest.mark.parametrize(
    ("status", "state", "said"),
    [
        ("synced", "fine", "a's istiod has read what it leads to"),
        ("timeout", "cause", "a's istiod cannot read by remote secret s for b (timeout)"),
        ("syncing", "not looked at", "not looked at"),
    ],
)
def test_where_a_secret_cannot_be_tried_istiods_own_word_counts(
    fleet: FakeFleet, status: str, state: str, said: str
) -> None:
    tried = Try(secret="s", name="b", unused="an answer of https://b")
    found = judged(tried, fleet=fleet, says={"a": "synced", "b": status})
    assert (found.state, said in found.seen) == (state, True), found.seen


def test_an_expired_token_is_told_with_its_time(fleet: FakeFleet) -> None:
    ended = datetime.now(UTC) - timedelta(hours=1)
    found = judged(Try(secret="s", name="b", refused="HTTP 401, Unauthorized", expires=ended), fleet=fleet)
    assert f"Its token expired at {ended:%Y-%m-%dT%H:%M:%SZ}" in found.seen


def test_a_managed_control_plane_needs_no_secret(fleet: FakeFleet) -> None:
    found = judged(fleet=fleet, webhook="https://meshconfig.googleapis.com/v1/inject")
    assert found.state == "not looked at"


def test_a_login_that_runs_a_program_is_not_used(fleet: FakeFleet) -> None:
    config = kubeconfig({"exec": {"command": "/bin/false", "apiVersion": "client.authentication.k8s.io/v1"}})
    fleet["a"].objects["Secret"] = [remote_secret("b", config)]
    found = secrets_tried(fleet)
    assert found["a → b"].state == "not looked at"
    assert found["a → b"].mend.startswith("a login by token or certificate, not by exec, or istiod's own word")


def test_istiod_is_asked_in_its_own_pod(fleet: FakeFleet) -> None:
    told = [{"id": "b", "secretName": "istio-system/istio-remote-secret-b", "syncStatus": "synced"}]
    fleet["a"].objects["Pod"].append(pod("istiod-1", SYSTEM, {"app": "istiod"}))
    asked = ["pilot-discovery", "request", "GET", "/debug/clusterz"]
    fleet["a"].run = lambda name, argv: ExecResult(
        exit_code=0, stdout=json.dumps(told) if (name, list(argv)) == ("istiod-1", asked) else "", stderr=""
    )
    assert {way: one.state for way, one in secrets_tried(fleet).items()} == {"a → b": "fine", "b → a": "not looked at"}


def test_an_expired_token_is_named_even_where_the_server_cannot_be_reached(fleet: FakeFleet) -> None:
    claims = base64.urlsafe_b64encode(json.dumps({"exp": 1_700_000_000}).encode()).decode().rstrip("=")
    fleet["a"].objects["Secret"] = [remote_secret("b", kubeconfig({"token": f"e30.{claims}.x"}))]
    found = secrets_tried(fleet)
    assert found["a → b"].state == "cause"
    assert "Its token expired at 2023-11-14T22:13:20Z" in found["a → b"].seen
    assert found["b → a"].state == "not looked at", "its server is not reached from here"


# ---- the way, and what the proxy knows


def where_nothing_came(fleet: FakeFleet, look: str) -> Finding:
    """What a look from a to b finds where a's request got no answer."""
    asked = tables.from_rows([{"source": "a", "time": datetime.now(UTC)}], tables.ANSWERS)
    every = mesh.why(fleet, "http://helloworld.sample:5000/hello", asked)  # type: ignore[arg-type]
    return next(one for one in every if (one.direction, one.look) == (THERE, look))


@pytest.mark.parametrize(
    ("knock", "tls", "state", "said"),
    [
        (35, "trusted", "fine", "certificate of the trusted root"),
        (35, "", "fine", "Open from pod sleep-a"),
        (35, "untrusted: self-signed certificate", "cause", "root does not vouch for (self-signed certificate)"),
        (35, "reset: by peer", "cause", "knows no pod with a sidecar"),
        (35, "no handshake", "cause", "no TLS handshake"),
        (127, "trusted", "fine", "certificate of the trusted root"),
        (127, "reset: by peer", "not looked at", "not looked at"),
        (127, "", "not looked at", "not looked at"),
    ],
)
def test_a_look_at_the_gateway_is_told_in_words(fleet: FakeFleet, knock: int, tls: str, state: str, said: str) -> None:
    fleet["a"].objects["Pod"].append(pod("prober-a", "sample", {"app": "prober"}))
    shown = ExecResult(exit_code=0 if tls else 1, stdout=tls, stderr="")
    met = ExecResult(exit_code=knock, stdout="", stderr="")
    fleet["a"].run = lambda _, argv: shown if argv[0] == "python3" else met
    found = where_nothing_came(fleet, "way")
    assert (found.state, said in found.seen) == (state, True), found.seen


def told(*hosts: tuple[str, int], **health: bool) -> str:
    """Envoy's /clusters with these endpoints of the service."""
    status = [
        {"address": {"socket_address": {"address": ip, "port_value": port}}, "health_status": health}
        for ip, port in hosts
    ]
    return json.dumps({"cluster_statuses": [{"name": f"outbound|5000||{HOST}", "host_statuses": status}]})


@pytest.mark.parametrize(
    ("said", "state", "seen"),
    [
        (told(("192.0.2.98", 15443), ("10.0.0.1", 5000)), "fine", "know b's gateway"),
        (told(("10.0.0.1", 5000)), "cause", "do not know b's east-west gateway"),
        (told(("192.0.2.7", 15443)), "cause", "only 192.0.2.7"),
        (told(("192.0.2.98", 15443), failed_outlier_check=True), "cause", "outlier detection"),
        (json.dumps({"cluster_statuses": []}), "cause", f"know no service {HOST}"),
        ("no JSON", "not looked at", "not looked at"),
    ],
    ids=["knows", "does not know", "stale", "ejected", "no service", "no pilot-agent"],
)
def test_the_asking_proxys_own_view_is_looked_at(fleet: FakeFleet, said: str, state: str, seen: str) -> None:
    fleet["a"].run = lambda _, argv: ExecResult(
        exit_code=35 if argv[0] == "curl" else 0, stdout=said if argv[0] == "pilot-agent" else "", stderr=""
    )
    found = where_nothing_came(fleet, "proxy")
    assert (found.state, seen in found.seen) == (state, True), found.seen


LINE = (
    '[2026-11-28T06:00:00.000Z] "GET /hello HTTP/1.1" {code} {flags} via_upstream - "-" 0 91 10000 - "-" "curl/8" "id" '
    '"helloworld.sample:5000" "192.0.2.98:15443" outbound|5000||'
    + HOST
    + " 10.0.0.2:1 10.0.0.3:5000 10.0.0.2:2 - default"
)


@pytest.mark.parametrize(
    ("lines", "state", "said"),
    [
        ([("503", "URX,UF"), ("200", "-")], "noted", "Of 2 requests a's sidecars logged URX all tries used up 1×"),
        ([("0", "DC")], "noted", "logged DC client gave up 1×."),
        ([("200", "-")], "fine", "none with a response flag"),
        ([], "not looked at", "not looked at"),
    ],
)
def test_response_flags_are_told_in_words(
    fleet: FakeFleet, lines: list[tuple[str, str]], state: str, said: str
) -> None:
    fleet["a"].log = "\n".join(["no access log", *(LINE.format(code=code, flags=flags) for code, flags in lines)])
    found = where_nothing_came(fleet, "flags")
    assert (found.state, said in found.seen) == (state, True), found.seen


def test_who_answered_is_the_cluster_that_has_the_pod_before_or_after(fleet: FakeFleet) -> None:
    before = mesh.pods_by_name(fleet, "sample")  # type: ignore[arg-type]
    rows = [
        {"instance": name, "version": "v1", "error": ""}
        for name in ("helloworld-v1-a0", "restarted", "helloworld-v2-b0", "moved", "elsewhere")
    ]
    asked = tables.from_rows([*rows, {"error": "timeout"}], tables.ANSWERS)
    found = mesh.answered_by(asked, {**before, "moved": "a"}, {"restarted": "a", "moved": "b"})
    assert found["cluster"].tolist() == ["a", "a", "b", tables.UNKNOWN, tables.UNKNOWN, ""]


# ---- ingress gateways

FRONT = "front"
VIP, NODE = "http://203.0.113.1/hello", "http://192.0.2.7:30080/hello"


def gateway_pod(name: str, ip: str, *, ready: bool = True, phase: str = "Running") -> dict[str, Any]:
    found = pod(name, FRONT, {"app": "gateway", "istio": "ingressgateway"}, ready=ready)
    found["spec"]["containers"] = [{"name": "istio-proxy", "ports": [{"name": "web", "containerPort": 8081}]}]
    return {**found, "status": {**found["status"], "phase": phase, "podIP": ip}}


@pytest.fixture
def fronted(fleet: FakeFleet) -> FakeFleet:
    """Each cluster has a Gateway for HTTP, a and b have ingress gateways behind it."""
    server = {"port": {"number": 80, "protocol": "HTTP"}, "hosts": ["*"]}
    for cluster in fleet:
        spec = {"selector": {"istio": "ingressgateway"}, "servers": [server]}
        cluster.objects["Gateway"].append(named("in", "sample", spec=spec))
        http = [{"route": [{"destination": {"host": "helloworld", "port": {"number": 5000}}}]}]
        routes = {"hosts": ["*"], "gateways": ["in"], "http": http}
        cluster.objects["VirtualService"].append(named("in", "sample", spec=routes))
        cluster.objects["Deployment"].append(named("gateway", FRONT, spec={"replicas": 2}))
        cluster.objects["Pod"] += [gateway_pod(f"in-{cluster.name}{n}", f"10.0.0.{n}") for n in (1, 2)]
    return fleet


def front_service(port: int | str) -> dict[str, Any]:
    ports = [{"port": 443}, {"port": 80, "nodePort": 30080, "targetPort": port}]
    return named("front", FRONT, spec={"selector": {"app": "gateway"}, "ports": ports})


@pytest.mark.parametrize(
    ("url", "path", "target", "there"),
    [
        (VIP, "vip", None, "http://10.0.0.1:80/hello"),
        (VIP, "vip", 8080, "http://10.0.0.1:8080/hello"),
        (VIP, "vip", "web", "http://10.0.0.1:8081/hello"),
        (NODE, "vip", None, "http://10.0.0.1:30080/hello"),
        (NODE, "address", 8080, "http://10.0.0.1:8080/hello"),
        ("http://proxy.example:8443/hello", "address", 8080, "http://10.0.0.1:8080/hello"),
        ("http://proxy.example:8443/hello", "address", None, "http://10.0.0.1:80/hello"),
    ],
    ids=["no Service", "by number", "by name", "another port", "by node port", "by a port of somebody's own", "alone"],
)
def test_a_gateway_is_asked_where_the_service_in_front_of_it_sends_requests(
    fronted: FakeFleet, url: str, path: str, target: int | str | None, there: str
) -> None:
    if target:
        fronted["a"].objects["Service"].append(front_service(target))
    first = mesh.ingress_gateways(fronted, [mesh.Entry(url=url, path=path)], FRONT)[0]  # type: ignore[arg-type]
    assert (first.cluster, first.path, first.url) == ("a", "gateway in-a1", there)


def test_only_pods_that_were_started_and_that_a_gateway_opens_are_asked(fronted: FakeFleet) -> None:
    pods = fronted["a"].objects["Pod"]
    pods += [gateway_pod("to-come", "", phase="Pending"), gateway_pod("evicted", "", phase="Failed")]
    pods.append(pod("another", FRONT, {"app": "another"}))
    fronted["b"].refused.add("Pod")
    found = mesh.ingress_gateways(fronted, [mesh.Entry(url=VIP)], FRONT)  # type: ignore[arg-type]
    assert [one.pod for one in found] == ["in-a1", "in-a2", ""]
    assert found[-1].need == f"list pods in {FRONT} (b)"


def test_of_requests_that_no_rule_takes_it_is_said_just_that_and_no_service_without_a_name(fronted: FakeFleet) -> None:
    for cluster in fronted:
        cluster.objects["VirtualService"][-1]["spec"]["http"][0]["match"] = [{"uri": {"exact": "/other"}}]
    entry = mesh.Entry(url=VIP, clusters=("a", "b"))
    rows = [{"source": "external client", "path": "address", "error": "http_404"}]
    where = {"namespace": "sample", "gateway_namespace": FRONT}
    found = mesh.why_outside(fronted, [entry], tables.from_rows(rows, tables.ANSWERS), **where)  # type: ignore[arg-type]
    causes = {one.seen for one in found if one.state == "cause"}
    assert causes == {
        f"{name}'s VirtualService sample/in applies, and none of its rules matches /hello." for name in "ab"
    }


def test_a_gateway_that_failed_its_own_cluster_alone_is_looked_at_and_no_direction_is_made_of_it(
    fronted: FakeFleet,
) -> None:
    hangs = ExecResult(exit_code=28, stdout="", stderr="")
    fronted["a"].run = lambda name, _: hangs if name == "in-a1" else ExecResult(exit_code=0, stdout="", stderr="")
    vip = [{"source": "external client", "path": "vip", "cluster": one} for one in "ab"]
    asked = [{"source": "a", "path": "gateway in-a1", "error": error} for error in ("", "timeout")]
    entry = mesh.Entry(url=VIP, clusters=("b",), path="vip")
    where = {"namespace": "sample", "gateway_namespace": FRONT}
    for rows, named_first in (([*vip, asked[0]], "ingress gateway pods in a"), ([*vip, *asked], "its proxy hangs")):
        found = mesh.why_outside(fronted, [entry], tables.from_rows(rows, tables.ANSWERS), **where)  # type: ignore[arg-type]
        at_a = [one for one in found if str(one.direction) == "a → a"]
        assert [named_first in one.seen for one in at_a] == [True], at_a
