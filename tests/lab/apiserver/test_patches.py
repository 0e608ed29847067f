"""The four patch types, and who owns which field after them."""

from __future__ import annotations

from typing import Any

import pytest

Json = dict[str, Any]


def _container(answer: Any, index: int = 0) -> Json:
    found: Json = answer.body["spec"]["template"]["spec"]["containers"][index]
    return found


def _with_containers(*containers: Json) -> Json:
    return {"spec": {"template": {"spec": {"containers": list(containers)}}}}


async def test_json_patch_changes_and_tests(api: Any) -> None:
    await api.made(api.CONFIG_MAPS, api.config_map(a="1"))
    path = f"{api.CONFIG_MAPS}/settings"
    done = await api("PATCH", path, [{"op": "replace", "path": "/data/a", "value": "2"}], type=api.JSON_PATCH)
    assert done.body["data"] == {"a": "2"}
    refused = await api("PATCH", path, [{"op": "test", "path": "/data/a", "value": "9"}], type=api.JSON_PATCH)
    assert refused.code == 422


async def test_strategic_merge_matches_containers_by_name(api: Any) -> None:
    await api.made(api.DEPLOYMENTS, api.deployment())
    path = f"{api.DEPLOYMENTS}/web"
    body = _with_containers({"name": "app", "env": [{"name": "A", "value": "1"}]}, {"name": "side", "image": "s:1"})
    done = await api("PATCH", path, body, type=api.STRATEGIC)
    containers = {c["name"]: c for c in done.body["spec"]["template"]["spec"]["containers"]}
    assert containers.keys() == {"app", "side"}
    assert containers["app"]["image"].endswith("curl:8.11.0")
    body = _with_containers({"name": "side", "$patch": "delete"})
    body["spec"]["template"]["spec"]["$setElementOrder/containers"] = [{"name": "app"}]
    done = await api("PATCH", path, body, type=api.STRATEGIC)
    assert [c["name"] for c in done.body["spec"]["template"]["spec"]["containers"]] == ["app"]


async def test_strategic_merge_retains_keys_of_the_strategy(api: Any) -> None:
    await api.made(api.DEPLOYMENTS, api.deployment())
    body = {"spec": {"strategy": {"type": "Recreate", "$retainKeys": ["type"]}}}
    done = await api("PATCH", f"{api.DEPLOYMENTS}/web", body, type=api.STRATEGIC)
    assert done.body["spec"]["strategy"] == {"type": "Recreate"}


async def test_custom_resources_refuse_strategic_merge(api: Any) -> None:
    path = "/apis/networking.istio.io/v1beta1/namespaces/default/gateways"
    await api.made(path, {"kind": "Gateway", "metadata": {"name": "gw"}, "spec": {"selector": {"a": "b"}}})
    refused = await api("PATCH", f"{path}/gw", {"spec": {}}, type=api.STRATEGIC)
    assert (refused.code, refused.reason) == (415, "UnsupportedMediaType")
    assert "application/merge-patch+json" in refused.message


async def _apply(api: Any, body: Json, manager: str, **query: str) -> Any:
    return await api("PATCH", f"{api.DEPLOYMENTS}/web", body, type=api.APPLY, fieldManager=manager, **query)


async def test_apply_meets_an_owner_and_may_force(api: Any) -> None:
    await _apply(api, api.deployment(replicas=1), "one")
    await api("PATCH", f"{api.DEPLOYMENTS}/web/scale", {"spec": {"replicas": 5}}, type=api.MERGE, fieldManager="scaler")
    refused = await _apply(api, api.deployment(replicas=1), "one")
    assert (refused.code, refused.reason) == (409, "Conflict")
    assert refused.body["details"]["causes"] == [
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "scaler" with subresource "scale" using apps/v1',
            "field": ".spec.replicas",
        }
    ]
    forced = await _apply(api, api.deployment(replicas=1), "one", force="true")
    assert forced.body["spec"]["replicas"] == 1
    assert [entry["manager"] for entry in forced.body["metadata"]["managedFields"]] == ["one"]


async def test_owners_who_agree_share_a_field(api: Any) -> None:
    await _apply(api, api.deployment(replicas=2), "one")
    assert (await _apply(api, api.deployment(replicas=2), "two")).code == 200
    await _apply(api, api.deployment(), "one")
    assert (await api("GET", f"{api.DEPLOYMENTS}/web")).body["spec"]["replicas"] == 2


async def test_what_is_no_longer_applied_goes_away(api: Any) -> None:
    body = api.deployment(replicas=3)
    body["metadata"]["labels"] = {"keep": "1", "drop": "1"}
    body["spec"]["template"]["spec"]["containers"].append({"name": "side", "image": "s:1"})
    await _apply(api, body, "one")
    leaner = api.deployment()
    leaner["metadata"]["labels"] = {"keep": "1"}
    done = await _apply(api, leaner, "one")
    assert done.body["metadata"]["labels"] == {"keep": "1"}
    assert [c["name"] for c in done.body["spec"]["template"]["spec"]["containers"]] == ["app"]
    assert done.body["spec"]["replicas"] == 1
    assert _container(done)["imagePullPolicy"] == "IfNotPresent"


async def test_apply_leaves_what_others_added(api: Any) -> None:
    await _apply(api, api.deployment(), "one")
    await api("PATCH", f"{api.DEPLOYMENTS}/web", {"metadata": {"annotations": {"x": "y"}}}, type=api.MERGE)
    done = await _apply(api, api.deployment(), "one")
    assert done.body["metadata"]["annotations"] == {"x": "y"}


@pytest.mark.parametrize("kind", ["ports", "env"])
async def test_applied_list_items_keep_their_identity(api: Any, kind: str) -> None:
    items = {"ports": [{"containerPort": 80}], "env": [{"name": "A", "value": "1"}]}
    more = {"ports": [{"containerPort": 81, "protocol": "TCP"}], "env": [{"name": "B", "value": "2"}]}
    for manager, value in (("one", items[kind]), ("two", more[kind])):
        body = api.deployment()
        body["spec"]["template"]["spec"]["containers"][0][kind] = value
        done = await _apply(api, body, manager)
        assert done.code < 300, done
    assert len(_container(done)[kind]) == 2
