"""Applying, scaling, waiting and deleting, against the lab's API servers over TLS."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from controllers import Controllers

from meshbook.clusters import Applied, Cluster, Fleet, conflicts
from meshbook.errors import ClusterError, ExecError, GatheredError, UsageError, WaitTimeout

MANIFESTS = Path(__file__).parents[1] / "manifests"
CONFIG = (
    "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}, labels: {{app: {name}}}}}, data: {{key: {value}}}}}"
)
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: app, image: "docker.io/istio/examples-helloworld-v1"}]}
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_manifest(*documents: str) -> Path:
        path = tmp_path / "manifest.yaml"
        path.write_text("\n---\n".join(documents))
        return path

    return write_manifest


@pytest.fixture
def cluster(bare_fleet: Fleet) -> Cluster:
    bare_fleet.create_namespace("sample")
    return bare_fleet["cluster1"]


def _config(name: str, value: str = "one") -> str:
    return CONFIG.format(name=name, value=value)


def _outcomes(records: list[Applied]) -> list[str]:
    return [f"{record.name} {record.outcome}" for record in records]


def test_applying_tells_what_was_created_what_changed_and_what_did_not(cluster: Cluster, write: Write) -> None:
    path = write(_config("a"), _config("b"))
    assert _outcomes(cluster.apply(path, "sample")) == ["a created", "b created"]
    assert _outcomes(cluster.apply(path, "sample")) == ["a unchanged", "b unchanged"]
    path = write(_config("a"), _config("b", "two"))
    assert _outcomes(cluster.apply(path, "sample")) == ["a unchanged", "b configured"]
    assert cluster.get("ConfigMap", "b", "sample")["data"] == {"key": "two"}


def test_applying_works_on_every_cluster_and_selects_by_label(bare_fleet: Fleet, write: Write) -> None:
    bare_fleet.create_namespace("sample")
    records = bare_fleet.apply(write(_config("a"), _config("b")), "sample", "app in (b,c)")
    assert [(record.context, record.name) for record in records] == [("cluster1", "b"), ("cluster2", "b")]
    assert str(records[0]) == "cluster1: ConfigMap b in sample created"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        pytest.param("{apiVersion: v1, kind: ConfigMap, metadata: {name: Bad_Name}}", "Bad_Name", id="bad name"),
        pytest.param("{apiVersion: v1, kind: ConfigMap, metadata: {name: b}, dta: {}}", "dta", id="unknown field"),
        pytest.param("{apiVersion: x.io/v1, kind: Odd, metadata: {name: b}}", "no kind Odd in x.io/v1", id="no kind"),
    ],
)
def test_one_bad_object_leaves_all_of_them_undone(cluster: Cluster, write: Write, bad: str, message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        cluster.apply(write(_config("a"), bad), "sample")
    assert cluster.find("ConfigMap", "a", "sample") is None


def test_a_namespace_and_what_is_in_it_can_come_from_one_manifest(cluster: Cluster, write: Write) -> None:
    path = write("{apiVersion: v1, kind: Namespace, metadata: {name: fresh}}", _config("a"))
    assert _outcomes(cluster.apply(path, "fresh")) == ["fresh created", "a created"]


def test_a_binding_comes_with_its_role_though_a_dry_run_finds_none(
    cluster: Cluster, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a real API server does for a user who has no right to bind, but all that the role gives."""
    request, group = cluster.connection.request, "rbac.authorization.k8s.io"

    def checked(verb: str, path: str, **asked: Any) -> Any:
        if "rolebindings/" in path and verb == "PATCH" and cluster.find(f"{group}/v1/Role", "reader", "sample") is None:
            raise ClusterError('rolebindings "reader" not found', code=404)
        return request(verb, path, **asked)

    monkeypatch.setattr(cluster.connection, "request", checked)
    role = f"{{apiVersion: {group}/v1, kind: Role, metadata: {{name: reader}}, rules: []}}"
    to = f"roleRef: {{apiGroup: {group}, kind: Role, name: reader}}, subjects: []"
    binding = f"{{apiVersion: {group}/v1, kind: RoleBinding, metadata: {{name: reader}}, {to}}}"
    with pytest.raises(ClusterError, match="nothing was changed"):
        cluster.apply(write(_config("a"), binding), "sample")
    assert cluster.find("ConfigMap", "a", "sample") is None
    assert _outcomes(cluster.apply(write(role, binding), "sample")) == ["reader created", "reader created"]


