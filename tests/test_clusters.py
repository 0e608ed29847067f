"""Clusters on their bad days, over real HTTP and WebSockets: what is repeated, what is refused, what is said."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aiohttp import WSMsgType, web

from meshbook.clusters import Cluster, DeploymentState, Fleet, Kubeconfig, gather, pause
from meshbook.errors import ClusterError, ExecError, GatheredError, UsageError, WaitTimeout
from meshbook.objects import describe_pod
from meshbook.settings import Patience

QUICK = Patience(connect_s=1, read_s=1, attempts=3, pause_s=0.01, poll_s=0.01, slowest_poll_s=0.02)
POD = "/api/v1/namespaces/sample/pods/p"
UNREACHABLE = "http://127.0.0.1:9"

EXEC = "GET /api/v1/namespaces/sample/pods/p/exec"
PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")

Write = Callable[..., str]
Frame = tuple[int, bytes]
SUCCESS: Frame = (3, json.dumps({"status": "Success"}).encode())


@pytest.fixture
def cluster(scripted: Any, kubeconfig: Write) -> Cluster:
    return Cluster(Kubeconfig(kubeconfig({"c1": scripted.url})), "c1", QUICK)


def _status(message: str, reason: str = "") -> dict[str, Any]:
    return {"kind": "Status", "status": "Failure", "message": message, "reason": reason}


# contexts


def test_the_command_of_a_call_means_the_same_context_whatever_its_name(
    kubeconfig: Write, caplog: pytest.LogCaptureFixture
) -> None:
    odd = "arn:aws:eks:eu-1:1:cluster/it's prod; $(false) & ニフクラ"
    caplog.set_level("DEBUG", "meshbook.progress")
    cluster = Cluster(Kubeconfig(kubeconfig({odd: UNREACHABLE, "other": UNREACHABLE})), odd)
    cluster.tell_kubectl("config", "view", "--minify", "-o", "jsonpath={.contexts[0].name}")
    done = subprocess.run(["bash", "-c", caplog.messages[-1]], capture_output=True, text=True, check=True)
    assert done.stdout == odd


def test_an_unknown_context_says_which_there_are(kubeconfig: Write) -> None:
    path = kubeconfig({"bm": "http://127.0.0.1:1", "gke": "http://127.0.0.1:2"})
    with pytest.raises(UsageError, match=r"no context 'cluster1' in [\s\S]*contexts: bm, gke"):
        Fleet.connect(["bm", "cluster1"], path)


def test_two_contexts_of_one_server_are_refused(kubeconfig: Write) -> None:
    path = kubeconfig({"a": "https://one.example:6443", "b": "https://one.example:6443/"})
    with pytest.raises(UsageError, match="'a' and 'b' are the same cluster"):
        Fleet.connect(["a", "b"], path)


def test_one_private_address_behind_two_proxies_is_two_clusters(kubeconfig: Write) -> None:
    path = Path(kubeconfig({"a": "https://10.0.0.2", "b": "https://10.0.0.2"}))
    document = json.loads(path.read_text())
    for entry in document["clusters"]:
        entry["cluster"]["proxy-url"] = f"http://{entry['name']}.example:3128"
    path.write_text(json.dumps(document))
    assert len(Fleet.named(["a", "b"], path)) == 2


def test_two_addresses_of_one_cluster_are_refused(scripted: Any, kubeconfig: Write) -> None:
    scripted.script["GET /api/v1/namespaces/kube-system"] = [{"metadata": {"uid": "u-1"}}]
    path = kubeconfig({"a": scripted.url, "b": scripted.url.replace("127.0.0.1", "localhost")})
    with pytest.raises(UsageError, match=r"'a' and 'b' are the same cluster[\s\S]*uid u-1"):
        Fleet.connect(["a", "b"], path, patience=QUICK)


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "\x00"])
def test_a_kubeconfig_that_cannot_be_read_is_refused(tmp_path: Any, text: str) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(UsageError, match="kubeconfig"):
        Fleet.connect(["a"], tmp_path / "config")


def test_a_fleet_names_every_cluster_that_does_not_answer(scripted: Any, kubeconfig: Write) -> None:
    path = kubeconfig({"good": scripted.url, "gone": UNREACHABLE})
    with pytest.raises(GatheredError, match=r"1 of 2 clusters failed\ngone: no answer from gone") as caught:
        Fleet.connect(["good", "gone"], path, patience=QUICK)
    assert caught.value.results == {"good": ""}


def test_a_fleet_gives_its_clusters_by_name_and_in_order(scripted: Any, kubeconfig: Write) -> None:
    fleet = Fleet.connect(["c1"], kubeconfig({"c1": scripted.url}, hub={"endpoint": "x"}), patience=QUICK)
    assert [cluster.name for cluster in fleet] == ["c1"]
    assert fleet["c1"].version() == "v1.33.1"
    assert fleet["c1"].extension("hub") == {"endpoint": "x"}
    assert fleet["c1"].extension("other") == {}
    with pytest.raises(UsageError, match=r"no cluster 'c2'[\s\S]*one of c1"):
        fleet["c2"]


# requests


def test_a_transient_refusal_is_ridden_out_each_time_with_the_contexts_token(scripted: Any, cluster: Cluster) -> None:
    seen = []

    async def version(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        return web.json_response({"gitVersion": "v1"})

    for status in (429, 500, 502, 503, 504):
        scripted.script["GET /version"] = [(status, _status("busy")), (status, _status("busy")), version]
        assert cluster.version() == "v1", status
    assert seen == 5 * ["Bearer token-of-c1"]


def test_tries_are_bounded_and_the_refusal_is_passed_on(scripted: Any, cluster: Cluster) -> None:
    scripted.script["GET /version"] = [(503, _status("etcd is away", "ServiceUnavailable"))]
    with pytest.raises(ClusterError, match="etcd is away") as caught:
        cluster.version()
    assert (caught.value.code, caught.value.reason) == (503, "ServiceUnavailable")
    assert scripted.asked == ["GET /version"] * QUICK.attempts


def test_what_could_act_twice_is_sent_once(scripted: Any, cluster: Cluster) -> None:
    path = "/api/v1/namespaces/sample/configmaps"
    scripted.script[f"POST {path}"] = [(500, _status("who knows"))]
    with pytest.raises(ClusterError, match="who knows"):
        cluster.create("ConfigMap", {"metadata": {"name": "x", "namespace": "sample"}})
    assert [line.partition("?")[0] for line in scripted.asked].count(f"POST {path}") == 1


def test_a_server_that_never_answers_is_given_up(scripted: Any, kubeconfig: Write) -> None:
    async def stall(_: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    scripted.script["GET /version"] = [stall]
    patience = Patience(read_s=0.1, attempts=1)
    with pytest.raises(ClusterError, match=r"no answer from c1[\s\S]*timed out"):
        Cluster(Kubeconfig(kubeconfig({"c1": scripted.url})), "c1", patience).version()


@pytest.mark.parametrize(("status", "hint"), [(401, "log in"), (403, "kubectl auth can-i")])
def test_a_refused_login_says_what_to_try(scripted: Any, cluster: Cluster, status: int, hint: str) -> None:
    scripted.script["GET /version"] = [(status, _status("no"))]
    with pytest.raises(ClusterError, match=hint):
        cluster.version()


@pytest.mark.parametrize(
    ("code", "said", "hint"),
    [
        (403, 'admission webhook "policy.example.test" denied the request: label owner is missing', "a policy of this"),
        (400, 'admission webhook "v.example.test" denied the request without explanation', "a policy of this cluster"),
        (
            500,
            'Internal error occurred: failed calling webhook "v.x": context deadline exceeded',
            "behind that webhook",
        ),
        (
            403,
            'pods "p" is forbidden: exceeded quota: q, requested: pods=1, used: pods=4, limited: pods=4',
            "resourcequota",
        ),
        (403, 'pods "p" is forbidden: failed quota: q: must specify limits.cpu for: sleep', "resourcequota"),
        (403, 'pods "p" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot', "pod-security"),
        (403, 'pods "p" is forbidden: maximum cpu usage per Container is 1, but limit is 2', "limitrange"),
        (403, 'namespaces is forbidden: User "system:anonymous" cannot list resource', "no login arrived"),
        (403, "The API requires a quota project, which is not set by default", "set-quota-project"),
        (
            403,
            "GKE Hub API has not been used in project 987654321098 before or it is disabled",
            "gcloud services enable",
        ),
        (403, 'namespaces is forbidden: User "ada" cannot create resource "namespaces"', "kubectl auth can-i"),
        (407, "Proxy Authentication Required", "proxy-url"),
        (429, "too many requests", "try again later"),
        (404, "not found", ""),
    ],
)
def test_a_hint_fits_what_the_server_said(scripted: Any, cluster: Cluster, code: int, said: str, hint: str) -> None:
    scripted.script["GET /version"] = [(code, _status(said))]
    with pytest.raises(ClusterError) as caught:
        cluster.version()
    assert (hint in caught.value.hint) if hint else not caught.value.hint


def test_a_long_list_is_read_page_by_page(scripted: Any, cluster: Cluster) -> None:
    first = {"items": [{"metadata": {"name": "a"}}], "metadata": {"continue": "next"}}
    scripted.script["GET /api/v1/namespaces/sample/pods"] = [first, {"items": [{"metadata": {"name": "b"}}]}]
    assert [pod["metadata"]["name"] for pod in cluster.list("Pod", "sample", labels="app=x")] == ["a", "b"]
    assert scripted.asked[-1].endswith("?limit=500&labelSelector=app%3Dx&continue=next")


def test_a_kind_that_the_cluster_lacks_says_what_brings_it(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match=r"no kind MultiClusterIngress in networking.gke.io/v1[\s\S]*enable_ingress"):
        cluster.get("MultiClusterIngress", "x", "sample")
    with pytest.raises(ClusterError, match="CustomResourceDefinition first"):
        cluster.get("example.com/v1/Widget", "x")
    with pytest.raises(UsageError, match="which API has Widget"):
        cluster.get("Widget", "x")


# waits


def test_a_wait_that_ends_says_what_it_last_saw(scripted: Any, cluster: Cluster) -> None:
    scripted.script[f"GET {POD}"] = [{"metadata": {"name": "p"}, "status": {"phase": "Pending"}}]
    with pytest.raises(WaitTimeout, match=r"Pod p in sample .* not within 0.05 s\n  saw: phase Pending"):
        cluster.wait_for("Pod", "p", "sample", lambda pod: pod["status"]["phase"] == "Running", timeout_s=0.05)


def test_a_wait_outlasts_a_server_that_is_away_for_a_moment(scripted: Any, cluster: Cluster) -> None:
    busy = [(503, _status("busy"))] * (QUICK.attempts + 1)
    scripted.script[f"GET {POD}"] = [*busy, {"metadata": {"name": "p"}, "status": {"phase": "Running"}}]
    found = cluster.wait_for("Pod", "p", "sample", lambda pod: True, timeout_s=5)
    assert found["status"]["phase"] == "Running"


def test_a_wait_for_what_one_may_not_see_ends_at_once(scripted: Any, cluster: Cluster) -> None:
    scripted.script[f"GET {POD}"] = [(403, _status("pods is forbidden", "Forbidden"))]
    with pytest.raises(ClusterError, match="forbidden"):
        cluster.wait_for("Pod", "p", "sample", bool, timeout_s=60)


def test_a_pod_is_described_by_what_its_containers_wait_for() -> None:
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    statuses = [{"name": "app", "state": waiting}, {"name": "istio-proxy", "state": {"running": {}}, "ready": False}]
    pod = {"metadata": {"name": "p"}, "status": {"phase": "Pending", "containerStatuses": statuses}}
    assert describe_pod(pod) == (
        "pod p Pending, container app ErrImagePull: no such image, container istio-proxy runs but is not ready"
    )


@pytest.mark.parametrize(
    ("change", "settled"),
    [
        pytest.param({}, True, id="all there"),
        pytest.param({"observedGeneration": 1}, False, id="newest specification not seen yet"),
        pytest.param({"updatedReplicas": 1}, False, id="old pods left"),
        pytest.param({"replicas": 3}, False, id="one pod too many"),
        pytest.param({"availableReplicas": None}, False, id="none available"),
    ],
)
def test_a_rollout_is_settled_when_every_replica_is_new_and_available(change: dict[str, Any], settled: bool) -> None:
    status = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, "readyReplicas": 2}
    deployment = {
        "metadata": {"name": "d", "namespace": "n", "generation": 2},
        "spec": {"replicas": 2},
        "status": status | change,
    }
    assert DeploymentState.of("c1", deployment).settled is settled


def test_the_first_ready_pod_is_chosen_and_a_leaving_one_is_not(scripted: Any, cluster: Cluster) -> None:
    def pod(name: str, ready: str, **metadata: str) -> dict[str, Any]:
        conditions = [{"type": "Ready", "status": ready}]
        return {"metadata": {"name": name, **metadata}, "status": {"phase": "Running", "conditions": conditions}}

    pods = [pod("d", "True"), pod("c", "True"), pod("a", "False"), pod("b", "True", deletionTimestamp="now")]
    scripted.script["GET /api/v1/namespaces/sample/pods"] = [{"items": pods}, {"items": pods[2:]}]
    assert cluster.ready_pod("app=sleep", "sample") == "c"
    with pytest.raises(ClusterError, match=r"no pod app=sleep is ready in sample[\s\S]*pod a Running"):
        cluster.ready_pod("app=sleep", "sample")


# commands in pods


def _websocket(*frames: Frame, then: str = "close") -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return a handler that sends ``frames`` and then closes, hangs or cuts the connection."""

    async def handle(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=PROTOCOLS)
        await socket.prepare(request)
        for channel, payload in frames:
            await socket.send_bytes(bytes([channel]) + payload)
        if then == "hang":
            while (await socket.receive()).type not in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING):
                pass
        elif then == "cut" and request.transport is not None:
            request.transport.abort()
        await socket.close()
        return socket

    return handle


