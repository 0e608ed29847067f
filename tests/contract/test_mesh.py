"""Two clusters in one mesh: sidecars, and one service that both answer for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from waits import until

from meshbook import probes, tables
from meshbook.clusters import Cluster, Fleet

pytestmark = pytest.mark.mesh

URL = "http://helloworld.{}:5000/hello"
CALLS = 30
PATIENCE_S = 120
SENDERS = """
import glob, os, pathlib
mine = ("HOSTNAME=" + os.environ["HOSTNAME"]).encode()
for folder in map(os.path.dirname, glob.glob("/proc/[0-9]*/cmdline")):
    try:
        command, environment = (pathlib.Path(folder, name).read_bytes() for name in ("cmdline", "environ"))
    except OSError:
        continue
    if b"sys.stdin.read(" in command and mine in environment and str(os.getpid()) not in folder:
        print(folder)
"""
"""Prints the senders that run in the pod in which it runs; on a lab, all pods share one table of processes."""


@pytest.fixture(scope="module")
def mesh(clusters: Any, apis: Any) -> Iterator[tuple[Fleet, str]]:
    """Return the fleet of both clusters and a namespace of it in which the sample runs: v1 first, v2 second."""
    revisions = [revision_of(api) for api in apis.values()]
    if not all(revisions):
        pytest.skip("these clusters have no injection by revision label")
    fleet = Fleet.connect(clusters.contexts, clusters.kubeconfig or "")
    name = next(iter(apis.values())).namespace + "-mesh"
    sample = Path(__file__).parents[2] / "manifests" / "connectivity"
    try:
        for cluster, revision, version in zip(fleet, revisions, ("v1", "v2"), strict=True):
            cluster.create_namespace(name, revision=revision)
            for client in ("sleep.yaml", "prober.yaml"):
                cluster.apply(sample / client, namespace=name)
            for selector in ("service=helloworld", f"version={version}"):
                cluster.apply(sample / "helloworld.yaml", namespace=name, selector=selector)
        fleet.wait_for_rollout(name, timeout_s=PATIENCE_S)
        probes.wait_for_versions(fleet, URL.format(name), ("v1", "v2"), namespace=name)
        yield fleet, name
    finally:
        for api in apis.values():
            api.ask("DELETE", f"/api/v1/namespaces/{name}")
        fleet.close()


def revision_of(api: Any) -> str:
    """Return the revision whose webhook injects by the namespace's label; "" when there is none."""
    found = api.ask("GET", "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations").json["items"]
    labels = [one["metadata"].get("labels", {}) for one in found]
    return next((one["istio.io/rev"] for one in labels if "istio.io/rev" in one), "")


def pods(cluster: Cluster, namespace: str, selector: str) -> list[dict[str, Any]]:
    return cluster.list("Pod", namespace, labels=selector)


def containers(pod: dict[str, Any]) -> set[str]:
    """Return the names of the containers that go on running: of newer meshes, the proxy is an init container."""
    lasting = [one for one in pod["spec"].get("initContainers", ()) if one.get("restartPolicy") == "Always"]
    return {one["name"] for one in (*pod["spec"]["containers"], *lasting)}


def test_pods_of_a_labelled_namespace_have_a_ready_sidecar(mesh: tuple[Fleet, str], apis: Any) -> None:
    fleet, namespace = mesh
    for cluster in fleet:
        (pod,) = pods(cluster, namespace, "app=sleep")
        assert "istio-proxy" in containers(pod)
        assert "sidecar.istio.io/status" in pod["metadata"]["annotations"]
        table = apis[cluster.name].ask(
            "GET",
            f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}",
            Accept="application/json;as=Table;v=v1;g=meta.k8s.io",
        )
        assert table.json["rows"][0]["cells"][1] == "2/2"


def test_pods_of_other_namespaces_have_none(mesh: tuple[Fleet, str], api: Any, pod: str) -> None:
    assert containers(api.get(f"{api.core}/pods/{pod}")) == {"main"}


def test_every_namespace_has_the_root_of_trust(mesh: tuple[Fleet, str]) -> None:
    fleet, namespace = mesh
    roots = fleet.each(
        lambda cluster: cluster.get("ConfigMap", "istio-ca-root-cert", namespace)["data"]["root-cert.pem"]
    )
    assert len({root.strip() for root in roots.values()}) == 1


def test_both_versions_answer_callers_of_both_clusters(mesh: tuple[Fleet, str]) -> None:
    fleet, namespace = mesh
    frame = probes.curl_from_pods(fleet, URL.format(namespace), requests=CALLS, namespace=namespace)
    assert set(frame["code"]) == {200}
    for cluster in fleet:
        answers = frame[frame["source"] == cluster.name]
        assert set(answers["version"]) == {"v1", "v2"}
    instances = {one["metadata"]["name"] for cluster in fleet for one in pods(cluster, namespace, "app=helloworld")}
    assert set(frame["instance"]) == instances


def test_a_sidecar_tells_by_pilot_agent_where_it_sends_requests(mesh: tuple[Fleet, str]) -> None:
    fleet, namespace = mesh
    for cluster in fleet:
        pod, where = cluster.ready_pod("app=sleep", namespace), {"namespace": namespace, "container": "istio-proxy"}
        asked = cluster.exec(pod, ["pilot-agent", "request", "GET", "clusters?format=json"], **where)
        statuses = {one["name"]: one.get("host_statuses", []) for one in json.loads(asked.stdout)["cluster_statuses"]}
        hosts = statuses[f"outbound|5000||helloworld.{namespace}.svc.cluster.local"]
        assert len(hosts) == 2
        assert 15443 in [host["address"]["socket_address"]["port_value"] for host in hosts]
        refused = cluster.exec(pod, ["pilot-agent", "request", "GET", "healthcheck/fail"], **where)
        assert (refused.exit_code, "405" in refused.stderr) == (255, True)


def test_a_watch_sends_from_the_prober_of_every_cluster_and_leaves_nothing_there(mesh: tuple[Fleet, str]) -> None:
    fleet, namespace = mesh

    def senders() -> list[str]:
        found = []
        for cluster in fleet:
            pod, where = cluster.ready_pod("app=prober", namespace), {"namespace": namespace, "container": "prober"}
            found += cluster.exec(pod, ["python3", "-c", SENDERS], **where).stdout.split()
        return found

    with probes.watch(fleet, inside=URL.format(namespace), rate_per_s=4, namespace=namespace) as watch:
        until(lambda: len(watch.frame) >= 8, PATIENCE_S)
        assert len(senders()) == len(fleet.clusters)
    assert set(tables.good(watch.frame)["source"]) == {cluster.name for cluster in fleet}
    until(lambda: senders() == [], PATIENCE_S)


def test_the_other_cluster_answers_all_once_one_side_is_gone(mesh: tuple[Fleet, str]) -> None:
    fleet, namespace = mesh
    first = fleet.clusters[0]

    def versions() -> set[str]:
        """Return who answered, "" for who did not: a proxy may be the last to hear that a pod is gone."""
        frame = probes.curl_from_pods(fleet, URL.format(namespace), requests=CALLS, namespace=namespace)
        return set(frame["version"])

    first.scale("helloworld-v1", 0, namespace)
    try:
        until(lambda: versions() == {"v2"}, PATIENCE_S)
    finally:
        first.scale("helloworld-v1", 1, namespace)
        first.wait_for_rollout(namespace, timeout_s=PATIENCE_S)