def test_a_field_that_another_owner_set_is_a_conflict_until_it_is_taken_over(cluster: Cluster, write: Write) -> None:
    path = write(_config("a"))
    cluster.apply(path, "sample")
    resource = cluster.resource("ConfigMap").path("sample", "a")
    change = {"data": {"key": "theirs"}}
    query = {"fieldManager": "kubectl-edit"}
    cluster.connection.request("PATCH", resource, query=query, body=change, content_type="application/merge-patch+json")
    with pytest.raises(ClusterError, match=r"kubectl-edit[\s\S]*take_over=true") as caught:
        cluster.apply(path, "sample")
    assert caught.value.code == 409
    assert _outcomes(cluster.apply(path, "sample", take_over=True)) == ["a configured"]


def test_what_a_deployments_owner_may_choose_stays_as_it_is_and_is_said(cluster: Cluster, write: Write) -> None:
    path, where = write(DEPLOYMENT), cluster.resource("Deployment").path("sample", "web")
    cluster.apply(path, "sample")

    def by_hand(change: dict[str, Any]) -> None:
        cluster.connection.request(
            "PATCH",
            where,
            query={"fieldManager": "kubectl-edit"},
            body=change,
            content_type="application/merge-patch+json",
        )

    app = {"name": "app", "image": "docker.io/istio/examples-helloworld-v2"}
    by_hand({"spec": {"replicas": 3, "template": {"spec": {"containers": [app]}}}})
    (applied,) = cluster.apply(path, "sample")
    assert applied.outcome == "unchanged"
    assert applied.left == 'replicas, containers[name="app"].image'
    assert "another owner has set" in str(applied)
    spec = cluster.get("Deployment", "web", "sample")["spec"]
    assert (spec["replicas"], spec["template"]["spec"]["containers"][0]["image"]) == (3, app["image"])
    (applied,) = cluster.apply(path, "sample", replicas=5)
    assert (applied.outcome, applied.left) == ("configured", 'containers[name="app"].image')
    assert cluster.get("Deployment", "web", "sample")["spec"]["replicas"] == 5, "a count that is asked for is set"
    by_hand({"metadata": {"labels": {"app": "other"}}})
    with pytest.raises(ClusterError, match=r"conflict[\s\S]*\.metadata\.labels\.app"):
        cluster.apply(path, "sample")


@pytest.mark.parametrize(
    ("field", "left"),
    [
        ('.spec.template.spec.containers[name="app"].ports[containerPort=5000,protocol="TCP"].name', True),
        ('.spec.template.spec.containers[name="app"].resources.requests.cpu', True),
        ('.spec.template.spec.containers[name="other"].image', False),
        (".spec.template.metadata.labels.app", False),
        (".spec.template.spec.nodeSelector.kubernetes.io/arch", False),
    ],
)
def test_only_what_is_found_by_its_path_is_left(field: str, left: bool) -> None:
    ports = [{"containerPort": 5000, "name": "http"}]
    app = {"name": "app", "image": "one", "ports": ports, "resources": {"requests": {"cpu": "1"}}}
    found = {"kind": "Deployment", "spec": {"template": {"spec": {"containers": [app]}}}}
    rest, fields = conflicts.without(found, [field])
    assert (fields, rest != found) == ([field.removeprefix(".spec.template.spec.")] if left else [], left)
    assert "requests" not in str(rest) or field.split(".")[-2] != "requests"


def test_how_many_an_autoscaler_may_make_is_its_owners_choice_and_of_what_is_not() -> None:
    found = {"kind": "HorizontalPodAutoscaler", "spec": {"minReplicas": 2, "scaleTargetRef": {"name": "web"}}}
    rest, left = conflicts.without(found, [".spec.minReplicas", ".spec.scaleTargetRef.name"])
    assert (rest["spec"], left) == ({"scaleTargetRef": {"name": "web"}}, ["minReplicas"])


