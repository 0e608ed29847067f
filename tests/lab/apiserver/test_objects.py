"""Objects are created, read, replaced and deleted as a real API server does it."""

from __future__ import annotations

from typing import Any

import pytest

Json = dict[str, Any]


async def test_a_created_object_has_identity_and_is_found_again(api: Any) -> None:
    made = await api.made(api.CONFIG_MAPS, api.config_map(color="blue"))
    assert made["metadata"]["uid"]
    assert made["metadata"]["namespace"] == "default"
    found = await api("GET", f"{api.CONFIG_MAPS}/settings")
    assert found.body == made


async def test_a_stale_replacement_conflicts(api: Any) -> None:
    first = await api.made(api.CONFIG_MAPS, api.config_map(a="1"))
    await api("PUT", f"{api.CONFIG_MAPS}/settings", first | {"data": {"a": "2"}})
    late = await api("PUT", f"{api.CONFIG_MAPS}/settings", first | {"data": {"a": "3"}})
    assert (late.code, late.reason) == (409, "Conflict")
    assert "the object has been modified" in late.message


async def test_generate_name_gives_distinct_names(api: Any) -> None:
    body = {"metadata": {"generateName": "job-"}}
    names = {(await api.made(api.CONFIG_MAPS, body))["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("job-") and len(name) == 9 for name in names)


async def test_status_and_spec_are_written_apart(api: Any) -> None:
    path = f"{api.DEPLOYMENTS}/web"
    made = await api.made(api.DEPLOYMENTS, api.deployment() | {"status": {"replicas": 9}})
    assert made["status"] == {}
    through_status = {"spec": {"replicas": 7}, "status": {"readyReplicas": 1}}
    answer = await api("PATCH", f"{path}/status", through_status, type=api.MERGE)
    assert (answer.body["spec"]["replicas"], answer.body["status"]) == (1, {"readyReplicas": 1})
    answer = await api("PATCH", path, {"status": {"readyReplicas": 5}, "spec": {"replicas": 2}}, type=api.MERGE)
    assert (answer.body["spec"]["replicas"], answer.body["status"]) == (2, {"readyReplicas": 1})


async def test_scale_reads_and_writes_replicas(api: Any) -> None:
    path = f"{api.DEPLOYMENTS}/web/scale"
    await api.made(api.DEPLOYMENTS, api.deployment())
    scale = await api("GET", path)
    assert (scale.body["kind"], scale.body["spec"]["replicas"], scale.body["status"]["selector"]) == (
        "Scale",
        1,
        "app=web",
    )
    assert (await api("PUT", path, scale.body | {"spec": {"replicas": 4}})).body["spec"]["replicas"] == 4
    assert (await api("PATCH", path, {"spec": {"replicas": 0}}, type=api.MERGE)).code == 200
    assert (await api("GET", f"{api.DEPLOYMENTS}/web")).body["spec"]["replicas"] == 0
    assert (await api("GET", path)).body["spec"] == {}


async def test_binding_puts_a_pod_on_a_node_once(api: Any) -> None:
    await api.made(api.PODS, api.pod())
    binding = {"target": {"kind": "Node", "name": "node-1"}}
    assert (await api("POST", f"{api.PODS}/one/binding", binding)).code == 201
    assert (await api("GET", f"{api.PODS}/one")).body["spec"]["nodeName"] == "node-1"
    assert (await api("POST", f"{api.PODS}/one/binding", binding)).code == 409


async def test_services_get_addresses_of_their_own(api: Any) -> None:
    path = "/api/v1/namespaces/default/services"
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}]}
    first = await api.made(path, {"metadata": {"name": "a"}, "spec": spec})
    second = await api.made(path, {"metadata": {"name": "b"}, "spec": spec})
    for part in (lambda s: s["spec"]["clusterIP"], lambda s: s["spec"]["ports"][0]["nodePort"]):
        assert part(first) != part(second)
    headless = await api.made(path, {"metadata": {"name": "c"}, "spec": {"clusterIP": "None"}})
    assert headless["spec"]["clusterIP"] == "None"
    kept = await api("PUT", f"{path}/a", {"metadata": {"name": "a"}, "spec": spec})
    assert kept.body["spec"] == first["spec"]


async def test_istio_kinds_are_served_in_each_version(api: Any) -> None:
    path = "/apis/networking.istio.io/{}/namespaces/default/gateways"
    body = {"apiVersion": "networking.istio.io/v1alpha3", "kind": "Gateway", "metadata": {"name": "gw"}, "spec": {}}
    await api.made(path.format("v1alpha3"), body)
    for version in ("v1alpha3", "v1beta1", "v1"):
        found = await api("GET", path.format(version) + "/gw")
        assert found.body["apiVersion"] == f"networking.istio.io/{version}"


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/apis/apps/v1/namespaces/default/statefulsets", 404),
        ("GET", "/apis/apps/v1beta1/namespaces/default/deployments", 404),
        ("GET", "/api/v1/namespaces/default/pods/one/portforward", 404),
        ("GET", "/api", 200),
        ("POST", "/api/v1/namespaces/default/pods/one", 405),
        ("DELETE", "/api/v1/namespaces", 405),
        ("GET", "/nothing", 404),
    ],
)
async def test_what_is_not_served_is_refused_with_a_status(api: Any, method: str, path: str, code: int) -> None:
    answer = await api(method, path, {} if method == "POST" else None)
    assert answer.code == code
    assert code == 200 or answer.body["kind"] == "Status"
