"""MCS and MCI as pure translations: what they become, and what is refused in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meshbook.lab.client import BACKEND_CONFIGS, ENDPOINT_SLICES, MULTI_CLUSTER_SERVICES
from meshbook.lab.controllers import (
    Create,
    Delete,
    Pace,
    Patch,
    Refusal,
    backend_of,
    derivation,
    derived_name,
    is_member,
    stage_of,
)
from meshbook.lab.envoy import Backend, HealthCheck
from meshbook.lab.topology import two_clouds

Object = dict[str, Any]
UNPRIVILEGED = two_clouds(Path("/lab"), 64, 1024)
ROOT = two_clouds(Path("/lab"), 64, 0)


def mci(**backend: Any) -> Object:
    chosen = backend or {"serviceName": "gateway", "servicePort": 80}
    return {
        "metadata": {"namespace": "sample", "name": "gateway"},
        "spec": {"template": {"spec": {"backend": chosen}}},
    }


def add_mcs(play: Any, binding: str = "", **spec: Any) -> Object:
    ports = [{"name": "status-port", "port": 15021}, {"name": "http2", "port": 80}]
    annotations = {"cloud.google.com/backend-config": binding} if binding else {}
    template = {"spec": {"selector": {"istio": "ingressgateway"}, "ports": ports}}
    metadata = {"name": "gateway", "annotations": annotations}
    made: Object = play.add(MULTI_CLUSTER_SERVICES, {"metadata": metadata, "spec": {"template": template, **spec}})
    return made


def add_slice(play: Any, mcs: Object, *endpoints: tuple[str, bool]) -> None:
    labels = {"kubernetes.io/service-name": derived_name(mcs)}
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
    assert translate(play, mci(serviceName="gateway", servicePort="http2")).endpoints == ()


@pytest.mark.parametrize(
    ("binding", "backend", "words"),
    [
        ("", {"serviceName": "nobody", "servicePort": 80}, "missing MultiClusterService sample/nobody"),
        ("", {"serviceName": "gateway", "servicePort": 81}, "has no port 81; it has 15021, 80"),
        ("", {"serviceName": "gateway"}, "serviceName and servicePort are required"),
        ('{"default": "nobody"}', {}, "missing BackendConfig sample/nobody"),
        ('{"default"', {}, "is not JSON"),
        ("[]", {}, "is not JSON"),
        ('{"default": "tcp"}', {}, "checks by HTTP, not HTTPS"),
    ],
    ids=["no-mcs", "no-port", "incomplete", "no-backendconfig", "broken", "not-an-object", "https"],
)
def test_what_cannot_be_translated_is_refused_by_name(
    play: Any, binding: str, backend: dict[str, Any], words: str
) -> None:
    add_mcs(play, binding)
    play.add(BACKEND_CONFIGS, {"metadata": {"name": "tcp"}, "spec": {"healthCheck": {"type": "HTTPS"}}})
    with pytest.raises(Refusal) as refusal:
        translate(play, mci(**backend))
    assert words in refusal.value.message


def test_rules_are_refused_rather_than_ignored(play: Any) -> None:
    wanted = mci()
    wanted["spec"]["template"]["spec"]["rules"] = [{"host": "a"}]
    with pytest.raises(Refusal, match="default backend only"):
        translate(play, wanted)


def test_only_gke_clusters_and_those_that_are_linked_are_members(play: Any) -> None:
    on_prem, gke = ROOT.clusters
    everywhere = add_mcs(play)
    assert [is_member(cluster, everywhere) for cluster in (on_prem, gke)] == [False, True]
    for link, member in (("us-central1/nifc-anthosgke-cls", True), ("us-central1/other", False)):
        assert is_member(gke, add_mcs(play, clusters=[{"link": link}])) is member


def test_derived_services_are_created_changed_and_removed(play: Any) -> None:
    mcs = add_mcs(play)
    (create,) = derivation(play.cache, [mcs])
    assert isinstance(create, Create)
    assert create.obj["metadata"]["name"].startswith("mci-gateway-svc-")
    play.apply([create])
    assert derivation(play.cache, [mcs]) == []
    mcs["spec"]["template"]["spec"]["ports"][1]["targetPort"] = 8080
    assert [type(action) for action in derivation(play.cache, [mcs])] == [Patch]
    assert [type(action) for action in derivation(play.cache, [])] == [Delete]


def test_a_long_name_still_gives_a_valid_service_name(play: Any) -> None:
    mcs = add_mcs(play)
    mcs["metadata"]["name"] = "g" * 63
    assert len(derived_name(mcs)) <= 63


def test_a_frontend_answers_404_then_502_then_from_its_backend() -> None:
    backend, pace = Backend(name="b", endpoints=(("127.64.21.1", 80),)), Pace(programmed_s=1.0)
    assert stage_of(0.0, pace, backend) == (None, 0.5)
    unhealthy, after_s = stage_of(0.75, pace, backend)
    assert unhealthy is not None
    assert (unhealthy.endpoints, after_s) == ((), 0.25)
    assert stage_of(1.0, pace, backend) == (backend, None)