def test_a_missing_namespace_is_told_once_per_cluster(bare_fleet: Fleet, write: Write) -> None:
    with pytest.raises(GatheredError, match=r"2 of 2 clusters failed[\s\S]*\"nowhere\" not found"):
        bare_fleet.apply(write(_config("a")), "nowhere")


def test_deleting_waits_until_all_is_gone_and_again_finds_nothing(cluster: Cluster, write: Write) -> None:
    path = write(_config("a"), _config("b"), "{apiVersion: x.io/v1, kind: Odd, metadata: {name: c}}")
    cluster.apply(path, "sample", "app")
    assert _outcomes(cluster.delete(path, "sample")) == ["c not found", "b deleted", "a deleted"]
    assert _outcomes(cluster.delete(path, "sample")) == ["c not found", "b not found", "a not found"]


def test_what_was_there_before_is_not_deleted_even_where_it_was_applied_over(cluster: Cluster, write: Write) -> None:
    path = write(_config("theirs"), _config("ours"), _config("alone"))
    for name in ("theirs", "alone"):
        cluster.create("ConfigMap", {"metadata": {"name": name, "namespace": "sample"}, "data": {"their": "own"}})
    for _ in range(2):
        cluster.apply(path, "sample", "app in (theirs, ours)")
    assert _outcomes(cluster.delete(path, "sample")) == ["alone left alone", "ours deleted", "theirs left alone"]
    assert cluster.get("ConfigMap", "theirs", "sample")["data"] == {"their": "own", "key": "one"}


def test_the_lines_for_a_terminal_lead_to_what_meshbook_does(
    cluster: Cluster, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(_config("theirs"), _config("ours"))
    cluster.create("ConfigMap", {"metadata": {"name": "theirs", "namespace": "sample"}, "data": {"their": "own"}})
    with caplog.at_level("DEBUG"):
        cluster.apply(path, "sample")
    assert caplog.messages[-1].endswith(" -n sample label configmaps/ours app.kubernetes.io/managed-by=meshbook")
    query, pasted = {"fieldManager": "meshbook"}, yaml.safe_load(_config("ours", "two"))
    url = "/api/v1/namespaces/sample/configmaps/ours"
    cluster.connection.request("PATCH", url, query=query, body=pasted, content_type="application/apply-patch+yaml")
    with caplog.at_level("DEBUG"):
        assert _outcomes(cluster.delete(path, "sample")) == ["ours deleted", "theirs left alone"]
    assert " -n sample delete --ignore-not-found configmaps/ours\n" in caplog.text


def test_a_deletion_that_is_held_up_says_by_what(cluster: Cluster, write: Write) -> None:
    held = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, finalizers: [example.com/hold]}}"
    cluster.apply(write(held), "sample")
    with pytest.raises(WaitTimeout, match=r"ConfigMap a in sample gone not within[\s\S]*held by example.com/hold"):
        cluster.delete(write(held), "sample", timeout_s=0.1)


# namespaces


def test_a_namespace_gets_the_meshs_revision_and_loses_the_old_label(bare_fleet: Fleet) -> None:
    cluster = bare_fleet["cluster1"]
    cluster.create("Namespace", {"metadata": {"name": "sample", "labels": {"istio-injection": "enabled", "team": "x"}}})
    with pytest.raises(
        GatheredError, match=r"namespace sample is not meshbook's, and its istio-injection=enabled is not asm"
    ):
        bare_fleet.create_namespace("sample", revision="asm-1175-9")
    records = bare_fleet.create_namespace("sample", revision="asm-1175-9", take_over=True)
    assert [record.outcome for record in records] == ["configured", "unchanged"]
    labels = cluster.get("Namespace", "sample")["metadata"]["labels"]
    assert {key: labels.get(key) for key in ("istio.io/rev", "istio-injection", "team")} == {
        "istio.io/rev": "asm-1175-9",
        "istio-injection": None,
        "team": "x",
    }
    again = bare_fleet.create_namespace("sample", revision="asm-1175-9")
    assert [record.outcome for record in again] == ["unchanged", "unchanged"]


