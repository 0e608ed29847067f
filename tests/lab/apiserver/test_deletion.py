"""Deletion waits for grace and finalizers, and namespaces go in two steps."""

from __future__ import annotations

from typing import Any


async def test_a_pod_on_a_node_is_kept_until_its_grace_is_over(api: Any) -> None:
    await api.made(api.PODS, api.pod(nodeName="node-1", terminationGracePeriodSeconds=7))
    marked = await api("DELETE", f"{api.PODS}/one")
    assert marked.body["metadata"]["deletionGracePeriodSeconds"] == 7
    assert (await api("GET", f"{api.PODS}/one")).body["metadata"]["deletionTimestamp"]
    assert (await api("PATCH", f"{api.PODS}/one/status", {"status": {"phase": "Running"}}, type=api.MERGE)).code == 200
    await api("DELETE", f"{api.PODS}/one", {"gracePeriodSeconds": 0})
    assert (await api("GET", f"{api.PODS}/one")).code == 404


async def test_a_pod_without_a_node_goes_at_once(api: Any) -> None:
    await api.made(api.PODS, api.pod())
    await api("DELETE", f"{api.PODS}/one")
    assert (await api("GET", f"{api.PODS}/one")).code == 404


async def test_finalizers_hold_an_object_until_the_last_is_removed(api: Any) -> None:
    body = api.config_map()
    body["metadata"]["finalizers"] = ["example.com/hold"]
    await api.made(api.CONFIG_MAPS, body)
    path = f"{api.CONFIG_MAPS}/settings"
    assert (await api("DELETE", path)).body["metadata"]["deletionTimestamp"]
    more = {"metadata": {"finalizers": ["example.com/hold", "example.com/late"]}}
    assert (await api("PATCH", path, more, type=api.MERGE)).code == 422
    await api("PATCH", path, {"metadata": {"finalizers": None}}, type=api.MERGE)
    assert (await api("GET", path)).code == 404


async def test_propagation_leaves_the_collector_its_finalizer(api: Any) -> None:
    path = f"{api.DEPLOYMENTS}/web"
    for policy, finalizer in (("Foreground", "foregroundDeletion"), ("Orphan", "orphan")):
        await api.made(api.DEPLOYMENTS, api.deployment())
        marked = await api("DELETE", path, {"propagationPolicy": policy})
        assert marked.body["metadata"]["finalizers"] == [finalizer]
        await api("PATCH", path, [{"op": "remove", "path": "/metadata/finalizers"}], type=api.JSON_PATCH)
    await api.made(api.DEPLOYMENTS, api.deployment())
    assert (await api("DELETE", path, {"propagationPolicy": "Background"})).body["status"] == "Success"


async def test_a_namespace_terminates_in_two_steps(api: Any) -> None:
    await api.made("/api/v1/namespaces", {"metadata": {"name": "sample"}})
    marked = await api("DELETE", "/api/v1/namespaces/sample")
    assert marked.body["status"]["phase"] == "Terminating"
    refused = await api("POST", "/api/v1/namespaces/sample/configmaps", api.config_map())
    assert (refused.code, refused.reason) == (403, "Forbidden")
    assert "because it is being terminated" in refused.message
    assert refused.body["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    emptied = (await api("GET", "/api/v1/namespaces/sample")).body | {"spec": {"finalizers": []}}
    assert (await api("PUT", "/api/v1/namespaces/sample/finalize", emptied)).code == 200
    assert (await api("GET", "/api/v1/namespaces/sample")).code == 404