def _failure(message: str, *causes: dict[str, str]) -> Frame:
    status = {"status": "Failure", "message": message, "reason": "NonZeroExitCode", "details": {"causes": list(causes)}}
    return 3, json.dumps(status).encode()


def test_a_command_gives_its_output_and_exit_code(scripted: Any, cluster: Cluster) -> None:
    failed = _failure("exit code 7", {"reason": "ExitCode", "message": "7"})
    scripted.script[EXEC] = [_websocket((1, b"out\n"), (2, b"err\n"), failed)]
    result = cluster.exec("p", "sh -c 'exit 7'", namespace="sample", container="c")
    assert (result.exit_code, result.stdout, result.stderr) == (7, "out\n", "err\n")
    assert scripted.asked[-1].endswith(
        "?command=sh&command=-c&command=exit+7&container=c&stdout=true&stderr=true&stdin=false&tty=false"
    )


def test_lines_come_whole_and_with_their_time_though_frames_split_them(scripted: Any, cluster: Cluster) -> None:
    snow = "雪が降る\nlast".encode()
    scripted.script[EXEC] = [_websocket(*[(1, bytes([byte])) for byte in snow], (255, b"\x01"), SUCCESS)]
    lines: list[tuple[str, datetime]] = []
    before = datetime.now(UTC)
    result = cluster.exec("p", ["x"], namespace="sample", on_line=lambda line, at: lines.append((line, at)))
    assert [line for line, _ in lines] == ["雪が降る", "last"]
    assert all(before <= at <= before + timedelta(seconds=10) for _, at in lines)
    assert result.stdout == snow.decode()