@pytest.mark.parametrize(
    ("labels", "revision", "outcome"),
    [
        ({"istio.io/rev": "prod"}, "asm-1175-9", "unchanged"),
        ({"istio.io/rev": "asm-1175-9"}, "prod", "unchanged"),
        ({"istio.io/rev": "prod"}, "prod", "unchanged"),
        ({"istio-injection": "enabled"}, "asm-1175-9", "unchanged"),
        ({"istio-injection": "enabled", "istio.io/rev": "asm-1"}, "asm-1175-9", "unchanged"),
        ({"istio-injection": "disabled", "istio.io/rev": "prod"}, "asm-1175-9", "configured"),
        ({"istio.io/rev": "asm-1"}, "asm-1175-9", "configured"),
        ({}, "prod", "configured"),
    ],
)
def test_a_namespace_keeps_the_label_that_means_the_same_revision(
    cluster: Cluster, labels: dict[str, str], revision: str, outcome: str
) -> None:
    for name, tag in (("injector", {}), ("tag", {"istio.io/tag": "prod"}), ("default", {"istio.io/tag": "default"})):
        metadata = {"name": name, "labels": {"istio.io/rev": "asm-1175-9", **tag}}
        cluster.create("MutatingWebhookConfiguration", {"metadata": metadata, "webhooks": []})
    cluster.create("Namespace", {"metadata": {"name": "theirs", "labels": labels}})
    assert cluster.create_namespace("theirs", revision=revision, take_over=True).outcome == outcome
    after = cluster.get("Namespace", "theirs")["metadata"]["labels"]
    if outcome == "unchanged":
        assert labels.items() <= after.items()
    else:
        assert (after["istio.io/rev"], "istio-injection" in after) == (revision, False)


def test_only_namespaces_of_meshbook_are_deleted(bare_fleet: Fleet) -> None:
    cluster = bare_fleet["cluster1"]
    cluster.create("Namespace", {"metadata": {"name": "theirs"}})
    assert cluster.delete_namespace("theirs").outcome == "left alone"
    assert cluster.find("Namespace", "theirs")
    cluster.create_namespace("ours")
    with Controllers(cluster):
        assert cluster.delete_namespace("ours", timeout_s=5).outcome == "deleted"
    assert cluster.delete_namespace("ours").outcome == "not found"


def test_a_namespace_that_is_still_going_is_made_anew_when_it_has_gone(bare_fleet: Fleet) -> None:
    cluster = bare_fleet["cluster1"]
    cluster.create_namespace("sample")
    cluster.delete_object("Namespace", "sample")
    with Controllers(cluster, slow_s=0.1):
        assert cluster.create_namespace("sample", timeout_s=5).outcome == "created"
    assert "deletionTimestamp" not in cluster.get("Namespace", "sample")["metadata"]


# deployments


def test_a_rollout_is_waited_for_and_shown_as_kubectl_does(cluster: Cluster, write: Write) -> None:
    cluster.apply(write(DEPLOYMENT), "sample")
    with Controllers(cluster, slow_s=0.05):
        (state,) = cluster.wait_for_rollout("sample", timeout_s=5)
    assert str(state) == "cluster1: web 2/2 ready, 2 updated, 2 available"
    assert cluster.deployments("sample") == [state]


def test_scaling_returns_the_former_count(cluster: Cluster, write: Write) -> None:
    cluster.apply(write(DEPLOYMENT), "sample")
    assert cluster.scale("web", 0, "sample") == 2
    assert cluster.scale("web", 3, "sample") == 0
    assert cluster.get("Deployment", "web", "sample")["spec"]["replicas"] == 3
    with pytest.raises(ClusterError, match='"none" not found'):
        cluster.scale("none", 0, "sample")


def test_a_rollout_that_gets_stuck_says_what_its_pods_wait_for(cluster: Cluster, write: Write) -> None:
    cluster.apply(write(DEPLOYMENT), "sample")
    expected = (
        r"cluster1: rollout in sample not within 0.5 s[\s\S]*web 0/2 ready[\s\S]*web-1 Pending, container app ErrImag"
    )
    with Controllers(cluster, fails=True), pytest.raises(WaitTimeout, match=expected):
        cluster.wait_for_rollout("sample", timeout_s=0.5)


