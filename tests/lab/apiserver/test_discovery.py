"""Clients find out what there is, and see it as tables."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from meshbook.lab.apiserver import KINDS
from meshbook.objects import timestamp

TABLE = (
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
)


async def test_each_kind_is_found_by_its_group_and_version(api: Any) -> None:
    listed = {("", "v1"): (await api("GET", "/api/v1")).body["resources"]}
    for group in (await api("GET", "/apis")).body["groups"]:
        for version in (one["version"] for one in group["versions"]):
            answer = await api("GET", f"/apis/{group['name']}/{version}")
            listed[group["name"], version] = answer.body["resources"]
    found = {(*where, one["name"], one["kind"]) for where, resources in listed.items() for one in resources}
    assert found >= {(kind.group, version, kind.plural, kind.kind) for kind in KINDS for version in kind.versions}
    assert ("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview") in found
    groups = {group for group, *_ in found}
    assert not groups & {"batch", "apiextensions.k8s.io"}


async def _table(api: Any, path: str, **query: str) -> tuple[list[str], list[list[Any]]]:
    body = (await api("GET", path, headers={"Accept": TABLE}, **query)).body
    assert body["kind"] == "Table"
    shown = [column["name"] for column in body["columnDefinitions"] if not column["priority"]]
    return shown, [row["cells"][: len(shown)] for row in body["rows"]]


async def test_a_multi_cluster_ingress_shows_its_vip(api: Any) -> None:
    path = "/apis/networking.gke.io/v1/namespaces/default/multiclusteringresses"
    await api.made(
        path,
        {"apiVersion": "networking.gke.io/v1", "kind": "MultiClusterIngress", "metadata": {"name": "gw"}, "spec": {}},
    )
    await api("PATCH", f"{path}/gw/status", {"status": {"VIP": "127.1.2.3"}}, type=api.MERGE)
    columns, rows = await _table(api, path)
    assert columns == ["Name", "VIP", "Age"]
    assert rows[0][:2] == ["gw", "127.1.2.3"]


async def test_every_kind_can_be_listed_as_a_table(api: Any) -> None:
    for kind in KINDS:
        columns, _ = await _table(api, f"{'/apis' if kind.group else '/api'}/{kind.api_version}/{kind.plural}")
        assert columns[0] in ("Name", "Last Seen"), kind.plural


async def test_a_watch_of_tables_tells_columns_once(api: Any) -> None:
    async with api.watching(api.CONFIG_MAPS, accept=TABLE) as watcher:
        for name in ("a", "b"):
            await api.made(api.CONFIG_MAPS, api.config_map(name))
        first, second = await watcher.next(), await watcher.next()
    assert first["object"]["columnDefinitions"]
    assert (second["object"]["columnDefinitions"], second["object"]["rows"][0]["cells"][0]) == (None, "b")


AGES = {29: "29s|30s", 185: "3m[5-9]s", 7230: "120m", 17950: "4h59m", 90000: "25h", 200000: "2d7h"}


async def test_ages_read_as_kubectl_prints_them(api: Any) -> None:
    for seconds, shown in AGES.items():
        last = timestamp(datetime.now(UTC) - timedelta(seconds=seconds))
        event = {"involvedObject": {"kind": "Pod"}, "lastTimestamp": last, "metadata": {"name": f"after-{seconds}"}}
        await api.made("/api/v1/namespaces/default/events", event)
        _, rows = await _table(api, f"/api/v1/namespaces/default/events/after-{seconds}")
        assert re.fullmatch(shown, rows[0][0])