def test_a_command_can_be_talked_with_while_it_runs(scripted: Any, cluster: Cluster) -> None:
    async def echo(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=PROTOCOLS)
        await socket.prepare(request)
        await socket.send_bytes(b"\x01ready\n")
        heard = await socket.receive_bytes()
        await socket.send_bytes(b"\x01" + heard[1:] + b"\n")
        await socket.send_bytes(bytes([SUCCESS[0]]) + SUCCESS[1])
        await socket.close()
        return socket

    class Echoed:
        lines: ClassVar[list[str]] = []

        def on_line(self, line: str, when: datetime) -> None:
            self.lines.append(line)

        def stdin(self) -> str:
            return "a word" if self.lines == ["ready"] else ""

    scripted.script[EXEC] = [echo]
    assert cluster.exec_interactive("p", ["x"], Echoed(), namespace="sample").exit_code == 0
    assert Echoed.lines == ["ready", "a word"]
    assert "stdin=true" in scripted.asked[-1]


def test_a_command_that_is_not_there_is_an_error_and_no_exit_code(scripted: Any, cluster: Cluster) -> None:
    message = 'exec: "nope": executable file not found in $PATH'
    scripted.script[EXEC] = [_websocket(_failure(message, {"message": message}))]
    with pytest.raises(ExecError, match=r"could not be run in p: exec: .nope.[\s\S]*have this program"):
        cluster.exec("p", "nope", namespace="sample")


