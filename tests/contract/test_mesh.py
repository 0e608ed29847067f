"""Two clusters in one mesh: sidecars, and one service that both answer for."""

from __future__ import annotations

from typing import Any

import pytest

from meshbook import probes
from meshbook.clusters import Cluster, Fleet

pytestmark = pytest.mark.mesh

URL = "http://helloworld.{}:5000/hello"
CALLS = 30


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


def test_the_other_cluster_answers_when_one_side_is_gone(mesh: tuple[Fleet, str], until: Any) -> None:
    fleet, namespace = mesh
    first = fleet.clusters[0]
    first.scale("helloworld-v1", 0, namespace)
    try:
        until(lambda: len(pods(first, namespace, "version=v1")) == 0)
        frame = probes.curl_from_pods(fleet, URL.format(namespace), requests=CALLS, namespace=namespace)
        assert set(frame["code"]) == {200}
        assert set(frame["version"]) == {"v2"}
    finally:
        first.scale("helloworld-v1", 1, namespace)
        first.wait_for_rollout(namespace, timeout_s=120)
