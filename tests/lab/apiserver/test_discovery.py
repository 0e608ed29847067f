"""Clients find out what there is, and see it as tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from meshbook.lab import client
from meshbook.lab.apiserver.cells import elapsed
from meshbook.lab.apiserver.kinds import CUSTOM_KINDS, KindTable

TABLE = (
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
)
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def test_every_kind_that_the_control_plane_uses_is_served() -> None:
    kinds = KindTable()
    kinds.define(CUSTOM_KINDS)
    used = [value for value in vars(client).values() if isinstance(value, client.Resource)]
    assert used
    for resource in used:
        kind = kinds.find(resource.group, resource.version, resource.plural)
        assert kind is not None, resource
        assert (kind.kind, kind.namespaced) == (resource.kind, resource.namespaced)


async def test_both_forms_of_discovery_agree(api: Any) -> None:
    aggregated = set()
    for path in ("/api", "/apis"):
        answer = await api("GET", path, headers={"Accept": AGGREGATED})
        assert answer.body["kind"] == "APIGroupDiscoveryList"
        for group in answer.body["items"]:
            for version in group["versions"]:
                found = [(group["metadata"].get("name", ""), version["version"]), version["resources"]]
                aggregated |= {(*found[0], resource["resource"]) for resource in found[1]}
    legacy = {("", "v1", r["name"]) for r in (await api("GET", "/api/v1")).body["resources"] if "/" not in r["name"]}
    for group in (await api("GET", "/apis")).body["groups"]:
        for version in (v["version"] for v in group["versions"]):
            listed = (await api("GET", f"/apis/{group['name']}/{version}")).body["resources"]
            legacy |= {(group["name"], version, r["name"]) for r in listed if "/" not in r["name"]}
    assert aggregated == legacy
    assert ("networking.istio.io", "v1beta1", "gateways") in legacy


async def test_field_validation_is_offered_for_each_kind(api: Any) -> None:
    index = (await api("GET", "/openapi/v3")).body["paths"]
    document = (await api("GET", index["apis/apps/v1"]["serverRelativeURL"])).body
    patch = document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"]
    assert patch["x-kubernetes-group-version-kind"] == {"group": "apps", "version": "v1", "kind": "Deployment"}
    assert "fieldValidation" in [parameter["name"] for parameter in patch["parameters"]]


async def _table(api: Any, path: str, **query: str) -> tuple[list[str], list[list[Any]]]:
    body = (await api("GET", path, headers={"Accept": TABLE}, **query)).body
    assert body["kind"] == "Table"
    shown = [column["name"] for column in body["columnDefinitions"] if not column["priority"]]
    return shown, [row["cells"][: len(shown)] for row in body["rows"]]


async def test_deployments_have_the_columns_of_kubectl(api: Any) -> None:
    await api.made(api.DEPLOYMENTS, api.deployment(replicas=2))
    status = {"status": {"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1}}
    await api("PATCH", f"{api.DEPLOYMENTS}/web/status", status, type=api.MERGE)
    columns, rows = await _table(api, api.DEPLOYMENTS)
    assert columns == ["Name", "Ready", "Up-to-date", "Available", "Age"]
    assert rows[0][:4] == ["web", "1/2", 2, 1]


async def test_pods_say_how_they_are(api: Any) -> None:
    await api.made(api.PODS, api.pod())
    assert (await _table(api, api.PODS))[1][0][:4] == ["one", "0/1", "Pending", "0"]
    waiting = {"name": "app", "ready": False, "restartCount": 2, "state": {"waiting": {"reason": "ImagePullBackOff"}}}
    body = {"status": {"containerStatuses": [waiting]}}
    await api("PATCH", f"{api.PODS}/one/status", body, type=api.MERGE)
    columns, rows = await _table(api, f"{api.PODS}/one")
    assert columns == ["Name", "Ready", "Status", "Restarts", "Age"]
    assert rows[0][:4] == ["one", "0/1", "ImagePullBackOff", "2"]


async def test_a_multi_cluster_ingress_shows_its_vip(api: Any) -> None:
    path = "/apis/networking.gke.io/v1/namespaces/default/multiclusteringresses"
    await api.made(path, {"metadata": {"name": "gw"}, "spec": {"template": {}}})
    await api("PATCH", f"{path}/gw/status", {"status": {"VIP": "127.1.2.3"}}, type=api.MERGE)
    columns, rows = await _table(api, path)
    assert columns == ["Name", "VIP", "Age"]
    assert rows[0][:2] == ["gw", "127.1.2.3"]


@pytest.mark.parametrize("plural", [kind.plural for kind in KindTable()])
async def test_every_kind_can_be_listed_as_a_table(api: Any, plural: str) -> None:
    kind = next(kind for kind in KindTable() if kind.plural == plural)
    root = f"/apis/{kind.api_version}" if kind.group else "/api/v1"
    columns, _ = await _table(api, f"{root}/{plural}")
    assert columns[0] in ("Name", "Last Seen")


async def test_a_watch_of_tables_tells_columns_once(api: Any) -> None:
    async with api.watching(api.CONFIG_MAPS, accept=TABLE) as watcher:
        for name in ("a", "b"):
            await api.made(api.CONFIG_MAPS, api.config_map(name))
        first, second = await watcher.next(), await watcher.next()
    assert first["object"]["columnDefinitions"]
    assert (second["object"]["columnDefinitions"], second["object"]["rows"][0]["cells"][0]) == (None, "b")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (185, "3m5s"),
        (7200, "120m"),
        (17950, "4h59m"),
        (90000, "25h"),
        (200000, "2d7h"),
    ],
)
def test_ages_read_as_kubectl_prints_them(seconds: int, text: str) -> None:
    since = datetime(2024, 1, 1, tzinfo=UTC)
    now = datetime.fromtimestamp(since.timestamp() + seconds, UTC)
    assert elapsed("2024-01-01T00:00:00Z", now) == text