def test_a_pod_that_is_not_there_is_told_in_the_servers_words(scripted: Any, cluster: Cluster) -> None:
    scripted.script[EXEC] = [(404, _status('pods "p" not found', "NotFound"))]
    with pytest.raises(ExecError, match='pods "p" not found') as caught:
        cluster.exec("p", "true", namespace="sample")
    assert caught.value.code == 404


def test_a_command_that_the_user_may_not_run_is_told_with_the_roles_and_without_its_text(
    scripted: Any, cluster: Cluster
) -> None:
    scripted.script[EXEC] = [(403, _status('User "ada" cannot get resource "pods/exec"', "Forbidden"))]
    with pytest.raises(ExecError, match=r'cannot get resource "pods/exec"[\s\S]*`meshbook rights`') as caught:
        cluster.exec("p", ["curl", "--no-such-word"], namespace="sample")
    assert "--no-such-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("then", "message"),
    [
        pytest.param("hang", "did not end within 0.3 s", id="stalled"),
        pytest.param("cut", "lost the connection to p", id="cut"),
        pytest.param("close", "ended without an exit code", id="closed early"),
    ],
)
def test_a_broken_stream_keeps_what_came_before(scripted: Any, cluster: Cluster, then: str, message: str) -> None:
    scripted.script[EXEC] = [_websocket((1, b"first\nsec"), (2, b"noise"), then=then)]
    lines: list[str] = []
    with pytest.raises(ExecError, match=message) as caught:
        cluster.exec("p", "x", namespace="sample", timeout_s=0.3, on_line=lambda line, _: lines.append(line))
    assert caught.value.stdout == "first\nsec"
    assert caught.value.stderr == "noise"
    assert lines == ["first", "sec"]


