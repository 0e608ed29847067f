"""Promises of sending by curl, from here and from pods: each request goes out on its own, and each has its row."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hello_service import CUT, HANGS, HELLO, URL, service

from meshbook import probes, tables
from meshbook.errors import ClusterError, ExecError, UsageError
from meshbook.mesh import IngressGateway


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class FakeCluster:
    """A cluster whose exec runs the command on this machine, and may break after some lines."""

    def __init__(
        self,
        name: str,
        breaks_after: int | None = None,
        containers: tuple[str, ...] = ("sleep",),
        *,
        is_ready: bool = True,
    ) -> None:
        self.name, self.breaks_after, self.containers, self.is_ready = name, breaks_after, containers, is_ready
        self.chosen: list[str] = []

    def tell_kubectl(self, *words: str, namespace: str = "") -> None: ...

    def ready_pod(self, selector: str, namespace: str) -> str:
        if selector != "app=sleep" or not self.is_ready:
            raise ClusterError(f"{self.name}: no pod {selector} is ready in {namespace}")
        return "sleep-1"

    def get(self, kind: str, name: str, namespace: str) -> Mapping[str, Any]:
        return {"spec": {"containers": [{"name": container} for container in self.containers]}}

    def exec(self, pod: str, command: list[str], *, container: str, on_line: Callable[..., None], **_: object) -> Any:
        self.chosen.append(container)
        done = subprocess.run(command, capture_output=True, timeout=20, check=False)
        for number, line in enumerate(done.stdout.decode().split("\n")[:-1]):
            if number == self.breaks_after:
                raise ExecError("lost the connection to sleep-1 while the command ran", stdout="…")
            on_line(line, datetime.now(UTC))
        return SimpleNamespace(stderr=done.stderr.decode(), exit_code=done.returncode)


class FakeFleet(dict[str, FakeCluster]):
    def each(self, task: Callable[[FakeCluster], Any]) -> dict[str, Any]:
        return {name: task(cluster) for name, cluster in self.items()}


def fleet(*clusters: FakeCluster) -> Any:
    return FakeFleet({cluster.name: cluster for cluster in clusters})


def test_one_curl_sends_every_request_on_a_connection_of_its_own_and_no_trace_of_the_counter() -> None:
    with service() as server:
        before = datetime.now(UTC) - timedelta(milliseconds=50)
        frame = probes.curl_from_here(server.url, 10)
        after = datetime.now(UTC)
    assert server.asked == [("/hello", "close")] * 10
    assert server.most_at_once == 1
    assert frame["error"].tolist() == [""] * 10
    assert frame["seq"].tolist() == list(range(1, 11))
    assert set(frame["source"]) == {"external client"}
    assert frame["time"].is_monotonic_increasing
    assert frame["time"].between(before, after).all()
    assert (frame["time_total_ms"] >= frame["time_connect_ms"]).all()


def test_globbing_characters_of_a_url_reach_the_server_unchanged() -> None:
    with service() as server:
        probes.curl_from_here(server.url + "?a[1]={b,c}&d=[1-3]", 2)
    assert [path for path, _ in server.asked] == ["/hello?a[1]={b,c}&d=[1-3]"] * 2


def test_errors_and_wrong_answers_are_rows_of_their_own_kind() -> None:
    with service((200, HELLO), (503, b"no healthy upstream"), (200, b"<html>"), (404, b"")) as server:
        frame = probes.curl_from_here(server.url, 4)
    assert frame["error"].tolist() == ["", "http_503", "unexpected", "http_404"]


def test_a_refused_and_a_hanging_service_are_told_apart() -> None:
    refused = probes.curl_from_here(f"http://127.0.0.1:{free_port()}/hello", 2)
    with service(delay_s=0.5) as server:
        hanging = probes.curl_from_here(server.url, 2, timeout_s=0.15)
    assert refused["error"].tolist() == ["refused"] * 2
    assert refused["code"].isna().all()
    assert hanging["error"].tolist() == ["timeout"] * 2


def test_once_a_request_hangs_the_others_are_sent_side_by_side_and_each_has_its_row() -> None:
    with service(*[(200, HELLO)] * 3, *[HANGS] * 4, *[(200, HELLO)] * 33) as server:
        frame = probes.curl_from_here(server.url, 40, timeout_s=0.4)
    assert len(server.asked) == 40
    assert frame["seq"].tolist() == list(range(1, 41))
    assert frame["error"].tolist()[:4] == ["", "", "", "timeout"]
    assert set(frame["error"]) == {"", "timeout"}
    assert server.most_at_once >= 3, "three more of them hang"
    assert frame["time"][:5].diff().min() > timedelta(0)


def test_where_it_is_known_that_some_hang_none_waits_for_another() -> None:
    with service(*[HANGS] * 3, *[(200, HELLO)] * 7) as server:
        frame = probes.curl_from_here(server.url, 10, timeout_s=0.5, at_once=True)
    assert len(server.asked) == len(frame) == 10
    assert server.most_at_once >= 3
    assert set(frame["error"]) == {"", "timeout"}


def test_requests_that_fail_at_once_keep_their_turn() -> None:
    with service((200, HELLO), CUT) as server:
        frame = probes.curl_from_pods(fleet(FakeCluster("cluster1")), server.url, 6)
    assert frame["error"].tolist() == ["", "no_answer"] * 3
    assert frame["time"].is_monotonic_increasing


def test_a_private_address_is_asked_past_the_environment_s_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with service() as server:
        assert probes.curl_from_here(server.url, 1)["error"].tolist() == [""]


def test_a_machine_without_curl_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="no curl"):
        probes.curl_program()


def test_pods_of_all_clusters_send_and_every_row_names_its_cluster() -> None:
    clusters = FakeCluster("cluster1", containers=("istio-proxy", "sleep")), FakeCluster("cluster2")
    with service((200, HELLO), (200, b"a\r\nb\n")) as server:
        frame = probes.curl_from_pods(fleet(*clusters), server.url, requests=6)
    assert frame["source"].tolist() == ["cluster1"] * 6 + ["cluster2"] * 6
    assert frame["seq"].tolist() == [*range(1, 7)] * 2
    assert frame["error"].tolist() == ["", "unexpected"] * 6
    assert set(frame["path"]) == {"mesh"}
    assert frame["time"].notna().all()
    assert clusters[0].chosen == ["sleep"]


def test_every_gateway_is_asked_from_its_own_cluster_and_one_that_hangs_costs_two_time_outs() -> None:
    clusters = FakeCluster("cluster1"), FakeCluster("cluster2", is_ready=False)
    with service() as server, service(delay_s=0.6) as frozen:
        one, two = (
            IngressGateway(cluster="cluster1", pod=pod, url=at.url) for pod, at in (("a", server), ("b", frozen))
        )
        others = [
            IngressGateway(cluster="cluster2", pod="c", url=server.url),
            IngressGateway(cluster="cluster1", need="list pods"),
        ]
        began = time.monotonic()
        frame = probes.curl_gateways(fleet(*clusters), [one, two, *others], 12, timeout_s=0.3)
        took_s = time.monotonic() - began
    found = frame.groupby(["source", "path"])["error"].agg(lambda errors: (len(errors), *set(errors))).to_dict()
    assert found == {
        ("cluster1", "gateway a"): (12, ""),
        ("cluster1", "gateway b"): (12, "timeout"),
        ("cluster1", "gateway"): (1, "lost"),
        ("cluster2", "gateway c"): (1, "lost"),
    }
    assert took_s < 12 * 0.3
    assert probes.curl_gateways(fleet(*clusters), []).empty


def test_no_requests_are_no_rows() -> None:
    for none in (probes.curl_from_here(URL, 0), probes.curl_from_pods(fleet(FakeCluster("cluster1")), URL, 0)):
        assert none.empty
        assert list(none.columns) == tables.ANSWERS.names


def test_an_exec_that_breaks_leaves_the_rows_received_and_rows_marked_lost() -> None:
    with service() as server:
        frame = probes.curl_from_pods(fleet(FakeCluster("cluster1", breaks_after=8)), server.url, requests=5)
    assert frame["error"].tolist() == ["", "", "lost", "lost", "lost"]
    assert frame["detail"].tolist()[-1] == "lost the connection to sleep-1 while the command ran"


def test_a_user_who_may_not_exec_is_told_so_instead_of_requests_that_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> Any:
        raise ExecError('User "ada" cannot get resource "pods/exec"', code=403)

    cluster = FakeCluster("cluster1")
    monkeypatch.setattr(cluster, "exec", refused)
    with pytest.raises(ClusterError, match="pods/exec"):
        probes.curl_from_pods(fleet(cluster), "http://a.test/", requests=5)


def test_where_no_cluster_has_a_pod_to_send_from_that_is_an_error_and_one_that_has_sends_alone() -> None:
    clusters = FakeCluster("cluster1"), FakeCluster("cluster2", is_ready=False)
    with pytest.raises(ClusterError, match="cluster2: no pod app=sleep"):
        probes.curl_from_pods(fleet(clusters[1]), URL)
    with service() as server:
        assert probes.curl_from_pods(fleet(*clusters), server.url, 2)["source"].tolist() == ["cluster1"] * 2