def test_a_rollout_that_can_get_no_better_ends_before_its_time_and_is_no_error_to_who_asks_how_far_it_is(
    bare_fleet: Fleet, write: Write
) -> None:
    applied = []
    for cluster in bare_fleet:
        cluster.create_namespace("sample")
        applied += cluster.apply(write(DEPLOYMENT), "sample")
    bare_fleet["cluster1"].apply(write(DEPLOYMENT.replace("name: web", "name: unrelated")), "sample")
    with Controllers(bare_fleet["cluster1"]), Controllers(bare_fleet["cluster2"], fails=True):
        states = bare_fleet.rollout_status(applied, timeout_s=60)
    assert [(state.context, state.name, state.settled) for state in states] == [
        ("cluster1", "web", True),
        ("cluster2", "web", False),
    ]
    assert "pod web-1 Pending, container app ErrImagePull: no such image" in states[1].obstacle


@pytest.mark.parametrize(("names", "seen"), [([], "no Deployment"), (["other"], "no Deployment other")])
@pytest.mark.parametrize(("timeout_s", "how"), [(0.05, "not within 0.05 s"), (60, "not begun within 0.2 s")])
def test_a_rollout_of_nothing_is_no_success_and_no_long_wait(
    cluster: Cluster, names: list[str], seen: str, timeout_s: float, how: str
) -> None:
    with pytest.raises(WaitTimeout, match=rf"rollout in sample {how}\n  saw: {seen}\n  try: apply the manifests first"):
        cluster.wait_for_rollout("sample", names, timeout_s=timeout_s)


# permissions


def test_permissions_are_asked_of_the_cluster_itself(bare_fleet: Fleet) -> None:
    assert bare_fleet["cluster2"].can_i("patch", "deployments.apps/scale", "sample") is True


# through a proxy


@pytest.fixture
def proxy(background: Any) -> Iterator[tuple[str, list[str]]]:
    """An HTTP proxy that wants a login: its address, and the logins with which it was asked for a tunnel."""
    logins: list[str] = []
    tunnels: list[asyncio.Task[Any] | None] = []

    async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
        sink.close()

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tunnels.append(asyncio.current_task())
        first, *headers = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        logins.extend(line.split(" ")[-1] for line in headers if line.lower().startswith("proxy-authorization"))
        host, port = first.split(" ")[1].split(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(pipe(reader, far_writer), pipe(far_reader, writer))

    server = background.run(asyncio.start_server(tunnel, "127.0.0.1", 0))
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", logins
    server.close()
    background.run(asyncio.wait_for(_ended(tunnels), 5))


async def _ended(tasks: Iterable[asyncio.Task[Any] | None]) -> None:
    await asyncio.gather(*filter(None, tasks), return_exceptions=True)


def test_requests_and_commands_go_through_the_kubeconfigs_proxy_with_its_login(
    bare_fleet: Fleet, proxy: tuple[str, list[str]], tmp_path: Path
) -> None:
    address, logins = proxy
    document = yaml.safe_load((tmp_path / "kubeconfig").read_text())
    for entry in document["clusters"]:
        entry["cluster"]["proxy-url"] = f"http://us%40er:word@{address}"
    (tmp_path / "proxied").write_text(yaml.safe_dump(document))
    fleet = Fleet.connect(["cluster1"], tmp_path / "proxied")
    with pytest.raises(ExecError, match='cannot run a command in p: pods "p" not found'):  # over its own TLS
        fleet["cluster1"].exec("p", "true", namespace="default")
    fleet.close()
    assert logins == [base64.b64encode(b"us@er:word").decode()] * 2


# the runbook's own manifests


@pytest.mark.parametrize("stage", [path.name for path in sorted(MANIFESTS.iterdir()) if path.is_dir()])
def test_the_runbooks_manifests_apply_and_apply_again_without_change(bare_fleet: Fleet, stage: str) -> None:
    cluster = bare_fleet["cluster2"]
    cluster.create_namespace("trial")
    with contextlib.suppress(UsageError):  # a folder of folders
        first = cluster.apply(MANIFESTS / stage, "trial")
        assert {record.outcome for record in first} == {"created"}
        assert {record.outcome for record in cluster.apply(MANIFESTS / stage, "trial")} == {"unchanged"}
        cluster.delete(MANIFESTS / stage, "trial", timeout_s=5)
