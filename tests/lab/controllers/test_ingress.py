"""MCS and MCI as pure translations: what they become, and what is refused in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meshbook.lab.client import BACKEND_CONFIGS, ENDPOINT_SLICES, MULTI_CLUSTER_SERVICES, SERVICES
from meshbook.lab.controllers import Create, Delete, Patch, Refusal, backend_of, derivation
from meshbook.lab.envoy import Backend, HealthCheck
from meshbook.lab.topology import two_clouds

Object = dict[str, Any]
UNPRIVILEGED = two_clouds(Path("/lab"), 64, 1024)
ROOT = two_clouds(Path("/lab"), 64, 0)
GKE = ROOT.cluster("cluster2")


def mci(**spec: Any) -> Object:
    given = {"backend": {"serviceName": "gateway", "servicePort": 80}, **spec}
    return {"metadata": {"namespace": "sample", "name": "gateway"}, "spec": {"template": {"spec": given}}}


def add_mcs(play: Any, binding: str = "", **spec: Any) -> Object:
    ports = [{"name": "status-port", "port": 15021}, {"name": "http2", "port": 80}]
    annotations = {"cloud.google.com/backend-config": binding} if binding else {}
    template = {"spec": {"selector": {"istio": "ingressgateway"}, "ports": ports}}
    metadata = {"name": "gateway", "annotations": annotations}
    made: Object = play.add(MULTI_CLUSTER_SERVICES, {"metadata": metadata, "spec": {"template": template, **spec}})
    return made


def add_slice(play: Any, mcs: Object, *endpoints: tuple[str, bool]) -> None:
    (derived,) = derivation(play.cache, GKE, [mcs])
    labels = {"kubernetes.io/service-name": derived.obj["metadata"]["name"]}
    listed = [{"addresses": [ip], "conditions": {"ready": ready}} for ip, ready in endpoints]
    ports = [{"name": "status-port", "port": 15021}, {"name": "http2", "port": 80}]
    metadata = {"generateName": "slice-", "labels": labels}
    play.add(ENDPOINT_SLICES, {"metadata": metadata, "endpoints": listed, "ports": ports})


def translate(play: Any, wanted: Object, topology: Any = ROOT) -> Backend:
    return backend_of(topology, play.cache, wanted)


@pytest.mark.parametrize(("topology", "port"), [(ROOT, 80), (UNPRIVILEGED, 8080)], ids=["root", "user"])
def test_ready_pods_are_the_backends_on_the_port_that_their_gateways_listen_on(
    play: Any, topology: Any, port: int
) -> None:
    mcs = add_mcs(play)
    add_slice(play, mcs, ("127.64.21.1", True), ("127.64.21.2", False))
    assert translate(play, mci(), topology).endpoints == (("127.64.21.1", port),)


def test_the_backend_config_makes_the_health_check(play: Any) -> None:
    add_mcs(play, '{"default": "health"}')
    check = {"type": "HTTP", "requestPath": "/healthz/ready", "port": 15021, "checkIntervalSec": 2}
    play.add(BACKEND_CONFIGS, {"metadata": {"name": "health"}, "spec": {"healthCheck": check}})
    assert translate(play, mci()).health_check == HealthCheck(request_path="/healthz/ready", port=15021, interval_s=2)


@pytest.mark.parametrize("binding", ['{"ports": {"80": "health"}}', '{"ports": {"http2": "health"}, "default": "x"}'])
def test_a_backend_config_may_be_bound_to_a_port_by_number_or_name(play: Any, binding: str) -> None:
    add_mcs(play, binding)
    play.add(BACKEND_CONFIGS, {"metadata": {"name": "health"}, "spec": {"healthCheck": {"requestPath": "/up"}}})
    assert translate(play, mci()).health_check.request_path == "/up"


def test_a_service_port_may_be_named(play: Any) -> None:
    add_mcs(play)
    assert translate(play, mci(backend={"serviceName": "gateway", "servicePort": "http2"})).endpoints == ()


@pytest.mark.parametrize(
    ("binding", "spec", "words"),
    [
        ("", {"backend": {"serviceName": "nobody", "servicePort": 80}}, "missing MultiClusterService sample/nobody"),
        ("", {"backend": {"serviceName": "gateway", "servicePort": 81}}, "has no port 81; it has 15021, 80"),
        ("", {"backend": {"serviceName": "gateway"}}, "serviceName and servicePort are required"),
        ("", {"rules": [{"host": "a"}]}, "default backend only"),
        ('{"default": "nobody"}', {}, "missing BackendConfig sample/nobody"),
        ('{"default"', {}, "is not JSON"),
        ("[]", {}, "is not JSON"),
        ('{"default": "tcp"}', {}, "checks by HTTP, not HTTPS"),
    ],
    ids=["no-mcs", "no-port", "incomplete", "rules", "no-backendconfig", "broken", "not-an-object", "https"],
)
def test_what_cannot_be_translated_is_refused_by_name(play: Any, binding: str, spec: Object, words: str) -> None:
    add_mcs(play, binding)
    play.add(BACKEND_CONFIGS, {"metadata": {"name": "tcp"}, "spec": {"healthCheck": {"type": "HTTPS"}}})
    with pytest.raises(Refusal, match=words):
        translate(play, mci(**spec))


def test_only_gke_clusters_and_those_that_are_linked_are_members(play: Any) -> None:
    on_prem, gke = ROOT.clusters
    everywhere = add_mcs(play)
    assert [len(derivation(play.cache, cluster, [everywhere])) for cluster in (on_prem, gke)] == [0, 1]
    for link, members in (("us-central1/nifc-anthosgke-cls", 1), ("us-central1/other", 0)):
        assert len(derivation(play.cache, gke, [add_mcs(play, clusters=[{"link": link}])])) == members


def test_derived_services_are_created_changed_and_removed(play: Any) -> None:
    mcs = add_mcs(play)
    (create,) = derivation(play.cache, GKE, [mcs])
    assert isinstance(create, Create)
    assert create.obj["metadata"]["name"].startswith("mci-gateway-svc-")
    play.apply([create])
    assert derivation(play.cache, GKE, [mcs]) == []
    mcs["spec"]["template"]["spec"]["ports"][1]["targetPort"] = 8080
    assert [type(action) for action in derivation(play.cache, GKE, [mcs])] == [Patch]
    assert [type(action) for action in derivation(play.cache, GKE, [])] == [Delete]


def test_what_an_api_server_adds_to_a_derived_service_is_no_difference(play: Any) -> None:
    mcs = add_mcs(play)
    play.apply(derivation(play.cache, GKE, [mcs]))
    (service,) = play.cache.list(SERVICES)
    for port in service["spec"]["ports"]:
        port |= {"protocol": "TCP", "targetPort": port["port"]}
    service["metadata"]["annotations"]["cloud.google.com/neg-status"] = "{}"
    assert derivation(play.cache, GKE, [mcs]) == []


def test_a_long_name_still_gives_a_valid_service_name(play: Any) -> None:
    mcs = add_mcs(play)
    mcs["metadata"]["name"] = "g" * 63
    assert len(derivation(play.cache, GKE, [mcs])[0].obj["metadata"]["name"]) <= 63