def test_a_cluster_that_is_away_cannot_run_a_command(kubeconfig: Write) -> None:
    cluster = Cluster(Kubeconfig(kubeconfig({"c1": UNREACHABLE})), "c1", QUICK)
    with pytest.raises(ExecError, match=r"cannot reach p to run a command[\s\S]*refused"):
        cluster.exec("p", "true", namespace="sample")


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    scripted: Any, kubeconfig: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, UNREACHABLE)
    scripted.script[EXEC] = [_websocket((1, b"hi\n"), SUCCESS)]
    cluster = Cluster(Kubeconfig(kubeconfig({"c1": scripted.url})), "c1", QUICK)
    assert cluster.version() == "v1.33.1"
    assert cluster.exec("p", "true", namespace="sample").stdout == "hi\n"


# several clusters at once


def test_work_on_several_clusters_runs_at_once() -> None:
    meeting = threading.Barrier(3, timeout=5)
    assert len(gather({name: meeting.wait for name in "abc"})) == 3


def test_the_other_clusters_finish_when_one_fails() -> None:
    def fail() -> str:
        raise ClusterError("it broke")

    with pytest.raises(GatheredError, match="1 of 2 clusters failed\na: it broke") as caught:
        gather({"a": fail, "b": lambda: (pause(0.05), "done")[1]})
    assert caught.value.results == {"b": "done"}


def test_a_mistake_in_the_input_is_told_once() -> None:
    def refuse() -> None:
        raise UsageError("no such file")

    with pytest.raises(UsageError, match=r"^no such file$"):
        gather({"a": refuse, "b": refuse})


def test_an_interrupt_ends_waits_in_every_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    began, ended = threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        try:
            pause(60)
        finally:
            ended.set()

    def interrupt(self: threading.Thread, timeout: float | None = None) -> None:
        began.wait(5)
        if timeout is None:
            raise KeyboardInterrupt
        join(self, timeout)

    join = threading.Thread.join
    monkeypatch.setattr(threading.Thread, "join", interrupt)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        gather({"a": work})
    assert ended.wait(1)
    assert time.monotonic() - started < 2
